//! Taking a function from its driver. The kernel waits, unkillably, for as long as the driver likes.

use std::time::Duration;

use model::{Address, HostError, Observed, is_vfio};
use rustix::io::Errno;

use crate::function_files::{DEVICES, bound, check_name, directory, write};
use crate::root::Root;
use crate::{holders, problem};

/// How often the NVIDIA driver is asked to let nobody else in, and how long between.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(200);

/// Whether its driver has it still.
///
/// During an unbind the kernel removes the `driver` link first and calls the driver's `remove` then
/// (`__device_release_driver` in drivers/base/dd.c): what is seen here holds only while nobody has the lock of the function.
pub fn observe(root: &Root, address: Address, driver: &str) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match bound(root, &dir, address)? {
        None => Observed::After,
        Some(now) if now == driver => Observed::Before,
        Some(now) => Observed::Other(format!("it bound to {now}")),
    })
}

/// Unbinds a function, unless its driver would wait for somebody.
pub fn unbind(root: &Root, address: Address, driver: &str) -> Result<(), HostError> {
    check_name(root, "driver", driver)?;
    let path = format!("sys/bus/pci/drivers/{driver}/unbind");
    if is_vfio(driver, driver) || driver.ends_with("vfio-pci") {
        refuse_while_open(root, address, &path)?;
    }
    refuse_parent(root, address, &path)?;
    let lock = format!("proc/driver/nvidia/gpus/{address}/unbindLock");
    if root.exists(&lock) {
        lock_nvidia(root, address, &lock)?;
    }
    let written = write(root, address, &path, &address.to_string());
    if written.is_err() && root.exists(&lock) {
        let _ = root.write(&lock, "0");
    }
    written
}

/// vfio-pci's `remove` waits until nobody has the device open, and asks QEMU to eject it
/// (`vfio_unregister_group_dev`): not by us.
fn refuse_while_open(root: &Root, address: Address, path: &str) -> Result<(), HostError> {
    let users = holders::of_vfio(root, &[address])?;
    let Some(user) = users.first() else { return Ok(()) };
    let reason = format!("{} has {} open; end it first", user.user, user.by);
    let action = format!("write \"{address}\" to");
    Err(problem::because(root, action, path, Errno::BUSY, reason))
}

/// A driver that goes takes the mediated devices of its function along, whoever has them (`mdev_unregister_parent`).
/// They may have come since the function was chosen.
fn refuse_parent(root: &Root, address: Address, path: &str) -> Result<(), HostError> {
    let vgpu = root.text(&format!("{DEVICES}/{address}/nvidia/current_vgpu_type"));
    if let Ok(current) = vgpu
        && !matches!(current.as_str(), "0" | "")
    {
        let reason = format!("it is a vGPU of type {current}; free that first");
        let action = format!("write \"{address}\" to");
        return Err(problem::because(root, action, path, Errno::BUSY, reason));
    }
    let types = format!("{DEVICES}/{address}/mdev_supported_types");
    let Ok(dir) = root.dir(&types) else { return Ok(()) };
    for kind in dir.names(".").unwrap_or_default() {
        let there = dir.names(&format!("{kind}/devices")).unwrap_or_default();
        if let Some(uuid) = there.first() {
            let reason =
                format!("it is the parent of the mediated device {uuid}; remove that first");
            let action = format!("write \"{address}\" to");
            return Err(problem::because(root, action, path, Errno::BUSY, reason));
        }
    }
    Ok(())
}

/// Keeps new users out of an NVIDIA GPU. The driver answers 1 only when it has none; otherwise an unbind would wait for
/// the last to go, which may be never.
fn lock_nvidia(root: &Root, address: Address, lock: &str) -> Result<(), HostError> {
    for turn in 0..TRIES {
        if turn > 0 {
            std::thread::sleep(BETWEEN);
        }
        if root.write(lock, "1").is_ok() && root.text(lock).is_ok_and(|text| text == "1") {
            return Ok(());
        }
    }
    let _ = root.write(lock, "0");
    let users = holders::find(root, &[address])?;
    let users: Vec<_> = users.iter().take(3).map(|holder| holder.user.as_str()).collect();
    let reason = if users.is_empty() {
        "the NVIDIA driver says that the GPU is in use, and no process shows by whom: look for \
         `nvidia-smi` on other terminals and containers, and nvidia-persistenced"
            .to_owned()
    } else {
        format!("the NVIDIA driver says that the GPU is in use, by {}", users.join(", "))
    };
    Err(problem::because(root, "write \"1\" to", lock, Errno::BUSY, reason))
}
