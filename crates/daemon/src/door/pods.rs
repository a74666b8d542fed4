//! Pods of KubeVirt's virtual machines, with this host's devices; nothing is claimed for them.

use std::collections::BTreeMap;

use api::{CreatePods, Pods, Wish};
use convert::devices::{Devices, Scene, Wanted, Way, asked, choose, limit, wanted};
use convert::input::{self, Input, Kind};
use convert::pod::{self, Settings};
use convert::print::{self, Format};
use convert::{Instance, Presets};
use engine::Engine;
use model::choose::Want;
use model::{Address, Code, Examining, Mistakes, Refusal};
use uuid::Uuid;

/// Converts virtual machines.
///
/// # Errors
/// What is wrong with them, or missing on the host.
pub fn pods(engine: &Engine, host: &dyn Examining, body: &CreatePods) -> Result<Pods, Refusal> {
    let read = |name: &str, text: &str| input::read(name, text, body.strict).map_err(wrong);
    let Input { documents, mut notes } = read("machines", &body.machines)?;
    let mut presets = Presets::default();
    if let Some(text) = &body.presets {
        let given = read("presets", text)?;
        notes.extend(given.notes);
        presets.given = given.documents;
    }
    let machine = |kind| matches!(kind, Kind::Machine | Kind::Instance);
    let (machines, beside) = documents.into_iter().partition(|one| machine(one.kind));
    presets.beside = beside;
    let machines: Vec<input::Document> = machines;
    if machines.is_empty() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "there is no virtual machine in `machines`",
            "give a VirtualMachine or a VirtualMachineInstance of kubevirt.io/v1",
        ));
    }
    let instance = |document| Instance::of(document, &presets);
    let mut instances = machines.iter().map(instance).collect::<Result<Vec<_>, _>>()?;
    let named = named(body)?;
    let all: Vec<Vec<Wanted>> = instances.iter().map(wanted).collect();
    let wanted: Vec<&[Wanted]> = all.iter().map(Vec::as_slice).collect();
    let inventory = engine.inventory()?;
    let (held, held_mdevs) = held(engine, &instances)?;
    let (held, held_mdevs) = (&held, &held_mdevs);
    let scene = Scene { inventory: &inventory, held, held_mdevs, present: &[], named: &named };
    let (way, mut chosen) = choose(&wanted, &scene, way(body)?);
    limit_memory(host, body, way, instances.iter().zip(wanted), &mut chosen)?;
    if !all.iter().all(Vec::is_empty) {
        notes.push(way.sentence().to_owned());
    }
    let settings = Settings { passt: !body.no_passt, ..settings(body) };
    let (mut objects, mut explanation) = (Vec::new(), String::new());
    for (instance, mut devices) in instances.iter_mut().zip(chosen) {
        let missing = std::mem::take(&mut devices.missing);
        match missing.into_iter().next() {
            Some(refusal) if !body.allow_missing => return Err(refusal),
            Some(refusal) => notes.push(refusal.message),
            None => {}
        }
        objects.extend(pod::objects(instance, &settings, &devices));
        explanation.push_str(&convert::explain(instance, &settings, &devices));
        notes.extend(instance.notes.iter().chain(&devices.notes).cloned());
    }
    Ok(Pods { pods: print::documents(&objects, Format::Yaml), explanation, notes })
}

/// Limits the memory of GPUs where that is asked for, which only this host can tell whether it does.
fn limit_memory<'a>(
    host: &dyn Examining,
    body: &CreatePods,
    way: Way,
    machines: impl Iterator<Item = (&'a Instance, &'a [Wanted])> + Clone,
    chosen: &mut [Devices],
) -> Result<(), Refusal> {
    let said = body.gpu_memory_limit.as_deref().map(str::parse).transpose()?;
    let limits = asked(machines.clone(), said)?;
    if limits.iter().all(Option::is_none) {
        return Ok(());
    }
    let platform = host.platform();
    for ((asked, (_, wanted)), devices) in limits.into_iter().zip(machines).zip(chosen) {
        if let Some(asked) = asked {
            limit(devices, wanted, asked, way, &platform)?;
        }
    }
    Ok(())
}

fn wrong(mistakes: Mistakes) -> Refusal {
    let remedy = "write what is said; docs/kubevirt.md has what is read";
    Refusal::new(Code::InvalidRequest, mistakes.to_string(), remedy)
}

fn settings(body: &CreatePods) -> Settings {
    let plain = Settings::default();
    let launcher_image = body.launcher_image.clone().unwrap_or(plain.launcher_image);
    Settings { launcher_image, ..Settings::default() }
}

fn way(body: &CreatePods) -> Result<Option<Way>, Refusal> {
    match body.devices.as_deref() {
        None | Some("auto") => Ok(None),
        Some("nodes") => Ok(Some(Way::Nodes)),
        Some("vfio") => Ok(Some(Way::Vfio)),
        Some(other) => Err(Refusal::new(
            Code::InvalidRequest,
            format!("{other:?} is no way to give devices"),
            "write auto, nodes or vfio",
        )),
    }
}

fn named(body: &CreatePods) -> Result<BTreeMap<String, Want>, Refusal> {
    let want = |wish: &Wish| match wish {
        Wish::Words(text) => text.parse::<Want>(),
        Wish::Spelt(want) => Ok(want.clone()),
    };
    body.resources.iter().map(|(name, wish)| Ok((name.clone(), want(wish)?))).collect()
}

/// Functions and mediated devices that somebody has, and who.
type Held = (BTreeMap<Address, String>, BTreeMap<Uuid, String>);

/// What others have claimed.
fn held(engine: &Engine, instances: &[Instance]) -> Result<Held, Refusal> {
    let own = |one: &Instance| format!("pod/{}/{}", one.namespace(), one.name());
    let own: Vec<String> = instances.iter().map(own).collect();
    let (mut held, mut mdevs) = Held::default();
    for claim in engine.claims()? {
        let owner = claim.owner.to_string();
        if own.contains(&owner) {
            continue;
        }
        let who = || format!("the claim of {owner}");
        held.extend(claim.taken().map(|address| (address, who())));
        let partitions = claim.parts.iter().filter_map(|part| part.partition.as_ref());
        mdevs.extend(partitions.filter_map(|part| Some((part.mdev()?, who()))));
    }
    Ok((held, mdevs))
}
