//! What all sessions share.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use guest_protocol::GuestConfig;
use guest_protocol::message::{CommandState, StopRequest};
use rustix::process::Pid;

use crate::sys;

/// The most sessions at once.
const MAX_SESSIONS: usize = 128;
/// The most connections at once that have not made the handshake. With the sessions, these are all connections.
const MAX_NEWCOMERS: usize = 32;
/// `SIGRTMIN+4`: systemd switches the machine off.
const SYSTEMD_POWER_OFF: i32 = 38;

/// What all sessions share.
pub struct Shared {
    /// The guest's configuration.
    pub config: GuestConfig,
    token: String,
    state: Mutex<CommandState>,
    sessions: AtomicUsize,
    newcomers: AtomicUsize,
}

/// A connection without a handshake, which counts until this is dropped.
pub struct Newcomer(Arc<Shared>);

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.0.newcomers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// Begins without sessions.
    pub fn new(config: GuestConfig, token: String) -> Self {
        let (sessions, newcomers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { config, token, state: Mutex::default(), sessions, newcomers }
    }

    /// Whether this is the token. The time that it takes says nothing about where they differ.
    pub fn knows(&self, token: &str) -> bool {
        let (ours, theirs) = (self.token.as_bytes(), token.as_bytes());
        let differences = ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b));
        !ours.is_empty() && ours.len() == theirs.len() && std::hint::black_box(differences) == 0
    }

    /// Takes over a line of the init.
    pub fn set_state(&self, line: &str) {
        if let Ok(state) = serde_json::from_str(line) {
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }

    /// What the guest's command does.
    pub fn state(&self) -> CommandState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the init to stop the command.
    pub fn stop(&self, request: &StopRequest) -> io::Result<()> {
        if self.config.systemd {
            sys::kill_one(Pid::INIT, SYSTEMD_POWER_OFF);
            return Ok(());
        }
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let mut init = std::fs::File::from(rustix::io::dup(rustix::stdio::stdout())?);
        init.write_all(&line)
    }

    /// Counts a new connection, unless there are too many.
    pub fn admit(shared: &Arc<Self>) -> Option<Newcomer> {
        let counted = shared.newcomers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            (count < MAX_NEWCOMERS).then_some(count + 1)
        });
        counted.is_ok().then(|| Newcomer(Arc::clone(shared)))
    }

    /// Counts a session, unless there are too many.
    pub fn enter(&self) -> bool {
        let entered = self.sessions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            (count < MAX_SESSIONS).then_some(count + 1)
        });
        entered.is_ok()
    }

    /// A session has ended.
    pub fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_known() {
        let shared = Shared::new(GuestConfig::default(), "secret".to_owned());
        assert!(shared.knows("secret"));
        for other in ["", "secre", "secret1", "sekret"] {
            assert!(!shared.knows(other), "{other}");
        }
        assert!(!Shared::new(GuestConfig::default(), String::new()).knows(""));
    }

    #[test]
    fn connections_without_a_handshake_are_bounded() {
        let shared = Arc::new(Shared::new(GuestConfig::default(), "secret".to_owned()));
        let mut all: Vec<_> = (0..MAX_NEWCOMERS).filter_map(|_| Shared::admit(&shared)).collect();
        assert_eq!(all.len(), MAX_NEWCOMERS);
        assert!(Shared::admit(&shared).is_none());
        all.pop();
        assert!(Shared::admit(&shared).is_some());
    }

    #[test]
    fn sessions_are_counted() {
        let shared = Shared::new(GuestConfig::default(), "secret".to_owned());
        assert!((0..MAX_SESSIONS).all(|_| shared.enter()));
        assert!(!shared.enter());
        shared.leave();
        assert!(shared.enter() && !shared.enter());
    }
}
