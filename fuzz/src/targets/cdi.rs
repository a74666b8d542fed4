//! CDI specs in the directories of container tools.

use std::fs;

use convert::cdi::Spec;
use service::cdi::Folder;

use super::scratch;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "cdi",
    reads: "CDI specs",
    read,
    words: &[
        "{\"cdiVersion\":\"0.5.0\"",
        "\"kind\":\"handover.dev/claim\"",
        "\"devices\":[",
        "{\"name\":\"",
        "\"containerEdits\":{",
        "\"env\":[",
        "\"deviceNodes\":[",
        "{\"path\":\"/dev/vfio/1\"",
        "\"permissions\":\"rw\"",
        "../",
        "\\u0000",
        "null",
        "]",
        "}",
        ",",
    ],
    longest: 1 << 14,
};

fn read(bytes: &[u8]) -> Kind {
    let Ok(dir) = scratch::dir() else { return Kind::of("no directory") };
    let written = fs::write(dir.path().join("handover.dev-claim-x.json"), bytes);
    assert!(written.is_ok(), "{written:?}");
    let found = Folder::new(dir.path()).ours().unwrap_or_default();
    assert_eq!(found.len(), 1, "the file is found whatever is in it");
    let listed = service::cdi::list(dir.path()).map(|all| all.len());
    assert_eq!(listed.ok(), Some(1));
    match found.into_iter().next().map(|file| file.spec) {
        Some(Ok(spec)) => {
            let again: Option<Spec> = serde_json::from_str(&spec.render()).ok();
            assert_eq!(again.as_ref(), Some(&spec));
            Kind::of("spec").and(spec.names().count()).and(spec.paths().count())
        }
        Some(Err(error)) => {
            assert!(!error.contains(char::is_control), "{error:?}");
            Kind::of(error)
        }
        None => Kind::of("none"),
    }
}
