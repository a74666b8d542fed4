//! Templates: the file that `handover instance create --file` reads, and `handover instance show --yaml` prints.

use std::io::Read as _;
use std::path::Path;

use api::CreateInstance;
use api::client::segment;
use convert::print::{Format, documents};
use model::{Code, Refusal};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output;

/// The largest file, in bytes.
const LARGEST: u64 = 1 << 20;

/// Prints the file that makes an instance like this one.
pub fn print(connection: &Connection, instance: &str) -> Done {
    let path = format!("/instances/{}/template", segment(instance));
    let mut template: Value = connection
        .talk(async |client| client.get(&path).await)
        .map_err(Failure::to(format!("show the instance {instance}")))?;
    drop_nulls(&mut template);
    output::file(&documents(&[template], Format::Yaml))
}

/// Removes fields without a value: they say nothing in a file.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Reads a file; `-` is standard input. Returns the fields of the file, and the request that they are.
pub fn read(path: &Path) -> Result<(Value, CreateInstance), Refusal> {
    let text = text(path)?;
    let wrong = |message: String| {
        Refusal::new(
            Code::InvalidRequest,
            format!("{}: {message}", path.display()),
            "`handover instance show NAME --yaml` prints such a file; docs/machine.schema.json describes it",
        )
    };
    let yaml = |error: serde_saphyr::Error| {
        let text = error.to_string();
        wrong(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    };
    let fields: Value = serde_saphyr::from_str(&text).map_err(yaml)?;
    if !fields.is_object() {
        return Err(wrong("it is not an object with fields such as `name` and `image`".into()));
    }
    let request: CreateInstance = serde_saphyr::from_str(&text).map_err(yaml)?;
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace("?.", ""));
    CreateInstance::deserialize(serde_ignored::Deserializer::new(fields.clone(), &mut note))
        .map_err(|error| wrong(error.to_string()))?;
    match unknown.first() {
        None => Ok((fields, request)),
        Some(field) => {
            let line = line_of(&text, field).map(|line| format!("line {line}: "));
            Err(wrong(format!("{}the field `{field}` is not known", line.unwrap_or_default())))
        }
    }
}

fn text(path: &Path) -> Result<String, Refusal> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
    };
    let refused = |why: String| {
        let message = format!("cannot read {}: {why}", path.display());
        let remedy = "check the file's name and whether you may read it";
        Refusal::new(Code::InvalidRequest, message, remedy)
    };
    match read {
        Ok(length) if length as u64 > LARGEST => Err(refused("it is larger than 1 MB".into())),
        Ok(_) => Ok(text),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Takes the hardware addresses of network cards out: no two machines can have the same.
pub fn without_own_addresses(fields: &mut Map<String, Value>) {
    let one = |card: &mut Value| drop(card.as_object_mut().and_then(|card| card.remove("mac")));
    fields.get_mut("network").map(one);
    let several = fields.get_mut("networks").and_then(Value::as_array_mut);
    several.into_iter().flatten().for_each(one);
}

/// The line of a field such as `disks.0.colour`, counted from 1: the first one that begins with its last name.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let name = field.rsplit('.').next()?;
    let is_it = |line: &str| {
        let line = line.trim_start_matches([' ', '-', '{', '"', '\'']);
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', '"', '\'', ' ']))
    };
    text.lines().position(is_it).map(|line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<CreateInstance, Refusal> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path).map(|(_, request)| request)
    }

    #[test]
    fn a_copy_has_no_hardware_address_of_the_first() {
        let mut file = serde_json::json!({
            "network": {"mode": "user", "mac": "52:54:00:00:00:01"},
            "networks": [{"mac": "52:54:00:00:00:02"}, {"mode": "none"}],
        });
        without_own_addresses(file.as_object_mut().unwrap());
        let left =
            serde_json::json!({"network": {"mode": "user"}, "networks": [{}, {"mode": "none"}]});
        assert_eq!(file, left);
    }

    #[test]
    fn a_file_has_no_fields_without_a_value() {
        let mut file =
            serde_json::json!({"devices": [{"vf": {"vlan": 100, "mac": null}}], "os": null});
        drop_nulls(&mut file);
        assert_eq!(file, serde_json::json!({"devices": [{"vf": {"vlan": 100}}]}));
    }

    #[test]
    fn a_file_is_yaml_or_json() {
        let yaml = "name: dev\nimage: debian\ndisks:\n- size: 20GB\n  bus: nvme\nnetwork: {forwards: ['2222:22']}\n";
        let request = read_text(yaml).unwrap();
        assert_eq!((request.name.as_str(), request.image.as_deref()), ("dev", Some("debian")));
        assert_eq!(request.disks.unwrap()[0].bus.as_deref(), Some("nvme"));
        let json = r#"{"name": "dev", "image": "debian", "vcpus": 4}"#;
        assert_eq!(read_text(json).unwrap().vcpus, Some(4));
    }

    #[test]
    fn a_mistake_names_its_line() {
        for (text, says) in [
            (
                "name: dev\nimage: debian\ndisks:\n- size: 1GB\n  colour: red\n",
                "line 5: the field `disks.0.colour`",
            ),
            ("name: dev\nvcpus: many\n", "line 2"),
            ("name: [\n", "line"),
            ("- name\n", "not an object"),
            ("image: debian\n", "missing field `name`"),
        ] {
            let refusal = read_text(text).unwrap_err();
            assert!(refusal.message.contains(says), "{text}: {refusal:?}");
        }
        assert!(read(Path::new("/nonexistent")).unwrap_err().message.contains("cannot read"));
    }
}
