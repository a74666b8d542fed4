//! Virtual consoles: whether their driver draws them (Documentation/fb/fbcon.rst).

use model::{HostError, Observed};
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;

fn path(console: u32) -> String {
    format!("sys/class/vtconsole/vtcon{console}/bind")
}

/// The driver of a console disappears with its module.
pub fn observe(root: &Root, console: u32, to: bool) -> Result<Observed, HostError> {
    let path = path(console);
    match root.text(&path) {
        Ok(text) if (text == "1") == to => Ok(Observed::After),
        Ok(_) => Ok(Observed::Before),
        Err(Errno::NOENT) => Ok(Observed::Absent),
        Err(errno) => Err(problem::file(root, "read", &path, errno)),
    }
}

/// Binds or unbinds it: the kernel then draws these consoles by the dummy driver, that is, not at all.
pub fn set(root: &Root, console: u32, to: bool) -> Result<(), HostError> {
    let path = path(console);
    let value = if to { "1" } else { "0" };
    root.write(&path, value)
        .map_err(|errno| problem::file(root, format!("write \"{value}\" to"), &path, errno))
}

/// Describes a console that is not there.
pub fn missing(console: u32) -> String {
    format!("no virtual console vtcon{console}")
}
