//! A machine's disk layer: a qcow2 file over the imported image, which `qemu-img` creates for all VMMs.

use std::path::{Path, PathBuf};
use std::process::Command;

use model::{LaunchError, MachineDisk};

use super::programs::{is_executable, on_path};

/// The name of the tool.
const IMAGE_TOOL: &str = "qemu-img";

/// The path of the tool: in `dir` if it exists there, else on PATH.
pub fn image_tool(dir: Option<&Path>) -> Result<PathBuf, LaunchError> {
    let found = dir.map(|dir| dir.join(IMAGE_TOOL)).filter(|path| is_executable(path));
    found.or_else(|| on_path(IMAGE_TOOL)).ok_or_else(|| {
        let remedy = "apt install qemu-utils";
        LaunchError::Unavailable {
            reason: format!("cannot create a disk: {IMAGE_TOOL} is not installed; {remedy}"),
            remedy: remedy.into(),
        }
    })
}

/// The command that creates a layer in the file `layer`, which exists and is empty.
pub fn command(image_tool: &Path, disk: &MachineDisk, layer: &Path) -> Command {
    let mut create = Command::new(image_tool);
    create.args(["create", "-q", "-f", "qcow2", "-F", disk.format.as_str(), "-b"]);
    create.arg(&disk.base).arg(layer);
    // qemu-img needs whole sectors.
    create.args(disk.size.map(|size| size.next_multiple_of(512).to_string()));
    create
}
