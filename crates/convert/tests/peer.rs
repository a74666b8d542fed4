//! Two machines as kubevirt-vm-to-pod converts them (built on KubeVirt's main branch of August 2026): our pods are the same,
//! field by field, except for the differences in docs/kubevirt.md.
#![allow(clippy::unwrap_used)]

use convert::devices::{fixed, wanted};
use convert::pod::{self, Settings};
use convert::{Instance, Presets, input};
use serde_json::Value;

fn ours(text: &str) -> Value {
    let input = input::read("vm.yaml", text, true).unwrap();
    let mut instance = Instance::of(&input.documents[0], &Presets::default()).unwrap();
    let devices = fixed(&wanted(&instance));
    pod::objects(&mut instance, &Settings::default(), &devices).pop().unwrap()
}

/// Parses the instance in the environment, so that its fields are compared too.
fn opened(mut pod: Value) -> Value {
    let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    for variable in env.iter_mut().filter(|one| one["name"] == "STANDALONE_VMI") {
        variable["value"] = serde_json::from_str(variable["value"].as_str().unwrap()).unwrap();
    }
    pod
}

/// The differences: path, theirs, ours.
fn differences(path: &str, theirs: &Value, ours: &Value, all: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                differences(&format!("{path}/{key}"), &of(a), &of(b), all);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (number, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{number}"), a, b, all);
            }
        }
        (a, b) if a == b => {}
        (a, b) => all.push(format!("{path}: {a} is {b}")),
    }
}

fn compared(theirs: &str, machine: &str) -> Vec<String> {
    let theirs = opened(serde_json::from_str(theirs).unwrap());
    let mut all = Vec::new();
    differences("", &theirs, &opened(ours(machine)), &mut all);
    all
}

#[test]
fn a_small_machine() {
    let differences =
        compared(include_str!("peer/minimal.pod.json"), include_str!("peer/minimal.yaml"));
    assert_eq!(
        differences,
        [
            r#"/spec/containers/0/args/1: "296s" is "240s""#,
            r#"/spec/imagePullSecrets: [{"name":"pull-secret-1"}] is null"#,
        ]
    );
}

#[test]
fn two_gpus() {
    let differences =
        compared(include_str!("peer/gpu-amd2.pod.json"), include_str!("peer/gpu-amd2.yaml"));
    assert_eq!(
        differences,
        [
            r#"/spec/containers/0/args/1: "320s" is "240s""#,
            r#"/spec/imagePullSecrets: [{"name":"pull-secret-1"}] is null"#,
        ]
    );
}
