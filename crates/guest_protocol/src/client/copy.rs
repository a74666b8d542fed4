//! Copying files into and out of the guest.

use std::io::{Read, Write};

use super::{Client, answer, unexpected};
use crate::ProtocolError;
use crate::frame::MAX_PAYLOAD;
use crate::message::{CopyIn, CopyOut, Entry, EntryKind, FromGuest, ToGuest, write_message};

/// A copy into the guest that has begun.
#[derive(Debug)]
pub struct CopyingIn<'a, R, W> {
    client: &'a mut Client<R, W>,
}

impl<R: Read, W: Write> Client<R, W> {
    /// Begins a copy into the guest.
    ///
    /// # Errors
    /// The stream failed. Whether the guest accepts it is known at [`CopyingIn::finish`].
    pub fn copy_in(&mut self, request: &CopyIn) -> Result<CopyingIn<'_, R, W>, ProtocolError> {
        write_message(&mut self.writer, &ToGuest::CopyIn(request.clone()))?;
        Ok(CopyingIn { client: self })
    }

    /// Copies out of the guest. `on_entry` gets each entry, and a file's contents as a reader of exactly its size. What
    /// it does not read is skipped. Paths of entries are below the copied directory; they were checked.
    ///
    /// # Errors
    /// The agent refuses or fails, or `on_entry` does.
    pub fn copy_out<E: From<ProtocolError>>(
        &mut self,
        request: &CopyOut,
        mut on_entry: impl FnMut(&Entry, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        write_message(&mut self.writer, &ToGuest::CopyOut(request.clone()))?;
        loop {
            match answer(&mut self.reader, "an entry", |_| true)? {
                FromGuest::End => return Ok(()),
                FromGuest::Entry(entry) => {
                    let left = match entry.kind {
                        EntryKind::Stream => {
                            let (what, reason) = ("an entry", "its size is missing".to_owned());
                            return Err(ProtocolError::Malformed { what, reason }.into());
                        }
                        EntryKind::File { size } => size,
                        EntryKind::Directory | EntryKind::Link { .. } => 0,
                    };
                    let mut contents =
                        Contents { reader: &mut self.reader, left, chunk: Vec::new(), at: 0 };
                    on_entry(&entry, &mut contents)?;
                    contents.skip_rest()?;
                }
                other => return Err(unexpected(&other, "an entry").into()),
            }
        }
    }
}

impl<R: Read, W: Write> CopyingIn<'_, R, W> {
    /// Copies a directory or a link.
    ///
    /// # Errors
    /// The stream failed.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), ProtocolError> {
        write_message(&mut self.client.writer, &ToGuest::Entry(entry.clone()))
    }

    /// Copies a file, whose entry has its size.
    ///
    /// # Errors
    /// The stream failed, or the contents could not be read or have another size: then the session is useless.
    pub fn file(&mut self, entry: &Entry, contents: &mut impl Read) -> Result<(), ProtocolError> {
        self.entry(entry)?;
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        let mut left = size;
        let mut chunk = vec![0; MAX_PAYLOAD];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD);
            let room = chunk.get_mut(..most).unwrap_or_default();
            let read = contents.read(room)?;
            if read == 0 {
                return Err(ProtocolError::CutOff("the file"));
            }
            let data = room.get(..read).unwrap_or_default().to_vec();
            write_message(&mut self.client.writer, &ToGuest::Data(data))?;
            left = left.saturating_sub(u64::try_from(read).unwrap_or(left));
        }
        Ok(())
    }

    /// Copies contents of the file whose entry was the last, of the kind [`EntryKind::Stream`].
    ///
    /// # Errors
    /// The stream failed.
    pub fn data(&mut self, contents: &[u8]) -> Result<(), ProtocolError> {
        for chunk in contents.chunks(MAX_PAYLOAD) {
            write_message(&mut self.client.writer, &ToGuest::Data(chunk.to_vec()))?;
        }
        Ok(())
    }

    /// Ends the contents of that file.
    ///
    /// # Errors
    /// The stream failed.
    pub fn end_of_file(&mut self) -> Result<(), ProtocolError> {
        write_message(&mut self.client.writer, &ToGuest::Data(Vec::new()))
    }

    /// Ends the copy, and waits until the guest has written all.
    ///
    /// # Errors
    /// The guest could not write something, and says what.
    pub fn finish(self) -> Result<(), ProtocolError> {
        self.client.done(&ToGuest::End)
    }
}

/// A file's contents: the data of exactly its size.
struct Contents<'a, R> {
    reader: &'a mut R,
    left: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl<R: Read> Contents<'_, R> {
    /// Reads the next chunk; false if nothing is left.
    fn fill(&mut self) -> Result<bool, ProtocolError> {
        while self.at == self.chunk.len() {
            if self.left == 0 {
                return Ok(false);
            }
            let FromGuest::Data(data) =
                answer(self.reader, "data", |message| matches!(message, FromGuest::Data(_)))?
            else {
                return Err(ProtocolError::CutOff("the file"));
            };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            // An empty frame carries nothing, and endless ones would never end the copy.
            if length == 0 || length > self.left {
                let (what, most) =
                    ("a file's data", usize::try_from(self.left).unwrap_or(usize::MAX));
                return Err(ProtocolError::TooLong { what, bytes: data.len(), most });
            }
            self.left -= length;
            (self.chunk, self.at) = (data, 0);
        }
        Ok(true)
    }

    fn skip_rest(&mut self) -> Result<(), ProtocolError> {
        while self.fill()? {
            self.at = self.chunk.len();
        }
        Ok(())
    }
}

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.fill() {
            Ok(true) => {}
            Ok(false) => return Ok(0),
            Err(ProtocolError::Stream(error)) => return Err(error),
            Err(other) => return Err(std::io::Error::other(other)),
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(length)
    }
}
