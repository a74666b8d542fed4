//! Decompresses modules: distributions ship them as `.ko`, `.ko.gz`, `.ko.xz` or `.ko.zst`.

use std::io::Read;

/// The most memory that an xz stream may ask for, in KiB. Modules are compressed with dictionaries of 1 MiB.
const XZ_MEMORY_KIB: u32 = 72 * 1024;

/// Why a module cannot be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// It is no such stream.
    #[error("{0}")]
    Broken(String),
    /// It is too large.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
}

/// Whether a module of this name is compressed.
#[must_use]
pub fn is_compressed(path: &str) -> bool {
    [".gz", ".xz", ".zst"].iter().any(|ending| path.ends_with(ending))
}

/// A module as the kernel loads it. The name's ending says how it is compressed.
///
/// # Errors
/// It is broken, or has more than `most` bytes.
pub fn decompressed(path: &str, raw: Vec<u8>, most: usize) -> Result<Vec<u8>, CompressionError> {
    let mut into = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("gz") => {
            let reader = flate2::read::MultiGzDecoder::new(raw.as_slice());
            reader.take(bound).read_to_end(&mut into)
        }
        Some("xz") => {
            let reader = lzma_rust2::XzReader::new_mem_limit(raw.as_slice(), true, XZ_MEMORY_KIB);
            reader.take(bound).read_to_end(&mut into)
        }
        Some("zst") => {
            let reader = ruzstd::decoding::StreamingDecoder::new(raw.as_slice());
            let reader = reader.map_err(|error| CompressionError::Broken(error.to_string()))?;
            reader.take(bound).read_to_end(&mut into)
        }
        _ => return Ok(raw),
    };
    read.map_err(|error| CompressionError::Broken(error.to_string()))?;
    if into.len() > most {
        return Err(CompressionError::TooLarge(most));
    }
    Ok(into)
}
