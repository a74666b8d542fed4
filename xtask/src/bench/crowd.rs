//! Many clients and few devices: no device has two owners, and nobody waits for long.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use api::client::{Client, segment};
use model::Code;

use super::claims::{served, wish, with_vfs};
use super::engine::Folder;

const CLIENTS: usize = 64;
const DEVICES: u16 = 4;

/// How long a client waits after it was told that all devices are claimed.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a client has a device.
const HELD: Duration = Duration::from_millis(5);

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// The functions that have an owner now.
    owned: BTreeSet<String>,
    /// How long each claim took that was granted.
    granted: Vec<Duration>,
    /// How long each claim took that was refused because all devices are claimed.
    refused: Vec<Duration>,
    /// Functions that were given to a second owner.
    twice: Vec<String>,
}

/// 64 clients claim and release four virtual functions for this long.
///
/// # Errors
/// If a device is given twice, a request fails, or no claim was granted or refused.
pub fn crowd(lasting: Duration) -> Result<String> {
    let folder = Folder::make()?;
    let client = served(&folder.0, with_vfs(DEVICES)?)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        while client.get::<api::Health>("/health").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let until = Instant::now() + lasting;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| tokio::spawn(ask(client.clone(), number, until, seen.clone())))
            .collect();
        for client in clients {
            client.await??;
        }
        anyhow::Ok(())
    })?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(seen.twice.is_empty(), "given twice: {:?}", seen.twice);
    let granted = spread(&mut seen.granted).context("no claim was granted")?;
    let refused = spread(&mut seen.refused).context("no claim was refused")?;
    Ok(format!(
        "{CLIENTS} clients on {DEVICES} devices for {} s: no device had two owners\n    claims granted: {granted}\n    \
         claims refused, all devices claimed: {refused}",
        lasting.as_secs()
    ))
}

async fn ask(client: Client, number: usize, until: Instant, seen: Arc<Mutex<Seen>>) -> Result<()> {
    let owner = format!("bench/{number}");
    let path = format!("/claims/{}", segment(&owner));
    let note = |note: &dyn Fn(&mut Seen)| {
        note(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
    };
    while Instant::now() < until {
        let began = Instant::now();
        let answer = client.post::<api::Claim>("/claims", Some(&wish(&owner))).await;
        let took = began.elapsed();
        match answer {
            Ok(claim) => {
                let part = claim.parts.first().ok_or_else(|| anyhow!("a claim without parts"))?;
                let head = part.head.clone();
                note(&|seen| {
                    seen.granted.push(took);
                    if !seen.owned.insert(head.clone()) {
                        seen.twice.push(head.clone());
                    }
                });
                tokio::time::sleep(HELD).await;
                note(&|seen| {
                    seen.owned.remove(&head);
                });
                client.delete(&path).await?;
            }
            Err(refusal) if refusal.code == Code::InsufficientResources => {
                note(&|seen| seen.refused.push(took));
                tokio::time::sleep(PAUSE).await;
            }
            Err(refusal) => return Err(anyhow!(refusal)),
        }
    }
    Ok(())
}

/// The number of these times, their median and the longest.
fn spread(times: &mut [Duration]) -> Option<String> {
    times.sort();
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let (median, longest) = (times.get(times.len() / 2)?, times.last()?);
    Some(format!("{}, median {:.1} ms, longest {:.1} ms", times.len(), ms(median), ms(longest)))
}
