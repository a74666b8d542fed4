//! The configuration disk: the configuration at its start, the result record in its last 4 KiB.
//!
//! | offset | what |
//! |---|---|
//! | 0 | the magic number `handover` |
//! | 8 | the layout's version, 32 bits, little endian |
//! | 12 | the length of the JSON, 32 bits, little endian |
//! | 16 | the JSON of [`GuestConfig`] |
//! | end − 4096 | the magic number `hndresul`; all zero: no result yet |
//! | end − 4088 | the length of the JSON, 32 bits, little endian |
//! | end − 4084 | the CRC-32C of the JSON, 32 bits, little endian |
//! | end − 4080 | the JSON of [`CommandResult`] |

use serde::de::DeserializeOwned;

use crate::{CommandResult, GuestConfig, ProtocolError};

/// The layout's version.
pub const LAYOUT_VERSION: u32 = 1;

/// The longest configuration.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// The bytes before the configuration.
pub const HEADER_BYTES: usize = 16;

/// The size of the result record at the disk's end.
pub const RESULT_BYTES: usize = 4096;

/// The size of the disk: room for the longest configuration and the result.
pub const DISK_BYTES: usize = MAX_CONFIG_BYTES + 2 * RESULT_BYTES;

const CONFIG_MAGIC: &[u8; 8] = b"handover";
const RESULT_MAGIC: &[u8; 8] = b"hndresul";
const MAX_RESULT_JSON: usize = RESULT_BYTES - HEADER_BYTES;

/// A whole configuration disk, without a result.
///
/// # Errors
/// The configuration is too long.
pub fn encode(config: &GuestConfig) -> Result<Vec<u8>, ProtocolError> {
    let json = to_json("the configuration", config)?;
    let length = bounded("the configuration", json.len(), MAX_CONFIG_BYTES)?;
    let mut disk = Vec::with_capacity(DISK_BYTES);
    disk.extend(CONFIG_MAGIC);
    disk.extend(LAYOUT_VERSION.to_le_bytes());
    disk.extend(length.to_le_bytes());
    disk.extend(json);
    disk.resize(DISK_BYTES, 0);
    Ok(disk)
}

/// The length of the configuration's JSON, which follows this header.
///
/// # Errors
/// The header is not one, or the length is above the bound.
pub fn config_length(header: &[u8; HEADER_BYTES]) -> Result<usize, ProtocolError> {
    let (magic, version, length) = fields(header);
    if magic != *CONFIG_MAGIC {
        return Err(ProtocolError::NotOurs);
    }
    if version != LAYOUT_VERSION {
        return Err(ProtocolError::Version { theirs: version, ours: LAYOUT_VERSION });
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    bounded("the configuration", length, MAX_CONFIG_BYTES)?;
    Ok(length)
}

/// The configuration, from its JSON.
///
/// # Errors
/// It is too long, or not understood.
pub fn decode_config(json: &[u8]) -> Result<GuestConfig, ProtocolError> {
    bounded("the configuration", json.len(), MAX_CONFIG_BYTES)?;
    from_json("the configuration", json)
}

/// The result record. A long error is cut, so that it fits.
///
/// # Errors
/// Never in practice: the record is short.
pub fn encode_result(result: &CommandResult) -> Result<Vec<u8>, ProtocolError> {
    let mut result = result.clone();
    let json = loop {
        let json = to_json("the result", &result)?;
        match &mut result.error {
            Some(error) if json.len() > MAX_RESULT_JSON => {
                let half = error.floor_char_boundary(error.len() / 2);
                error.truncate(half);
            }
            _ => break json,
        }
    };
    let length = bounded("the result", json.len(), MAX_RESULT_JSON)?;
    let mut record = Vec::with_capacity(RESULT_BYTES);
    record.extend(RESULT_MAGIC);
    record.extend(length.to_le_bytes());
    record.extend(crc32c::crc32c(&json).to_le_bytes());
    record.extend(json);
    record.resize(RESULT_BYTES, 0);
    Ok(record)
}

/// The result from the disk's last 4 KiB, or none if the guest has written none.
///
/// # Errors
/// The record is not one, or was not written completely. The guest can write anything.
pub fn decode_result(record: &[u8; RESULT_BYTES]) -> Result<Option<CommandResult>, ProtocolError> {
    let (header, rest) = record.split_first_chunk().ok_or(ProtocolError::CutOff("the result"))?;
    if header == &[0; HEADER_BYTES] {
        return Ok(None);
    }
    let (magic, length, checksum) = fields(header);
    if magic != *RESULT_MAGIC {
        return Err(ProtocolError::NotOurs);
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    bounded("the result", length, MAX_RESULT_JSON)?;
    let json = rest.get(..length).ok_or(ProtocolError::CutOff("the result"))?;
    if crc32c::crc32c(json) != checksum {
        return Err(ProtocolError::Checksum);
    }
    from_json("the result", json).map(Some)
}

/// The magic number and the two numbers of a header.
fn fields(header: &[u8; HEADER_BYTES]) -> ([u8; 8], u32, u32) {
    let [m0, m1, m2, m3, m4, m5, m6, m7, a0, a1, a2, a3, b0, b1, b2, b3] = *header;
    let (a, b) = (u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([b0, b1, b2, b3]));
    ([m0, m1, m2, m3, m4, m5, m6, m7], a, b)
}

fn bounded(what: &'static str, bytes: usize, most: usize) -> Result<u32, ProtocolError> {
    u32::try_from(bytes).ok().filter(|_| bytes <= most).ok_or(ProtocolError::TooLong {
        what,
        bytes,
        most,
    })
}

fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, ProtocolError> {
    serde_json::to_vec(value)
        .map_err(|error| ProtocolError::Malformed { what, reason: error.to_string() })
}

fn from_json<T: DeserializeOwned>(what: &'static str, json: &[u8]) -> Result<T, ProtocolError> {
    serde_json::from_slice(json)
        .map_err(|error| ProtocolError::Malformed { what, reason: error.to_string() })
}
