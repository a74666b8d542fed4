//! The plan of a dry run, in words.

use std::collections::BTreeSet;

use model::plan::Plan;
use model::{Address, Claim, Mechanism, Part, PowerControl, Step};
use uuid::Uuid;

/// The steps in sequential order.
pub fn steps(plan: &Plan) -> Vec<String> {
    let mut awake: BTreeSet<Address> = BTreeSet::new();
    let mut steps = Vec::new();
    for step in plan.steps() {
        let Step::SetPower { address, from, to } = step else {
            steps.push(step.describe());
            continue;
        };
        if !awake.insert(*address) {
            steps.push(format!("{} again: vfio-pci changes it when it binds", step.describe()));
        } else if from != to || *to != PowerControl::On {
            steps.push(step.describe());
        }
    }
    steps
}

/// The UUID of a part's mediated device that is made for this claim, from its id: not one that the request names.
pub fn new_uuid(claim: &Claim, part: &Part) -> Option<Uuid> {
    match part.partition.as_ref().map(|partition| &partition.how) {
        Some(Mechanism::Mdev { uuid, existing: false, .. }) => {
            let made = (uuid.as_u128() ^ claim.id.as_u128()) >> 16 == 0;
            Some(*uuid).filter(|_| made)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_control_is_not_told_twice_in_the_same_words() {
        let address: Address = "0000:01:00.0".parse().unwrap();
        let power = |from| Step::SetPower { address, from, to: PowerControl::On };
        let bind = Step::Bind { address, driver: "vfio-pci".into() };
        let plan = |from| Plan {
            parts: vec![vec![power(from), bind.clone(), power(from)]],
            ..Plan::default()
        };
        let again =
            "set power control of 0000:01:00.0 to on again: vfio-pci changes it when it binds";
        assert_eq!(
            steps(&plan(PowerControl::Auto)),
            ["set power control of 0000:01:00.0 to on", "bind 0000:01:00.0 to vfio-pci", again]
        );
        // It is on already.
        assert_eq!(steps(&plan(PowerControl::On)), ["bind 0000:01:00.0 to vfio-pci", again]);
    }
}
