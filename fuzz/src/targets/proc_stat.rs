//! `/proc/PID/stat`.

use model::ProcessStat;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "proc_stat",
    reads: "/proc/PID/stat",
    read,
    words: &[")", "(", " ", "S", "Z", "-1"],
    longest: 4096,
};

const REST: &str = ") S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 99 1\n";

fn read(bytes: &[u8]) -> Kind {
    // No name of a program hides its fields.
    let named = [b"4711 (", bytes, REST.as_bytes()].concat();
    assert_eq!(ProcessStat::parse(&named), Some(ProcessStat { state: 'S', start_time: 123_456 }));
    Kind::of(format!("{:?}", ProcessStat::parse(bytes)))
}
