//! Dry runs of creations on a simulated host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{CreateInstance, Outline};
use model::{Code, PlacementUse};
use support::{GPU, Rig, wish};

fn choice<'a>(outline: &'a Outline, item: &str) -> &'a str {
    let found = outline.choices.iter().find(|choice| choice.item == item);
    found.map(|choice| choice.value.as_str()).unwrap_or_default()
}

#[test]
fn a_dry_run_says_what_a_creation_makes_and_changes_nothing() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let request =
        || CreateInstance { placement: PlacementUse::Auto, ..wish("vm", &["gpu", "nic"]) };
    let before = (engine.journal(100).unwrap().len(), rig.host.snapshot());
    let outline = engine.instances().outline(request()).unwrap();
    let heads: Vec<String> =
        outline.devices.iter().map(|device| device.part.head.to_string()).collect();
    assert_eq!(heads.first().map(String::as_str), Some(GPU));
    assert!(choice(&outline, "port 0").starts_with(GPU), "{outline:?}");
    assert!(!choice(&outline, "memory").is_empty() && !choice(&outline, "processors").is_empty());

    assert!(engine.instances().find("vm").is_err());
    assert!(engine.claims().all().unwrap().is_empty());
    assert_eq!((engine.journal(100).unwrap().len(), rig.host.snapshot()), before);

    // What it says is what comes.
    let created = engine.instances().create(request()).unwrap();
    assert_eq!(created.options.placed, outline.instance.options.placed);
    assert_eq!(created.devices, outline.instance.devices);
    // The devices are taken now.
    let again = CreateInstance { name: "other".into(), ..request() };
    assert_eq!(engine.instances().outline(again).unwrap_err().code, Code::InUse);
    let same = engine.instances().outline(request()).unwrap_err();
    assert_eq!(same.code, Code::NameConflict);
}
