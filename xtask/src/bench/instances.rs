//! A list of many instances, by the command that a person types. The machines are simulated and have ended; store, daemon and
//! command are real.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use engine::{CreateInstance, NetworkWish, Silent};
use sim::SimHost;

use super::Figure;
use super::claims::{engine, served};
use super::engine::{Folder, image};

/// How many instances there are.
const INSTANCES: usize = 500;

/// How often they are listed.
const RUNS: usize = 41;

/// Lists many instances repeatedly.
pub fn list(handover: &Path) -> Result<String> {
    let folder = Folder::make()?;
    let sim = Arc::new(SimHost::new(sim::workstation()));
    let own = engine(&folder.0, sim.clone(), &sim, Arc::new(Silent))?;
    image(&own, &folder.0)?;
    for number in 0..INSTANCES {
        own.instances()
            .create(CreateInstance {
                name: format!("machine-{number}"),
                image: Some("image".into()),
                network: NetworkWish::OFF,
                ..CreateInstance::default()
            })
            .map_err(|refusal| anyhow!(refusal))?;
    }
    drop(own);
    let client = served(&folder.0, sim)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ready = async || {
        client.get::<api::Health>("/health").await.is_ok_and(|h| h.status == api::HealthStatus::Ok)
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !runtime.block_on(ready()) {
        ensure!(Instant::now() < until, "the daemon does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    let url = format!("unix://{}", folder.0.join("socket").display());
    let run = |arguments: &[&str]| -> Result<(Duration, usize)> {
        let began = Instant::now();
        let output = Command::new(handover)
            .args(arguments)
            .env("HANDOVER_URL", &url)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start handover")?;
        ensure!(output.status.success(), "{arguments:?} failed");
        Ok((began.elapsed(), output.stdout.iter().filter(|byte| **byte == b'\n').count()))
    };
    let (mut times, mut starts, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (time, lines) = run(&["instance", "list"])?;
        ensure!(lines > INSTANCES, "only {lines} lines");
        times.push(time);
        starts.push(run(&["--version"])?.0);
        let began = Instant::now();
        runtime.block_on(client.get::<serde_json::Value>("/instances"))?;
        answers.push(began.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times.get(RUNS / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let limit = format!(
        "starting the same program takes {:.1} ms; the daemon's answer {:.1} ms",
        median(&mut starts),
        median(&mut answers)
    );
    let what = format!("a list of {INSTANCES} instances");
    Ok(Figure { what, goal: "under 30 ms", limit, times }.line())
}
