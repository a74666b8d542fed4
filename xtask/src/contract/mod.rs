//! The contract of a `Host`, simulated or real: the same checks run on `sim` in tests and on a kernel in the lab.
//!
//! They hand over and return one function step by step, check the host before and after each step, and restore the
//! original state.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use model::{
    Address, AsFound, Assembly, Checked, ClaimedMember, Host, HostError, Inventory, Lock, Mark,
    NodeAccess, Observed, Part, Step, plan, restoring,
};
use uuid::Uuid;

mod parts;

pub use parts::{mdevs, vfs, vgpus};

/// A user that does not exist.
const STRANGER: u32 = 1_900_000_999;

/// Runs the whole contract on the assembly of `head`, which must be free and on a native driver.
pub fn check(host: &dyn Host, head: Address) -> Result<()> {
    let inventory = host.inventory()?;
    let part = claimed(host, &inventory, head)?;
    let found: Vec<_> = part.members.iter().filter_map(|m| m.as_found.clone()).collect();
    absent_functions_are_absent(host, &inventory)?;
    let steps = planned(&inventory, &part, &found);
    foreign_values_are_not_overwritten(host, head)?;
    for step in &steps {
        perform(host, step)?;
    }
    prepared(host, &inventory, &part)?;
    marks_are_kept(host, &part)?;
    for address in part.taken() {
        let link = found.iter().find(|one| one.address == address).and_then(|one| one.link);
        ensure!(host.check(address, link)? == Checked::Well, "{address} does not answer well");
    }
    for step in restoring(&steps) {
        perform(host, &step)?;
    }
    let addresses: Vec<_> = found.iter().map(|found| found.address).collect();
    ensure!(host.marks(&addresses)?.is_empty(), "a mark is left");
    let back = host.as_found(&addresses)?;
    ensure!(back == found, "the host is not as it was found: {found:?} is now {back:?}");
    ensure!(host.inventory()? == inventory, "the inventory changed: bindings, groups or nodes");
    Ok(())
}

/// The mark of a claim for the contract.
fn mark(claim: u128) -> Mark {
    let state_dir = "/nowhere".into();
    Mark { store: Uuid::from_u128(1), claim: Uuid::from_u128(claim), state_dir }
}

/// The steps for a part with this original state.
fn planned(inventory: &Inventory, part: &Part, found: &[AsFound]) -> Vec<Step> {
    let mark = mark(1);
    let given = plan::Given {
        inventory,
        found,
        mark: &mark,
        nodes: &BTreeMap::<u32, NodeAccess>::new(),
        vf_settings: &BTreeMap::new(),
        definitions: &[],
        uid: STRANGER,
        group_nodes: true,
        device_nodes: false,
        reset: false,
    };
    plan::prepare(&given, std::slice::from_ref(part)).steps().cloned().collect()
}

/// The assembly's original state.
fn claimed(host: &dyn Host, inventory: &Inventory, head: Address) -> Result<Part> {
    let assembly = Assembly::of(inventory, head).context("no such function")?;
    let obstacles = assembly.obstacles(inventory);
    ensure!(obstacles.is_empty(), "it cannot be handed over: {obstacles:?}");
    let holders = host.holders(&assembly.taken().map(|m| m.address).collect::<Vec<_>>())?;
    ensure!(holders.is_empty(), "it is in use: {holders:?}");
    let mut members = Vec::new();
    for member in &assembly.members {
        let found = host.as_found(&[member.address])?;
        let found = found.into_iter().next().context("as_found says nothing of it")?;
        members.push(ClaimedMember {
            address: member.address,
            role: member.role,
            fingerprint: found.fingerprint.clone(),
            as_found: Some(found),
        });
    }
    Ok(Part { head, partition: None, members, at_boot: false })
}

