//! Making a virtual function a vGPU, and freeing the vGPU, with NVIDIA's vendor-specific VFIO
//! (`nvidia/current_vgpu_type`).

use std::time::{Duration, Instant};

use model::{Address, HostError, Observed};
use rustix::io::Errno;

use crate::detail::vgpu_types;
use crate::function_files::{DEVICES, directory, existing, write};
use crate::root::{Dir, Root};
use crate::{holders, problem};

const CURRENT: &str = "nvidia/current_vgpu_type";
const CREATABLE: &str = "nvidia/creatable_vgpu_types";

/// How long the driver may take to free a vGPU after its machine has ended.
const FREEING: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);

/// Describes a function that cannot be a vGPU.
pub const MISSING: &str =
    "no nvidia/current_vgpu_type: the function is not bound to NVIDIA's vGPU driver";

/// Compares the present type with those before and after. The read can wait for the driver.
pub fn observe(root: &Root, address: Address, from: u32, to: u32) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    compare(root, &dir, address, from, to)
}

fn compare(
    root: &Root,
    dir: &Dir,
    address: Address,
    from: u32,
    to: u32,
) -> Result<Observed, HostError> {
    Ok(match current(root, dir, address)? {
        None => Observed::Absent,
        Some(now) if now == to => Observed::After,
        Some(now) if now == from => Observed::Before,
        Some(0) => Observed::Other("no vGPU type".into()),
        Some(now) => Observed::Other(format!("vGPU type {now}")),
    })
}

/// The vGPU type of a function, 0 for none; `None` if it cannot be a vGPU, for instance without its driver.
pub fn current(root: &Root, dir: &Dir, address: Address) -> Result<Option<u32>, HostError> {
    let path = || format!("{DEVICES}/{address}/{CURRENT}");
    match dir.attribute(CURRENT) {
        Ok(text) => match text.parse() {
            Ok(now) => Ok(Some(now)),
            Err(_) => {
                let reason = format!("{text:?} is not a type number");
                Err(problem::because(root, "parse", &path(), Errno::INVAL, reason))
            }
        },
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(problem::file(root, "read", &path(), errno)),
    }
}

/// Makes the function a vGPU of this type, or frees it (0).
pub fn set(root: &Root, address: Address, to: u32) -> Result<(), HostError> {
    if to == 0 { free(root, address, FREEING) } else { make(root, address, to) }
}

/// Makes it a vGPU. The list of available types shrinks with each vGPU on the card, so it is read just before.
fn make(root: &Root, address: Address, to: u32) -> Result<(), HostError> {
    let path = format!("{DEVICES}/{address}/{CREATABLE}");
    let table = root.attribute(&path).map_err(|errno| problem::file(root, "read", &path, errno))?;
    let types = vgpu_types(&table);
    if !types.iter().any(|one| one.id == to) {
        let names: Vec<String> =
            types.iter().map(|one| format!("{} ({})", one.name, one.id)).collect();
        let reason = if names.is_empty() {
            "its card has no room for another vGPU now, or the size of its present vGPUs excludes all types".into()
        } else {
            format!("type {to} is not available now, only {}", names.join(", "))
        };
        return Err(problem::because(root, format!("find {to} in"), &path, Errno::NOSPC, reason));
    }
    write(root, address, &format!("{DEVICES}/{address}/{CURRENT}"), &to.to_string())
}

/// Frees it. The driver returns EBUSY while the machine is ending, and may show the old type a while longer.
fn free(root: &Root, address: Address, patience: Duration) -> Result<(), HostError> {
    let path = format!("{DEVICES}/{address}/{CURRENT}");
    let until = Instant::now() + patience;
    let mut written = false;
    loop {
        if !written {
            match root.write(&path, "0") {
                Ok(()) => written = true,
                Err(errno @ (Errno::BUSY | Errno::AGAIN)) if Instant::now() >= until => {
                    return Err(busy(root, address, &path, errno)?);
                }
                Err(Errno::BUSY | Errno::AGAIN) => {}
                Err(_) => return write(root, address, &path, "0"),
            }
        }
        let dir = existing(root, address)?;
        if matches!(current(root, &dir, address)?, None | Some(0)) || Instant::now() >= until {
            return Ok(());
        }
        std::thread::sleep(RETRY);
    }
}

/// The error for a vGPU that stays busy, with its user if one is found.
fn busy(root: &Root, address: Address, path: &str, errno: Errno) -> Result<HostError, HostError> {
    let users = holders::of_vfio(root, &[address])?;
    let reason = match users.first() {
        Some(user) => format!("{} has {} open; stop it first", user.user, user.by),
        None => format!(
            "{}: the driver still uses the vGPU after {} s; see `nvidia-smi vgpu -q`",
            problem::words(errno),
            FREEING.as_secs()
        ),
    };
    Ok(problem::because(root, "write \"0\" to", path, errno, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const VF: &str = "0000:01:00.4";

    fn place(current: &str, creatable: &str) -> (tempfile::TempDir, Root) {
        let place = tempfile::tempdir().unwrap();
        let nvidia = place.path().join(DEVICES).join(VF).join("nvidia");
        std::fs::create_dir_all(&nvidia).unwrap();
        std::fs::write(nvidia.join("current_vgpu_type"), current).unwrap();
        std::fs::write(nvidia.join("creatable_vgpu_types"), creatable).unwrap();
        let root = Root::open(place.path()).unwrap();
        (place, root)
    }

    fn now(place: &Path) -> String {
        std::fs::read_to_string(place.join(DEVICES).join(VF).join(CURRENT)).unwrap()
    }

    #[test]
    fn only_what_can_be_made_now_is_written() {
        let (place, root) = place("0\n", "ID : vGPU Name\n1155 : NVIDIA L40S-1Q\n");
        let address = VF.parse().unwrap();
        let error = set(&root, address, 1156).unwrap_err().to_string();
        assert!(error.contains("not available now, only NVIDIA L40S-1Q (1155)"), "{error}");
        assert_eq!(now(place.path()), "0\n");
        set(&root, address, 1155).unwrap();
        assert_eq!(now(place.path()), "1155");
    }

    #[test]
    fn a_full_card_is_reported() {
        let (_place, root) = place("0\n", "ID : vGPU Name\n");
        let error = set(&root, VF.parse().unwrap(), 1155).unwrap_err().to_string();
        assert!(error.contains("no room for another vGPU"), "{error}");
    }

    #[test]
    fn freeing_waits_until_the_driver_shows_it() {
        let (place, root) = place("1155\n", "");
        let address = VF.parse().unwrap();
        free(&root, address, FREEING).unwrap();
        assert_eq!(now(place.path()), "0");
        let dir = root.dir(&format!("{DEVICES}/{VF}")).unwrap();
        assert_eq!(compare(&root, &dir, address, 1155, 0).unwrap(), Observed::After);
        assert_eq!(compare(&root, &dir, address, 0, 1155).unwrap(), Observed::Before);
    }
}
