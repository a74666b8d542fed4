//! A stand-in for Handover's agent in the guests of container images: it runs commands by a table, and has files in memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guest_protocol::message::{
    CommandState, CopyOut, Entry, EntryKind, ExecRequest, FileInfo, FromGuest, Refusal,
    StatRequest, ToGuest, Welcome, WindowSize, read_message, write_message,
};
use guest_protocol::{CommandResult, PROTOCOL_VERSION, ProtocolError};

/// The agent in a simulated guest. A command "runs" by its name: `true`, `false`, `both` (writes to both outputs, status 3), `cat`
/// (repeats its input), `env`, `id`, `pwd`, `size` (its terminal's size, now and after each change), `yes` (never ends), `sleep` (ends
/// by a signal), `segfault`, `closed` (can not be executed); others do not exist.
#[derive(Clone, Debug, Default)]
pub struct SimGuest(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    files: BTreeMap<String, (Entry, Vec<u8>)>,
    clocks: Vec<u64>,
    hung_up: usize,
}

type Outcome = Result<(), ProtocolError>;

impl SimGuest {
    /// Serves one connection until the client goes.
    pub fn serve(&self, stream: UnixStream) {
        // What the client did wrong is not of interest here.
        let _ = self.talk(stream);
    }

    /// The files that it has, by their paths, with their modes and contents. Directories end with `/`, links with `@`.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u32, Vec<u8>)> {
        let shown = |(path, (entry, data)): (&String, &(Entry, Vec<u8>))| {
            let (kind, data) = match &entry.kind {
                EntryKind::Directory => ("/", Vec::new()),
                EntryKind::Link { target } => ("@", target.clone().into_bytes()),
                EntryKind::File { .. } | EntryKind::Stream => ("", data.clone()),
            };
            (format!("{path}{kind}"), entry.mode, data)
        };
        self.inside().files.iter().map(shown).collect()
    }

    /// Puts an entry there, as [`Entry::path`] says, which is absolute here.
    pub fn put(&self, entry: Entry, data: &[u8]) {
        let path = entry.path.clone();
        self.inside().files.insert(path, (entry, data.to_vec()));
    }

    /// The times to which its clock was set.
    #[must_use]
    pub fn clocks(&self) -> Vec<u64> {
        self.inside().clocks.clone()
    }

    /// How many commands were ended because their clients went away.
    #[must_use]
    pub fn hung_up(&self) -> usize {
        self.inside().hung_up
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn talk(&self, mut stream: UnixStream) -> Outcome {
        let Some(ToGuest::Hello(_)) = read_message(&mut stream)? else { return Ok(()) };
        let state = CommandState::Running { pid: 2 };
        let welcome = Welcome { protocol: PROTOCOL_VERSION, version: "0".to_owned(), state };
        write_message(&mut stream, &FromGuest::Welcome(welcome))?;
        while let Some(message) = read_message::<ToGuest>(&mut stream)? {
            match message {
                ToGuest::Exec(request) => self.exec(&mut stream, &request)?,
                ToGuest::Stat(request) => {
                    let info = self.stat(&request);
                    write_message(&mut stream, &FromGuest::Stat(info))?;
                }
                ToGuest::CopyIn(request) => self.copy_in(&mut stream, &request.path)?,
                ToGuest::CopyOut(request) => self.copy_out(&mut stream, &request)?,
                ToGuest::SetClock(time) => {
                    self.inside().clocks.push(time);
                    write_message(&mut stream, &FromGuest::Done)?;
                }
                // Late input of a command that has ended.
                _ => {}
            }
        }
        Ok(())
    }

    fn exec(&self, stream: &mut UnixStream, request: &ExecRequest) -> Outcome {
        let refused = |code: &str, message: &str| {
            FromGuest::Refused(Refusal { code: code.to_owned(), message: message.to_owned() })
        };
        let line = |text: &str| FromGuest::Stdout(format!("{text}\n").into_bytes());
        let (output, end) = match request.argv.first().map_or("", String::as_str) {
            "true" => (vec![], Some(CommandResult::exited(0))),
            "false" => (vec![], Some(CommandResult::exited(1))),
            "both" => {
                let errors = FromGuest::Stderr(b"err\n".to_vec());
                (vec![line("out"), errors], Some(CommandResult::exited(3)))
            }
            "env" => (vec![line(&request.env.join(" "))], Some(CommandResult::exited(0))),
            "id" => {
                let user = request.user.clone().unwrap_or_else(|| "root".to_owned());
                (vec![line(&user)], Some(CommandResult::exited(0)))
            }
            "pwd" => (vec![line(&request.working_dir)], Some(CommandResult::exited(0))),
            "segfault" => (vec![], Some(CommandResult::signaled(11))),
            "size" => (request.terminal.iter().map(|size| shown(*size)).collect(), None),
            "cat" | "sleep" | "yes" => (vec![], None),
            "closed" => {
                return write_message(stream, &refused("not_executable", "closed: not executable"));
            }
            other => {
                let message = format!("{other}: not found");
                return write_message(stream, &refused("not_found", &message));
            }
        };
        write_message(stream, &FromGuest::Started)?;
        for message in output {
            write_message(stream, &message)?;
        }
        if let Some(end) = end {
            return write_message(stream, &FromGuest::Exited(end));
        }
        let ended = match request.argv.first().map(String::as_str) {
            Some("yes") => endless(stream),
            name => interactive(stream, name == Some("cat")),
        };
        if ended.is_err() {
            self.inside().hung_up += 1;
        }
        ended
    }

    fn stat(&self, request: &StatRequest) -> FileInfo {
        let inside = self.inside();
        let Some((entry, data)) = inside.files.get(&request.path) else {
            return FileInfo::default();
        };
        let (kind, target) = match &entry.kind {
            EntryKind::Directory => (0o040_000, None),
            EntryKind::Link { target } => (0o120_000, Some(target.clone())),
            EntryKind::File { .. } | EntryKind::Stream => (0o100_000, None),
        };
        FileInfo {
            exists: true,
            mode: kind | entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: data.len() as u64,
            modified: entry.modified,
            target,
        }
    }

    fn copy_in(&self, stream: &mut UnixStream, root: &str) -> Outcome {
        let mut last = None;
        loop {
            match read_message::<ToGuest>(stream)?.ok_or(ProtocolError::CutOff("the copy"))? {
                ToGuest::Entry(entry) => {
                    let path = if entry.path.is_empty() {
                        root.to_owned()
                    } else {
                        format!("{}/{}", root.trim_end_matches('/'), entry.path)
                    };
                    self.put(Entry { path: path.clone(), ..entry }, b"");
                    last = Some(path);
                }
                ToGuest::Data(data) => {
                    let mut inside = self.inside();
                    if let Some((_, all)) =
                        last.as_ref().and_then(|path| inside.files.get_mut(path))
                    {
                        all.extend(data);
                    }
                }
                _ if root.starts_with("/full") => {
                    let (code, message) = ("failed".to_owned(), "no space left".to_owned());
                    return write_message(stream, &FromGuest::Refused(Refusal { code, message }));
                }
                _ => return write_message(stream, &FromGuest::Done),
            }
        }
    }

    fn copy_out(&self, stream: &mut UnixStream, request: &CopyOut) -> Outcome {
        let below = format!("{}/", request.path.trim_end_matches('/'));
        let inside = self.inside();
        let found: Vec<(Entry, Vec<u8>)> = inside
            .files
            .iter()
            .filter(|(path, _)| **path == request.path || path.starts_with(&below))
            .map(|(path, (entry, data))| {
                let inner = path.strip_prefix(&below).unwrap_or_default().to_owned();
                let kind = match &entry.kind {
                    EntryKind::Stream => EntryKind::File { size: data.len() as u64 },
                    other => other.clone(),
                };
                (Entry { path: inner, kind, ..entry.clone() }, data.clone())
            })
            .collect();
        drop(inside);
        if found.is_empty() {
            let message = format!("cannot read {}: No such file or directory", request.path);
            let code = "failed".to_owned();
            return write_message(stream, &FromGuest::Refused(Refusal { code, message }));
        }
        for (entry, data) in found {
            write_message(stream, &FromGuest::Entry(entry))?;
            for chunk in data.chunks(16 << 10) {
                write_message(stream, &FromGuest::Data(chunk.to_vec()))?;
            }
        }
        write_message(stream, &FromGuest::End)
    }
}

fn shown(size: WindowSize) -> FromGuest {
    FromGuest::Stdout(format!("{} {}\n", size.rows, size.columns).into_bytes())
}

/// Until the client goes.
fn endless(stream: &mut UnixStream) -> Outcome {
    let output = FromGuest::Stdout(b"y\n".repeat(16 << 10));
    loop {
        write_message(stream, &output)?;
    }
}

/// Until its input ends, if it reads that, or a signal comes.
fn interactive(stream: &mut UnixStream, reads: bool) -> Outcome {
    let gone = || ProtocolError::CutOff("the session");
    loop {
        match read_message::<ToGuest>(&mut stream.by_ref())?.ok_or_else(gone)? {
            ToGuest::Stdin(bytes) if reads => write_message(stream, &FromGuest::Stdout(bytes))?,
            ToGuest::StdinEnd if reads => {
                return write_message(stream, &FromGuest::Exited(CommandResult::exited(0)));
            }
            ToGuest::Signal(signal) => {
                let end = CommandResult::signaled(signal);
                return write_message(stream, &FromGuest::Exited(end));
            }
            ToGuest::Resize(size) => write_message(stream, &shown(size))?,
            _ => {}
        }
    }
}
