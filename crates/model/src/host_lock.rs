//! The lock on a host: only one process may change its devices.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use crate::HostError;

/// A lock on a host, held until dropped.
pub trait HostLock: Send + Sync {}

/// The process that holds the lock on a host, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockHolder {
    /// Its pid in its own PID namespace.
    pub pid: Option<u32>,
    /// Whether its PID namespace is not that of this process.
    pub other_pid_namespace: bool,
    /// Its host name; in a container that of the container.
    pub hostname: Option<String>,
    /// Its state directory, as its own file system shows it.
    pub state_dir: Option<PathBuf>,
}

/// Why the lock on a host cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostLockError {
    /// Another process holds it.
    #[error("another Handover process manages this host: {0}")]
    Held(LockHolder),
    /// The host refused.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Display for LockHolder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.pid, self.other_pid_namespace) {
            (Some(pid), false) => write!(f, "pid {pid}")?,
            (Some(pid), true) => write!(f, "pid {pid} in another PID namespace")?,
            (None, _) => f.write_str("its process is not visible from here")?,
        }
        if let Some(state_dir) = &self.state_dir {
            // Debug escapes terminal control characters.
            write!(f, ", state directory {state_dir:?}")?;
        }
        if let Some(hostname) = &self.hostname {
            write!(f, ", on {hostname:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_as_far_as_it_is_known() {
        let mut holder = LockHolder {
            pid: Some(7),
            hostname: Some("web1".into()),
            state_dir: Some("/var/lib/handover".into()),
            ..LockHolder::default()
        };
        assert_eq!(holder.to_string(), "pid 7, state directory \"/var/lib/handover\", on \"web1\"");
        holder.other_pid_namespace = true;
        assert!(holder.to_string().starts_with("pid 7 in another PID namespace, state"));
        holder.state_dir = Some("/a\x1b[2J".into());
        assert!(!holder.to_string().contains('\x1b'), "{holder}");
        let unknown = LockHolder::default().to_string();
        assert_eq!(unknown, "its process is not visible from here");
    }
}
