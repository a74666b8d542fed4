//! Uploads of files as `multipart/form-data`, streamed.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use http_body_util::channel::{Channel, Sender};
use model::{Code, Refusal};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// The size of a read.
const CHUNK: usize = 256 << 10;

/// A form to send: its text fields, then its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// Text fields: name and value.
    pub fields: Vec<(&'static str, String)>,
    /// Files.
    pub files: Vec<FilePart>,
}

/// One file of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// The field's name.
    pub field: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// A form that is being sent.
pub(super) struct Sending {
    pub(super) content_type: String,
    pub(super) body: Channel<Bytes, std::io::Error>,
}

impl Upload {
    /// Opens the files and starts to send.
    pub(super) async fn start(self) -> Result<Sending, Refusal> {
        let mut files = Vec::new();
        for part in self.files {
            let file = File::open(&part.path).await.map_err(|error| unreadable(&part, &error))?;
            files.push((part.field, file));
        }
        // The boundary must not occur in a file; 128 random bits do not.
        let boundary = format!("handover-{:032x}", random());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let (sender, body) = Channel::new(2);
        tokio::spawn(send(sender, boundary, self.fields, files));
        Ok(Sending { content_type, body })
    }
}

/// 128 random bits: the keys of std's hash maps come from the kernel's random number generator.
fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}

fn unreadable(part: &FilePart, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::InvalidRequest,
        format!("cannot read {}: {error}", part.path.display()),
        format!("name a readable file as the {}", part.field),
    )
}

/// Sends all parts; ends early if the daemon has closed the connection, which its answer explains.
async fn send(
    mut sender: Sender<Bytes, std::io::Error>,
    boundary: String,
    fields: Vec<(&'static str, String)>,
    files: Vec<(&'static str, File)>,
) {
    for (name, value) in fields {
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        if sender.send_data(part.into()).await.is_err() {
            return;
        }
    }
    for (name, mut file) in files {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        if sender.send_data(head.into()).await.is_err() {
            return;
        }
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            match file.read_buf(&mut chunk).await {
                Ok(0) => break,
                Ok(_) if sender.send_data(chunk.freeze()).await.is_err() => return,
                Ok(_) => {}
                Err(error) => return sender.abort(error),
            }
        }
        if sender.send_data(Bytes::from_static(b"\r\n")).await.is_err() {
            return;
        }
    }
    let end = format!("--{boundary}--\r\n");
    // Fails if the daemon has closed the connection.
    let _ = sender.send_data(end.into()).await;
}
