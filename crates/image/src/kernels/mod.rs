//! Kernels for the machines of container images: the kernel, an initial ramdisk with Handover's init, and a disk with the kernel's
//! modules. Each is made once, in a directory named by what it is made from, for any number of machines.

mod sweep;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use own_files::OwnFile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::copy::MODE;
use crate::initrd::{self, InitrdError, ModuleDirectory, ModuleFiles};
use crate::layers::{self, Layer};
use crate::oci::contents;
use crate::store::{make_dir, remove_tree, sync_dir};
use crate::{Cancel, ImageError, Store};

/// The largest kernel.
const LARGEST_KERNEL: u64 = 512 << 20;
/// The largest executable of the guest.
const LARGEST_INIT: u64 = 16 << 20;
/// How much of an ELF kernel is searched for its version.
const SEARCHED: u64 = 256 << 20;
/// The most modules of one image, in bytes.
const MOST_MODULES: usize = 1 << 30;

/// The prefix of the directory of an incomplete kernel.
const UNFINISHED: &str = "unfinished-";

/// The file that says what a kernel was made from.
const SOURCE: &str = "source.json";

/// Where a kernel and its modules are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelSource {
    /// Files of the host, or of an image with a kernel. `modules` is the directory of the modules of that version, if there is one.
    Files {
        /// The kernel.
        kernel: PathBuf,
        /// The directory of its modules.
        modules: Option<PathBuf>,
    },
    /// In a container image.
    Container {
        /// The file system of the image.
        root: PathBuf,
        /// The path of the kernel.
        kernel: String,
        /// Its version.
        version: String,
        /// Whether the image has its modules.
        has_modules: bool,
    },
}

/// A kernel that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyKernel {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial ramdisk.
    pub initrd: PathBuf,
    /// The disk with its modules, if they are not in the container image.
    pub modules: Option<PathBuf>,
    /// Whether it was made just now.
    pub is_new: bool,
}

/// One kernel is made at a time: the second request for it finds it ready.
static MAKING: Mutex<()> = Mutex::new(());

impl Store {
    /// A kernel with an initial ramdisk that has this executable as its init; made if it is not there yet.
    ///
    /// # Errors
    /// [`ImageError::Initrd`] if the kernel lacks what is needed; if a file cannot be read, or there is no room.
    pub fn kernel(
        &self,
        source: &KernelSource,
        init: &Path,
        cancel: &Cancel,
    ) -> Result<ReadyKernel, ImageError> {
        let init = read_file(init, LARGEST_INIT)?;
        let dir = self.dir.join("kernels").join(key(source, &init)?);
        let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !dir.exists();
        if is_new {
            self.make_kernel(source, &init, &dir, cancel)?;
        }
        let modules = dir.join("modules.erofs");
        Ok(ReadyKernel {
            kernel: dir.join("kernel"),
            initrd: dir.join("initrd"),
            modules: modules.exists().then_some(modules),
            is_new,
        })
    }

