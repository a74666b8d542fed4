//! The devices of built-in drivers: `modules.builtin.modinfo`, a list of `module.key=value`, each ended by a zero byte
//! (Documentation/kbuild/kbuild.rst).
//!
//! Since Linux 6.18 it contains the aliases from `MODULE_DEVICE_TABLE`; before, only aliases written by hand in a driver
//! ("Add generated modalias to modules.builtin.modinfo", <https://patchew.org/linux/cover.1758182101.git.legion@kernel.org>).

/// The patterns and modules of one kind of aliases, such as `pci:`.
pub fn aliases<'a>(bytes: &'a [u8], kind: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    bytes.split(|byte| *byte == 0).filter_map(move |entry| {
        let (module, alias) = std::str::from_utf8(entry).ok()?.split_once(".alias=")?;
        // Otherwise it is another key, whose value contains `.alias=`.
        if module.contains(['.', '=']) {
            return None;
        }
        Some((alias.strip_prefix(kind)?, module))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_aliases_of_built_in_modules_are_read() {
        let file = b"nvme.license=GPL\0nvme.alias=pci:v*d*sv*sd*bc01sc08i02*\0\
            virtio_pci.alias=vfio_pci:v1\0a.description=x.alias=pci:v1\0xhci-pci.alias=pci:v2\0odd.alias=pci:\xff\0";
        let found: Vec<_> = aliases(file, "pci:").collect();
        assert_eq!(found, [("v*d*sv*sd*bc01sc08i02*", "nvme"), ("v2", "xhci-pci")]);
        assert_eq!(aliases(file, "vfio_pci:").collect::<Vec<_>>(), [("v1", "virtio_pci")]);
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "([a.]{0,3}alias=(pci:)?|.|\0){0,20}") {
            for file in [bytes.as_slice(), text.as_bytes()] {
                let _ = aliases(file, "pci:").count();
            }
        }
    }
}
