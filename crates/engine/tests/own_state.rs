//! What a store says of the host's devices, read beside the engine that has it open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{ClaimRequest, ClaimStep, own_state};
use model::{Assembly, Code, Host, Share};
use support::Rig;

#[test]
fn claims_are_read_beside_the_engine_and_after_it() {
    let rig = Rig::new();
    let dir = rig.config().state_dir;
    assert_eq!(own_state(&dir).unwrap(), model::OwnState::default(), "no store yet");
    let engine = rig.open();
    let claim = |owner: &str, what: &str, step| {
        let owner = format!("job/{owner}").parse().unwrap();
        let wants = vec![what.parse().unwrap()];
        let request = ClaimRequest { step, ..ClaimRequest::new(owner, wants) };
        engine.claims().claim(&request).unwrap().claim
    };
    let gpu = claim("gpu", support::GPU, ClaimStep::Prepare);
    let nic = claim("nic", "nic", ClaimStep::Reserve);
    let inventory = rig.host.inventory().unwrap();
    let check = |when: &str| {
        let own = own_state(&dir).unwrap();
        for (claim, prepared) in [(&gpu, true), (&nic, false)] {
            let assembly = Assembly::of(&inventory, claim.head().unwrap()).unwrap();
            let found: Vec<_> = own.claims_of(&assembly).collect();
            assert_eq!(found.len(), 1, "{when}");
            let (existing, share) = found[0];
            assert_eq!((existing.claim.id, share), (claim.id, Share::Whole), "{when}");
            let suffix = if prepared { "" } else { " (reserved)" };
            assert_eq!(existing.words(share), format!("{}{suffix}", claim.owner), "{when}");
            let refusal = own.refusal(&assembly).unwrap();
            assert_eq!(refusal.code, Code::InUse);
            assert!(
                refusal.message.contains(&format!("is claimed by {}", claim.owner)),
                "{refusal}"
            );
            assert!(refusal.remedy.contains("handover release"), "{refusal}");
        }
    };
    check("beside the engine");
    drop(engine);
    check("after it");
}

#[test]
fn a_device_that_does_not_answer_has_one_word() {
    let rig = Rig::new();
    let engine = rig.open();
    engine.recover().unwrap();
    support::claim(&engine, "one", &[support::NIC]);
    rig.host.lose_link(support::at(support::NIC));
    engine.claims().release("job/one", None).unwrap_err();
    let own = own_state(&rig.config().state_dir).unwrap();
    let assembly = Assembly::of(&rig.host.inventory().unwrap(), support::at(support::NIC)).unwrap();
    assert_eq!(own.words(&assembly).unwrap(), "quarantined");
    let only_claim = model::OwnState { unhealthy: std::collections::BTreeMap::new(), ..own };
    assert_eq!(only_claim.words(&assembly).unwrap(), "wedged");
    let refusal = only_claim.refusal(&assembly).unwrap();
    assert!(refusal.remedy.contains("handover device clear"), "{refusal}");
}

#[test]
fn a_store_that_cannot_be_read_is_an_error_and_not_no_claims() {
    let rig = Rig::new();
    drop(rig.open());
    let path = rig.config().state_dir.join("state.db");
    std::fs::write(&path, "this is no database, but it is long enough to look at").unwrap();
    assert_eq!(own_state(&rig.config().state_dir).unwrap_err().code, Code::StateUnusable);
}
