//! Whose turn it is to talk to an agent: the VMM connects one client at a time, and a guest must not keep the daemon busy.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use model::{Code, Refusal};
use uuid::Uuid;

use super::channel::{AgentError, Channel};

/// The most programs and copies at a time in one guest, and in all guests. Each takes two threads at most.
const MOST_IN_ONE: usize = 32;
const MOST: usize = 128;

/// The agents that are being talked to, and the programs that are waited for.
#[derive(Debug, Default)]
pub struct Sessions {
    open: Mutex<HashMap<Uuid, Weak<Session>>>,
    places: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Sessions {
    /// The session with the agent of a machine. It ends when no one has it any longer.
    pub fn of(&self, id: Uuid) -> Arc<Session> {
        let mut open = locked(&self.open);
        open.retain(|_, session| session.strong_count() > 0);
        if let Some(session) = open.get(&id).and_then(Weak::upgrade) {
            return session;
        }
        let session = Arc::<Session>::default();
        open.insert(id, Arc::downgrade(&session));
        session
    }

    /// A place for a program that is waited for.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub fn place(&self, id: Uuid, name: &str) -> Result<Place, Refusal> {
        let mut places = locked(&self.places);
        let taken: usize = places.values().sum();
        let own = places.get(&id).copied().unwrap_or_default();
        let too_many = |message: String| {
            Err(Refusal::new(Code::TooManyRequests, message, "retry when one of them has ended"))
        };
        if own >= MOST_IN_ONE {
            return too_many(format!("{own} commands and copies run in the guest of {name:?}"));
        }
        if taken >= MOST {
            return too_many(format!("{taken} commands and copies run in guests"));
        }
        places.insert(id, own + 1);
        drop(places);
        Ok(Place { id, places: Arc::clone(&self.places) })
    }
}

/// The place of a program that is waited for, until it is dropped.
#[derive(Debug)]
pub struct Place {
    id: Uuid,
    places: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = locked(&self.places);
        if let Some(count) = places.get_mut(&self.id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                places.remove(&self.id);
            }
        }
    }
}

/// The connection to one agent, which its users take in turns.
#[derive(Debug, Default)]
pub struct Session {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    /// The connection, if the last user left one that can be used.
    channel: Option<Channel>,
}

/// A user's turn, until it is dropped.
struct Turn<'a> {
    session: &'a Session,
    channel: Option<Channel>,
}

impl Session {
    /// Talks to the agent, by the connection that is open, or a new one.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn talk<T>(
        &self,
        deadline: Instant,
        open: impl FnOnce() -> Result<UnixStream, AgentError>,
        talk: impl FnOnce(&mut Channel) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let mut turn = self.turn(deadline)?;
        let mut channel = match turn.channel.take() {
            Some(channel) => channel,
            None => Channel::begin(open()?, random(), deadline)?,
        };
        let answer = talk(&mut channel);
        // After another error, an answer may still come: the connection is closed.
        if matches!(answer, Ok(_) | Err(AgentError::Refused { .. })) {
            turn.channel = Some(channel);
        }
        answer
    }

    fn turn(&self, deadline: Instant) -> Result<Turn<'_>, AgentError> {
        let mut state = locked(&self.state);
        while state.is_taken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AgentError::Silent("another request".into()));
            }
            let waited = self.free.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_taken = true;
        let channel = state.channel.take();
        drop(state);
        Ok(Turn { session: self, channel })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.session.state);
        state.is_taken = false;
        state.channel = self.channel.take();
        drop(state);
        self.session.free.notify_one();
    }
}

/// A number that the guest cannot know.
fn random() -> u32 {
    Uuid::new_v4().as_fields().0
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_guest_has_some_places_and_all_have_some_more() {
        let sessions = Sessions::default();
        let guest = Uuid::from_u128;
        let mut own: Vec<Place> =
            (0..MOST_IN_ONE).map(|_| sessions.place(guest(1), "vm").unwrap()).collect();
        assert_eq!(sessions.place(guest(1), "vm").unwrap_err().code, Code::TooManyRequests);
        own.pop();
        own.push(sessions.place(guest(1), "vm").unwrap());
        let others = 2..2 + (MOST - MOST_IN_ONE) as u128;
        own.extend(others.map(|id| sessions.place(guest(id), "vm").unwrap()));
        assert_eq!(sessions.place(guest(99), "vm").unwrap_err().code, Code::TooManyRequests);
        own.clear();
        assert!(locked(&sessions.places).is_empty());
    }

    #[test]
    fn a_session_lasts_as_long_as_it_has_users() {
        let sessions = Sessions::default();
        let first = sessions.of(Uuid::nil());
        assert!(Arc::ptr_eq(&first, &sessions.of(Uuid::nil())));
        let turn = first.turn(Instant::now()).unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(matches!(first.turn(soon), Err(AgentError::Silent(_))), "it is taken");
        drop(turn);
        assert!(first.turn(soon).is_ok());
        drop(first);
        sessions.of(Uuid::from_u128(1));
        assert_eq!(locked(&sessions.open).len(), 1, "the ended one is forgotten");
    }
}