    /// The name under which [`kernel`](Self::kernel) keeps what it makes. Machines that need it record it, before it is made: then
    /// [`sweep_kernels`](Self::sweep_kernels) knows.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn kernel_key(&self, source: &KernelSource, init: &Path) -> Result<String, ImageError> {
        key(source, &read_file(init, LARGEST_INIT)?)
    }

    fn make_kernel(
        &self,
        source: &KernelSource,
        init: &[u8],
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let kernels = self.dir.join("kernels");
        make_dir(&self.dir)?;
        make_dir(&kernels)?;
        let unfinished = kernels.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
        make_dir(&unfinished)?;
        let made = self.fill_kernel(source, init, &unfinished, cancel).and_then(|()| {
            sync_dir(&unfinished)?;
            self.budget.between_changes();
            fs::rename(&unfinished, dir).map_err(|error| ImageError::io("rename", dir, error))?;
            sync_dir(&kernels)
        });
        if made.is_err() {
            // What stays is removed at the next start.
            let _ = remove_tree(&unfinished);
        }
        made
    }

    fn fill_kernel(
        &self,
        source: &KernelSource,
        init: &[u8],
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let (kernel, ramdisk) = (dir.join("kernel"), dir.join("initrd"));
        let told = serde_json::to_vec(source).unwrap_or_default();
        self.write_new(&dir.join(SOURCE), &told)?;
        match source {
            KernelSource::Files { kernel: from, modules } => {
                self.write_new(&kernel, &read_file(from, LARGEST_KERNEL)?)?;
                let opened = modules.as_deref().map(ModuleDirectory::open).transpose()?;
                let files = opened.as_ref().map(|files| files as &dyn ModuleFiles);
                self.write_initrd(&ramdisk, init, files)?;
                match modules {
                    Some(modules) => self.modules_disk(modules, &dir.join("modules.erofs"), cancel),
                    None => Ok(()),
                }
            }
            KernelSource::Container { root, kernel: path, version, has_modules } => {
                let image = contents::open(root)?;
                let allowance = self.budget.allowance(&self.dir);
                contents::extract(&image, path, &kernel, allowance, cancel)?;
                let mut files = InImage::default();
                if *has_modules {
                    contents::modules(&image, version, &mut |path, bytes| files.take(path, bytes))
                        .map_err(|error| ImageError::io("read", root, error))?;
                }
                let files = has_modules.then_some(&files as &dyn ModuleFiles);
                self.write_initrd(&ramdisk, init, files)
            }
        }
    }

    fn write_initrd(
        &self,
        path: &Path,
        init: &[u8],
        modules: Option<&dyn ModuleFiles>,
    ) -> Result<(), ImageError> {
        let mut archive = Vec::new();
        initrd::build(init, modules, &mut archive)?;
        self.write_new(path, &archive)
    }

    /// Writes a new file and syncs it to disk.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let mut allowance = self.budget.allowance(&self.dir);
        allowance.reserve(bytes.len() as u64)?;
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file =
                OwnFile::at(path).mode(MODE).open(options.write(true).create_new(true))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| ImageError::io("write", path, error))
    }

    /// A file system with a directory of modules, by way of a tar archive.
    fn modules_disk(&self, modules: &Path, to: &Path, cancel: &Cancel) -> Result<(), ImageError> {
        let archive = to.with_extension("tar");
        let scratch = to.with_extension("scratch");
        let pack = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create_new(true);
            let file = OwnFile::at(&archive).mode(MODE).open(options)?;
            let mut builder = tar::Builder::new(file);
            builder.follow_symlinks(false);
            append(&mut builder, modules, Path::new(""), 0)?;
            let mut file = builder.into_inner()?;
            file.rewind()?;
            Ok(file)
        };
        let mut file = pack().map_err(|error| ImageError::io("pack", modules, error))?;
        let mut sum = Sha256::new();
        let summed = io::copy(&mut file, &mut sum).and_then(|_| file.rewind());
        summed.map_err(|error| ImageError::io("read", &archive, error))?;
        let diff_id = layers::shown_digest(&sum.finalize());
        let layer = Layer { digest: diff_id.clone(), file, diff_id };
        let allowance = || self.budget.allowance(&self.dir);
        layers::build(vec![layer], to, &scratch, allowance, cancel)?;
        fs::remove_file(&archive).map_err(|error| ImageError::io("remove", &archive, error))
    }
}

/// Adds a directory's regular files, directories and links. Others, such as the link to the build's directory on another file system,
/// are links too and stay so.
fn append(
    builder: &mut tar::Builder<File>,
    from: &Path,
    inside: &Path,
    depth: usize,
) -> io::Result<()> {
    if depth > 16 {
        return Err(io::Error::other("its directories are nested too deep"));
    }
    let mut names: Vec<_> = fs::read_dir(from)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    // The same modules give the same disk.
    names.sort();
    for name in names {
        let (path, inside) = (from.join(&name), inside.join(&name));
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            builder.append_dir(&inside, &path)?;
            append(builder, &path, &inside, depth + 1)?;
        } else if metadata.is_file() || metadata.is_symlink() {
            builder.append_path_with_name(&path, &inside)?;
        }
    }
    Ok(())
}

/// The modules of a container image, in memory: only those that an initial ramdisk can need are kept.
#[derive(Debug, Default)]
struct InImage {
    files: std::collections::BTreeMap<String, Vec<u8>>,
    size: usize,
}

impl InImage {
    fn take(&mut self, path: &str, bytes: Vec<u8>) -> io::Result<()> {
        self.size = self.size.saturating_add(bytes.len());
        if self.size > MOST_MODULES {
            return Err(io::Error::other("its modules are larger than 1 GiB together"));
        }
        self.files.insert(path.to_owned(), bytes);
        Ok(())
    }
}

impl ModuleFiles for InImage {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, InitrdError> {
        match self.files.get(path) {
            Some(bytes) if bytes.len() > most => {
                Err(InitrdError::TooLarge { path: path.to_owned(), most })
            }
            found => Ok(found.cloned()),
        }
    }
}

