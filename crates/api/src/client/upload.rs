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
    /// The length of the form, from which the daemon knows early whether there is space. `None` if a file has no length,
    /// such as a pipe.
    pub(super) length: Option<u64>,
    pub(super) body: Channel<Bytes, std::io::Error>,
}

impl Upload {
    /// Opens the files and starts to send.
    pub(super) async fn start(self) -> Result<Sending, Refusal> {
        // The boundary must not occur in a file; 128 random bits do not.
        let boundary = format!("handover-{:032x}", random());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let mut pieces = Vec::new();
        for (name, value) in self.fields {
            pieces.push(Piece::Text(format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )));
        }
        for part in self.files {
            let unreadable = |error| unreadable(&part, &error);
            let file = File::open(&part.path).await.map_err(unreadable)?;
            let found = file.metadata().await.map_err(unreadable)?;
            let name = part.field;
            pieces.push(Piece::Text(format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            )));
            pieces.push(Piece::File(
                file,
                (found.is_file() && found.len() > 0).then_some(found.len()),
            ));
            pieces.push(Piece::Text("\r\n".to_owned()));
        }
        pieces.push(Piece::Text(format!("--{boundary}--\r\n")));
        let length = pieces.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.length()?));
        let (sender, body) = Channel::new(2);
        tokio::spawn(send(sender, pieces));
        Ok(Sending { content_type, length, body })
    }
}

/// Opens a file and starts to send it as the whole body.
pub(super) async fn whole_file(part: FilePart, content_type: &str) -> Result<Sending, Refusal> {
    let unreadable = |error| unreadable(&part, &error);
    let file = File::open(&part.path).await.map_err(unreadable)?;
    let found = file.metadata().await.map_err(unreadable)?;
    let length = (found.is_file() && found.len() > 0).then_some(found.len());
    let (sender, body) = Channel::new(2);
    tokio::spawn(send(sender, vec![Piece::File(file, length)]));
    Ok(Sending { content_type: content_type.to_owned(), length, body })
}

/// A piece of a form.
enum Piece {
    Text(String),
    /// A file, and its length when it was opened.
    File(File, Option<u64>),
}

impl Piece {
    fn length(&self) -> Option<u64> {
        match self {
            Self::Text(text) => Some(text.len() as u64),
            Self::File(_, length) => *length,
        }
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

/// Sends all pieces; ends early if the daemon has closed the connection, which its answer explains.
async fn send(mut sender: Sender<Bytes, std::io::Error>, pieces: Vec<Piece>) {
    for piece in pieces {
        let sent = match piece {
            Piece::Text(text) => sender.send_data(text.into()).await.is_ok(),
            Piece::File(file, length) => match send_file(&mut sender, file, length).await {
                Ok(sent) => sent,
                Err(error) => return sender.abort(error),
            },
        };
        if !sent {
            return;
        }
    }
}

/// Sends a file as long as it was when it was opened; returns whether the daemon still listens.
async fn send_file(
    sender: &mut Sender<Bytes, std::io::Error>,
    file: File,
    length: Option<u64>,
) -> std::io::Result<bool> {
    let mut left = length;
    let mut file = file.take(length.unwrap_or(u64::MAX));
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let count = file.read_buf(&mut chunk).await? as u64;
        if count == 0 {
            break;
        }
        left = left.map(|left| left.saturating_sub(count));
        if sender.send_data(chunk.freeze()).await.is_err() {
            return Ok(false);
        }
    }
    match left {
        None | Some(0) => Ok(true),
        Some(_) => Err(std::io::Error::other("the file became shorter while it was sent")),
    }
}
