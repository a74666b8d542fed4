//! Machines from start to end, with a QEMU that this executable plays itself and, where it is installed, the real one.
//!
//! The executable has four parts: `launch` is the launcher, `fake-qemu` the VMM, `daemon` a daemon that starts a machine
//! and dies, and without any of these it runs the trials.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod fake;
mod real;
mod trials;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("launch") => vmm::launcher::main(),
        Some("fake-qemu") => fake::main(&arguments),
        Some("daemon") => bench::daemon(&arguments),
        _ => {
            let trials = trials::all().into_iter().chain(real::all()).collect();
            libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
        }
    }
}
