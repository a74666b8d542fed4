//! When machines are started without a request: requests, and how it is shown.

use std::time::Duration;

use api::{RestartPolicy as Policy, RestartStatus as Status};
use engine::{Blocked, Restarts};
use model::{Autostart, Life, Refusal, Restart, RestartPolicy, format_duration, parse_duration};

use crate::refusals::invalid;

/// What the fields `restart_policy` and `autostart` of a new instance ask for.
pub fn life(restart: Option<&Policy>, autostart: Option<&api::Autostart>) -> Result<Life, Refusal> {
    Ok(Life {
        restart: restart.map(self::restart).transpose()?.unwrap_or_default(),
        autostart: autostart.map(self::autostart).transpose()?.flatten(),
    })
}

/// What the field `restart_policy` asks for.
pub fn restart(wanted: &Policy) -> Result<Restart, Refusal> {
    let usual = Restart::default();
    let policy = match &wanted.policy {
        None => usual.policy,
        Some(word) => {
            let known = RestartPolicy::ALL.into_iter().find(|one| one.as_str() == word);
            known.ok_or_else(|| {
                let words = RestartPolicy::ALL.map(RestartPolicy::as_str).join(", ");
                invalid(format!("unknown restart policy {word:?}"), format!("use one of {words}"))
            })?
        }
    };
    Ok(Restart {
        policy,
        backoff: duration(wanted.backoff.as_deref(), usual.backoff)?,
        max_attempts: wanted.max_attempts.unwrap_or(usual.max_attempts),
        stable_after: duration(wanted.stable_after.as_deref(), usual.stable_after)?,
    })
}

/// What the field `autostart` asks for.
pub fn autostart(wanted: &api::Autostart) -> Result<Option<Autostart>, Refusal> {
    let delay = duration(wanted.delay.as_deref(), Duration::ZERO)?;
    let order = wanted.order.unwrap_or_default();
    Ok((wanted.enabled != Some(false)).then_some(Autostart { order, delay, boot_id: None }))
}

fn duration(text: Option<&str>, usual: Duration) -> Result<Duration, Refusal> {
    text.map_or(Ok(usual), parse_duration)
}

/// A restart policy; `None` if there is none.
pub fn shown_restart(restart: &Restart) -> Option<Policy> {
    (restart.policy != RestartPolicy::Never).then(|| Policy {
        policy: Some(restart.policy.as_str().into()),
        backoff: Some(format_duration(restart.backoff)),
        max_attempts: Some(restart.max_attempts),
        stable_after: Some(format_duration(restart.stable_after)),
    })
}

/// The attempts to start a machine again.
pub fn shown_attempts(restarts: &Restarts) -> Status {
    let reason = restarts.blocked.map(|why| match why {
        Blocked::Stopped => "manual_stop",
        Blocked::TooMany => "max_attempts_exceeded",
    });
    Status {
        attempts: restarts.attempts,
        blocked_reason: reason.map(str::to_owned),
        last_attempt_at: restarts.last.map(|at| at.to_string()),
        next_attempt_at: restarts.next.map(|at| at.to_string()),
    }
}

/// When a machine is started with the host.
pub fn shown_autostart(autostart: &Autostart) -> api::Autostart {
    api::Autostart {
        enabled: Some(true),
        order: Some(autostart.order),
        delay: Some(format_duration(autostart.delay)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_shown_as_it_is_asked_for() {
        let wanted = Policy { policy: Some("on_failure".into()), ..Policy::default() };
        let shown = shown_restart(&restart(&wanted).unwrap()).unwrap();
        assert_eq!(shown.backoff.as_deref(), Some("5s"));
        assert_eq!(shown.stable_after.as_deref(), Some("10m0s"));
        assert_eq!(shown_restart(&restart(&shown).unwrap()), Some(shown));
        assert_eq!(shown_restart(&restart(&Policy::default()).unwrap()), None);
        let wrong = Policy { policy: Some("no".into()), ..Policy::default() };
        assert!(restart(&wrong).unwrap_err().remedy.contains("on_failure"));
    }

    #[test]
    fn an_empty_autostart_is_on() {
        let wanted = api::Autostart::default();
        let shown = shown_autostart(&autostart(&wanted).unwrap().unwrap());
        assert_eq!((shown.order, shown.delay.as_deref()), (Some(0), Some("0s")));
        let off = api::Autostart { enabled: Some(false), ..wanted };
        assert_eq!(autostart(&off).unwrap(), None);
    }
}
