//! The `handover` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Handover runs itself for what needs a process of its own; nothing else is set up before that.
    match std::env::args_os().nth(1) {
        Some(part) if part == "worker" => host::worker::main(),
        Some(part) if part == "launch" => {
            vmm::launch::main(&host::KernelFilter, &host::KernelLinks)
        }
        Some(part) if part == "limit-device-memory" => host::memory_limit::main(),
        _ => cli::run(),
    }
}
