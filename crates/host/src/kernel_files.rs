//! The files of kernels: where distributions put them.

use std::path::PathBuf;

use model::HostKernel;

use crate::root::Root;

/// The running kernel; `None` if its version cannot be read.
pub fn running(root: &Root) -> Option<HostKernel> {
    let version = root.text("proc/sys/kernel/osrelease").ok()?.trim().to_owned();
    if !is_version(&version) {
        return None;
    }
    // Debian and its kin; Fedora, Arch and others keep it beside the modules.
    let places = [
        format!("boot/vmlinuz-{version}"),
        format!("usr/lib/modules/{version}/vmlinuz"),
        format!("lib/modules/{version}/vmlinuz"),
    ];
    let kernel = places.into_iter().find(|path| root.exists(path));
    let kernel = kernel.map(|path| root.path().join(path));
    let modules = modules(root, &version);
    Some(HostKernel { version, kernel, modules })
}

/// The directory with the modules of a kernel of this version, if they are installed.
pub fn modules(root: &Root, version: &str) -> Option<PathBuf> {
    if !is_version(version) {
        return None;
    }
    let mut dirs = ["usr/lib/modules", "lib/modules"].into_iter();
    let dir = dirs.find(|dir| root.exists(&format!("{dir}/{version}/modules.dep")))?;
    Some(root.path().join(dir).join(version))
}

/// Whether a text can be a version: it becomes a part of a path.
fn is_version(text: &str) -> bool {
    let is_of_version = |c: char| c.is_ascii_alphanumeric() || ".-_+~".contains(c);
    text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_of_version)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let version = root.path().join("proc/sys/kernel/osrelease");
        for (path, text) in files
            .iter()
            .map(|file| (root.path().join(file), ""))
            .chain([(version, "6.12.57+deb13-amd64\n")])
        {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn open(root: &tempfile::TempDir) -> Root {
        Root::open(root.path()).unwrap()
    }

    #[test]
    fn a_kernel_is_found_where_distributions_put_it() {
        let dep = "usr/lib/modules/6.12.57+deb13-amd64/modules.dep";
        let debian = host(&["boot/vmlinuz-6.12.57+deb13-amd64", dep]);
        let found = running(&open(&debian)).unwrap();
        assert!(found.kernel.unwrap().ends_with("boot/vmlinuz-6.12.57+deb13-amd64"));
        assert!(found.modules.unwrap().ends_with("usr/lib/modules/6.12.57+deb13-amd64"));

        let fedora = host(&["usr/lib/modules/6.12.57+deb13-amd64/vmlinuz", dep]);
        assert!(running(&open(&fedora)).unwrap().kernel.unwrap().ends_with("vmlinuz"));

        let bare = running(&open(&host(&[]))).unwrap();
        assert_eq!((bare.kernel, bare.modules), (None, None));
        assert_eq!(modules(&open(&debian), "../../etc"), None);
    }
}
