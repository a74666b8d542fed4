//! Unloading a module that uses the driver of a card, and loading it again.

use std::ffi::CString;

use model::{HostError, Observed};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::system::delete_module;

use super::load_module;
use crate::function_files::check_name;
use crate::problem;
use crate::root::Root;

/// Whether a module is loaded. It is never a built-in one: that cannot be unloaded.
pub fn observe(root: &Root, module: &str, to: bool) -> Result<Observed, HostError> {
    check_name(root, "module", module)?;
    let is_there = root.exists(&format!("sys/module/{module}"));
    Ok(if is_there == to { Observed::After } else { Observed::Before })
}

/// Loads it with its options, or unloads it. The kernel refuses to unload a module in use (delete_module(2) with
/// `O_NONBLOCK`); it is never forced.
pub fn set(root: &Root, module: &str, to: bool) -> Result<(), HostError> {
    check_name(root, "module", module)?;
    if to {
        return load_module::load(root, module);
    }
    let path = format!("sys/module/{module}");
    if !root.is_host() {
        let reason = format!("{} is not the running system", root.path().display());
        return Err(problem::because(root, "unload", &path, Errno::NOSYS, reason));
    }
    let name = CString::new(module)
        .map_err(|_| problem::because(root, "unload", &path, Errno::INVAL, "it is no name"))?;
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    delete_module(&name, flags).map_err(|errno| match errno {
        Errno::AGAIN | Errno::BUSY => {
            problem::because(root, "unload", &path, errno, in_use(root, module))
        }
        other => problem::file(root, "unload", &path, other),
    })
}

/// Who uses a module: other modules, or what has opened its devices.
fn in_use(root: &Root, module: &str) -> String {
    let users = root.names(&format!("sys/module/{module}/holders")).unwrap_or_default();
    if !users.is_empty() {
        return format!("it is in use by {}", users.join(", "));
    }
    let count = root.attribute(&format!("sys/module/{module}/refcnt")).unwrap_or_default();
    format!(
        "it is in use ({} times): a process has one of its devices open, such as another terminal or a container",
        count.trim()
    )
}
