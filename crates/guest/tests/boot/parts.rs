//! What a machine is made of: the kernel, the initial ramdisk, the image's root. Made once for all tests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use image::initrd::{ModuleDirectory, build};

/// The files of a machine.
pub struct Parts {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub root: PathBuf,
    /// The kernel's modules, as a disk.
    pub modules: PathBuf,
    pub version: String,
    /// They live as long as the tests.
    _place: tempfile::TempDir,
}

/// The parts, or why there are none.
pub fn parts() -> Option<&'static Parts> {
    static PARTS: OnceLock<Result<Parts, String>> = OnceLock::new();
    match PARTS.get_or_init(make) {
        Ok(parts) => Some(parts),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

fn make() -> Result<Parts, String> {
    for program in ["/usr/bin/qemu-system-x86_64", "/usr/bin/mkfs.erofs", "/bin/busybox"] {
        if !Path::new(program).exists() {
            return Err(format!("there is no {program}: run `make setup`"));
        }
    }
    let (kernel, modules) = kernel().ok_or(
        "there is no kernel with modules: install linux-image-amd64, or set HANDOVER_TEST_KERNEL=VMLINUZ:MODULES",
    )?;
    let place = tempfile::tempdir().unwrap();
    let kernel = extracted(&kernel, place.path()).unwrap_or(kernel);
    let initrd = place.path().join("initrd");
    let init = fs::read(guest()).unwrap();
    let mut file = fs::File::create(&initrd).unwrap();
    let contents = build(&init, Some(&ModuleDirectory::open(&modules).unwrap()), &mut file);
    println!("{:?}", contents.unwrap());
    let root = place.path().join("root.erofs");
    erofs(&tree(place.path()), &root);
    let module_disk = place.path().join("modules.erofs");
    erofs(&modules, &module_disk);
    let version = modules.file_name().unwrap().to_string_lossy().into_owned();
    Ok(Parts { kernel, initrd, root, modules: module_disk, version, _place: place })
}

/// A kernel and the directory of its modules.
fn kernel() -> Option<(PathBuf, PathBuf)> {
    if let Ok(named) = std::env::var("HANDOVER_TEST_KERNEL") {
        let (kernel, modules) = named.split_once(':').expect("VMLINUZ:MODULES");
        return Some((kernel.into(), modules.into()));
    }
    let boot = fs::read_dir("/boot").ok()?.flatten();
    boot.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let modules = Path::new("/usr/lib/modules").join(name.strip_prefix("vmlinuz-")?);
        modules.join("modules.dep").exists().then_some((entry.path(), modules))
    })
    .max()
}

/// The kernel without its compression: an emulated processor needs ten seconds to decompress it, this one a second.
/// None if it is not compressed by xz, as Debian's is.
fn extracted(kernel: &Path, place: &Path) -> Option<PathBuf> {
    let image = fs::read(kernel).ok()?;
    let begin = image.windows(6).position(|bytes| bytes == b"\xfd7zXZ\0")?;
    let mut reader = lzma_rust2::XzReader::new(&image[begin..], false);
    let mut elf = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut elf).ok()?;
    let path = place.join("vmlinux");
    fs::write(&path, elf).ok()?;
    Some(path)
}

/// The executable as it is shipped.
fn guest() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/build-guest");
    let built = Command::new(script).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let path = PathBuf::from(String::from_utf8_lossy(&built.stdout).trim());
    if path.is_absolute() {
        path
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
    }
}

fn erofs(from: &Path, to: &Path) {
    let made = Command::new("mkfs.erofs").arg("--all-root").arg(to).arg(from).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The root of a small image: busybox, users, and files that cannot be executed.
fn tree(place: &Path) -> PathBuf {
    let root = place.join("tree");
    for directory in ["bin", "etc", "run/lock", "srv", "home/app"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "id", "env", "pwd", "cat", "ls", "echo", "mount", "sleep", "kill", "stat", "ip",
        "ps", "grep", "wget", "hostname", "touch", "true", "df", "sync", "dd", "mkdir", "wc",
        "xargs", "tty", "stty", "lsmod", "seq",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nvideo:x:44:app\napp:x:1001:\n").unwrap();
    symlink("../run/systemd/resolve/stub-resolv.conf", root.join("etc/resolv.conf")).unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        fs::write(root.join(name), text).unwrap();
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    file("srv/plain", "not a program\n", 0o644);
    file("srv/no-format", "echo a shell would run this\n", 0o755);
    file("srv/no-interpreter", "#!/nowhere/python\n", 0o755);
    root
}
