//! Whether a container image has the driver that its machine's GPUs need. Nothing is ever added to an image: what is missing is told.

use model::{ContainerContents, Id, Kind};

use super::Instances;
use crate::Instance;

impl Instances {
    /// What a machine of a container image lacks to use its GPUs.
    pub(super) fn driver_advice(&self, instance: &Instance) -> Option<String> {
        let run = instance.options.container.as_ref()?;
        let devices = self.devices().ok()?.into_iter();
        let own = devices.filter(|device| device.instance == instance.id);
        let heads: Vec<_> = own.map(|device| device.part.head).collect();
        let inventory = self.hardware.functions(&heads).ok()?;
        let is_nvidia = heads.iter().filter_map(|head| inventory.function(*head)).any(|function| {
            // Drivers of other vendors are part of Linux.
            function.vendor == Id::NVIDIA && function.class.kind() == Kind::Gpu
        });
        if !is_nvidia {
            return None;
        }
        let image = self.images.stored(&instance.image).ok()?;
        let container = self.images.container(&image).ok()??;
        let version = self.images.kernel_version(&container, run.kernel.as_deref()).ok()?;
        missing(&container.contents, version.as_deref())
    }
}

/// What an image lacks of NVIDIA's driver, if this kernel runs it.
fn missing(contents: &ContainerContents, kernel: Option<&str>) -> Option<String> {
    let shown = kernel.unwrap_or("that runs it");
    let module = contents.nvidia_modules.iter().find(|one| Some(one.kernel.as_str()) == kernel);
    let Some(module) = module else {
        return Some(format!(
            "the image has no module of NVIDIA's driver for the kernel {shown}, so the guest cannot use its GPU: see docs/gpu-images.md"
        ));
    };
    match (&module.version, &contents.nvidia_libraries) {
        (_, None) => Some(
            "the image has NVIDIA's module, but not the libraries of its driver (libcuda): see docs/gpu-images.md".into(),
        ),
        (Some(module), Some(libraries)) if module != libraries => Some(format!(
            "the image has version {module} of NVIDIA's module and {libraries} of its libraries, which must be the same"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use model::NvidiaModule;

    use super::*;

    #[test]
    fn a_driver_is_complete_for_one_kernel_only() {
        let module = NvidiaModule {
            path: "/usr/lib/modules/6.12.57/updates/dkms/nvidia.ko".into(),
            kernel: "6.12.57".into(),
            version: Some("570.86".into()),
            open: Some(true),
        };
        let mut contents = ContainerContents::default();
        let told = |contents: &ContainerContents, kernel| missing(contents, kernel).unwrap();
        assert!(told(&contents, Some("6.12.57")).contains("no module"));
        contents.nvidia_modules.push(module);
        assert!(told(&contents, Some("6.12.57")).contains("libcuda"));
        contents.nvidia_libraries = Some("560.35".into());
        assert!(told(&contents, Some("6.12.57")).contains("must be the same"));
        contents.nvidia_libraries = Some("570.86".into());
        assert_eq!(missing(&contents, Some("6.12.57")), None);
        assert!(told(&contents, Some("6.1.0")).contains("kernel 6.1.0"));
    }
}
