//! Sessions with the agents in the guests of container images: commands with their streams, copies, and what a path is.
//!
//! The engine's sessions wait for the guest, so each has a thread or two of its own. Between these and an interface are short
//! queues: a side that is slow makes the other one wait, and nothing grows.

pub mod copy;
pub mod exec;

use std::time::Duration;

use api::PathInfo;
use engine::guest_agent::{StatRequest, is_absolute_path};
use engine::{Engine, GuestSession};
use model::{Code, Refusal};
use tokio::time::{Instant, sleep};

use crate::refusals::invalid;

/// The longest wait for an agent.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);
/// The pause between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest path, in characters, with the `/` at its start.
const LONGEST_PATH: usize = 1001;

/// What a path in the guest of an instance is. A path that the guest cannot look at is an answer, too.
///
/// # Errors
/// `invalid_request`; those of [`engine::Instances::guest_session`].
pub fn stat(
    engine: &Engine,
    key: &str,
    path: &str,
    follow_links: bool,
) -> Result<PathInfo, Refusal> {
    const KIND: u32 = 0o170_000;
    let request = StatRequest { path: guest_path(path)?, follow_links };
    let info = match engine.instances().guest_session(key)?.stat(&request) {
        Ok(info) => info,
        Err(refusal) if refusal.code == Code::AgentRefused => {
            return Ok(PathInfo { error: Some(refusal.message), ..PathInfo::default() });
        }
        Err(refusal) => return Err(refusal),
    };
    Ok(PathInfo {
        exists: info.exists,
        is_dir: info.mode & KIND == 0o040_000,
        is_file: info.mode & KIND == 0o100_000,
        is_symlink: info.mode & KIND == 0o120_000,
        link_target: info.target,
        mode: info.mode & 0o7777,
        size: info.size,
        uid: info.uid,
        gid: info.gid,
        mtime: info.modified,
        error: None,
    })
}

/// A session with the agent in the guest of an instance. Waits for one that does not answer yet.
async fn connect(engine: &Engine, key: &str, wait: Duration) -> Result<GuestSession, Refusal> {
    let until = Instant::now() + wait.min(LONGEST_WAIT);
    loop {
        let (engine, key) = (engine.clone(), key.to_owned());
        match blocking(move || engine.instances().guest_session(&key)).await? {
            Err(refusal) if refusal.code == Code::AgentSilent && Instant::now() + PAUSE < until => {
            }
            answer => return answer,
        }
        sleep(PAUSE).await;
    }
}

/// Runs what waits for a guest.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| unforeseen(&error))
}

/// A thread of a session. It ends with the session.
fn thread(work: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    let begun = std::thread::Builder::new().name("session".into()).spawn(work);
    begun.map(drop).map_err(|error| unforeseen(&error))
}

fn unforeseen(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("a session with the guest failed: {error}"),
        "check the daemon's log: journalctl -u handover",
    )
}

/// An absolute path in the guest. One without a `/` at its start is below the root, as docker cp has it.
fn guest_path(path: &str) -> Result<String, Refusal> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if is_absolute_path(&path) && path.chars().count() <= LONGEST_PATH {
        return Ok(path);
    }
    Err(invalid(
        format!(
            "{path:?} cannot be a path in the guest: it has `..` or a zero byte, or is too long"
        ),
        "write the path without `..`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_guest_is_absolute() {
        assert_eq!(guest_path("etc/motd").unwrap(), "/etc/motd");
        assert_eq!(guest_path("/").unwrap(), "/");
        for wrong in ["/a/../b", "..", "a\0"] {
            assert!(guest_path(wrong).is_err(), "{wrong:?}");
        }
    }
}
