//! Screens on an address of the host, with the QEMU that is installed here, if one is. The viewers are stand-ins of a few
//! lines: one speaks RFB (RFC 6143) with VNC's authentication; for SPICE it is openssl(1), which checks the certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use des::Des;
use des::cipher::{BlockEncrypt as _, KeyInit as _};
use libtest_mimic::{Completion, Failed, Trial};
use model::{Display, DisplayProtocol, LaunchError, Launcher, MachineOptions, MachineSpec, Secret};

use crate::bench::{Bench, machine};
use crate::real::with;

const PASSWORD: &str = "s3cret-8";

pub fn all() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("a_screen_of_vnc_on_an_address_takes_only_its_password", || {
            with(&["qemu-system-x86_64", "qemu-img"], takes_only_its_password)
        }),
        Trial::ignorable_test("a_screen_of_spice_on_an_address_is_encrypted", || {
            with(&["qemu-system-x86_64", "qemu-img", "openssl"], is_encrypted)
        }),
    ]
}

/// A machine with a screen on a free port.
fn with_screen(protocol: DisplayProtocol) -> (MachineSpec, SocketAddr) {
    let free = (5950..6000).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let at = free.into_iter().find(|at| TcpListener::bind(at).is_ok()).unwrap();
    let display = Some(Display { protocol, video_memory: None, listen: Some(at) });
    let display_password = Some(Secret::new(PASSWORD.into()));
    let options = MachineOptions { display, display_password, ..MachineOptions::default() };
    (MachineSpec { options, slots: Vec::new(), ..machine("screen") }, at)
}

/// The result of RFB's authentication with a password: 0 for success.
fn authenticate(at: SocketAddr, password: &str) -> u32 {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut version = [0; 12];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    stream.write_all(&version).unwrap();
    let mut offered = [0; 2];
    stream.read_exact(&mut offered).unwrap();
    assert_eq!(offered, [1, 2], "one type of security: VNC authentication");
    stream.write_all(&[2]).unwrap();
    let mut challenge = [0; 16];
    stream.read_exact(&mut challenge).unwrap();
    // The key is the password with the bits of each byte reversed.
    let mut key = [0; 8];
    for (byte, letter) in key.iter_mut().zip(password.bytes()) {
        *byte = letter.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    for half in challenge.chunks_exact_mut(8) {
        cipher.encrypt_block(half.into());
    }
    stream.write_all(&challenge).unwrap();
    let mut result = [0; 4];
    stream.read_exact(&mut result).unwrap();
    u32::from_be_bytes(result)
}

fn takes_only_its_password() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let (spec, at) = with_screen(DisplayProtocol::Vnc);
    bench.qemu.create_files(&spec)?;
    bench.qemu.launch(&spec)?;
    assert_eq!(authenticate(at, PASSWORD), 0);
    assert_ne!(authenticate(at, "guessed"), 0);
    assert_ne!(authenticate(at, ""), 0);
    // The daemon's viewers need no password.
    let mut viewer = bench.qemu.open_display(spec.id, spec.options.display.unwrap())?;
    let mut begin = [0; 12];
    viewer.read_exact(&mut begin)?;
    assert_eq!(&begin, b"RFB 003.008\n");
    viewer.write_all(&begin)?;
    let mut offered = [0; 2];
    viewer.read_exact(&mut offered)?;
    assert_eq!(offered, [1, 1], "one type of security: none");

    let busy = bench.qemu.expect_free_screen(at);
    assert!(matches!(busy, Err(LaunchError::Port { .. })), "{busy:?}");
    bench.qemu.kill(spec.id)?;
    let taken = TcpListener::bind(at)?;
    let refused = bench.qemu.launch(&spec);
    assert!(matches!(refused, Err(LaunchError::Port { .. })), "{refused:?}");
    drop(taken);
    Ok(Completion::Completed)
}

fn is_encrypted() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let (spec, at) = with_screen(DisplayProtocol::Spice);
    if let Err(error) = bench.qemu.check(&spec.options) {
        eprintln!("SKIPPED: {error}");
        return Ok(Completion::ignored_with(error.to_string()));
    }
    bench.qemu.create_files(&spec)?;
    let dir = bench.path().join("state/machines").join(spec.id.to_string()).join("screen");
    let key = fs::metadata(dir.join("server-key.pem"))?;
    assert_eq!((key.uid(), key.mode() & 0o777), (spec.uid, 0o400));
    let certificate = bench.qemu.screen_certificate(spec.id)?.unwrap();
    bench.qemu.launch(&spec)?;
    let trusted = bench.path().join("trusted.pem");
    fs::write(&trusted, &certificate)?;
    let mut client = Command::new("openssl")
        .args(["s_client", "-verify_return_error", "-connect", &at.to_string(), "-CAfile"])
        .arg(&trusted)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(client.stdin.take());
    let said = client.wait_with_output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}{said:?}");
    assert!(text.contains(&format!("CN = {0}", spec.name)) || text.contains("CN="), "{text}");

    // A start keeps the certificate.
    bench.qemu.kill(spec.id)?;
    bench.qemu.create_files(&spec)?;
    assert_eq!(bench.qemu.screen_certificate(spec.id)?.as_ref(), Some(&certificate));
    bench.qemu.remove_files(spec.id)?;
    assert_eq!(bench.qemu.screen_certificate(spec.id)?, None);
    Ok(Completion::Completed)
}
