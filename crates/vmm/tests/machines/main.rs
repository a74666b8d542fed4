//! Machines from start to end, with a QEMU that this executable plays itself and, where it is installed, the real one;
//! and with a second VMM that only these tests have.
//!
//! The executable has five parts: `launch` is the launcher, `fake-qemu` and `tiny-vmm` the VMMs, `daemon` a daemon that
//! starts a machine and dies, and without any of these it runs the trials.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod fake;
mod ports;
mod real;
mod screens;
mod second_vmm;
mod tiny;
mod tpm;
mod trials;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("launch") => vmm::launch::main(&host::KernelFilter, &host::KernelLinks),
        Some("fake-qemu") => fake::main(&arguments),
        Some("tiny-vmm") => tiny::main(&arguments),
        Some("daemon") => bench::daemon(&arguments),
        _ => {
            let real = [real::all(), ports::all(), screens::all(), tpm::all()];
            let all = [trials::all(), second_vmm::all()].into_iter().chain(real);
            let trials = all.flatten().collect();
            libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
        }
    }
}
