//! Server-sent events.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::Refusal;

use super::odd;

/// The maximum size of an event.
const LONGEST_EVENT: usize = 1 << 20;

/// The `data` of the events of a stream.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    pending: Vec<u8>,
    data: String,
    has_data: bool,
}

impl Lines {
    pub(super) const fn of(body: Incoming) -> Self {
        Self { body, pending: Vec::new(), data: String::new(), has_data: false }
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
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(odd(format!("the stream was interrupted: {error}")));
                }
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.pending.extend_from_slice(bytes);
                    }
                }
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
