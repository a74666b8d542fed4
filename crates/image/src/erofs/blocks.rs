//! The contents of files, written one after another while layers are unpacked.

use std::path::Path;

use super::BLOCK;
use super::error::BuildError;
use crate::ImageError;
use crate::budget::Allowance;
use crate::layer_problem::LayerProblem;
use crate::target::Target;

/// How many bytes are read at a time.
const BUFFER: usize = 256 << 10;

/// The most bytes of an image, with holes: 128 GiB.
const MOST: u64 = 128 << 30;

/// Where the content of a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Its size in bytes.
    pub size: u64,
    /// Its first block.
    pub block: u32,
    /// Where its last, incomplete block is in the scratch file, if it will be inline.
    pub tail: Option<u64>,
}

/// A part of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// This many bytes are in the buffer.
    Data(usize),
    /// This many zeros follow.
    Hole(u64),
    /// The content has ended.
    End,
}

/// Reads the next part of a file's content.
pub type Next<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<Chunk, BuildError>;

/// The image file while it is written, and the scratch file with the ends of files.
pub struct Blocks {
    image: Target,
    scratch: Target,
    /// The next free block.
    next: u64,
    /// The length of the scratch file.
    scratched: u64,
    buffer: Vec<u8>,
}

impl Content {
    /// The size of the incomplete last block.
    pub const fn rest(&self) -> u64 {
        self.size % BLOCK
    }

    /// The bytes in whole blocks of the data area.
    const fn in_blocks(&self) -> u64 {
        if self.tail.is_some() { self.size - self.rest() } else { self.size }
    }
}

impl Blocks {
    /// Begins an image. The scratch file is beside it.
    pub fn create(
        image: &Path,
        scratch: &Path,
        allowance: impl Fn() -> Allowance,
    ) -> Result<Self, ImageError> {
        Ok(Self {
            image: Target::create(image, crate::copy::MODE, allowance())?,
            scratch: Target::create(scratch, 0o600, allowance())?,
            next: 1,
            scratched: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Writes the content of a file. If its end has at most `room` bytes, it will be inline.
    pub fn file(&mut self, size: u64, room: u64, next: Next<'_>) -> Result<Content, BuildError> {
        let rest = size % BLOCK;
        let tail = (rest > 0 && rest <= room).then_some(self.scratched);
        let mut content = Content { size, block: 0, tail };
        let in_blocks = content.in_blocks();
        content.block = self.take_blocks(in_blocks)?;
        if tail.is_some() {
            self.scratched += rest;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.copy(&content, &mut buffer, next);
        self.buffer = buffer;
        written.map(|()| content)
    }

    fn copy(
        &mut self,
        content: &Content,
        buffer: &mut [u8],
        next: Next<'_>,
    ) -> Result<(), BuildError> {
        let start = u64::from(content.block) * BLOCK;
        let (in_blocks, mut at) = (content.in_blocks(), 0u64);
        loop {
            let count = match next(buffer)? {
                Chunk::Data(count) => count,
                // In the scratch file, each range is used once: it has zeros.
                Chunk::Hole(count) => {
                    at = at.saturating_add(count);
                    continue;
                }
                Chunk::End => return Ok(()),
            };
            let data = buffer.get(..count).unwrap_or_default();
            let split = usize::try_from(in_blocks.saturating_sub(at)).unwrap_or(usize::MAX);
            let (blocks, tail) = data.split_at(split.min(data.len()));
            write(&mut self.image, blocks, start + at)?;
            if let Some(offset) = content.tail.filter(|_| !tail.is_empty()) {
                let at = at + blocks.len() as u64;
                write(&mut self.scratch, tail, offset + (at - in_blocks))?;
            }
            at += data.len() as u64;
        }
    }

    /// Takes blocks for this many bytes.
    pub fn take_blocks(&mut self, bytes: u64) -> Result<u32, LayerProblem> {
        let too_large = LayerProblem::TooLarge { most: MOST };
        let first = self.next;
        let next = bytes.div_ceil(BLOCK).checked_add(first);
        let next = next.filter(|next| *next <= MOST / BLOCK).ok_or(too_large.clone())?;
        self.next = next;
        u32::try_from(first).map_err(|_| too_large)
    }

    /// The number of blocks so far.
    pub const fn count(&self) -> u64 {
        self.next
    }

    /// Returns the space of a content that is not used any more. Its blocks become a hole.
    pub fn free(&mut self, content: &Content) -> Result<(), ImageError> {
        let start = u64::from(content.block) * BLOCK;
        self.image.punch(start, content.in_blocks().next_multiple_of(BLOCK))
    }

    /// Writes to a place in the image.
    pub fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        self.image.write_at(bytes, offset)
    }

    /// Reads the end of a file that will be inline.
    pub fn tail(&self, content: &Content) -> Result<Vec<u8>, ImageError> {
        let Some(offset) = content.tail else { return Ok(Vec::new()) };
        let mut tail = vec![0; usize::try_from(content.rest()).unwrap_or_default()];
        self.scratch.read_at(&mut tail, offset)?;
        Ok(tail)
    }

    /// Gives the image its length and syncs it to disk.
    pub fn finish(self, length: u64) -> Result<(), ImageError> {
        self.image.set_length(length)?;
        self.image.sync()
    }
}

/// Writes what is not zero; the rest stays a hole.
fn write(target: &mut Target, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
    if bytes.is_empty() || bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    target.write_at(bytes, offset)
}
