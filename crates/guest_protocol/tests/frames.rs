//! Frames and messages: round trips, bounds, and the client before an agent that says anything.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{self, Write};

use guest_protocol::message::{
    CommandState, CopyIn, CopyOut, Entry, EntryKind, ExecRequest, FileInfo, FromGuest, Hello,
    Message, Refusal, StatRequest, StopRequest, ToGuest, Welcome, WindowSize, read_message,
    write_message,
};
use guest_protocol::{
    Client, CommandResult, MAX_PAYLOAD, PROTOCOL_VERSION, ProtocolError, is_absolute_path,
    is_inner_path, read_frame, write_frame,
};
use proptest::prelude::*;

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { path: path.to_owned(), kind, mode: 0o644, uid: 1, gid: 2, modified: -3 }
}

fn to_guest() -> Vec<ToGuest> {
    vec![
        ToGuest::Hello(Hello { protocol: 1, token: "t".to_owned() }),
        ToGuest::State,
        ToGuest::Exec(ExecRequest {
            argv: vec!["a".to_owned()],
            user: Some("u".to_owned()),
            terminal: Some(WindowSize { rows: 1, columns: 2 }),
            ..ExecRequest::default()
        }),
        ToGuest::Stdin(vec![0, 255]),
        ToGuest::StdinEnd,
        ToGuest::Resize(WindowSize { rows: 3, columns: 4 }),
        ToGuest::Signal(64),
        ToGuest::Stat(StatRequest { path: "/a".to_owned(), follow_links: true }),
        ToGuest::CopyIn(CopyIn { path: "/a".to_owned() }),
        ToGuest::CopyOut(CopyOut { path: "/".to_owned(), follow_links: false }),
        ToGuest::Entry(entry("", EntryKind::Directory)),
        ToGuest::Entry(entry("f", EntryKind::Stream)),
        ToGuest::Data(vec![1; MAX_PAYLOAD]),
        ToGuest::End,
        ToGuest::SetClock(u64::MAX),
        ToGuest::Stop(StopRequest { timeout_seconds: Some(1), signal: Some("INT".to_owned()) }),
    ]
}

fn from_guest() -> Vec<FromGuest> {
    let text = |text: &str| text.to_owned();
    vec![
        FromGuest::Welcome(Welcome {
            protocol: PROTOCOL_VERSION,
            version: text("1"),
            state: CommandState::Running { pid: 7 },
        }),
        FromGuest::Refused(Refusal { code: text("busy"), message: text("later") }),
        FromGuest::State(CommandState::Ended(CommandResult::exited(3))),
        FromGuest::Started,
        FromGuest::Stdout(vec![]),
        FromGuest::Stderr(vec![9]),
        FromGuest::Exited(CommandResult::signaled(9)),
        FromGuest::Stat(FileInfo { exists: true, target: Some(text("x")), ..FileInfo::default() }),
        FromGuest::Entry(entry("a/b", EntryKind::File { size: 3 })),
        FromGuest::Data(vec![1, 2, 3]),
        FromGuest::End,
        FromGuest::Done,
    ]
}

fn round<M: Message + PartialEq + std::fmt::Debug>(messages: &[M]) {
    let mut bytes = Vec::new();
    for message in messages {
        write_message(&mut bytes, message).unwrap();
    }
    let mut from = bytes.as_slice();
    for message in messages {
        assert_eq!(read_message::<M>(&mut from).unwrap().as_ref(), Some(message));
    }
    assert!(read_message::<M>(&mut from).unwrap().is_none());
}

#[test]
fn every_message_comes_back() {
    round(&to_guest());
    round(&from_guest());
}

#[test]
fn a_length_above_the_bound_is_refused_before_memory_is_taken() {
    let mut bytes = vec![133];
    bytes.extend(u32::MAX.to_le_bytes());
    let outcome = read_frame(&mut bytes.as_slice());
    assert!(matches!(outcome, Err(ProtocolError::TooLong { .. })), "{outcome:?}");
    let outcome = write_frame(&mut Vec::new(), 4, &vec![0; MAX_PAYLOAD + 1]);
    assert!(matches!(outcome, Err(ProtocolError::TooLong { .. })), "{outcome:?}");
    let cut = read_frame(&mut &[133, 2, 0, 0, 0, 1][..]);
    assert!(matches!(cut, Err(ProtocolError::CutOff(_))), "{cut:?}");
}

