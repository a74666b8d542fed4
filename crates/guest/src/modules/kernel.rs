//! The modules of the kernel that runs.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use kernel_modules::{Index, Settings, Texts, decompressed, is_compressed, module_name};
use rustix::io::Errno;
use rustix::system::{finit_module, init_module, uname};

use crate::regular;

/// The largest file of `depmod` and of `modprobe.d`.
const MAX_TEXT_BYTES: u64 = 16 << 20;
/// The largest module, decompressed. NVIDIA's has 100 MiB with its symbols.
const MAX_MODULE_BYTES: usize = 256 << 20;
/// `MODULE_INIT_COMPRESSED_FILE` (include/uapi/linux/module.h): the kernel decompresses, since 5.17 and if it can.
const COMPRESSED: i32 = 4;

/// The modules of the kernel that runs.
pub struct Kernel {
    directory: PathBuf,
    index: Index,
    settings: Settings,
    loaded: BTreeSet<String>,
}

impl Kernel {
    /// Reads what `depmod` wrote; none if there are no modules for this kernel.
    pub fn open() -> Option<Self> {
        let version = uname().release().to_string_lossy().into_owned();
        let directory = Path::new("/lib/modules").join(version);
        let text = |name: &str| read_text(&directory.join(name));
        let dep = text("modules.dep")?;
        let (builtin, softdep, alias) =
            (text("modules.builtin"), text("modules.softdep"), text("modules.alias"));
        let index = Index::new(&Texts {
            dep: &dep,
            builtin: &builtin.unwrap_or_default(),
            softdep: &softdep.unwrap_or_default(),
            alias: &alias.unwrap_or_default(),
        });
        Some(Self { directory, index, settings: settings(), loaded: BTreeSet::new() })
    }

    /// Loads what a device's alias or a name stands for. It says what cannot be loaded.
    pub fn load_for(&mut self, alias: &str) -> Vec<String> {
        let for_device = self.index.for_device(alias).into_iter().map(str::to_owned);
        let mut wanted: Vec<String> =
            for_device.filter(|name| !self.settings.is_blacklisted(name)).collect();
        if wanted.is_empty() {
            wanted.push(alias.to_owned());
        }
        wanted.iter().filter_map(|name| self.load(name).err()).collect()
    }

    /// Loads a module and all that it needs. One that does not exist is no failure: not every device has a driver.
    pub fn load(&mut self, name: &str) -> Result<(), String> {
        for path in self.index.with_dependencies(name).unwrap_or_default() {
            let module = module_name(&path);
            if !self.loaded.insert(module.clone()) {
                continue;
            }
            let options = CString::new(self.settings.options(&module)).unwrap_or_default();
            match self.load_file(&path, &options) {
                // It is there, or has no device to drive.
                Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
                Err(errno) => {
                    return Err(format!("cannot load the kernel module {module:?}: {errno}"));
                }
            }
        }
        Ok(())
    }

    fn load_file(&self, path: &str, options: &CString) -> Result<(), Errno> {
        let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let mut file = regular::open(&self.directory.join(path)).map_err(failed)?;
        if !is_compressed(path) {
            return finit_module(&file, options, 0);
        }
        match finit_module(&file, options, COMPRESSED) {
            // It cannot decompress, or not this format.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOEXEC) => {}
            outcome => return outcome,
        }
        let mut raw = Vec::new();
        let bound = u64::try_from(MAX_MODULE_BYTES).unwrap_or(u64::MAX);
        (&mut file).take(bound).read_to_end(&mut raw).map_err(failed)?;
        let module = decompressed(path, raw, MAX_MODULE_BYTES).map_err(|_| Errno::NOEXEC)?;
        init_module(&module, options)
    }
}

/// The image's `modprobe.d`.
fn settings() -> Settings {
    let mut settings = Settings::default();
    for directory in
        ["/usr/lib/modprobe.d", "/lib/modprobe.d", "/run/modprobe.d", "/etc/modprobe.d"]
    {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "conf")) {
            settings.read(&read_text(&entry.path()).unwrap_or_default());
        }
    }
    settings
}

fn read_text(path: &Path) -> Option<String> {
    regular::read_text(path, MAX_TEXT_BYTES).ok()
}
