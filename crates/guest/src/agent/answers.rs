//! What the agent says to a client.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use guest_protocol::ProtocolError;
use guest_protocol::message::{FromGuest, Refusal, write_message};

/// The direction to the client, which several threads use.
#[derive(Clone)]
pub struct Answers(Arc<Mutex<File>>);

impl Answers {
    /// The direction to the client of a connection.
    pub fn new(connection: &File) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(connection.try_clone()?))))
    }

    /// Says something.
    pub fn say(&self, message: &FromGuest) -> Result<(), ProtocolError> {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write_message(&mut *to, message)
    }

    /// Refuses what was asked.
    pub fn refuse(&self, code: &str, message: &str) -> Result<(), ProtocolError> {
        // A long message is cut: the frame has a bound.
        let message: String = message.chars().take(4000).collect();
        self.say(&FromGuest::Refused(Refusal { code: code.to_owned(), message }))
    }
}
