//! Options for when a machine is started without a request.

use api::{Autostart, RestartPolicy};
use clap::{Args, ValueEnum};

use crate::values;

/// After which ends a machine is started again.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// none
    #[value(alias = "never")]
    No,
    /// if its VMM failed, or it is unknown how it ended
    OnFailure,
    /// any, also if the guest shut itself down
    Always,
}

/// When the machine is started without a request.
#[derive(Debug, Args)]
pub struct Life {
    /// Start the machine again when it ends
    #[arg(
        long,
        value_name = "WHEN",
        hide_possible_values = true,
        help = "Start the machine again when it ends: no, on-failure or always"
    )]
    restart: Option<Policy>,
    /// Most attempts in a row to start it again; 0 for no limit
    #[arg(long, value_name = "COUNT", value_parser = values::number::<u32>)]
    restart_attempts: Option<u32>,
    /// Start the machine with the host
    #[arg(long, conflicts_with = "no_autostart")]
    autostart: bool,
    /// Do not start the machine with the host
    #[arg(long)]
    no_autostart: bool,
    /// Start it with the host, before machines of higher numbers; it is stopped after them
    #[arg(long, value_name = "NUMBER", conflicts_with = "no_autostart", value_parser = values::number::<u32>)]
    start_order: Option<u32>,
    /// Start it with the host, and wait so long before the next one, such as 30s or 2m
    #[arg(long, value_name = "TIME", conflicts_with = "no_autostart")]
    start_delay: Option<String>,
}

impl Life {
    /// The field `restart_policy`; `None` if nothing is asked.
    pub fn restart(&self) -> Option<RestartPolicy> {
        let policy = self.restart.map(|policy| match policy {
            Policy::No => "never".to_owned(),
            Policy::OnFailure => "on_failure".to_owned(),
            Policy::Always => "always".to_owned(),
        });
        let max_attempts = self.restart_attempts;
        (policy.is_some() || max_attempts.is_some()).then(|| RestartPolicy {
            policy,
            max_attempts,
            ..RestartPolicy::default()
        })
    }

    /// The field `autostart`; `None` if nothing is asked.
    pub fn autostart(&self) -> Option<Autostart> {
        let Self { autostart, no_autostart, start_order, start_delay, .. } = self;
        let is_on = *autostart || start_order.is_some() || start_delay.is_some();
        (is_on || *no_autostart).then(|| Autostart {
            enabled: Some(is_on),
            order: *start_order,
            delay: start_delay.clone(),
        })
    }
}

/// When an instance's machine is started again, for people.
pub fn restart(machine: &api::Instance) -> String {
    let Some(policy) = &machine.restart_policy else { return String::new() };
    let word = policy.policy.as_deref().unwrap_or_default().replace('_', "-");
    let status = machine.restart_status.as_ref();
    let attempts = status.map_or(0, |status| status.attempts);
    let attempts = if attempts > 0 { format!(", attempt {attempts}") } else { String::new() };
    let blocked = status.and_then(|status| status.blocked_reason.as_deref());
    let blocked = match blocked {
        Some("max_attempts_exceeded") => ", not tried again",
        Some(_) => ", not tried after a stop",
        None => "",
    };
    format!("{word}{attempts}{blocked}")
}

/// When an instance's machine is started with the host, for people.
pub fn autostart(machine: &api::Instance) -> String {
    let Some(autostart) = &machine.autostart else { return String::new() };
    let order = autostart.order.unwrap_or_default();
    let delay = autostart.delay.as_deref().filter(|delay| *delay != "0s");
    let delay = delay.map(|delay| format!(", then {delay} of waiting")).unwrap_or_default();
    format!("with the host, order {order}{delay}")
}