/// Performs one step, checks the host before and after it, and checks that it is idempotent.
fn perform(host: &dyn Host, step: &Step) -> Result<()> {
    let words = step.describe();
    match host.observe(step)? {
        Observed::Before | Observed::After => {}
        other => bail!("before \"{words}\" the host shows {other:?}"),
    }
    host.perform(step).with_context(|| words.clone())?;
    ensure!(host.observe(step)? == Observed::After, "\"{words}\" has no effect");
    host.perform(step).with_context(|| format!("\"{words}\" a second time"))?;
    ensure!(host.observe(step)? == Observed::After, "\"{words}\" a second time undoes it");
    ensure!(!host.is_locked(&step.lock())?, "\"{words}\" leaves its lock held");
    Ok(())
}

fn prepared(host: &dyn Host, before: &Inventory, part: &Part) -> Result<()> {
    let now = host.inventory()?;
    for address in part.taken() {
        let function = now.function(address).context("it vanished")?;
        ensure!(function.on_vfio(), "{address} is on {:?}", function.driver);
        let group = function.iommu_group.context("it has no group")?;
        let nodes = host.group_nodes(&[group])?;
        let node = nodes.get(&group).context("its group has no node")?;
        ensure!(node.uid == STRANGER && node.mode == 0o600, "the node is {node:?}");
    }
    ensure!(now.functions.len() == before.functions.len(), "functions came or went");
    Ok(())
}

/// A step whose old value differs from the host's is refused, and changes nothing.
fn foreign_values_are_not_overwritten(host: &dyn Host, address: Address) -> Result<()> {
    let before = host.as_found(&[address])?;
    let foreign = [
        Step::SetOverride { address, from: Some("somebody".into()), to: Some("vfio-pci".into()) },
        Step::Unbind { address, driver: "no-such-driver".into() },
        Step::Bind { address, driver: "vfio-pci".into() },
    ];
    for step in foreign {
        let words = step.describe();
        ensure!(
            matches!(host.observe(&step)?, Observed::Other(_)),
            "\"{words}\" is not distinguished from another tool's change"
        );
        ensure!(host.perform(&step).is_err(), "\"{words}\" overwrites another tool's change");
    }
    ensure!(host.as_found(&[address])? == before, "a refused step changed something");
    Ok(())
}

/// Taken functions have the claim's mark, and another claim can neither replace nor remove it.
fn marks_are_kept(host: &dyn Host, part: &Part) -> Result<()> {
    let taken: Vec<Address> = part.taken().collect();
    let marks: BTreeMap<Address, Mark> = taken.iter().map(|one| (*one, mark(1))).collect();
    ensure!(host.marks(&taken)? == marks, "the marks are {:?}", host.marks(&taken)?);
    for address in taken {
        for step in [Step::Mark { address, mark: mark(2) }, Step::Unmark { address, mark: mark(2) }]
        {
            let words = step.describe();
            ensure!(
                matches!(host.observe(&step)?, Observed::Other(_)),
                "\"{words}\" does not see another claim's mark"
            );
            ensure!(host.perform(&step).is_err(), "\"{words}\" replaces another claim's mark");
        }
    }
    ensure!(
        host.marks(&part.taken().collect::<Vec<_>>())? == marks,
        "a refused step changed a mark"
    );
    Ok(())
}

/// An absent function is reported as such by every operation.
fn absent_functions_are_absent(host: &dyn Host, inventory: &Inventory) -> Result<()> {
    let absent = (0..=u8::MAX)
        .rev()
        .filter_map(|bus| Address::new(0, bus, 0x1f, 7))
        .find(|address| inventory.function(*address).is_none())
        .context("every address is taken")?;
    let step = Step::Unbind { address: absent, driver: "nvme".into() };
    ensure!(host.observe(&step)? == Observed::Absent, "an absent function is not Absent");
    let gone = HostError::Gone { address: absent };
    ensure!(host.perform(&step).err() == Some(gone.clone()), "a step on an absent function");
    ensure!(host.as_found(&[absent]).err() == Some(gone), "as_found of an absent function");
    ensure!(!host.is_locked(&Lock::Function(absent))?, "an absent function is locked");
    Ok(())
}
