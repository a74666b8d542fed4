//! mdevctl's definitions of mediated devices, in `/etc/mdevctl.d/PARENT/UUID`, each a JSON object with `mdev_type`,
//! `start` and `attrs` (mdevctl(8)).

use model::{Address, MdevDefinition};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::root::Root;

const DEFINITIONS: &str = "etc/mdevctl.d";

/// The file's format. mdevctl keeps attributes as a list of objects with one entry each: their order matters, and one
/// can occur twice.
#[derive(Deserialize)]
struct File {
    mdev_type: String,
    #[serde(default)]
    attrs: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// All definitions for parents that are PCI functions. A file that cannot be parsed is skipped with a warning: mdevctl
/// writes without a lock, so a file may be incomplete.
pub fn definitions(root: &Root) -> Vec<MdevDefinition> {
    let Ok(folder) = root.dir(DEFINITIONS) else { return Vec::new() };
    let mut all = Vec::new();
    for parent in folder.names(".").unwrap_or_default() {
        let Ok(address) = parent.parse::<Address>() else { continue };
        for name in folder.names(&parent).unwrap_or_default() {
            let Ok(uuid) = name.parse() else { continue };
            let path = format!("{DEFINITIONS}/{parent}/{name}");
            match root.text(&path).ok().and_then(|text| read(&text)) {
                Some((type_id, attributes)) => {
                    all.push(MdevDefinition { parent: address, uuid, type_id, attributes });
                }
                None => tracing::warn!("skipped {path}: not a definition of a mediated device"),
            }
        }
    }
    all
}

/// The directory with the definitions of a parent's mediated devices.
pub fn folder(parent: Address) -> String {
    format!("{DEFINITIONS}/{parent}")
}

/// The file with the definition of a mediated device.
pub fn path(parent: Address, uuid: Uuid) -> String {
    format!("{}/{uuid}", folder(parent))
}

/// A definition in mdevctl's format. It is not started at boot, when the claim is only reserved.
pub fn write(type_id: &str, attributes: &[(String, String)]) -> String {
    let attrs: Vec<_> = attributes.iter().map(|(name, value)| json!({ name: value })).collect();
    // In the order of mdevctl's own files.
    let own = [("mdev_type", json!(type_id)), ("start", json!("manual")), ("attrs", json!(attrs))];
    let lines = own.map(|(key, value)| format!("  \"{key}\": {value:#}").replace('\n', "\n  "));
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// Whether two files have the same contents, apart from formatting.
pub fn same(one: &str, other: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    value(one).is_some_and(|one| Some(one) == value(other))
}

fn read(text: &str) -> Option<(String, Vec<(String, String)>)> {
    let File { mdev_type, attrs } = serde_json::from_str(text).ok()?;
    let mut attributes = Vec::new();
    for (name, value) in attrs.into_iter().flatten() {
        attributes.push((name, value.as_str()?.to_owned()));
    }
    Some((mdev_type, attributes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_definition_as_mdevctl_writes_it() {
        let text = r#"{"mdev_type": "nvidia-474", "start": "auto",
            "attrs": [{"nvidia/vgpu_params": "a=1"}, {"x": "1"}, {"x": "2"}]}"#;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let attributes = vec![pair("nvidia/vgpu_params", "a=1"), pair("x", "1"), pair("x", "2")];
        assert_eq!(read(text), Some(("nvidia-474".into(), attributes)));
        assert_eq!(
            read(r#"{"mdev_type": "t", "start": "manual"}"#),
            Some(("t".into(), Vec::new()))
        );
        for wrong in
            ["", "{", "[]", r#"{"start": "auto"}"#, r#"{"mdev_type": "t", "attrs": [{"x": 1}]}"#]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_written_definition_is_read_back() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let attributes =
            vec![pair("nvidia/vgpu_params", "a=\"1\""), pair("x", "1"), pair("x", "2")];
        let text = write("nvidia-474", &attributes);
        assert_eq!(read(&text), Some(("nvidia-474".into(), attributes)));
        assert_eq!(
            write("nvidia-474", &[]),
            "{\n  \"mdev_type\": \"nvidia-474\",\n  \"start\": \"manual\",\n  \"attrs\": []\n}\n"
        );
        assert!(same(&text, &text.replace('\n', " ")));
        assert!(!same(&text, &text.replace("manual", "auto")) && !same("{", "{"));
    }

    #[test]
    fn definitions_of_other_parents_and_incomplete_files_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(DEFINITIONS).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let uuid = "11111111-2222-4333-8444-555555555555";
        write(&format!("0000:41:00.0/{uuid}"), r#"{"mdev_type": "nvidia-474", "start": "manual"}"#);
        write("0000:41:00.0/notes", "mine");
        write("0000:42:00.0/66666666-2222-4333-8444-555555555555", "{");
        write(&format!("mtty/{uuid}"), r#"{"mdev_type": "mtty-1", "start": "manual"}"#);
        let found = definitions(&Root::open(folder.path()).unwrap());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].parent.to_string().as_str(), found[0].type_id.as_str()),
            ("0000:41:00.0", "nvidia-474")
        );
    }

    proptest! {
        #[test]
        fn no_file_panics(text in ".{0,80}|\\{\"mdev_type\":.{0,20},\"attrs\":.{0,20}\\}") {
            let _ = read(&text);
        }
    }
}
