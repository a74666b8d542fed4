//! Limiting a container's device memory: a hook that podman runs for containers with an annotation, before their
//! program starts (oci-hooks(5); OCI runtime specification, "Posix-platform Hooks").
//!
//! A pod has no other way to set the limit: `podman kube play` has no field for `dmem.max`, crun writes it only if the
//! container's cgroup has the controller, and neither crun nor systemd enables this controller for it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;

use model::HostError;
use model::shown::escaped;
use rustix::io::Errno;
use serde::Deserialize;

use crate::problem;
use crate::root::Root;

/// The annotation: lines for the cgroup's `dmem.max`, each with a region and a number of bytes.
pub const ANNOTATION: &str = "handover.dev/dmem-max";

const GROUPS: &str = "sys/fs/cgroup";
const CONTROLLER: &str = "dmem";

/// The longest state that is read. It contains the annotations, which podman limits to 256 KiB.
const LONGEST: u64 = 4 << 20;

/// The container state that a runtime passes to its hooks.
#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The body of `handover limit-device-memory`: podman starts it, with the container's state on standard input. If the
/// limit cannot be set, the container does not start.
#[must_use]
pub fn main() -> ExitCode {
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut text);
    let done = read.map_err(|error| error.to_string()).and_then(|_| {
        let root = Root::open(Path::new("/")).map_err(|error| error.to_string())?;
        set(&root, &text)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            report(&format!(
                "cannot limit the container's device memory: {reason}; play the pod as root on the host that it was \
                 created for, or create it without --gpu-memory-limit"
            ));
            ExitCode::FAILURE
        }
    }
}

/// Prints the message, and sends it to the system log too: crun does not show the output of hooks.
#[allow(clippy::disallowed_macros, reason = "a process of its own, which podman starts")]
fn report(text: &str) {
    // podman shows it on its terminal.
    let text = escaped(text);
    eprintln!("handover: {text}");
    // Facility LOG_USER, level LOG_ERR (syslog(3)). It is fine if no log daemon is running.
    let line = format!("<11>handover[{}]: {text}", std::process::id());
    let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(line.as_bytes(), "/dev/log"));
}

/// Limits the container with this state.
fn set(root: &Root, state: &str) -> Result<(), String> {
    let state: State =
        serde_json::from_str(state).map_err(|error| format!("invalid container state: {error}"))?;
    let Some(limits) = state.annotations.get(ANNOTATION) else { return Ok(()) };
    let group = group_of(root, state.pid)?;
    enable_controller(root, &group).map_err(|error| error.to_string())?;
    let path = format!("{GROUPS}{group}/dmem.max");
    for line in limits.lines().filter(|line| !line.trim().is_empty()) {
        // Written line by line: the kernel does not report which region it does not know.
        let written = root.write(&path, line);
        written
            .map_err(|errno| problem::file(root, format!("write {line:?} to"), &path, errno))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The container's cgroup, `/libpod_parent/libpod-ID`: the line of the unified hierarchy (cgroups(7)).
fn group_of(root: &Root, pid: u32) -> Result<String, String> {
    let path = format!("proc/{pid}/cgroup");
    let text =
        root.text(&path).map_err(|errno| problem::file(root, "read", &path, errno).to_string())?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    // A cgroup outside of this process's namespace is shown with `/..` (cgroup_namespaces(7)).
    if group.trim_end_matches('/').is_empty() || group.split('/').any(|part| part == "..") {
        return Err(format!("the container's process {pid} has no cgroup of its own"));
    }
    Ok(group.trim_end_matches('/').to_owned())
}

/// Enables the controller in all cgroups above this one, from the root down (cgroup-v2.rst, "Top-down Constraint").
fn enable_controller(root: &Root, group: &str) -> Result<(), HostError> {
    let above = group.rsplit_once('/').map_or("", |(above, _)| above);
    let ends = above.match_indices('/').skip(1).map(|(at, _)| at).chain([above.len()]);
    for end in std::iter::once(0).chain(ends) {
        let path =
            format!("{GROUPS}{}/cgroup.subtree_control", above.get(..end).unwrap_or_default());
        let enabled =
            root.text(&path).map_err(|errno| problem::file(root, "read", &path, errno))?;
        if enabled.split_whitespace().any(|one| one == CONTROLLER) {
            continue;
        }
        root.write(&path, "+dmem").map_err(|errno| {
            let reason = match errno {
                Errno::NOENT | Errno::INVAL => "no dmem controller there".to_owned(),
                errno => problem::words(errno),
            };
            problem::because(root, "write \"+dmem\" to", &path, errno, reason)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const STATE: &str = r#"{"ociVersion":"1.0","id":"c","status":"created","pid":41,"bundle":"/b",
        "annotations":{"handover.dev/dmem-max":"drm/0000:03:00.0/vram0 1073741824\ndrm/0000:04:00.0/vram0 1073741824"}}"#;

    /// A host whose process 41 is in this cgroup, below cgroups with these controllers.
    fn host(group: &str, above: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/41/cgroup".into(), &format!("0::{group}\n"));
        for (of, controllers) in above {
            write(format!("{GROUPS}{of}/cgroup.subtree_control"), controllers);
        }
        write(format!("{GROUPS}{group}/dmem.max"), "");
        tree
    }

    fn read(tree: &tempfile::TempDir, path: &str) -> String {
        fs::read_to_string(tree.path().join(GROUPS).join(path)).unwrap()
    }

    fn set_on(tree: &tempfile::TempDir, state: &str) -> Result<(), String> {
        set(&Root::open(tree.path()).unwrap(), state)
    }

    #[test]
    fn the_controller_is_enabled_and_the_limit_written() {
        let above = [("", "cpu memory"), ("/a.slice", "cpu dmem"), ("/a.slice/b", "cpu")];
        let tree = host("/a.slice/b/c", &above);
        set_on(&tree, STATE).unwrap();
        assert_eq!(read(&tree, "cgroup.subtree_control"), "+dmem");
        assert_eq!(read(&tree, "a.slice/cgroup.subtree_control"), "cpu dmem", "it had it");
        assert_eq!(read(&tree, "a.slice/b/cgroup.subtree_control"), "+dmem");
        // A regular file keeps only the last write.
        assert_eq!(read(&tree, "a.slice/b/c/dmem.max"), "drm/0000:04:00.0/vram0 1073741824");
    }

    #[test]
    fn a_group_right_below_the_root_and_a_container_that_wants_no_limit() {
        let tree = host("/c", &[("", "cpu")]);
        set_on(&tree, &STATE.replace("dmem-max", "else")).unwrap();
        assert_eq!(read(&tree, "cgroup.subtree_control"), "cpu");
        set_on(&tree, STATE).unwrap();
        assert_eq!(read(&tree, "cgroup.subtree_control"), "+dmem");
    }

    #[test]
    fn memory_that_cannot_be_limited_is_reported() {
        let refused = |group: &str, state: &str| set_on(&host(group, &[]), state).unwrap_err();
        assert!(refused("/a/c", "{").contains("invalid container state"));
        assert!(refused("/", STATE).contains("no cgroup of its own"));
        assert!(refused("/../b/c", STATE).contains("no cgroup of its own"));
        assert!(refused("/a/c", &STATE.replace("41", "42")).contains("proc/42/cgroup"));
        assert!(refused("/a/c", STATE).contains("cgroup.subtree_control"));
    }
}
