//! A fake systemd on a fake system bus: the parts of the D-Bus Specification that a client for units needs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::Fake;

/// The units and their states. A unit whose name contains `broken` fails to start.
pub type Units = Arc<Mutex<BTreeMap<String, String>>>;

const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

impl Fake {
    /// Adds a system bus with systemd. The threads end with the test.
    pub fn systemd(&self, units: &[(&str, &str)]) -> Units {
        let state = |(name, state): &(&str, &str)| ((*name).to_owned(), (*state).to_owned());
        let units: Units = Arc::new(Mutex::new(units.iter().map(state).collect()));
        fs::create_dir_all(self.path("run/systemd/system")).unwrap();
        fs::create_dir_all(self.path("run/dbus")).unwrap();
        let listener = UnixListener::bind(self.path("run/dbus/system_bus_socket")).unwrap();
        let served = Arc::clone(&units);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let units = Arc::clone(&served);
                thread::spawn(move || serve(client, &units));
            }
        });
        units
    }
}

/// Serves one client until it disconnects.
fn serve(client: UnixStream, units: &Units) -> Option<()> {
    let mut output = client.try_clone().ok()?;
    let mut input = BufReader::new(client);
    let mut line = String::new();
    // Authentication: it is who the kernel says it is.
    while input.read_line(&mut line).ok()? > 0 {
        let said = line.trim_start_matches('\0').trim_end();
        match said.split(' ').next() {
            Some("AUTH") => output.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").ok()?,
            Some("NEGOTIATE_UNIX_FD") => output.write_all(b"AGREE_UNIX_FD\r\n").ok()?,
            Some("BEGIN") => break,
            _ => output.write_all(b"ERROR\r\n").ok()?,
        }
        line.clear();
    }
    loop {
        let mut start = [0; 16];
        input.read_exact(&mut start).ok()?;
        let word = |at: usize| u32::from_le_bytes(start[at..at + 4].try_into().unwrap());
        let (body, serial, fields) = (word(4) as usize, word(8), word(12) as usize);
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        input.read_exact(&mut rest).ok()?;
        let (header, body) = rest.split_at(fields.next_multiple_of(8));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (kind, signature, value) = answer(&text(header), &text(body), units);
        output.write_all(&message(kind, serial, signature, &value)).ok()?;
    }
}

/// The answer to a call: whether it is one, its signature and its body.
fn answer(header: &str, body: &str, units: &Units) -> (u8, &'static str, Vec<u8>) {
    let mut units = units.lock().unwrap();
    let named = units.keys().find(|name| body.contains(name.as_str())).cloned();
    let path = |name: &str| text(&format!("/org/freedesktop/systemd1/unit/{}", escaped(name)));
    let of_path = |units: &BTreeMap<String, String>| {
        units
            .iter()
            .find(|(name, _)| header.contains(&format!("/{}\0", escaped(name))))
            .map(|one| one.1.clone())
    };
    if header.contains("Hello\0") {
        (METHOD_RETURN, "s", text(":1.7"))
    } else if header.contains("LoadUnit\0") {
        (METHOD_RETURN, "o", path(named.as_deref().unwrap_or("nothing")))
    } else if body.contains("LoadState") {
        let state = if of_path(&units).is_some() { "loaded" } else { "not-found" };
        (METHOD_RETURN, "v", variant(state))
    } else if body.contains("ActiveState") {
        (METHOD_RETURN, "v", variant(&of_path(&units).unwrap_or_else(|| "inactive".into())))
    } else if let Some(name) = named.filter(|_| header.contains("Unit\0")) {
        let state = match (header.contains("StartUnit\0"), name.contains("broken")) {
            (true, false) => "active",
            (true, true) => "failed",
            (false, _) => "inactive",
        };
        units.insert(name, state.into());
        (METHOD_RETURN, "o", text("/org/freedesktop/systemd1/job/1"))
    } else {
        // Its job is done.
        (ERROR, "s", text("Unknown object"))
    }
}

/// Encodes a name in a path like systemd (`sd_bus_path_encode`).
fn escaped(name: &str) -> String {
    let one = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric();
        if plain { char::from(byte).to_string() } else { format!("_{byte:02x}") }
    };
    name.bytes().map(one).collect()
}

/// A string or a path in a body.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn variant(value: &str) -> Vec<u8> {
    let mut bytes = vec![1, b's', 0, 0];
    bytes.extend(text(value));
    bytes
}

/// A message (D-Bus Specification, Message Format).
fn message(kind: u8, reply_to: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields: Vec<u8> = vec![5, 1, b'u', 0];
    fields.extend(reply_to.to_le_bytes());
    fields.extend([8, 1, b'g', 0, 1, signature.as_bytes()[0], 0]);
    if kind == ERROR {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([4, 1, b's', 0]);
        fields.extend(text("org.freedesktop.DBus.Error.UnknownObject"));
    }
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    bytes.extend(fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}
