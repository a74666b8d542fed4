//! KubeVirt's virtual machines, instance types and preferences: YAML, converted to pods.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use convert::devices::{Scene, fixed, nodes, vfio, wanted, wants};
use convert::input::{self, Document};
use convert::pod::{self, Settings};
use convert::print::{self, Format};
use convert::{Instance, Presets, explain};
use model::Inventory;
use serde_json::Value;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "machines",
    reads: "KubeVirt's virtual machines: YAML to pods",
    read,
    words: &[
        "apiVersion: kubevirt.io/v1\n",
        "kind: VirtualMachine\n",
        "kind: List\nitems:\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "template:\n",
        "domain:\n",
        "devices:\n",
        "gpus:\n",
        "- name: g\n",
        "deviceName: nvidia.com/GPU\n",
        "hostDevices:\n",
        "disks:\n",
        "volumes:\n",
        "containerDisk: {image: a}\n",
        "hostDisk: {path: /a, type: Disk}\n",
        "memory: {guest: 1Gi}\n",
        "cpu: {cores: 2}\n",
        "resources:\n",
        "instancetype: {name: a}\n",
        "preference: {name: a}\n",
        "8Ei",
        "1e400",
        "-1",
        "null",
        "~",
        ".inf",
        "&a ",
        "*a",
        "<<: *a",
        "---\n",
        "|\n",
        "[",
        "{",
        "\"\\e[2J\"",
        "!!str ",
    ],
    longest: 1 << 14,
};

static HOST: LazyLock<Inventory> = LazyLock::new(sim::workstation);

fn read(bytes: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(bytes);
    let input = match input::read("vm.yaml", &text, false) {
        Ok(input) => input,
        Err(mistakes) => {
            let shown = mistakes.to_string();
            assert!(!shown.contains(controls), "a mistake with control characters: {shown:?}");
            let problems = mistakes.mistakes.iter().map(|mistake| mistake.problem.as_str());
            return Kind::of(problems.collect::<Vec<_>>().join(" "));
        }
    };
    let presets = Presets { given: Vec::new(), beside: input.documents.clone() };
    let kinds = input.documents.iter().map(|document| converted(document, &presets));
    kinds.fold(Kind::of("input").and(input.notes.len()), Kind::with)
}

fn converted(document: &Document, presets: &Presets) -> Kind {
    let mut instance = match Instance::of(document, presets) {
        Ok(instance) => instance,
        // It quotes the file as it is: the terminal's writer escapes.
        Err(refusal) => return Kind::of(refusal.message),
    };
    let (held, named) = Default::default();
    let scene = Scene {
        inventory: &HOST,
        held: &held,
        held_mdevs: &BTreeMap::new(),
        present: &[],
        named: &named,
    };
    let wanted = wanted(&instance);
    let _ = (nodes(&wanted, &scene), vfio(&wanted, &scene), wants(&wanted, &scene));
    let devices = fixed(&wanted);
    let objects = pod::objects(&mut instance, &Settings::default(), &devices);
    assert!(!objects.is_empty(), "a machine without a pod");
    let explained = explain(&instance, &Settings::default(), &devices);
    assert!(!explained.contains(controls), "an explanation with control characters: {explained:?}");
    printed(&objects);
    Kind::of(explained).and(objects.len()).and(wanted.len()).and(instance.notes.len())
}

/// What is printed is read as the same objects.
fn printed(objects: &[Value]) {
    for format in [Format::Yaml, Format::Json] {
        for object in objects {
            let text = print::documents(std::slice::from_ref(object), format);
            let read: Result<Value, _> = serde_saphyr::from_str(&text);
            assert_eq!(read.as_ref().ok(), Some(object), "{read:?} {text}");
        }
    }
}

/// Whether a character could control a terminal.
fn controls(letter: char) -> bool {
    letter.is_control() && letter != '\n'
}
