//! Unbinding a function from its driver. The kernel waits for the driver without a timeout, and cannot be interrupted.

use std::time::Duration;

use model::{Address, HostError, Observed, is_vfio};
use rustix::io::Errno;

use crate::function_files::{DEVICES, bound, check_name, directory, write};
use crate::root::Root;
use crate::{holders, problem};

/// How often the NVIDIA driver is asked to block new users, and the pause between.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(200);

/// Whether the function is still bound to that driver.
///
/// During an unbind the kernel removes the `driver` link before it calls the driver's `remove`
/// (`__device_release_driver` in drivers/base/dd.c): the result is valid only while no other process holds the
/// function's lock.
pub fn observe(root: &Root, address: Address, driver: &str) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match bound(root, &dir, address)? {
        None => Observed::After,
        Some(now) if now == driver => Observed::Before,
        Some(now) => Observed::Other(format!("driver {now}")),
    })
}

/// Unbinds a function. Refuses if its driver would wait for a user.
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

/// Refuses while a process has the device open: vfio-pci's `remove` waits until it is closed, and asks QEMU to eject
/// the device (`vfio_unregister_group_dev`).
fn refuse_while_open(root: &Root, address: Address, path: &str) -> Result<(), HostError> {
    let users = holders::of_vfio(root, &[address])?;
    let Some(user) = users.first() else { return Ok(()) };
    let reason = format!("{} has {} open; stop it first", user.user, user.by);
    let action = format!("write \"{address}\" to");
    Err(problem::because(root, action, path, Errno::BUSY, reason))
}

/// Refuses while the function is a vGPU or has mediated devices: an unbind removes them, even if they are in use
/// (`mdev_unregister_parent`). They may have been created since the function was chosen.
fn refuse_parent(root: &Root, address: Address, path: &str) -> Result<(), HostError> {
    let vgpu = root.text(&format!("{DEVICES}/{address}/nvidia/current_vgpu_type"));
    if let Ok(current) = vgpu
        && !matches!(current.as_str(), "0" | "")
    {
        let reason = format!("it is a vGPU of type {current}; free the vGPU first");
        let action = format!("write \"{address}\" to");
        return Err(problem::because(root, action, path, Errno::BUSY, reason));
    }
    let types = format!("{DEVICES}/{address}/mdev_supported_types");
    let Ok(dir) = root.dir(&types) else { return Ok(()) };
    for kind in dir.names(".").unwrap_or_default() {
        let there = dir.names(&format!("{kind}/devices")).unwrap_or_default();
        if let Some(uuid) = there.first() {
            let reason = format!(
                "it is the parent of the mediated device {uuid}; remove the mediated device first"
            );
            let action = format!("write \"{address}\" to");
            return Err(problem::because(root, action, path, Errno::BUSY, reason));
        }
    }
    Ok(())
}

/// Blocks new users of an NVIDIA GPU. The driver accepts the lock only while the GPU has no user; without it an unbind
/// would wait for the last user, possibly for ever.
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
        "the NVIDIA driver reports that the GPU is in use, but no process has it open; check for \
         `nvidia-smi` in other terminals and containers, and for nvidia-persistenced"
            .to_owned()
    } else {
        format!("the NVIDIA driver reports that the GPU is in use by {}", users.join(", "))
    };
    Err(problem::because(root, "write \"1\" to", lock, Errno::BUSY, reason))
}
