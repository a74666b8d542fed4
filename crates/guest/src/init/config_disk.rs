//! The configuration disk: what to do, and the result.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use guest_protocol::disk::{
    HEADER_BYTES, RESULT_BYTES, config_length, decode_config, encode_result,
};
use guest_protocol::{CommandResult, GuestConfig};

use super::error::InitError;

/// The open disk. It stays open, so that no device node is needed at the end.
pub struct ConfigDisk(File);

impl ConfigDisk {
    /// Opens the disk.
    pub fn open(device: &Path) -> Result<Self, InitError> {
        let disk = OpenOptions::new().read(true).write(true).open(device);
        disk.map(Self).map_err(InitError::ConfigDisk)
    }

    /// Reads the configuration.
    pub fn read(&mut self) -> Result<GuestConfig, InitError> {
        let failed = InitError::ConfigDisk;
        let mut header = [0; HEADER_BYTES];
        self.0.rewind().map_err(failed)?;
        self.0.read_exact(&mut header).map_err(failed)?;
        let mut json = vec![0; config_length(&header)?];
        self.0.read_exact(&mut json).map_err(failed)?;
        Ok(decode_config(&json)?)
    }

    /// Writes the result record, and waits until it is on the disk.
    pub fn write_result(&mut self, result: &CommandResult) -> io::Result<()> {
        let record = encode_result(result).map_err(io::Error::other)?;
        let back = i64::try_from(RESULT_BYTES).map_err(io::Error::other)?;
        self.0.seek(SeekFrom::End(-back))?;
        self.0.write_all(&record)?;
        self.0.sync_all()
    }
}
