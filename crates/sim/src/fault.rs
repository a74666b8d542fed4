//! Injected faults.

use std::collections::BTreeMap;

use model::{Address, Step};

use crate::kernel::{EIO, Errno, errors};
use crate::split_mix::scramble;

/// A fault of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel refuses with EIO; nothing changes.
    Refuse,
    /// The kernel refuses with an error of this kind of step, selected by this number; nothing changes.
    Error(u64),
    /// The worker blocks in the kernel with its lock held until `SimHost::release`, which completes the step.
    Hang,
    /// The function disappears from the bus.
    Lose,
    /// The step takes effect, but an error is reported.
    DoneAfterAll,
    /// The kernel reports success, but nothing happened. The following check detects it.
    Ignored,
    /// This many virtual functions fewer than requested appear. Other steps are refused.
    Fewer(u16),
    /// The function does not respond after its reset. Other steps are refused.
    NeverBack,
    /// The function's link is slower after its reset. Other steps are refused.
    SlowerLink,
}

/// The step that a fault hits, once.
pub enum When {
    /// The n-th step performed from now on, counted from 0.
    Nth(u64),
    /// The first step for which this is true.
    Step(Box<dyn Fn(&Step) -> bool + Send>),
}

/// Pending faults.
#[derive(Default)]
pub(crate) struct Faults {
    set: Vec<(When, Fault)>,
    chance: Option<Chance>,
}

/// Random faults.
struct Chance {
    seed: u64,
    per_mille: u64,
    of: Vec<Fault>,
    /// How often each kind of step was performed with each function, so that faults do not depend on concurrent steps
    /// with other functions.
    turns: BTreeMap<(String, Option<Address>), u64>,
}

impl Faults {
    pub(crate) fn add(&mut self, when: When, fault: Fault) {
        self.set.push((when, fault));
    }

    pub(crate) fn dice(&mut self, seed: u64, per_mille: u16, of: &[Fault]) {
        let (per_mille, of) = (per_mille.into(), of.to_vec());
        self.chance = Some(Chance { seed, per_mille, of, turns: BTreeMap::new() });
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Counts a step, and removes and returns the fault that hits it.
    pub(crate) fn hit(&mut self, step: &Step) -> Option<Fault> {
        let hit = self.set.iter().position(|(when, _)| match when {
            When::Nth(left) => *left == 0,
            When::Step(matches) => matches(step),
        });
        for (when, _) in &mut self.set {
            if let When::Nth(left) = when {
                *left = left.saturating_sub(1);
            }
        }
        let chance = self.chance.as_mut().and_then(|chance| chance.hit(step));
        hit.map(|index| self.set.remove(index).1).or(chance)
    }
}

impl Chance {
    fn hit(&mut self, step: &Step) -> Option<Fault> {
        let kind = format!("{step:?}").split(' ').next().unwrap_or_default().to_owned();
        let bytes =
            kind.bytes().chain(step.address().into_iter().flat_map(|a| a.to_string().into_bytes()));
        let named = bytes.fold(self.seed, |sum, byte| scramble(sum, byte.into()));
        let turn = self.turns.entry((kind, step.address())).or_default();
        *turn += 1;
        let thrown = scramble(named, *turn);
        if thrown % 1000 >= self.per_mille {
            return None;
        }
        let fitting: Vec<Fault> =
            self.of.iter().copied().filter(|fault| fault.fits(step)).collect();
        let picked = scramble(thrown, 1);
        Some(match pick(&fitting, picked)? {
            Fault::Error(_) => Fault::Error(picked >> 8),
            Fault::Fewer(_) => Fault::Fewer(if picked & 0x100 == 0 { 1 } else { 3 }),
            other => other,
        })
    }
}

impl Fault {
    /// Every kind of fault.
    pub const ALL: [Self; 9] = [
        Self::Refuse,
        Self::Error(0),
        Self::Hang,
        Self::Lose,
        Self::DoneAfterAll,
        Self::Ignored,
        Self::Fewer(1),
        Self::NeverBack,
        Self::SlowerLink,
    ];

    /// Whether it can hit this step.
    #[must_use]
    pub const fn fits(self, step: &Step) -> bool {
        match self {
            Self::Refuse | Self::Error(_) | Self::Hang | Self::DoneAfterAll | Self::Ignored => true,
            // A file does not disappear with its device.
            Self::Lose => step.address().is_some() && !step.outlasts_the_boot(),
            Self::Fewer(_) => matches!(step, Step::SetVfCount { .. }),
            Self::NeverBack | Self::SlowerLink => matches!(step, Step::Reset { .. }),
        }
    }
}

fn pick<T: Copy>(from: &[T], number: u64) -> Option<T> {
    let length = u64::try_from(from.len()).ok().filter(|length| *length > 0)?;
    usize::try_from(number % length).ok().and_then(|index| from.get(index).copied())
}

/// Selects an error of a kind of step.
pub(crate) fn error(step: &Step, number: u64) -> Errno {
    pick(errors(step), number).unwrap_or(EIO)
}
