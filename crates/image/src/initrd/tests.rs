use std::collections::BTreeMap;
use std::io::Write;

use super::*;

/// Modules in memory.
#[derive(Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl ModuleFiles for Memory {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, InitrdError> {
        match self.0.get(path) {
            Some(bytes) if bytes.len() > most => {
                Err(InitrdError::TooLarge { path: path.to_owned(), most })
            }
            found => Ok(found.cloned()),
        }
    }
}

fn kernel() -> Memory {
    let mut files = BTreeMap::new();
    let mut put = |path: &str, text: &[u8]| files.insert(path.to_owned(), text.to_vec());
    put(
        "modules.builtin",
        b"kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/overlayfs/overlay.ko\n",
    );
    put(
        "modules.dep",
        b"kernel/virtio_blk.ko: kernel/virtio-ring.ko.gz\nkernel/virtio-ring.ko.gz:\n\
          kernel/erofs.ko:\nkernel/ext4.ko: kernel/jbd2.ko kernel/crc16.ko\nkernel/jbd2.ko: kernel/crc16.ko\n\
          kernel/crc16.ko:\nkernel/crc32c_generic.ko:\nkernel/evdev.ko:\n",
    );
    put("modules.softdep", b"# made by depmod\nsoftdep ext4 pre: crc32c post: nothing\n");
    put("modules.alias", b"alias crc32c crc32c_generic\nalias pci:v*d* other\n");
    for name in ["virtio_blk", "erofs", "ext4", "jbd2", "crc16", "crc32c_generic", "evdev"] {
        put(&format!("kernel/{name}.ko"), name.as_bytes());
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(b"virtio_ring, decompressed").unwrap();
    put("kernel/virtio-ring.ko.gz", &gz.finish().unwrap());
    Memory(files)
}

/// A static executable without segments.
fn init() -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    elf
}

fn built(files: &Memory) -> Result<(Contents, Vec<u8>), InitrdError> {
    let mut bytes = Vec::new();
    build(&init(), Some(files), &mut bytes).map(|contents| (contents, bytes))
}

#[test]
fn modules_come_after_all_that_they_need() {
    let (contents, bytes) = built(&kernel()).unwrap();
    let order =
        ["virtio_ring", "virtio_blk", "erofs", "crc32c_generic", "crc16", "jbd2", "ext4", "evdev"];
    assert_eq!(contents.modules, order);
    let missing: Vec<_> = contents.missing.iter().map(|(name, _)| *name).collect();
    let expected =
        ["virtio_console", "vmw_vsock_virtio_transport", "virtio_net", "button", "virtio_rng"];
    assert_eq!(missing, expected);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("virtio_ring, decompressed"));
    assert!(text.contains("modules/virtio_ring.ko\nmodules/virtio_blk.ko\nmodules/erofs.ko\n"));
    // The same input gives the same bytes.
    assert_eq!(built(&kernel()).unwrap().1, bytes);
}

#[test]
fn a_needed_module_that_is_missing_is_named() {
    let mut files = kernel();
    files.0.insert("modules.builtin".into(), b"kernel/virtio_pci.ko\n".to_vec());
    let error = built(&files).unwrap_err();
    assert!(matches!(error, InitrdError::ModuleMissing { name: "overlay" }), "{error}");
    let mut files = kernel();
    files.0.remove("kernel/jbd2.ko");
    let error = built(&files).unwrap_err();
    assert!(
        matches!(&error, InitrdError::FileMissing { path } if path == "kernel/jbd2.ko"),
        "{error}"
    );
}

#[test]
fn broken_and_endless_modules_are_refused() {
    let mut files = kernel();
    files.0.insert("kernel/virtio-ring.ko.gz".into(), b"no gzip".to_vec());
    assert!(matches!(built(&files), Err(InitrdError::Compression { .. })));
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..65 {
        bomb.write_all(&zeros).unwrap();
    }
    files.0.insert("kernel/virtio-ring.ko.gz".into(), bomb.finish().unwrap());
    assert!(matches!(built(&files), Err(InitrdError::TooLarge { .. })));
}

#[test]
fn circles_end() {
    let mut files = kernel();
    files.0.insert(
        "modules.softdep".into(),
        b"softdep ext4 pre: jbd2\nsoftdep jbd2 pre: ext4\n".to_vec(),
    );
    let dep = b"kernel/virtio_blk.ko:\nkernel/erofs.ko:\nkernel/ext4.ko: kernel/jbd2.ko\nkernel/jbd2.ko: kernel/ext4.ko\n";
    files.0.insert("modules.dep".into(), dep.to_vec());
    assert_eq!(built(&files).unwrap().0.modules.len(), 4);
}

#[test]
fn a_directory_of_modules_is_not_left() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("outside"), b"secret").unwrap();
    let inside = place.path().join("modules");
    std::fs::create_dir(&inside).unwrap();
    std::os::unix::fs::symlink("../outside", inside.join("link")).unwrap();
    std::fs::write(inside.join("file"), b"12345").unwrap();
    let files = ModuleDirectory::open(&inside).unwrap();
    assert_eq!(files.read("file", 5).unwrap().as_deref(), Some(&b"12345"[..]));
    assert!(matches!(files.read("file", 4), Err(InitrdError::TooLarge { .. })));
    assert!(files.read("nothing", 4).unwrap().is_none());
    for path in ["link", "../outside", "/etc/passwd", "."] {
        assert!(matches!(files.read(path, 100), Err(InitrdError::Read { .. })), "{path}");
    }
}
