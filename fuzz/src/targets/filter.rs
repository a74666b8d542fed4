//! Filters of the command line.

use std::sync::LazyLock;

use cli::filter::Filter;
use model::Inventory;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "filter",
    reads: "filters for devices",
    read,
    words: &[
        "address:",
        "id:",
        "kind:gpu",
        "class:0x",
        "driver:none",
        "group:",
        "node:",
        "numa:",
        "name:",
        "0000:",
        "01:00.0",
        "10de:20b0",
        ":",
        ".",
        "10000:e1:",
    ],
    longest: 512,
};

static HOST: LazyLock<Inventory> = LazyLock::new(sim::workstation);

fn read(bytes: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(bytes);
    let filter = text.parse::<Filter>();
    match &filter {
        Ok(filter) => {
            let found = HOST.functions.values().filter(|function| filter.matches(function)).count();
            let both = [filter.clone(), filter.clone()];
            let all = HOST
                .functions
                .values()
                .filter(|function| Filter::all_match(&both, function))
                .count();
            assert_eq!(all, found, "a filter twice is another filter");
            let form = format!("{filter:?}");
            Kind::of(form.split(['(', ' ']).next().unwrap_or_default()).and(found)
        }
        Err(error) => {
            assert!(!error.contains(char::is_control), "{error:?}");
            Kind::of(error)
        }
    }
}
