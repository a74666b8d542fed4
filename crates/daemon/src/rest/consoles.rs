//! `/instances/{key}/console`: a guest's serial console as a WebSocket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ErrorBody;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use model::Code;
use tokio::sync::Notify;
use tracing::info;
use uuid::Uuid;

use super::query::{Key, Query};
use super::{Face, Problem, sockets};

/// How long a client may take to read output: meanwhile the guest waits at its console.
const SLOW: Duration = Duration::from_secs(10);

/// Connect to the guest's serial console: a WebSocket with the console's bytes in both directions, as binary messages
#[utoipa::path(get, path = "/instances/{key}/console", tag = "instances",
    params(("key" = String, Path, description = "id or name"),
        ("force" = Option<bool>, Query, description = "disconnect the client that is connected")),
    responses(
        (status = 101, description = "the WebSocket; it is closed with the reason"),
        (status = "default", body = ErrorBody)))]
pub async fn connect(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let force = query.flag("force")?;
    let name = key.clone();
    let asked = key.clone();
    let id = face.ask(move |engine| engine.instances().with_console(&asked)).await?;
    let upgrade =
        upgrade.map_err(|rejection| sockets::needed(&rejection, "handover instance console"))?;
    let turn = face.consoles.take(id, force).ok_or_else(|| {
        Problem::new(
            Code::InUse,
            format!("another client is connected to the console of {name:?}"),
            "`handover instance console --force` (in REST: force=true) disconnects it",
        )
    })?;
    // Connect only after taking the turn: the VMM accepts one client, and the next would wait in its queue.
    let console = face.ask(move |engine| engine.instances().open_console(&key)).await?;
    let console = sockets::adopted(console)?;
    info!(instance = %name, "a client is connected to the console");
    let upgrade = upgrade.max_message_size(sockets::MOST_INPUT);
    Ok(upgrade.on_upgrade(async move |socket| {
        sockets::serve(&face, console, socket, SLOW, turn.taken.notified()).await;
    }))
}

/// The consoles that have a client: each can have one.
#[derive(Clone, Debug, Default)]
pub struct Consoles(Arc<Mutex<HashMap<Uuid, Arc<Notify>>>>);

/// A client's turn at a console, until it is dropped.
#[derive(Debug)]
struct Turn {
    consoles: Consoles,
    id: Uuid,
    /// Is notified when another client takes the console.
    taken: Arc<Notify>,
}

impl Consoles {
    /// A turn at a machine's console; `None` if another client has it and `force` is not set.
    fn take(&self, id: Uuid, force: bool) -> Option<Turn> {
        let taken = Arc::<Notify>::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&id) {
            Some(earlier) if force => earlier.notify_one(),
            Some(_) => return None,
            None => {}
        }
        all.insert(id, Arc::clone(&taken));
        Some(Turn { consoles: self.clone(), id, taken })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.consoles.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another client may have taken it.
        if all.get(&self.id).is_some_and(|now| Arc::ptr_eq(now, &self.taken)) {
            all.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_has_one_client() {
        let consoles = Consoles::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = consoles.take(one, false).unwrap();
        assert!(consoles.take(one, false).is_none());
        assert!(consoles.take(other, false).is_some());
        let second = consoles.take(one, true).unwrap();
        drop(first);
        assert!(consoles.take(one, false).is_none(), "the second client still has it");
        drop(second);
        assert!(consoles.take(one, false).is_some());
    }
}
