//! What the agent says to a client.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use guest_protocol::ProtocolError;
use guest_protocol::message::{FromGuest, Refusal, write_message};
use rustix::net::{Shutdown, shutdown};

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
        let said = write_message(&mut *to, message);
        if said.is_err() {
            // Part of a frame can be written: nothing after it would be understood. The end of the connection also ends
            // the session, which waits for the client.
            let _ = shutdown(&*to, Shutdown::Both);
        }
        said
    }

    /// Refuses what was asked.
    pub fn refuse(&self, code: &str, message: &str) -> Result<(), ProtocolError> {
        // A long message is cut: the frame has a bound.
        let message: String = message.chars().take(4000).collect();
        self.say(&FromGuest::Refused(Refusal { code: code.to_owned(), message }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_write_that_failed_ends_the_connection() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut connection = File::from(OwnedFd::from(ours));
        let answers = Answers::new(&connection).unwrap();
        while answers.say(&FromGuest::Stdout(vec![0; 30_000])).is_ok() {}
        assert!(answers.say(&FromGuest::Done).is_err());
        assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0);
    }
}
