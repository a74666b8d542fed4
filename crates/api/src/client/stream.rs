//! Bodies that are read as they arrive: bytes, and server-sent events.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::Refusal;

use super::odd;

/// The maximum size of an event.
const LONGEST_EVENT: usize = 1 << 20;

/// The bytes of a body.
#[derive(Debug)]
pub struct Chunks {
    body: Incoming,
}

impl Chunks {
    pub(super) const fn of(body: Incoming) -> Self {
        Self { body }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        while let Some(frame) = self.body.frame().await {
            let frame =
                frame.map_err(|error| odd(format!("the stream was interrupted: {error}")))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// The `data` of the events of a stream.
#[derive(Debug)]
pub struct Lines {
    chunks: Chunks,
    pending: Vec<u8>,
    data: String,
    has_data: bool,
}

impl Lines {
    pub(super) const fn of(body: Incoming) -> Self {
        Self { chunks: Chunks::of(body), pending: Vec::new(), data: String::new(), has_data: false }
    }

    /// The data of the next event; `None` when the stream has ended.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn next(&mut self) -> Result<Option<String>, Refusal> {
        loop {
            if let Some(data) = self.event() {
                return Ok(Some(data));
            }
            if self.pending.len() + self.data.len() > LONGEST_EVENT {
                return Err(odd("an event is longer than 1 MiB".into()));
            }
            match self.chunks.next().await? {
                None => return Ok(None),
                Some(bytes) => self.pending.extend_from_slice(&bytes),
            }
        }
    }

    /// Parses complete lines of the received data, up to the empty line that ends an event.
    fn event(&mut self) -> Option<String> {
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(data) = line.strip_prefix("data:") {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                self.has_data = true;
            } else if line.is_empty() && std::mem::take(&mut self.has_data) {
                return Some(std::mem::take(&mut self.data));
            }
        }
        None
    }
}
