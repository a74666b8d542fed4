//! Each step kind has one file of its name in each crate that implements it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use model::StepKind;

/// The directories of the files, and the files that are common to all kinds.
const HOMES: [(&str, &[&str]); 3] = [
    ("crates/model/src/step", &["facts", "mod", "restoring", "values", "words"]),
    ("crates/host/src/step", &["mod"]),
    ("crates/sim/src/kernel/step", &["mod"]),
];

#[test]
fn every_kind_of_step_has_a_file_of_its_name_in_each_of_its_homes() {
    let kinds: BTreeSet<String> =
        StepKind::ALL.iter().map(|kind| kind.facts().name.to_owned()).collect();
    assert_eq!(kinds.len(), StepKind::ALL.len(), "two kinds have one name");
    for (home, others) in HOMES {
        let files: BTreeSet<String> = names(home).collect();
        let expected: BTreeSet<String> =
            kinds.iter().cloned().chain(others.iter().map(ToString::to_string)).collect();
        assert_eq!(files, expected, "{home}");
    }
}

/// The names of the files of a directory, without extensions.
fn names(folder: &str) -> impl Iterator<Item = String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    std::fs::read_dir(folder).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".rs").unwrap_or(&name).to_owned()
    })
}
