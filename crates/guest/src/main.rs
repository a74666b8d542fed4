//! The init and the agent of a machine that is made from a container image.
//!
//! One executable has several roles, so that each is a process of its own: the init (process 1), the agent, and the
//! stage that turns into a command. The stage is a process and not code after a `fork`: then all of this is ordinary
//! code, and a command is started the same way by the init and by the agent's threads.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod agent;
mod command;
mod console;
mod init;
mod modules;
mod network;
mod path_of;
mod regular;
mod sys;

use std::process::ExitCode;

/// The name in the list of processes.
const NAME: &str = "handover-guest";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [command::STAGE, specification, report] => command::stage(specification, report),
        [agent::AGENT] => agent::run(),
        [network::LEASES] => network::keep_leases(),
        [first, second, name] if [*first, *second] == modules::WANTED => modules::load_wanted(name),
        _ if rustix::process::getpid().is_init() => init::run(),
        _ => {
            console::say("this is the init of Handover's machines: the kernel starts it");
            ExitCode::from(2)
        }
    }
}
