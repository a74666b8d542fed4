//! Converts virtual machines with this host's devices, without claiming them.

use std::collections::BTreeMap;

use api::{Claim, CreatePods, Pods};
use convert::devices::Way;
use convert::input::{self, Input};
use convert::pod::Settings;
use convert::print::{self, Format};
use engine::Engine;
use model::choose::Want;
use model::{Code, Mistakes, Refusal, Scan};

use super::known_host::{KnownHost, choose};
use super::machine::machines;
use super::memory::limit;
use crate::claims::{self, want};

/// Converts virtual machines.
///
/// # Errors
/// What is wrong with the machines, or missing on the host.
pub fn pods(engine: &Engine, host: &dyn Scan, body: &CreatePods) -> Result<Pods, Refusal> {
    let read = |name: &str, text: &str| input::read(name, text, body.strict).map_err(wrong);
    let Input { documents, mut notes } = read("machines", &body.machines)?;
    let mut given = Vec::new();
    if let Some(text) = &body.presets {
        let presets = read("presets", text)?;
        notes.extend(presets.notes);
        given = presets.documents;
    }
    let mut machines = machines(documents, given, "`machines`")?;
    let named = named(body)?;
    let mut known = KnownHost::new(engine.inventory()?, named);
    let all: Vec<Claim> = engine
        .claims()
        .all()?
        .iter()
        .map(|claim| claims::render(claim, &known.inventory))
        .collect();
    known.add_claims(&all, &machines);
    let way = choose(&mut machines, &known, way(body)?);
    let said = body.gpu_memory_limit.as_deref().map(str::parse).transpose()?;
    limit(&mut machines, said, way, || Ok(host.platform()))?;
    if !machines.iter().all(|machine| machine.wanted.is_empty()) {
        notes.push(way.sentence().to_owned());
    }
    let settings = settings(body);
    let (mut objects, mut explanation) = (Vec::new(), String::new());
    for machine in &mut machines {
        let missing = std::mem::take(&mut machine.devices.missing);
        match missing.into_iter().next() {
            Some(refusal) if !body.allow_missing => return Err(refusal),
            Some(refusal) => notes.push(refusal.message),
            None => {}
        }
        objects.extend(machine.objects(&settings));
        explanation.push_str(&machine.explain(&settings));
        notes.extend(machine.notes().cloned());
    }
    Ok(Pods { pods: print::documents(&objects, Format::Yaml), explanation, notes })
}

fn wrong(mistakes: Mistakes) -> Refusal {
    let remedy = "correct these mistakes; docs/kubevirt.md describes the input";
    Refusal::new(Code::InvalidRequest, mistakes.to_string(), remedy)
}

fn settings(body: &CreatePods) -> Settings {
    let plain = Settings::default();
    let launcher_image = body.launcher_image.clone().unwrap_or(plain.launcher_image.clone());
    Settings { launcher_image, passt: !body.no_passt, ..plain }
}

fn way(body: &CreatePods) -> Result<Option<Way>, Refusal> {
    match body.devices.as_deref() {
        None | Some("auto") => Ok(None),
        Some("nodes") => Ok(Some(Way::Nodes)),
        Some("vfio") => Ok(Some(Way::Vfio)),
        Some(other) => Err(Refusal::new(
            Code::InvalidRequest,
            format!("unknown value of `devices`: {other:?}"),
            "use auto, nodes or vfio",
        )),
    }
}

fn named(body: &CreatePods) -> Result<BTreeMap<String, Want>, Refusal> {
    body.resources.iter().map(|(name, wish)| Ok((name.clone(), want(wish.clone())?))).collect()
}
