//! The driver of a firmware framebuffer: `efifb`, `simplefb` or `simpledrm` on a platform device that `sysfb` makes.

use model::{HostError, Observed};
use rustix::io::Errno;

use crate::function_files::check_name;
use crate::problem;
use crate::root::Root;

const DEVICES: &str = "sys/bus/platform/devices";
const DRIVERS: &str = "sys/bus/platform/drivers";

/// The device disappears when the driver of the card or vfio-pci takes the memory (`sysfb_disable` in
/// drivers/firmware/sysfb.c, called by drivers/video/aperture.c).
pub fn observe(root: &Root, device: &str, driver: &str, to: bool) -> Result<Observed, HostError> {
    check_name(root, "device", device)?;
    let path = format!("{DEVICES}/{device}");
    if !root.exists(&path) {
        return Ok(Observed::Absent);
    }
    match root.link_name(&format!("{path}/driver")) {
        Ok(now) if now != driver => Ok(Observed::Other(format!("driver {now}"))),
        Ok(_) if to => Ok(Observed::After),
        Err(Errno::NOENT) if !to => Ok(Observed::After),
        Ok(_) | Err(Errno::NOENT) => Ok(Observed::Before),
        Err(errno) => Err(problem::file(root, "read", &format!("{path}/driver"), errno)),
    }
}

/// Binds or unbinds it.
pub fn set(root: &Root, device: &str, driver: &str, to: bool) -> Result<(), HostError> {
    check_name(root, "device", device)?;
    check_name(root, "driver", driver)?;
    let path = format!("{DRIVERS}/{driver}/{}", if to { "bind" } else { "unbind" });
    root.write(&path, device)
        .map_err(|errno| problem::file(root, format!("write \"{device}\" to"), &path, errno))
}

/// Describes a framebuffer that is not there.
pub fn missing(device: &str) -> String {
    format!("no device {device}: the kernel has removed it")
}
