//! Finds disks by their serial numbers, never by their positions.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::InitError;

/// Waits for the disk with this serial number, and says its device node.
pub fn wait_for(serial: &str, until: Instant) -> Result<PathBuf, InitError> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let disks = serials(Path::new("/sys/block"));
        if let Some((name, _)) = disks.iter().find(|(_, found)| found == serial) {
            let node = Path::new("/dev").join(name);
            if node.exists() {
                return Ok(node);
            }
        }
        if Instant::now() >= until {
            let found: Vec<String> =
                disks.iter().map(|(name, serial)| format!("{name} ({serial:?})")).collect();
            let found =
                if found.is_empty() { "no disk at all".to_owned() } else { found.join(", ") };
            let seconds = begin.elapsed().as_secs();
            return Err(InitError::DiskMissing { serial: serial.to_owned(), seconds, found });
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// All disks that have a serial number.
fn serials(blocks: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(blocks).into_iter().flatten().flatten();
    let mut disks: Vec<(String, String)> = entries
        .filter_map(|entry| {
            // A virtio disk has it in its own directory, an NVMe or SCSI disk in its device's.
            let own = fs::read(entry.path().join("serial"));
            let serial = own.or_else(|_| fs::read(entry.path().join("device/serial"))).ok()?;
            let serial = String::from_utf8_lossy(&serial).trim().to_owned();
            Some((entry.file_name().to_string_lossy().into_owned(), serial))
        })
        .filter(|(_, serial)| !serial.is_empty())
        .collect();
    disks.sort();
    disks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_read_where_drivers_have_them() {
        let place = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("vda/serial", "handover-root\n"),
            ("nvme0n1/device/serial", " S4 2 \n"),
            ("vdb/size", "8"),
            ("vdc/serial", "\n"),
        ] {
            let path = place.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let expected = [("nvme0n1", "S4 2"), ("vda", "handover-root")];
        let found = serials(place.path());
        assert!(found.iter().map(|(a, b)| (a.as_str(), b.as_str())).eq(expected), "{found:?}");
        assert!(serials(Path::new("/nowhere")).is_empty());
    }
}
