//! Decompression of layers: gzip, zstd, or none, as their first bytes say. Media types are not relied on: old registries have wrong ones.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};

/// How much is read from the file at a time.
const BUFFER: usize = 256 << 10;

/// What a gzip member begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What a frame of zstd begins with, and one that is skipped, whose lowest four bits can be any (RFC 8878).
const ZSTD: u32 = 0xFD2F_B528;
const SKIPPED: u32 = 0x184D_2A50;

/// A reader of what is in a layer.
pub fn decoded(file: File) -> io::Result<Box<dyn Read + Send>> {
    use std::io::Seek as _;
    let mut file = file;
    file.rewind()?;
    let mut file = BufReader::with_capacity(BUFFER, file);
    let start = file.fill_buf()?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(MultiGzDecoder::new(file)));
    }
    let magic = start.first_chunk().map(|start| u32::from_le_bytes(*start));
    if magic.is_some_and(|magic| magic == ZSTD || magic & !0xf == SKIPPED) {
        return Ok(Box::new(Zstd { file, decoder: FrameDecoder::new(), in_frame: false }));
    }
    Ok(Box::new(file))
}

/// Frames of zstd, one after another. The library's own reader reads one.
struct Zstd {
    file: BufReader<File>,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if self.file.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.in_frame = self.begin_frame()?;
                continue;
            }
            if self.decoder.can_collect() > 0 || buffer.is_empty() {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                self.in_frame = false;
                continue;
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.file, one).map_err(io::Error::other)?;
        }
    }
}

impl Zstd {
    /// Reads the header of a frame; false if it was one to skip.
    fn begin_frame(&mut self) -> io::Result<bool> {
        match self.decoder.init(&mut self.file) {
            Ok(()) => Ok(true),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let skipped = (&mut self.file).take(length.into());
                io::copy(&mut { skipped }, &mut io::sink())?;
                Ok(false)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Hashes what is read.
pub struct Hashed<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Hashed<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, digest: Sha256::new() }
    }

    /// The SHA-256 of what was read.
    pub fn finish(self) -> [u8; 32] {
        self.digest.finalize().into()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
