//! `handover instance stop`: one, or all in the order in which they were started, reversed.

use api::Instance as Machine;
use api::client::{Client, segment};
use clap::Args;
use model::Refusal;

use super::show;
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output;
use crate::progress::waiting;

/// Stop the machine of an instance; it keeps its devices
#[derive(Debug, Args)]
pub struct Stop {
    /// Name or id of the instance, as `handover instance list` shows it
    #[arg(required_unless_present = "all")]
    instance: Option<String>,
    /// Stop every machine that runs: those of a higher start order first, equal ones at the same time
    #[arg(long, conflicts_with = "instance")]
    all: bool,
}

impl Stop {
    pub fn run(self, connection: &Connection) -> Done {
        if let Some(instance) = self.instance {
            let guest = format!("the guest of {instance} shuts down; if it does not, it is ended");
            let stopped =
                connection.talk(async |client| waiting(&guest, stop(&client, &instance)).await);
            return show(
                connection,
                &stopped.map_err(Failure::to(format!("stop the instance {instance}")))?,
            );
        }
        let what = "stop all instances";
        let machines: Vec<Machine> = connection
            .talk(async |client| client.get("/instances").await)
            .map_err(Failure::to(what))?;
        let mut stopped = Vec::new();
        let mut failed = None;
        for group in groups(machines) {
            let names: Vec<&str> = group.iter().map(|machine| machine.name.as_str()).collect();
            let guests = format!("the guests shut down: {}", names.join(", "));
            let answers = connection
                .talk(async |client| Ok(waiting(&guests, stop_group(client, group)).await));
            for (name, answer) in answers.map_err(Failure::to(what))? {
                match answer {
                    Ok(machine) => {
                        if !connection.json() {
                            output::line(&format!("Stopped the instance {name}."))?;
                        }
                        stopped.push(machine);
                    }
                    Err(refusal) => {
                        output::warning(&format!("{name}: {}", refusal.message));
                        failed = Some(refusal);
                    }
                }
            }
        }
        if connection.json() {
            output::json(&stopped)?;
        } else if stopped.is_empty() && failed.is_none() {
            output::line("No machine runs.")?;
        }
        failed.map_or(Ok(()), |refusal| Err(Failure::to(what)(refusal)))
    }
}

/// Stops one machine.
pub async fn stop(client: &Client, instance: &str) -> Result<Machine, Refusal> {
    client.post(&format!("/instances/{}/stop", segment(instance)), None::<&()>).await
}

/// Stops machines at the same time: each guest takes its time to shut down.
async fn stop_group(
    client: Client,
    group: Vec<Machine>,
) -> Vec<(String, Result<Machine, Refusal>)> {
    let mut all = tokio::task::JoinSet::new();
    for machine in group {
        let client = client.clone();
        all.spawn(async move {
            let answer = stop(&client, &machine.id).await;
            (machine.name, answer)
        });
    }
    all.join_all().await
}

/// The machines that run, those of a higher start order first. Those without an order start last, and so stop first.
fn groups(machines: Vec<Machine>) -> Vec<Vec<Machine>> {
    let order = |machine: &Machine| {
        machine.autostart.as_ref().map_or(u64::MAX, |one| u64::from(one.order.unwrap_or_default()))
    };
    let mut running: Vec<Machine> = machines.into_iter().filter(runs).collect();
    running.sort_by_key(|machine| std::cmp::Reverse(order(machine)));
    let mut groups: Vec<Vec<Machine>> = Vec::new();
    for machine in running {
        match groups.last_mut() {
            Some(group) if group.first().map(order) == Some(order(&machine)) => group.push(machine),
            _ => groups.push(vec![machine]),
        }
    }
    groups
}

/// Whether a machine runs or is about to.
fn runs(machine: &Machine) -> bool {
    let is_planned =
        machine.restart_status.as_ref().is_some_and(|status| status.next_attempt_at.is_some());
    is_planned || matches!(machine.state.as_str(), "Running" | "Paused" | "Initializing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, state: &str, order: Option<u32>) -> Machine {
        let text = serde_json::json!({
            "id": name, "name": name, "image": "i", "state": state, "state_error": null, "vcpus": 1, "size": "1GB",
            "network": {}, "tags": {}, "exit_code": null, "created_at": "", "started_at": null, "stopped_at": null,
            "hypervisor": "qemu", "devices": [], "cmdline": null, "pid": null,
            "autostart": order.map(|order| serde_json::json!({ "order": order })),
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn machines_stop_in_the_reverse_order_of_their_start() {
        let groups = groups(vec![
            machine("first", "Running", Some(0)),
            machine("db", "Running", Some(10)),
            machine("by-hand", "Running", None),
            machine("web", "Running", Some(20)),
            machine("web2", "Paused", Some(20)),
            machine("off", "Stopped", Some(5)),
        ]);
        let names: Vec<Vec<&str>> = groups
            .iter()
            .map(|group| group.iter().map(|machine| machine.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["by-hand"], vec!["web", "web2"], vec!["db"], vec!["first"]]);
    }
}
