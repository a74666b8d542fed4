//! Benchmark of converting machines to pods: `cargo bench -p convert`.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use std::collections::BTreeMap;

use convert::devices::{Scene, Wanted};
use convert::devices::{choose, wanted};
use convert::pod::{self, Settings};
use convert::print::{self, Format};
use convert::{Instance, Presets, input};
use model::Inventory;

const MACHINES: [(&str, &str); 3] = [
    ("small", include_str!("../tests/peer/minimal.yaml")),
    ("two GPUs", include_str!("../tests/peer/gpu-amd2.yaml")),
    ("something of everything", include_str!("../tests/corpus/everything.yaml")),
];

/// From text to text.
fn convert(text: &str) -> usize {
    let input = input::read("vm.yaml", text, false).unwrap();
    let presets = Presets::default();
    let (inventory, held, named) = (Inventory::default(), Default::default(), Default::default());
    let scene = Scene {
        inventory: &inventory,
        held: &held,
        held_mdevs: &BTreeMap::new(),
        present: &[],
        named: &named,
    };
    let of = |document| Instance::of(document, &presets).unwrap();
    let mut instances: Vec<Instance> = input.documents.iter().map(of).collect();
    let all: Vec<Vec<Wanted>> = instances.iter().map(wanted).collect();
    let wanted: Vec<&[Wanted]> = all.iter().map(Vec::as_slice).collect();
    let (_, devices) = choose(&wanted, &scene, None);
    let settings = Settings::default();
    let mut objects = Vec::new();
    for (instance, devices) in instances.iter_mut().zip(&devices) {
        objects.extend(pod::objects(instance, &settings, devices));
    }
    print::documents(&objects, Format::Yaml).len()
}

/// The best of several runs, to exclude other load.
fn best(of: usize, mut run: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..of).map(time).min().unwrap_or_default()
}

fn main() {
    for (name, text) in MACHINES {
        let time = best(50, || assert!(convert(text) > 1000));
        println!("one machine, {name}: {} µs", time.as_micros());
        for count in [1000_u32, 4000] {
            let many = vec![text; count as usize].join("\n---\n");
            let time = best(3, || assert!(convert(&many) > 1000));
            let rate = f64::from(count) / time.as_secs_f64();
            println!("{count} in one call, {name}: {rate:.0} a second");
        }
    }
}
