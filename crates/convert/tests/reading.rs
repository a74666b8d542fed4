//! Mistakes in a file are reported with their places; unknown fields are not ignored silently.
#![allow(clippy::unwrap_used)]

use convert::input::{self, Kind};
use insta::assert_snapshot;

const MACHINE: &str = "apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  template:
    spec:
      domain: {memory: {guest: 1Gi}}
";

fn wrong(text: &str) -> String {
    input::read("vm.yaml", text, false).unwrap_err().to_string()
}

#[test]
fn wrong_values_are_reported_together() {
    let text = MACHINE.replace(
        "domain: {memory: {guest: 1Gi}}",
        "domain:
        memory: {guest: 1 Gigabyte}
        cpu: {cores: two}
        devices:
          disks: {name: root}
      hostname: [a]",
    );
    assert_snapshot!(wrong(&text));
}

#[test]
fn unknown_fields_are_notes_or_mistakes() {
    let text = MACHINE.replace("memory:", "memroy: {}, memory:");
    let input = input::read("vm.yaml", &text, false).unwrap();
    assert_snapshot!(input.notes.join("\n"));
    assert_snapshot!(input::read("vm.yaml", &text, true).unwrap_err());
}

#[test]
fn broken_yaml() {
    assert_snapshot!(wrong("kind: [VirtualMachine\nspec: }"));
    assert_snapshot!(wrong("kind: VirtualMachine\nkind: VirtualMachine\n"));
}

#[test]
fn documents_that_are_none_of_ours() {
    let text = format!("{MACHINE}---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n");
    let input = input::read("vm.yaml", &text, false).unwrap();
    assert_eq!(input.documents.len(), 1);
    assert_snapshot!(input.notes.join("\n"));
    assert_snapshot!(wrong("metadata: {name: x}"));
    assert_snapshot!(wrong(&MACHINE.replace("kubevirt.io/v1", "v1")));
    assert_snapshot!(wrong(""));
}

#[test]
fn objects_need_names_and_a_spec() {
    assert_snapshot!(wrong(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {name: A_b}\n"
    ));
    assert_snapshot!(wrong(
        "{\"apiVersion\": \"kubevirt.io/v1\", \"kind\": \"VirtualMachineInstance\"}"
    ));
}

#[test]
fn json_lists_and_many_documents() {
    let json = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"a"},"spec":{}},
        {"apiVersion":"instancetype.kubevirt.io/v1beta1","kind":"VirtualMachineClusterInstancetype",
         "metadata":{"name":"b"},"spec":{"cpu":{"guest":1},"memory":{"guest":"1Gi"}}}]}"#;
    let input = input::read("-", json, true).unwrap();
    let kinds: Vec<Kind> = input.documents.iter().map(|document| document.kind).collect();
    assert_eq!(kinds, [Kind::Instance, Kind::Instancetype]);
}

#[test]
fn numbers_are_texts_where_texts_belong() {
    let text = MACHINE.replace("domain:", "hostname: 012\n      domain:");
    let input = input::read("vm.yaml", &text, true).unwrap();
    assert_eq!(input.documents[0].object["spec"]["template"]["spec"]["hostname"], "012");
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, next) in ["ab", "bc", "cd", "de", "ef", "fg", "gh"].map(|p| p.split_at(1)) {
        let aliases = vec![format!("*{one}"); 10].join(",");
        bomb.push_str(&format!("{next}: &{next} [{aliases}]\n"));
    }
    let refused = wrong(&bomb);
    assert!(refused.starts_with("vm.yaml:"), "{refused}");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(wrong(&deep).len() < 1000);
}
