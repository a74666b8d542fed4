//! What starts a machine besides a request: its own end, and the start of the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest pause: a machine that ends at once must not keep the host busy.
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);

/// The longest pause before a machine is started again, unless the first one is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// When a machine is started without a request. The default is what machines of earlier versions have: never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// Whether it is started again when it ends.
    pub restart: Restart,
    /// Whether, and when, it is started with the host.
    pub autostart: Option<Autostart>,
}

/// Whether a machine is started again when it ends without a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restart {
    /// After which ends.
    pub policy: RestartPolicy,
    /// The pause before the first attempt. It doubles with each further one, to 5 minutes at most, and is
    /// 1 second at least.
    pub backoff: Duration,
    /// The most attempts in a row; 0 for no limit.
    pub max_attempts: u32,
    /// A machine that ran as long as this begins a new row of attempts.
    pub stable_after: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Never,
            backoff: Duration::from_secs(5),
            max_attempts: 0,
            stable_after: Duration::from_secs(600),
        }
    }
}

impl Restart {
    /// Whether it applies to a machine that ended with this exit status of its VMM, if that is known.
    #[must_use]
    pub fn applies_to(&self, exit: Option<i32>) -> bool {
        match self.policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => exit != Some(0),
            RestartPolicy::Always => true,
        }
    }

    /// The pause before another attempt, after this many in a row.
    #[must_use]
    pub fn pause(&self, attempts: u32) -> Duration {
        let doubled = self.backoff.saturating_mul(2u32.saturating_pow(attempts));
        doubled.min(LONGEST_BACKOFF.max(self.backoff)).max(SHORTEST_BACKOFF)
    }
}

/// After which ends a machine is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// None.
    #[default]
    Never,
    /// If its VMM failed, or it is unknown how it ended.
    OnFailure,
    /// Any: also if the guest shut itself down.
    Always,
}

impl RestartPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Never, Self::OnFailure, Self::Always];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on_failure",
            Self::Always => "always",
        }
    }
}

/// A machine that is started with the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Autostart {
    /// Machines of a lower number are started before those of a higher one, and stopped after them.
    pub order: u32,
    /// The pause after its start, before the next machine is started.
    pub delay: Duration,
    /// The boot of the host in which it was started, or need not be.
    pub boot_id: Option<String>,
}

/// A change of a [`Restart`]. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartChange {
    /// After which ends.
    pub policy: Option<RestartPolicy>,
    /// The pause before the first attempt.
    pub backoff: Option<Duration>,
    /// The most attempts in a row.
    pub max_attempts: Option<u32>,
    /// How long a machine must run to begin a new row of attempts.
    pub stable_after: Option<Duration>,
}

impl RestartChange {
    /// What it makes of this one.
    #[must_use]
    pub fn apply(&self, restart: &Restart) -> Restart {
        Restart {
            policy: self.policy.unwrap_or(restart.policy),
            backoff: self.backoff.unwrap_or(restart.backoff),
            max_attempts: self.max_attempts.unwrap_or(restart.max_attempts),
            stable_after: self.stable_after.unwrap_or(restart.stable_after),
        }
    }
}

/// A change of an [`Autostart`]. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutostartChange {
    /// Whether there is to be none.
    pub off: bool,
    /// Its place.
    pub order: Option<u32>,
    /// The pause after its start.
    pub delay: Option<Duration>,
}

impl AutostartChange {
    /// What it makes of this one.
    #[must_use]
    pub fn apply(&self, autostart: Option<Autostart>) -> Option<Autostart> {
        let now = autostart.unwrap_or_default();
        (!self.off).then(|| Autostart {
            order: self.order.unwrap_or(now.order),
            delay: self.delay.unwrap_or(now.delay),
            boot_id: now.boot_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit() {
        let restart = Restart { backoff: Duration::from_secs(5), ..Restart::default() };
        let pauses: Vec<u64> = (0..8).map(|n| restart.pause(n).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(restart.pause(u32::MAX).as_secs(), 300);
        let none = Restart { backoff: Duration::ZERO, ..Restart::default() };
        assert_eq!(none.pause(3).as_secs(), 1);
        let long = Restart { backoff: Duration::from_secs(900), ..Restart::default() };
        assert_eq!(long.pause(3).as_secs(), 900);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let order = AutostartChange { order: Some(10), ..AutostartChange::default() };
        let delay =
            AutostartChange { delay: Some(Duration::from_secs(3)), ..AutostartChange::default() };
        let both = delay.apply(order.apply(None)).unwrap();
        assert_eq!((both.order, both.delay.as_secs()), (10, 3));
        assert_eq!(AutostartChange { off: true, ..order }.apply(Some(both)), None);
        let always = RestartChange { policy: Some(RestartPolicy::Always), ..Default::default() };
        let few = RestartChange { max_attempts: Some(3), ..Default::default() };
        let restart = few.apply(&always.apply(&Restart::default()));
        assert_eq!((restart.policy, restart.max_attempts), (RestartPolicy::Always, 3));
    }

    #[test]
    fn an_unknown_end_is_a_failure() {
        let of = |policy| Restart { policy, ..Restart::default() };
        let ends = [Some(0), Some(1), None];
        assert_eq!(ends.map(|exit| of(RestartPolicy::Never).applies_to(exit)), [false; 3]);
        assert_eq!(
            ends.map(|exit| of(RestartPolicy::OnFailure).applies_to(exit)),
            [false, true, true]
        );
        assert_eq!(ends.map(|exit| of(RestartPolicy::Always).applies_to(exit)), [true; 3]);
    }

    #[test]
    fn machines_of_earlier_versions_are_started_on_request_only() {
        let life: Life = serde_json::from_str("{}").unwrap();
        assert_eq!(life, Life::default());
        assert_eq!((life.restart.policy, life.autostart), (RestartPolicy::Never, None));
    }
}
