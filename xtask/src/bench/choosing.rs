//! The time for choosing a set of devices by their distances.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use model::Inventory;
use model::choose::{Options, Scene, Want, choose};
use sim::servers;
use uuid::Uuid;

use super::Figure;

/// How often each request is made.
const ROUNDS: usize = 201;

/// Chooses sets on servers with 16, 128 and 512 devices.
pub fn sets() -> Result<String> {
    let mut lines = Vec::new();
    for (devices, wants, goal) in [
        (16, vec!["4xgpu"], "0.1 ms"),
        (16, vec!["4xgpu", "4xnic"], "0.1 ms"),
        (128, vec!["8xgpu"], "1 ms"),
        (512, vec!["8xgpu"], "1 ms"),
        (512, vec!["2xgpu", "2xnic"], "1 ms"),
    ] {
        let inventory = servers::rows(devices);
        let what = format!("{} of {devices} devices", wants.join(" and "));
        lines.push(figure(&inventory, &wants, what, goal)?.line());
    }
    Ok(lines.join("\n"))
}

fn figure(
    inventory: &Inventory,
    wants: &[&str],
    what: String,
    goal: &'static str,
) -> Result<Figure> {
    let wants: Vec<Want> =
        wants.iter().map(|want| want.parse()).collect::<Result<_, _>>().context("a request")?;
    let scene = Scene {
        inventory,
        claims: &[],
        barred: &BTreeMap::new(),
        definitions: &[],
        resources: &BTreeMap::new(),
        names: &BTreeMap::new(),
        id: Uuid::nil(),
        options: Options::default(),
    };
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let chosen = choose(&scene, &wants).context("a choice")?;
        times.push(begun.elapsed());
        anyhow::ensure!(!chosen.is_empty(), "nothing was chosen");
    }
    let limit = format!(
        "finding the assemblies of {} functions is a part of it",
        inventory.functions.len()
    );
    Ok(Figure { what: format!("choosing {what}"), goal, limit, times })
}
