//! Process 1: sets the machine up, runs the command, writes the result, switches the machine off.

mod agent_process;
mod config_disk;
mod disks;
mod error;
mod etc;
mod load;
mod module_disk;
mod mounts;
mod power;
mod power_off;
mod root;
mod supervise;
mod volumes;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use guest_protocol::message::CommandState;
use guest_protocol::{CommandResult, GuestConfig, serials};
use rustix::system::{RebootCommand, reboot};

use self::agent_process::AgentProcess;
use self::config_disk::ConfigDisk;
use self::error::InitError;
use self::root::Root;
use crate::command::{CommandSpec, become_command};
use crate::sys::Signals;
use crate::{console, modules, network};

/// How long a disk may take to appear. The kernel finds disks within milliseconds of loading their driver.
const DISKS_WITHIN: Duration = Duration::from_secs(30);

/// Runs the machine. It returns only if it cannot switch it off.
pub fn run() -> ExitCode {
    if let Err(error) = mounts::early() {
        console::say(&error.to_string());
    }
    let outcome = Signals::block().map_err(InitError::Signals).and_then(boot);
    let (mut machine, result) = match outcome {
        Ok((machine, result)) => (Some(machine), result),
        Err(error) => (None, CommandResult::failed(error.to_string())),
    };
    if let Some(error) = &result.error {
        console::say(error);
    }
    power_off::now(machine.as_mut(), &result);
    ExitCode::FAILURE
}

/// What is needed until the end.
pub struct Machine {
    disk: ConfigDisk,
    root: Option<Root>,
    volumes: Vec<String>,
}

fn boot(signals: Signals) -> Result<(Machine, CommandResult), InitError> {
    // Ctrl-Alt-Del is a signal to this process then, which goes to the command, and no reset.
    let _ = reboot(RebootCommand::CadOff);
    load::modules()?;
    let until = Instant::now() + DISKS_WITHIN;
    let device = disks::wait_for(serials::CONFIG, until)?;
    let mut machine = Machine { disk: ConfigDisk::open(&device)?, root: None, volumes: Vec::new() };
    // From here on a failure is in the result.
    let result = machine.disk.read().and_then(|config| {
        set_up(&mut machine, &config, until)?;
        live(&config, signals)
    });
    let result = result.unwrap_or_else(|error| CommandResult::failed(error.to_string()));
    Ok((machine, result))
}

/// Mounts everything, and makes the image's root the root.
fn set_up(machine: &mut Machine, config: &GuestConfig, until: Instant) -> Result<(), InitError> {
    let lower = disks::wait_for(serials::ROOT, until)?;
    let upper = disks::wait_for(serials::UPPER, until)?;
    machine.root = Some(root::enter(&lower, &upper)?);
    mounts::late()?;
    if config.modules {
        module_disk::mount(until)?;
    }
    if !config.systemd {
        modules::answer_the_kernel();
    }
    modules::load_for_devices();
    if !config.hostname.is_empty() {
        let set = rustix::system::sethostname(config.hostname.as_bytes());
        set.map_err(|errno| InitError::Hostname { name: config.hostname.clone(), errno })?;
    }
    for mount in &config.mounts {
        volumes::mount(mount, until)?;
        machine.volumes.push(mount.path.clone());
    }
    let names = network::set_up(config);
    etc::write(config, &names)
}

/// Runs the command until its end.
fn live(config: &GuestConfig, signals: Signals) -> Result<CommandResult, InitError> {
    let spec = CommandSpec {
        argv: config.argv.clone(),
        env: config.env.clone(),
        // An init system is root whatever the image's user is, as in containers of podman and docker. And where it cannot be
        // executed, this process must still be allowed to switch the machine off.
        user: if config.systemd { "0".to_owned() } else { config.user.clone() },
        working_dir: config.working_dir.clone(),
        terminal: config.tty,
        same_session: config.systemd,
    };
    let mut agent = start_agent(config);
    if config.systemd {
        if let Some(agent) = &mut agent {
            agent.tell(&CommandState::Running { pid: 1 });
        }
        let failure = become_command(&spec);
        return Ok(of_failure(failure));
    }
    supervise::run(config, &spec, signals, agent)
}

/// A guest whose kernel has no vsock runs its command all the same.
fn start_agent(config: &GuestConfig) -> Option<AgentProcess> {
    config.agent.as_ref()?;
    match AgentProcess::start(config) {
        Ok(agent) => Some(agent),
        Err(error) => {
            console::say(&format!("cannot start the agent, so exec and cp do not work: {error}"));
            None
        }
    }
}

fn of_failure(failure: crate::command::CommandFailure) -> CommandResult {
    CommandResult {
        exit_code: Some(failure.code),
        error: Some(failure.message),
        ..CommandResult::default()
    }
}
