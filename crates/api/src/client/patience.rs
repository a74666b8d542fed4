//! Waiting for a daemon that recovers interrupted operations: it answers changes late, or refuses them with `starting`.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use model::{Code, Refusal};

use super::{Client, read};
use crate::{Health, HealthStatus};

/// How long recovery can take: 90 s for a step that is stuck in the kernel, and the other operations.
const LONGEST_START: Duration = Duration::from_secs(120);

/// How long a call may take before the daemon is asked whether it recovers.
const SOON: Duration = Duration::from_secs(2);

/// The pause before a refused call is sent again.
const PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// Sends a request, and waits while the daemon recovers: a change that it refused with `starting` changed nothing, so it
    /// is sent again.
    pub(super) async fn patiently(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Bytes, Refusal> {
        let Some(news) = self.news else { return self.once(method, path, body).await };
        let until = Instant::now() + LONGEST_START;
        let mut told = false;
        loop {
            let answer = self.once(method.clone(), path, body.clone());
            let answer =
                if told { answer.await } else { self.tell_why(answer, news, &mut told).await };
            match answer {
                Err(refusal) if refusal.code == Code::Starting && Instant::now() < until => {
                    if !told {
                        news(&refusal.message);
                        told = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// Awaits an answer. If it does not come soon and the daemon is starting, tells that.
    async fn tell_why(
        &self,
        answer: impl Future<Output = Result<Bytes, Refusal>>,
        news: fn(&str),
        told: &mut bool,
    ) -> Result<Bytes, Refusal> {
        let mut answer = pin!(answer);
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(SOON) => {}
        }
        tokio::select! {
            answer = &mut answer => return answer,
            health = self.once(Method::GET, "/health", None) => {
                let health = health.and_then(|body| read::<Health>(&body));
                if let Some(health) = health.ok().filter(|one| one.status == HealthStatus::Starting) {
                    news(&starting(&health));
                    *told = true;
                }
            }
        }
        answer.await
    }
}

fn starting(health: &Health) -> String {
    let tasks: Vec<&str> = health.recovering.iter().map(|one| one.text.as_str()).collect();
    let tasks = if tasks.is_empty() { String::new() } else { format!(": {}", tasks.join(", ")) };
    format!(
        "the daemon is starting and recovers interrupted operations{tasks}; waiting for it, up to {} s",
        LONGEST_START.as_secs()
    )
}
