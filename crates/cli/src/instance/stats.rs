//! `handover instance stats`.

use std::time::Duration;

use api::client::{Client, segment};
use api::{Instance as Machine, InstanceStats};
use clap::Args;
use jiff::Timestamp;
use model::shown::bytes;
use model::{Code, Refusal};

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::listing;

/// The time over which the use of processors is measured.
const SPAN: Duration = Duration::from_secs(1);

/// Show what instances use: processors, memory, disks
#[derive(Debug, Args)]
pub struct Stats {
    /// Names or ids of instances, as `handover instance list` shows them; by default, all that run
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
}

impl Stats {
    pub fn run(self, connection: &Connection) -> Done {
        // Programs compute the use of processors from two answers.
        let twice = !connection.json();
        let pairs = connection.talk(async |client| {
            let before = self.measure(&client).await?;
            if !twice || before.is_empty() {
                return Ok(before.into_iter().map(|one| (one.clone(), one)).collect());
            }
            tokio::time::sleep(SPAN).await;
            let after = self.measure(&client).await?;
            Ok(pairs(before, after))
        });
        let pairs: Vec<(InstanceStats, InstanceStats)> =
            pairs.map_err(Failure::to("show what instances use"))?;
        let (before, after): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let none = "no machine runs; `handover instance list` lists the instances";
        let headings =
            ["NAME", "CPU", "MEMORY", "DISK READ", "DISK WRITTEN", "NET RECEIVED", "NET SENT"];
        listing::print(connection.json(), &after, none, headings, |stats| {
            let earlier = before.iter().find(|one| one.instance_id == stats.instance_id);
            row(earlier, stats)
        })
    }

    /// Asks for the use of the instances that are meant.
    async fn measure(&self, client: &Client) -> Result<Vec<InstanceStats>, Refusal> {
        let all = self.instances.is_empty();
        let keys = if all { running(client).await? } else { self.instances.clone() };
        let mut answers = Vec::new();
        for key in keys {
            match client.get(&format!("/instances/{}/stats", segment(&key))).await {
                Ok(stats) => answers.push(stats),
                // Deleted since it was listed.
                Err(refusal) if all && refusal.code == Code::NotFound => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(answers)
    }
}

/// The ids of the instances that run.
async fn running(client: &Client) -> Result<Vec<String>, Refusal> {
    let machines: Vec<Machine> = client.get("/instances").await?;
    let runs = |machine: &Machine| matches!(machine.state.as_str(), "Running" | "Paused");
    Ok(machines.into_iter().filter(runs).map(|machine| machine.id).collect())
}

/// The two answers of each instance that has both.
fn pairs(
    before: Vec<InstanceStats>,
    after: Vec<InstanceStats>,
) -> Vec<(InstanceStats, InstanceStats)> {
    let pair = |now: InstanceStats| {
        let earlier = before.iter().find(|one| one.instance_id == now.instance_id)?;
        Some((earlier.clone(), now))
    };
    after.into_iter().filter_map(pair).collect()
}

fn row(before: Option<&InstanceStats>, stats: &InstanceStats) -> [String; 7] {
    let shown = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), bytes);
    let network = |count: u64| shown(stats.network_measured.then_some(count));
    [
        stats.instance_name.clone(),
        before.and_then(|before| cpu(before, stats)).unwrap_or_else(|| "-".to_owned()),
        format!("{} of {}", bytes(stats.memory_rss_bytes), bytes(stats.allocated_memory_bytes)),
        shown(stats.disk_read_bytes),
        shown(stats.disk_written_bytes),
        network(stats.network_rx_bytes),
        network(stats.network_tx_bytes),
    ]
}

/// The use of processors between two answers: 100% is one processor. `None` if the machine was started again meanwhile.
fn cpu(before: &InstanceStats, after: &InstanceStats) -> Option<String> {
    let [from, to] = [before, after].map(|one| one.measured_at.parse::<Timestamp>());
    let span = to.ok()?.duration_since(from.ok()?).as_secs_f64();
    let used = after.cpu_seconds - before.cpu_seconds;
    (span > 0.0 && used >= 0.0).then(|| format!("{:.1}%", 100.0 * used / span))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(at: &str, cpu_seconds: f64) -> InstanceStats {
        InstanceStats {
            instance_id: "1".into(),
            instance_name: "vm".into(),
            measured_at: format!("2026-11-30T01:00:{at}Z"),
            allocated_vcpus: 2,
            allocated_memory_bytes: 4 << 30,
            cpu_seconds,
            memory_rss_bytes: 1 << 30,
            memory_vms_bytes: 5 << 30,
            memory_utilization_ratio: Some(0.25),
            disk_read_bytes: Some(3 << 20),
            disk_written_bytes: Some(0),
            network_rx_bytes: 0,
            network_tx_bytes: 0,
            network_measured: false,
        }
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let (before, after) = (stats("00", 10.0), stats("02", 13.0));
        let expected = ["vm", "150.0%", "1 GB of 4 GB", "3 MB", "0 B", "-", "-"];
        assert_eq!(row(Some(&before), &after), expected);
        let unknown = InstanceStats { disk_read_bytes: None, network_measured: true, ..after };
        let expected = ["vm", "-", "1 GB of 4 GB", "-", "0 B", "0 B", "0 B"];
        assert_eq!(row(None, &unknown), expected);
    }

    #[test]
    fn a_machine_that_was_started_again_has_no_rate() {
        assert_eq!(cpu(&stats("00", 10.0), &stats("01", 0.5)), None);
        assert_eq!(cpu(&stats("00", 10.0), &stats("00", 10.0)), None);
        assert_eq!(cpu(&stats("x", 10.0), &stats("01", 11.0)), None);
    }

    #[test]
    fn only_instances_with_two_answers_are_shown() {
        let other = InstanceStats { instance_id: "2".into(), ..stats("01", 1.0) };
        let shown = pairs(vec![stats("00", 0.0)], vec![stats("01", 1.0), other]);
        assert_eq!(shown.len(), 1);
    }
}