#[test]
fn paths_stay_where_they_belong() {
    for path in ["..", "a/../b", "/a", "a\0"] {
        assert!(!is_inner_path(path), "{path:?}");
        let (bad, kind) = (path.to_owned(), EntryKind::Directory);
        let frame = FromGuest::Entry(entry(&bad, kind)).to_frame().unwrap();
        assert!(FromGuest::from_frame(frame).is_err(), "{path:?}");
    }
    for path in ["", "a", "a/b", "..a", "a./b"] {
        assert!(is_inner_path(path), "{path:?}");
    }
    assert!(is_absolute_path("/") && is_absolute_path("/a/b"));
    assert!(!is_absolute_path("a") && !is_absolute_path("/a/../b") && !is_absolute_path(""));
}

/// What an agent says, as a stream; what the client writes is lost.
fn client(said: &[u8]) -> Result<Client<&[u8], io::Sink>, ProtocolError> {
    Client::begin(said, io::sink(), "token")
}

fn said(messages: &[FromGuest]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let welcome = &from_guest()[0];
    for message in std::iter::once(welcome).chain(messages) {
        write_message(&mut bytes, message).unwrap();
    }
    bytes
}

#[test]
fn another_version_is_named() {
    let mut bytes = Vec::new();
    let state = CommandState::Starting;
    let welcome = Welcome { protocol: 9, version: "2".to_owned(), state };
    write_message(&mut bytes, &FromGuest::Welcome(welcome)).unwrap();
    let outcome = client(&bytes).map(drop);
    assert!(matches!(outcome, Err(ProtocolError::Version { theirs: 9, .. })), "{outcome:?}");
}

#[test]
fn a_copy_takes_exactly_what_was_announced() {
    let file = FromGuest::Entry(entry("f", EntryKind::File { size: 3 }));
    let asked = CopyOut { path: "/f".to_owned(), follow_links: false };
    let copy = |messages: &[FromGuest]| -> Result<Vec<u8>, ProtocolError> {
        let bytes = said(messages);
        let mut all = Vec::new();
        client(&bytes)?.copy_out::<ProtocolError>(&asked, |_, data| {
            data.read_to_end(&mut all)?;
            Ok(())
        })?;
        Ok(all)
    };
    let data = |bytes: &[u8]| FromGuest::Data(bytes.to_vec());
    let good = [file.clone(), data(&[1]), data(&[2, 3]), FromGuest::End];
    assert_eq!(copy(&good).unwrap(), [1, 2, 3]);
    for bad in [
        vec![file.clone(), data(&[1, 2, 3, 4]), FromGuest::End],
        vec![file.clone(), data(&[]), FromGuest::End],
        vec![file.clone(), FromGuest::End],
        vec![file.clone(), data(&[1])],
        vec![FromGuest::Done],
    ] {
        assert!(copy(&bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_frame_makes_a_decoder_panic(kind: u8, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, kind, &payload).unwrap();
        let _ = read_message::<ToGuest>(&mut bytes.as_slice());
        let _ = read_message::<FromGuest>(&mut bytes.as_slice());
        let _ = read_message::<FromGuest>(&mut payload.as_slice());
    }

    #[test]
    fn no_agent_makes_the_client_panic(picks in proptest::collection::vec(0..12_usize, 0..12), rest: Vec<u8>) {
        let all = from_guest();
        let messages: Vec<_> = picks.iter().map(|pick| all[*pick].clone()).collect();
        let mut bytes = said(&messages);
        bytes.extend(rest);
        let _ = client(&bytes).unwrap().run(&ExecRequest::default(), b"input", |_| {});
        let _ = client(&bytes).unwrap().state();
        let asked = CopyOut { path: "/".to_owned(), follow_links: false };
        let _ = client(&bytes).unwrap().copy_out::<ProtocolError>(&asked, |_, _| Ok(()));
    }
}

/// The client writes to a stream that takes one byte at a time.
#[test]
fn short_writes_are_completed() {
    struct Slow(Vec<u8>);
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend(bytes.first());
            Ok(bytes.len().min(1))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut slow = Slow(Vec::new());
    write_message(&mut slow, &to_guest()[0]).unwrap();
    assert_eq!(
        read_message::<ToGuest>(&mut slow.0.as_slice()).unwrap(),
        Some(to_guest()[0].clone())
    );
}
