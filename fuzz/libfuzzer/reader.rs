//! Hands libFuzzer's inputs to the target that `FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    fuzz::target(&name).expect("set FUZZ_TARGET to the name of a target")
});

fuzz_target!(|input: &[u8]| {
    if input.len() <= TARGET.longest {
        (TARGET.read)(input);
    }
});
