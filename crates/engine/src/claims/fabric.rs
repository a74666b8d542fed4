//! Sets of GPUs that NVSwitch isolates: a request gets all GPUs of one set, and the set is activated while they are handed over.

use std::collections::{BTreeMap, BTreeSet};

use model::choose::{Chosen, Scene, Want, choose};
use model::{Address, Claim, Code, FabricSet, FabricSets, Inventory, Kind, Refusal, Step};

use super::Claims;
use crate::refusals;
use crate::store::{OpenOperation, Recorded};

/// The fabric sets of the host, read when they are needed, and the GPUs that the one who asks keeps besides.
pub(super) struct Fabric<'a> {
    claims: &'a Claims,
    kept: BTreeSet<Address>,
    sets: Option<Option<FabricSets>>,
}

impl<'a> Fabric<'a> {
    pub(super) const fn new(claims: &'a Claims, kept: BTreeSet<Address>) -> Self {
        Self { claims, kept, sets: None }
    }

    /// Makes a choice fit the sets: it stays if its GPUs are one, else GPUs of another set are chosen.
    pub(super) fn fit(
        &mut self,
        scene: &Scene<'_>,
        wants: &[Want],
        chosen: Vec<Chosen>,
    ) -> Result<Vec<Chosen>, Refusal> {
        if !chosen.iter().any(|one| is_nvidia_gpu(scene.inventory, one)) {
            return Ok(chosen);
        }
        if self.sets.is_none() {
            self.sets = Some(self.claims.fabric_sets()?);
        }
        let Some(Some(sets)) = &self.sets else { return Ok(chosen) };
        let wanted = self.together(sets, &chosen);
        if wanted.is_empty() {
            return Ok(chosen);
        }
        for set in sets.usable(wanted.len()) {
            if set.gpus == wanted {
                return Ok(chosen);
            }
            if !self.kept.iter().all(|gpu| !sets.has(*gpu) || set.gpus.contains(gpu)) {
                continue;
            }
            let barred = outside(scene.barred, sets, set);
            let Ok(other) = choose(&Scene { barred: &barred, ..*scene }, wants) else { continue };
            if self.together(sets, &other) == set.gpus {
                return Ok(other);
            }
        }
        Err(no_set(sets, &wanted))
    }

    /// The GPUs in sets that the one who asks would have.
    fn together(&self, sets: &FabricSets, chosen: &[Chosen]) -> BTreeSet<Address> {
        let whole = chosen.iter().filter(|one| one.partition.is_none()).map(|one| one.head);
        let all: BTreeSet<Address> = whole.filter(|gpu| sets.has(*gpu)).collect();
        if all.is_empty() {
            return all;
        }
        all.into_iter().chain(self.kept.iter().copied().filter(|gpu| sets.has(*gpu))).collect()
    }
}

impl Claims {
    /// Activates the set of the GPUs of these claims, which one machine has, and returns its number. A set that is active already
    /// is left so.
    pub(crate) fn activate_set<'a>(
        &self,
        operation: &OpenOperation,
        claims: impl IntoIterator<Item = &'a Claim> + Clone,
    ) -> Result<Option<u32>, Refusal> {
        let Some((set, step)) = self.set_of(claims.clone())? else { return Ok(None) };
        let Some(step) = step else { return Ok(Some(set)) };
        // The claim of that GPU undoes it.
        let owner =
            claims.into_iter().find(|claim| step.address().is_some_and(|gpu| claim.holds(gpu)));
        if let Some(owner) = owner {
            self.journal.perform(operation, owner.id, &step)?;
        }
        Ok(Some(set))
    }

    /// The step that activates the set of these claims' GPUs, if there is one to activate.
    pub(crate) fn set_step<'a>(
        &self,
        claims: impl IntoIterator<Item = &'a Claim>,
    ) -> Result<Option<Step>, Refusal> {
        Ok(self.set_of(claims)?.and_then(|(_, step)| step))
    }

    /// The set of these claims' GPUs, and the step that activates it if it is not active.
    fn set_of<'a>(
        &self,
        claims: impl IntoIterator<Item = &'a Claim>,
    ) -> Result<Option<(u32, Option<Step>)>, Refusal> {
        let whole: Vec<Address> = heads(claims).collect();
        if !self.may_be_sets(&whole)? {
            return Ok(None);
        }
        let Some(sets) = self.fabric_sets()? else { return Ok(None) };
        // The last one: of several claims, its is given back first.
        let Some(address) = whole.iter().copied().rfind(|gpu| sets.has(*gpu)) else {
            return Ok(None);
        };
        let gpus: BTreeSet<Address> = whole.into_iter().filter(|gpu| sets.has(*gpu)).collect();
        let Some(set) = sets.of(&gpus) else { return Err(no_set(&sets, &gpus)) };
        if set.is_active || !sets.can_switch {
            return Ok(Some((set.id, None)));
        }
        match sets.in_the_way(set) {
            Some(other) => Err(in_the_way(set, other)),
            None => {
                let step = Step::SetFabricSet { address, set: set.id, from: false, to: true };
                Ok(Some((set.id, Some(step))))
            }
        }
    }

    /// Whether these claims can have GPUs of a set.
    pub(crate) fn may_have_a_set<'a>(
        &self,
        claims: impl IntoIterator<Item = &'a Claim>,
    ) -> Result<bool, Refusal> {
        self.may_be_sets(&heads(claims).collect::<Vec<_>>())
    }

    fn may_be_sets(&self, whole: &[Address]) -> Result<bool, Refusal> {
        if whole.is_empty() {
            return Ok(false);
        }
        let inventory = self.hardware.functions(whole)?;
        Ok(whole.iter().any(|gpu| inventory.function(*gpu).is_some_and(may_be_in_a_set)))
    }

    /// Whether a prepared claim has activated a set.
    pub(crate) fn has_active_set(&self, claim: &Claim) -> Result<bool, Refusal> {
        let boot = &self.journal.boot;
        let recorded = self.store.read(|from| Recorded::of_claim(from, claim.id, None, boot))?;
        Ok(recorded.iter().filter_map(Recorded::step).any(|step| number(step).is_some()))
    }

    /// Refuses to take a GPU from a running machine that keeps others of its set.
    pub(crate) fn expect_alone_in_its_set<'a>(
        &self,
        leaving: &Claim,
        staying: impl IntoIterator<Item = &'a Claim>,
    ) -> Result<(), Refusal> {
        let Some(gpu) = heads([leaving]).next() else { return Ok(()) };
        let others: Vec<Address> = heads(staying).collect();
        let inventory = self.hardware.functions(&[gpu])?;
        if others.is_empty() || !inventory.function(gpu).is_some_and(may_be_in_a_set) {
            return Ok(());
        }
        let sets = self.fabric_sets()?.unwrap_or_default();
        match others.iter().find(|other| sets.has(**other)).filter(|_| sets.has(gpu)) {
            Some(other) => Err(Refusal::new(
                Code::InvalidState,
                format!(
                    "{gpu} and {other} are in one fabric set, which is active while the machine runs"
                ),
                "stop the instance, and detach the GPU then",
            )),
            None => Ok(()),
        }
    }

    fn fabric_sets(&self) -> Result<Option<FabricSets>, Refusal> {
        self.hardware.host.fabric_sets().map_err(|error| refusals::unreadable(&error))
    }
}

