//! `handover instance stop`: one, or all in the order in which they were started, reversed.

use api::Instance as Machine;
use api::client::{Client, segment};
use clap::Args;
use model::{Code, Refusal};

use super::show;
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output;
use crate::progress::waiting;

/// Stop the machine of an instance; it keeps its devices
#[derive(Debug, Args)]
pub struct Stop {
    /// Names or ids of instances, as `handover instance list` shows them; several stop at the same time
    #[arg(required_unless_present = "all", value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Stop every machine that runs: those of a higher start order first, equal ones at the same time
    #[arg(long, conflicts_with = "instances")]
    all: bool,
    /// How long a guest may take to shut down before its machine is ended, such as 2m; by default as `handover serve
    /// --shutdown-grace` says, 45s
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// End the machine at once, as if its power was cut
    #[arg(long, conflicts_with = "timeout")]
    force: bool,
}

impl Stop {
    pub fn run(self, connection: &Connection) -> Done {
        let timeout = if self.force { Some("0s".into()) } else { self.timeout };
        let timeout = timeout.as_deref();
        if let [instance] = self.instances.as_slice() {
            let guest = format!("the guest of {instance} shuts down; if it does not, it is ended");
            let stopped = connection
                .talk(async |client| waiting(&guest, stop(&client, instance, timeout)).await);
            return show(
                connection,
                &stopped.map_err(Failure::to(format!("stop the instance {instance}")))?,
            );
        }
        let what = if self.all { "stop all instances" } else { "stop the instances" };
        let machines: Vec<Machine> = connection
            .talk(async |client| client.get("/instances").await)
            .map_err(Failure::to(what))?;
        let groups =
            if self.all { groups(machines) } else { vec![named(machines, &self.instances)?] };
        let mut stopped = Vec::new();
        let mut failed = None;
        for group in groups {
            let names: Vec<&str> = group.iter().map(|machine| machine.name.as_str()).collect();
            let guests = format!("the guests shut down: {}", names.join(", "));
            let answers = connection.talk(async |client| {
                Ok(waiting(&guests, stop_group(client, group, timeout)).await)
            });
            for (name, answer) in answers.map_err(Failure::to(what))? {
                match answer {
                    Ok(machine) => {
                        machine.notes.iter().for_each(|note| output::warning(note));
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

/// The instances of these names or ids.
fn named(machines: Vec<Machine>, keys: &[String]) -> Result<Vec<Machine>, Failure> {
    let is_meant = |machine: &Machine, key: &String| machine.name == *key || machine.id == *key;
    if let Some(key) = keys.iter().find(|key| !machines.iter().any(|one| is_meant(one, key))) {
        let refusal = Refusal::new(
            Code::NotFound,
            format!("there is no instance {key:?}"),
            "`handover instance list` shows the instances",
        );
        return Err(Failure::to(format!("stop the instance {key}"))(refusal));
    }
    let mut machines = machines;
    machines.retain(|machine| keys.iter().any(|key| is_meant(machine, key)));
    Ok(machines)
}

/// Stops one machine.
pub async fn stop(
    client: &Client,
    instance: &str,
    timeout: Option<&str>,
) -> Result<Machine, Refusal> {
    let query = timeout.map(|time| format!("?timeout={}", segment(time))).unwrap_or_default();
    client.post(&format!("/instances/{}/stop{query}", segment(instance)), None::<&()>).await
}

/// Stops machines at the same time: each guest takes its time to shut down.
async fn stop_group(
    client: Client,
    group: Vec<Machine>,
    timeout: Option<&str>,
) -> Vec<(String, Result<Machine, Refusal>)> {
    let mut all = tokio::task::JoinSet::new();
    for machine in group {
        let (client, timeout) = (client.clone(), timeout.map(str::to_owned));
        all.spawn(async move {
            let answer = stop(&client, &machine.id, timeout.as_deref()).await;
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
