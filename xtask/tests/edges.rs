//! The floors of docs/design.md: each crate knows only those under it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Which of our own crates each crate may depend on (for its tests it may use any).
const FLOORS: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("host", &["model"]),
    ("sim", &["model"]),
    ("vmm", &["model"]),
    ("image", &["model"]),
    ("convert", &["model"]),
    ("api", &["model"]),
    ("engine", &["model", "image"]),
    ("service", &["api", "convert", "engine", "model"]),
    ("daemon", &["api", "engine", "model", "service"]),
    ("cli", &["api", "convert", "daemon", "engine", "host", "model", "service", "vmm"]),
    ("lab", &[]),
    ("xtask", &["api", "daemon", "engine", "host", "model", "sim"]),
];

/// What `model` may use of other people's crates: nothing that does I/O. `schemars` is for the schema in docs/ only.
const MODEL_MAY_USE: [&str; 4] = ["serde", "thiserror", "uuid", "schemars"];

/// Each workspace crate with the names of what it depends on, tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().unwrap().iter();
            let used = used.filter(|d| d["kind"] != "dev").map(|d| text(&d["name"])).collect();
            (text(&package["name"]), used)
        })
        .collect()
}

#[test]
fn each_crate_knows_only_the_floors_under_it() {
    let floors = BTreeMap::from(FLOORS);
    let crates = dependencies();
    for (name, used) in &crates {
        let may = floors.get(name.as_str());
        let may = may.unwrap_or_else(|| {
            panic!("{name} has no floor: add it to FLOORS and to docs/design.md")
        });
        for other in used.iter().filter(|other| crates.contains_key(*other)) {
            assert!(may.contains(&other.as_str()), "{name} must not depend on {other}");
        }
    }
}

#[test]
fn the_model_does_no_io() {
    for used in &dependencies()["model"] {
        assert!(MODEL_MAY_USE.contains(&used.as_str()), "model must not depend on {used}");
    }
}
