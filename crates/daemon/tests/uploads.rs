//! Uploads: what they may take of the disk together, and how many there may be.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::DISK_RESERVE;
use model::Disk;
use serde_json::json;
use support::{Answer, Daemon};

const MIB: u64 = 1 << 20;

/// An upload that was begun.
struct Upload(UnixStream);

impl Upload {
    fn head(name: &str) -> String {
        let field = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        format!(
            "{}{}--b\r\nContent-Disposition: form-data; name=\"disk\"; filename=\"disk\"\r\n\r\n",
            field("name", name),
            field("format", "raw")
        )
    }

    /// Sends the headers, and the form up to the bytes of the disk. With `length`, the disk's length is announced.
    fn begin(daemon: &Daemon, name: &str, length: Option<u64>) -> Self {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        let head = Self::head(name);
        let framing = match length {
            Some(length) => {
                format!("Content-Length: {}", head.len() as u64 + length + END.len() as u64)
            }
            None => "Transfer-Encoding: chunked".to_owned(),
        };
        write!(
            stream,
            "POST /images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary=b\r\n{framing}\r\n\r\n"
        )
        .unwrap();
        let mut upload = Self(stream);
        match length {
            Some(_) => upload.0.write_all(head.as_bytes()).unwrap(),
            None => upload.chunk(head.as_bytes()),
        }
        upload
    }

    fn chunk(&mut self, bytes: &[u8]) {
        self.send(format!("{:x}\r\n", bytes.len()).as_bytes());
        self.send(bytes);
        self.send(b"\r\n");
    }

    /// Writes to a daemon that may have refused a form of unknown length, and then closes the connection at once (RFC
    /// 9112, section 9.6). The answer can still be read.
    fn send(&mut self, bytes: &[u8]) {
        match self.0.write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
    }

    /// Ends a form of unknown length.
    fn end(mut self) -> Answer {
        self.chunk(END.as_bytes());
        self.send(b"0\r\n\r\n");
        Answer::read(self.0)
    }
}

const END: &str = "\r\n--b--\r\n";

/// The number of files that are being received.
fn staged(daemon: &Daemon) -> usize {
    std::fs::read_dir(daemon.dir.path().join("state/staging")).map_or(0, Iterator::count)
}

/// Polls until this is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < until, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A daemon whose disk has room for 20 MiB of images, besides what the journal's log has already.
fn small() -> Daemon {
    let daemon = Daemon::start();
    let log = std::fs::metadata(daemon.dir.path().join("state/state.db-wal"));
    let log = log.map_or(0, |log| log.blocks() * 512);
    daemon.host.set_disk(daemon.dir.path(), DISK_RESERVE + 20 * MIB + log);
    daemon
}

#[test]
fn four_uploads_share_the_disk_and_leave_the_journals_reserve() {
    let daemon = small();
    let mut uploads: Vec<Upload> =
        (0..4).map(|number| Upload::begin(&daemon, &format!("image-{number}"), None)).collect();
    until("four files", || staged(&daemon) == 4);
    for upload in &mut uploads {
        for _ in 0..8 {
            upload.chunk(&vec![7; MIB as usize]);
        }
    }
    // There is room for two of them; no form has ended, so each other was refused while it was received.
    until("two are refused", || staged(&daemon) == 2);
    let answers: Vec<Answer> = uploads.into_iter().map(Upload::end).collect();
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().enumerate().partition(|(_, answer)| answer.status == 202);
    assert_eq!((accepted.len(), refused.len()), (2, 2));
    for (_, answer) in refused {
        let message = answer.refused(409, "insufficient_resources");
        assert!(message.contains("stay free for the journal"), "{message}");
    }
    for (number, _) in accepted {
        daemon.until_ready(&format!("image-{number}"));
    }
    assert!(daemon.host.free_space(daemon.dir.path()).unwrap() >= DISK_RESERVE);
}

#[test]
fn an_upload_with_a_length_has_its_space_reserved() {
    let daemon = small();
    let mut first = Upload::begin(&daemon, "first", Some(16 * MIB));
    until("the first file", || staged(&daemon) == 1);
    let mut second = Upload::begin(&daemon, "second", None);
    for _ in 0..8 {
        second.chunk(&vec![7; MIB as usize]);
    }
    second.end().refused(409, "insufficient_resources");
    first.0.write_all(&vec![7; 16 * MIB as usize]).unwrap();
    first.0.write_all(END.as_bytes()).unwrap();
    Answer::read(first.0).expect(202);
    daemon.until_ready("first");
}

#[test]
fn a_fifth_upload_or_import_is_refused_until_one_has_ended() {
    let daemon = Daemon::start();
    let mut uploads: Vec<Upload> =
        (0..4).map(|number| Upload::begin(&daemon, &format!("image-{number}"), None)).collect();
    until("four files", || staged(&daemon) == 4);
    let file = daemon.dir.path().join("disk.raw");
    std::fs::write(&file, vec![7; 4096]).unwrap();
    let body = json!({ "name": "fifth", "disk": file, "format": "raw" });
    daemon.post("/images", &body).refused(429, "too_many_requests");
    Upload::begin(&daemon, "fifth", None).end().refused(429, "too_many_requests");
    let mut first = uploads.remove(0);
    first.chunk(&[7; 512]);
    first.end().expect(202);
    daemon.until_ready("image-0");
    daemon.post("/images", &body).expect(202);
    daemon.until_ready("fifth");
    // A client that has gone leaves nothing.
    drop(uploads);
    until("no files", || staged(&daemon) == 0);
}
