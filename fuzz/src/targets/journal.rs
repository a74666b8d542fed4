//! The JSON in the journal: steps and claims. A backup may come from another host or version.

use model::{Claim, Step};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "journal",
    reads: "steps and claims of the journal",
    read,
    words: &[
        "{\"step\":\"bind\"",
        "{\"step\":\"unbind\"",
        "{\"step\":\"set_vf_count\"",
        "{\"step\":\"create_mdev\"",
        "{\"step\":\"reset\"",
        "\"address\":\"0000:01:00.0\"",
        "\"driver\":",
        "null",
        "\"from\":",
        "\"to\":",
        "65535",
        "true",
        "false",
    ],
    longest: 1 << 16,
};

fn read(bytes: &[u8]) -> Kind {
    if let Ok(step) = serde_json::from_slice::<Step>(bytes) {
        return of_step(&step);
    }
    match serde_json::from_slice::<Claim>(bytes) {
        Ok(claim) => {
            let text = serde_json::to_vec(&claim).unwrap_or_default();
            assert_eq!(serde_json::from_slice(&text).ok().as_ref(), Some(&claim));
            assert!(claim.taken().all(|address| claim.covers(address) && claim.holds(address)));
            assert!(
                claim
                    .parts
                    .iter()
                    .all(|part| part.taken().next().is_none() || claim.conflict(part).is_some())
            );
            let attachment = model::Attachment::of(&claim);
            Kind::of(format!("{attachment:?}")).and(claim.parts.len())
        }
        Err(error) => Kind::of(error),
    }
}

/// A step is the same after its JSON is read, and the inverse of its inverse changes the same.
fn of_step(step: &Step) -> Kind {
    let text = serde_json::to_vec(step).unwrap_or_default();
    assert_eq!(serde_json::from_slice(&text).ok().as_ref(), Some(step));
    assert!(step.address().is_none() || step.changes_the_same(step));
    assert!(!step.describe().is_empty());
    let _ =
        (step.facts(), step.lock(), step.locks_besides(), step.changes_nothing(), step.deadline());
    let inverse = step.inverse();
    if let Some(inverse) = &inverse {
        assert!(!inverse.describe().is_empty());
        assert_eq!(inverse.address().is_some(), step.address().is_some(), "{step:?}");
    }
    Kind::of(format!("{:?} {}", step.kind(), inverse.is_some()))
}
