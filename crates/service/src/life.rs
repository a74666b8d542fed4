//! When machines are started without a request: requests, and how it is shown.

use std::time::Duration;

use api::{RestartPolicy as Policy, RestartStatus as Status};
use engine::{Blocked, Restarts};
use model::{
    Autostart, AutostartChange, Life, Refusal, Restart, RestartChange, RestartPolicy,
    format_duration, parse_duration,
};

use crate::refusals::invalid;

/// The longest duration in these fields.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What the fields `restart_policy` and `autostart` of a new instance ask for.
pub fn life(restart: Option<&Policy>, autostart: Option<&api::Autostart>) -> Result<Life, Refusal> {
    let restart = restart.map(self::restart).transpose()?;
    let autostart = autostart.map(self::autostart).transpose()?;
    Ok(Life {
        restart: restart.map(|change| change.apply(&Restart::default())).unwrap_or_default(),
        autostart: autostart.and_then(|change| change.apply(None)),
    })
}

/// What the field `restart_policy` asks for.
pub fn restart(wanted: &Policy) -> Result<RestartChange, Refusal> {
    let policy = wanted.policy.as_ref().map(|word| {
        let known = RestartPolicy::ALL.into_iter().find(|one| one.as_str() == word);
        known.ok_or_else(|| {
            let words = RestartPolicy::ALL.map(RestartPolicy::as_str).join(", ");
            invalid(format!("unknown restart policy {word:?}"), format!("use one of {words}"))
        })
    });
    Ok(RestartChange {
        policy: policy.transpose()?,
        backoff: duration(wanted.backoff.as_deref())?,
        max_attempts: wanted.max_attempts,
        stable_after: duration(wanted.stable_after.as_deref())?,
    })
}

/// What the field `autostart` asks for.
pub fn autostart(wanted: &api::Autostart) -> Result<AutostartChange, Refusal> {
    let delay = duration(wanted.delay.as_deref())?;
    Ok(AutostartChange { off: wanted.enabled == Some(false), order: wanted.order, delay })
}

fn duration(text: Option<&str>) -> Result<Option<Duration>, Refusal> {
    let duration = text.map(parse_duration).transpose()?;
    match duration {
        Some(long) if long > LONGEST => Err(invalid(
            format!("{} is longer than a day", format_duration(long)),
            "use 24h or less",
        )),
        other => Ok(other),
    }
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
        let read = |wanted: &Policy| life(Some(wanted), None).map(|life| life.restart);
        let wanted = Policy { policy: Some("on_failure".into()), ..Policy::default() };
        let shown = shown_restart(&read(&wanted).unwrap()).unwrap();
        assert_eq!(shown.backoff.as_deref(), Some("5s"));
        assert_eq!(shown.stable_after.as_deref(), Some("10m0s"));
        assert_eq!(shown_restart(&read(&shown).unwrap()), Some(shown));
        assert_eq!(shown_restart(&read(&Policy::default()).unwrap()), None);
        let wrong = Policy { policy: Some("no".into()), ..Policy::default() };
        assert!(read(&wrong).unwrap_err().remedy.contains("on_failure"));
        let long = Policy { backoff: Some("25h".into()), ..wanted };
        assert!(read(&long).unwrap_err().message.contains("longer than a day"));
    }

    #[test]
    fn an_empty_autostart_is_on() {
        let read = |wanted: &api::Autostart| life(None, Some(wanted)).unwrap().autostart;
        let wanted = api::Autostart::default();
        let shown = shown_autostart(&read(&wanted).unwrap());
        assert_eq!((shown.order, shown.delay.as_deref()), (Some(0), Some("0s")));
        let off = api::Autostart { enabled: Some(false), ..wanted };
        assert_eq!(read(&off), None);
    }
}