/// The number of the set that a step activates.
const fn number(step: &Step) -> Option<u32> {
    match step {
        Step::SetFabricSet { set, to: true, .. } => Some(*set),
        _ => None,
    }
}

/// The whole devices of these claims.
pub(super) fn heads<'a>(
    claims: impl IntoIterator<Item = &'a Claim>,
) -> impl Iterator<Item = Address> {
    let parts = claims.into_iter().flat_map(|claim| &claim.parts);
    parts.filter(|part| part.partition.is_none()).map(|part| part.head)
}

fn may_be_in_a_set(function: &model::Function) -> bool {
    function.vendor == model::Id::NVIDIA && matches!(function.kind(), Kind::Gpu | Kind::Accelerator)
}

fn is_nvidia_gpu(inventory: &Inventory, chosen: &Chosen) -> bool {
    chosen.partition.is_none() && inventory.function(chosen.head).is_some_and(may_be_in_a_set)
}

/// What cannot be chosen, with the GPUs of all other sets.
fn outside(
    barred: &BTreeMap<Address, Refusal>,
    sets: &FabricSets,
    set: &FabricSet,
) -> BTreeMap<Address, Refusal> {
    let mut all = barred.clone();
    let others = sets.sets.iter().flat_map(|other| &other.gpus);
    for gpu in others.filter(|gpu| !set.gpus.contains(gpu)) {
        all.entry(*gpu).or_insert_with(|| {
            Refusal::new(
                Code::InsufficientResources,
                format!("{gpu} is in another fabric set"),
                "request the GPUs of one set",
            )
        });
    }
    all
}

fn listed(gpus: &BTreeSet<Address>) -> String {
    gpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn no_set(sets: &FabricSets, gpus: &BTreeSet<Address>) -> Refusal {
    if let Some(set) = sets.of(gpus)
        && let Some(other) = sets.in_the_way(set)
    {
        return in_the_way(set, other);
    }
    let sizes: Vec<String> = sets.sizes().iter().map(ToString::to_string).collect();
    let same: Vec<String> = sets
        .usable(gpus.len())
        .iter()
        .map(|set| format!("{} ({})", set.id, listed(&set.gpus)))
        .collect();
    let message = format!(
        "{} {} no fabric set: NVSwitch cannot isolate them, and CUDA would not start",
        listed(gpus),
        if gpus.len() == 1 { "is" } else { "are" }
    );
    let remedy = if same.is_empty() {
        format!(
            "request as many GPUs as a set has ({}), or release those of an active set; `fmpm -l` lists the sets",
            sizes.join(", ")
        )
    } else {
        format!("request all GPUs of one set: {}; some of them may be in use", same.join(", "))
    };
    Refusal::new(Code::InsufficientResources, message, remedy)
}

fn in_the_way(set: &FabricSet, other: &FabricSet) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!(
            "fabric set {} cannot be activated: set {} ({}) is active and shares GPUs with it",
            set.id,
            other.id,
            listed(&other.gpus)
        ),
        format!("stop the machine that has these GPUs; if none has them: `fmpm -d {}`", other.id),
    )
}
