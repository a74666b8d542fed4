//! No input causes a panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use convert::devices::{Scene, fixed, nodes, vfio, wanted, wants};
use convert::pod::{self, Settings};
use convert::print::{self, Format};
use convert::{Instance, Presets, explain, input};
use model::Inventory;
use proptest::prelude::*;

const MACHINES: [&str; 3] = [
    include_str!("peer/minimal.yaml"),
    include_str!("peer/gpu-amd2.yaml"),
    include_str!("corpus/everything.yaml"),
];

/// Everything that is done with an input.
fn convert(text: &str) {
    let Ok(input) = input::read("vm.yaml", text, false) else { return };
    let inventory = Inventory::default();
    let (held, named) = Default::default();
    let scene = Scene {
        inventory: &inventory,
        held: &held,
        held_mdevs: &BTreeMap::new(),
        present: &[],
        named: &named,
    };
    for document in &input.documents {
        let presets = Presets { given: Vec::new(), beside: input.documents.clone() };
        let Ok(mut instance) = Instance::of(document, &presets) else { continue };
        let wanted = wanted(&instance);
        let _ = (nodes(&wanted, &scene), vfio(&wanted, &scene), wants(&wanted, &scene));
        let devices = fixed(&wanted);
        let objects = pod::objects(&mut instance, &Settings::default(), &devices);
        for format in [Format::Yaml, Format::Json] {
            let _ = print::documents(&objects, format);
        }
        let _ = explain(&instance, &Settings::default(), &devices);
    }
}

#[derive(Clone, Debug)]
enum Change {
    Remove(usize, usize),
    Insert(usize, String),
    Line(usize, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let words = prop_oneof![
        Just("null".to_owned()),
        Just("-1".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("8Ei".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just(".inf".to_owned()),
        "[-{}\\[\\]:,#&*!|>'\"%@`a-z0-9 \n\t]{0,6}",
        ".{0,4}",
    ];
    let change = prop_oneof![
        (0..4000usize, 0..12usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (0..4000usize, words).prop_map(|(at, text)| Change::Insert(at, text)),
        (0..200usize, 0..200usize).prop_map(|(from, to)| Change::Line(from, to)),
    ];
    proptest::collection::vec(change, 0..6)
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for change in changes {
        match change {
            Change::Remove(at, count) => {
                let from = at % (letters.len() + 1);
                letters.drain(from..(from + count).min(letters.len()));
            }
            Change::Insert(at, text) => {
                let at = at % (letters.len() + 1);
                letters.splice(at..at, text.chars());
            }
            Change::Line(from, to) => {
                let text: String = letters.iter().collect();
                let mut lines: Vec<&str> = text.lines().collect();
                if !lines.is_empty() {
                    let line = lines[from % lines.len()];
                    lines.insert(to % (lines.len() + 1), line);
                }
                letters = lines.join("\n").chars().collect();
            }
        }
    }
    letters.into_iter().collect()
}

#[test]
fn the_machines_themselves_are_converted() {
    for text in MACHINES {
        assert!(input::read("vm.yaml", text, true).is_ok());
        convert(text);
    }
}

proptest! {
    #[test]
    fn no_change_of_a_machine_panics(which in 0..MACHINES.len(), changes in changes()) {
        convert(&changed(MACHINES[which], &changes));
    }

    #[test]
    fn no_text_panics(text in "([-a-z:{}\\[\\],&*!|>'\"#%\n ]|kind: VirtualMachine\n|apiVersion: kubevirt.io/v1\n|spec:\n  |.){0,60}") {
        convert(&text);
    }
}