/// What names a kernel: where it comes from, when its files changed last, and the init.
fn key(source: &KernelSource, init: &[u8]) -> Result<String, ImageError> {
    let mut sum = Sha256::new();
    sum.update(Sha256::digest(init));
    match source {
        KernelSource::Files { kernel, modules } => {
            let list = modules.as_ref().map(|dir| dir.join("modules.dep"));
            for path in [Some(kernel), list.as_ref()].into_iter().flatten() {
                let state =
                    fs::metadata(path).map_err(|error| ImageError::io("read", path, error))?;
                let (seconds, nanos) = (state.mtime(), state.mtime_nsec());
                sum.update(format!("{} {} {seconds} {nanos}\n", path.display(), state.len()));
            }
        }
        KernelSource::Container { root, kernel, version, .. } => {
            // It is named by the digest of its layers.
            fs::metadata(root).map_err(|error| ImageError::io("read", root, error))?;
            let root = root.file_name().unwrap_or_default().to_string_lossy();
            sum.update(format!("{root} {kernel} {version}\n"));
        }
    }
    Ok(sum.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// A file of the host, up to a limit.
fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, ImageError> {
    let reading = |error| ImageError::io("read", path, error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(reading)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(reading)?;
    if bytes.len() as u64 > most {
        return Err(ImageError::TooLarge { part: "kernel", most });
    }
    Ok(bytes)
}

/// The version of a kernel, such as `6.12.57+deb13-amd64`: as the header of a bzImage says (Documentation/arch/x86/boot.rst,
/// `kernel_version`), else as an ELF image has it in its banner.
///
/// # Errors
/// If it cannot be read.
pub fn version(path: &Path) -> Result<Option<String>, ImageError> {
    let reading = |error| ImageError::io("read", path, error);
    let file = File::open(path).map_err(reading)?;
    let mut setup = [0; 0x212];
    if file.read_exact_at(&mut setup, 0).is_ok() && setup[0x202..0x206] == *b"HdrS" {
        let offset = u64::from(u16::from_le_bytes([setup[0x20e], setup[0x20f]])) + 0x200;
        let mut text = [0; 128];
        let read = file.read_at(&mut text, offset).map_err(reading)?;
        return Ok(word(text.get(..read).unwrap_or_default()));
    }
    banner(file.take(SEARCHED)).map_err(reading)
}

/// The word behind `Linux version ` in an ELF image.
fn banner(mut file: impl Read) -> io::Result<Option<String>> {
    const BANNER: &[u8] = b"Linux version ";
    const WORD: usize = 128;
    let mut window = Vec::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut chunk)?;
        window.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let found = memchr::memmem::find(&window, BANNER);
        let rest = found.and_then(|at| window.get(at + BANNER.len()..));
        if let Some(rest) = rest.filter(|rest| rest.len() >= WORD || read == 0) {
            return Ok(word(rest));
        }
        if read == 0 {
            return Ok(None);
        }
        let keep = window.len().saturating_sub(BANNER.len() + WORD);
        window.drain(..found.unwrap_or(keep).min(keep));
    }
}

/// The first word of a text, if it can be a version: it becomes a part of a path.
fn word(text: &[u8]) -> Option<String> {
    let word = text.split(|byte| byte.is_ascii_whitespace() || *byte == 0).next()?;
    let is_of_version = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_+~".contains(byte);
    let is_version = word.first().is_some_and(u8::is_ascii_digit) && word.iter().all(is_of_version);
    is_version.then(|| String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_both_forms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        let mut image = vec![0_u8; 0x1000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        let text = b"6.12.57+deb13-amd64 (debian-kernel@lists.debian.org) #1 SMP";
        image[0x500..0x500 + text.len()].copy_from_slice(text);
        fs::write(&path, &image).unwrap();
        assert_eq!(version(&path).unwrap().as_deref(), Some("6.12.57+deb13-amd64"));

        let mut image = vec![0x7f_u8; (1 << 20) - 7];
        image.extend(b"Linux version 6.12.57-lab (x@y) (gcc)");
        image.extend(vec![0; 300]);
        fs::write(&path, &image).unwrap();
        assert_eq!(version(&path).unwrap().as_deref(), Some("6.12.57-lab"));
        fs::write(&path, b"Linux version ../../etc ").unwrap();
        assert_eq!(version(&path).unwrap(), None, "it is no path");
    }
}
