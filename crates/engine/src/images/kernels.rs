//! The kernels of machines whose root is a container image: chosen here, and made once for any number of machines.

use std::path::PathBuf;

use image::{Cancel, ImageError, KernelSource, ReadyKernel};
use model::{Code, ContainerImage, Refusal};

use super::{Images, expect_ready};
use crate::store::{StoredImage, StoredInstance};

/// A kernel for a machine, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootKernel {
    /// Its files.
    pub files: ReadyKernel,
    /// Where it is from, in words, with its version if that is known.
    pub told: String,
}

/// Which kernels are removed, of those that no machine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unused {
    /// All.
    All,
    /// Those that would not be made again as they are.
    Replaced,
}

/// A kernel that was chosen.
struct Choice {
    source: KernelSource,
    version: Option<String>,
    told: String,
}

impl Images {
    /// The kernel for a machine of a container image: the one that is `wanted`, an image with a kernel; else the image's own, else
    /// that of the host. It is made ready if it is not yet. `record` gets the name of its files before: what a machine has recorded is
    /// not removed.
    ///
    /// # Errors
    /// `not_found` if there is none; `invalid_request` if the wanted image has none, or the kernel cannot boot such a machine.
    pub(crate) fn boot_kernel(
        &self,
        container: &ContainerImage,
        wanted: Option<&str>,
        record: impl FnOnce(String) -> Result<(), Refusal>,
    ) -> Result<BootKernel, Refusal> {
        let init = self.guest_init()?;
        let Choice { source, told, .. } = self.choose_kernel(container, wanted)?;
        record(self.files.kernel_key(&source, &init)?)?;
        let files = self.files.kernel(&source, &init, &Cancel::default())?;
        if files.is_new {
            self.sweep_kernels_and_warn();
        }
        Ok(BootKernel { files, told })
    }

    /// Removes kernels that no machine uses: all of them, or those that were replaced or have lost their source. Returns how many
    /// bytes were freed.
    pub(super) fn sweep_kernels(&self, which: Unused) -> Result<u64, ImageError> {
        let init = match which {
            Unused::All => None,
            // Without an init nothing is current, and it may be back at the next start.
            Unused::Replaced => match &self.config.guest_init {
                Some(init) => Some(init.as_path()),
                None => return Ok(0),
            },
        };
        self.files.sweep_kernels(init, || {
            let rows = self.store.read(StoredInstance::all).ok()?;
            Some(rows.into_iter().filter_map(|row| row.instance.options.kernel_key).collect())
        })
    }

    pub(super) fn sweep_kernels_and_warn(&self) {
        if let Err(error) = self.sweep_kernels(Unused::Replaced) {
            tracing::warn!("cannot remove kernels that were replaced: {error}");
        }
    }

    /// The kernel that would be chosen, in words.
    ///
    /// # Errors
    /// As [`boot_kernel`](Self::boot_kernel).
    pub(crate) fn kernel_choice(
        &self,
        container: &ContainerImage,
        wanted: Option<&str>,
    ) -> Result<String, Refusal> {
        self.guest_init()?;
        self.choose_kernel(container, wanted).map(|choice| choice.told)
    }

    /// The version of the kernel that would be chosen, if it is known.
    ///
    /// # Errors
    /// As [`boot_kernel`](Self::boot_kernel).
    pub(crate) fn kernel_version(
        &self,
        container: &ContainerImage,
        wanted: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        self.choose_kernel(container, wanted).map(|choice| choice.version)
    }

    fn choose_kernel(
        &self,
        container: &ContainerImage,
        wanted: Option<&str>,
    ) -> Result<Choice, Refusal> {
        match (wanted, container.contents.kernel()) {
            (Some(name), _) => self.named_kernel(name),
            (None, Some(own)) => Ok(Choice {
                source: KernelSource::Container {
                    root: container.root.clone(),
                    kernel: own.path.clone(),
                    version: own.version.clone(),
                    has_modules: own.has_modules,
                },
                version: Some(own.version.clone()),
                told: format!("the image's own, {}", own.version),
            }),
            (None, None) => self.host_kernel(),
        }
    }

    /// The kernel of an image of the store. Its modules are those of the host for the same version, if there are any.
    fn named_kernel(&self, name: &str) -> Result<Choice, Refusal> {
        let stored = self.stored(name)?;
        expect_kernel(&stored)?;
        let kernel = self.paths(stored.id).kernel;
        let version = image::kernel_version(&kernel)?;
        let modules = version.as_deref().and_then(|version| self.host.kernel_modules(version));
        let shown = version.as_ref().map(|version| format!(", {version}")).unwrap_or_default();
        let told = format!("of the image {name}{shown}");
        Ok(Choice { source: KernelSource::Files { kernel, modules }, version, told })
    }

    fn host_kernel(&self) -> Result<Choice, Refusal> {
        let running = self.host.kernel();
        let found = running.as_ref().and_then(|running| running.kernel.clone());
        let (Some(running), Some(kernel)) = (running, found) else {
            return Err(Refusal::new(
                Code::NotFound,
                "the image has no kernel, and the file of this host's kernel was not found in /boot or beside its modules",
                "import one and name it: `handover image import NAME --kernel FILE`, then `--kernel NAME`",
            ));
        };
        let told = format!("this host's, {}", running.version);
        let source = KernelSource::Files { kernel, modules: running.modules };
        Ok(Choice { source, version: Some(running.version), told })
    }

    fn guest_init(&self) -> Result<PathBuf, Refusal> {
        self.config.guest_init.clone().ok_or_else(|| {
            Refusal::new(
                Code::HypervisorMissing,
                "`handover-guest`, which starts the command of a container image in its machine, is not installed",
                "install it in ../lib/handover from `handover`: `make install` does, and `make build` in a checkout",
            )
        })
    }
}

fn expect_kernel(stored: &StoredImage) -> Result<(), Refusal> {
    let name = &stored.image.name;
    if stored.image.has_kernel {
        return expect_ready(stored);
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        format!("the image {name:?} has no kernel"),
        "name an image that was imported with `--kernel`, or leave the kernel out",
    ))
}
