//! Machines in memory.

mod controls;
mod ports;
mod vsock;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use model::{
    Address, Availability, Choice, DeviceAccess, Display, Execution, Exit, Firmware, Forward,
    GuestSlot, GuestSource, Halt, Host, KnownMachine, LaunchError, Launcher, MachineHandle,
    MachineOptions, MachineRun, MachineSpec, PartPlace, PartPlug, Plug, PluggedFunction, Presence,
    Rom, ShutDown, Unplugged, Usage, VmmProcess,
};
use uuid::Uuid;

use crate::{SimAgent, SimHost};
use ports::Ports;

/// A launcher of machines that exist only in memory. They survive the engine, and keep their groups open.
pub struct SimLauncher {
    host: Arc<SimHost>,
    inside: Mutex<Inside>,
    gone: Condvar,
}

#[derive(Default)]
struct Inside {
    running: BTreeMap<Uuid, MachineHandle>,
    paused: BTreeSet<Uuid>,
    /// Guests that the VMM has stopped. They do not continue before this is taken back.
    halted: BTreeMap<Uuid, Halt>,
    usage: BTreeMap<Uuid, Usage>,
    /// Whether monitors do not answer.
    silent: bool,
    /// The machines' ends of the connections to their consoles.
    consoles: Vec<(Uuid, UnixStream)>,
    /// The agents in guests that run one.
    agents: BTreeMap<Uuid, SimAgent>,
    exits: BTreeMap<(Uuid, MachineRun), Exit>,
    service: bool,
    files: BTreeSet<Uuid>,
    /// The files of ROMs.
    roms: BTreeMap<(Uuid, Address), Vec<u8>>,
    /// The users of machines that had files.
    uids: BTreeMap<Uuid, u32>,
    started: u32,
    refusal: Option<String>,
    removal_refusal: Option<String>,
    unknown: BTreeSet<Uuid>,
    missing: Option<String>,
    /// What machines cannot have here, and the port that another program listens on.
    no_uefi: bool,
    no_tpm: bool,
    no_network: bool,
    no_bridge: bool,
    launched: BTreeMap<Uuid, MachineSpec>,
    /// What running machines have in their ports.
    ports: BTreeMap<Uuid, Ports>,
    /// Whether the VMM takes descriptors of devices.
    takes_descriptors: bool,
    /// How many requests to take a device out are not answered in time.
    late_answers: u32,
    /// Guests that do not let go of devices.
    stubborn: BTreeSet<Uuid>,
    /// Why the next plug fails, and how many functions the machine has taken by then.
    plug_refusal: Option<(String, usize)>,
    /// How often the variables of machines' firmware were removed.
    forgotten: BTreeMap<Uuid, u32>,
    busy_port: Option<u16>,
    /// Whether machines can have vsock.
    has_vsock: bool,
    /// What serves connections to guests by vsock.
    vsock_guest: Option<vsock::Serve>,
    /// What the inits of container images wrote of how their commands ended.
    results: BTreeMap<Uuid, Vec<u8>>,
    /// Whether virtual processors cannot be pinned.
    refuses_pins: bool,
}

impl Inside {
    /// The last run of the machine.
    fn current_run(&self) -> MachineRun {
        if self.service {
            return MachineRun::Service { run: self.started.to_string() };
        }
        let start_time = u64::from(self.started);
        MachineRun::Process(VmmProcess { pid: 1000 + self.started, start_time })
    }

    /// What the guest of a running machine does, if its monitor answers.
    fn execution(&self, id: Uuid) -> Result<Execution, LaunchError> {
        if self.silent {
            return Err(LaunchError::Deadline { action: "answer".into(), seconds: 2 });
        }
        if !self.running.contains_key(&id) {
            return Err(LaunchError::Gone);
        }
        Ok(match self.halted.get(&id) {
            Some(halt) => Execution::Halted(halt.clone()),
            None if self.paused.contains(&id) => Execution::Paused,
            None => Execution::Running,
        })
    }
}

impl SimLauncher {
    /// A launcher on a host.
    #[must_use]
    pub fn new(host: Arc<SimHost>) -> Self {
        Self { host, inside: Mutex::default(), gone: Condvar::new() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running machines.
    #[must_use]
    pub fn running(&self) -> Vec<Uuid> {
        self.inside().running.keys().copied().collect()
    }

    /// The machines with files.
    #[must_use]
    pub fn files(&self) -> Vec<Uuid> {
        self.inside().files.iter().copied().collect()
    }

    fn end(&self, id: Uuid, code: Option<i32>) -> Exit {
        let mut inside = self.inside();
        let exit = Exit { code };
        if let Some(handle) = inside.running.remove(&id) {
            inside.exits.insert((id, handle.run), exit);
        }
        inside.paused.remove(&id);
        inside.halted.remove(&id);
        inside.ports.remove(&id);
        for (_, console) in inside.consoles.extract_if(.., |(machine, _)| *machine == id) {
            // A connection that is closed already needs nothing.
            let _ = console.shutdown(Shutdown::Both);
        }
        self.host.inside().kernel.users.retain(|_, user| *user != id);
        self.gone.notify_all();
        exit
    }

    /// The checks of a VMM and the kernel when a machine opens its groups.
    fn open_groups(
        &self,
        id: Uuid,
        uid: u32,
        slots: &[GuestSlot],
        access: DeviceAccess,
    ) -> Result<(), String> {
        let mut host = self.host.inside();
        let kernel = &mut host.kernel;
        let mut groups = BTreeSet::new();
        for function in slots.iter().flat_map(|slot| &slot.functions) {
            match function.source {
                GuestSource::Function(address) if kernel.is_offered(address) => {
                    groups.extend(kernel.group_of(address));
                }
                GuestSource::Function(address) => {
                    return Err(format!("vfio {address}: not bound to a vfio driver"));
                }
                GuestSource::Mdev(uuid) => match kernel.mdev_groups.get(&uuid) {
                    Some(group) => drop(groups.insert(*group)),
                    None => return Err(format!("vfio {uuid}: no such mediated device")),
                },
            }
        }
        for group in groups {
            if kernel.users.contains_key(&group) {
                return Err(format!("could not open /dev/vfio/{group}: Device or resource busy"));
            }
            let may_open = kernel.nodes.get(&group).is_some_and(|node| node.uid == uid);
            match access {
                DeviceAccess::Groups if !may_open => {
                    return Err(format!("could not open /dev/vfio/{group}: Permission denied"));
                }
                DeviceAccess::Descriptors if may_open => {
                    return Err(format!("it may open /dev/vfio/{group}, and has no use for it"));
                }
                _ => {}
            }
            let members = kernel.known.groups.get(&group).map(|group| group.members.clone());
            let viable = members.unwrap_or_default().into_iter().all(|member| {
                let driver = kernel.functions.get(&member).and_then(|s| s.driver.as_deref());
                kernel.is_offered(member) || driver.is_none_or(|driver| driver == "pcieport")
            });
            if !viable {
                return Err(format!("group {group} is not viable"));
            }
            kernel.users.insert(group, id);
        }
        Ok(())
    }
}

impl Launcher for SimLauncher {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn availability(&self) -> Availability {
        let reason = self.inside().missing.clone();
        Availability {
            available: reason.is_none(),
            version: Some("simulated".into()),
            accelerator: None,
            reason,
            remedy: None,
        }
    }

    fn check(&self, options: &MachineOptions) -> Result<(), LaunchError> {
        let inside = self.inside();
        let lacking = |what: &str, package: &str| {
            let remedy = format!("apt install {package}");
            Err(LaunchError::Unavailable { reason: format!("{what} is not installed"), remedy })
        };
        match options.firmware {
            Firmware::Uefi | Firmware::UefiSecure if inside.no_uefi => {
                lacking("UEFI firmware", "ovmf")
            }
            _ if inside.no_bridge && options.cards.iter().any(|card| !card.link.is_user()) => {
                let sources = options.cards.iter().filter_map(|card| card.link.source());
                let name = sources.take(1).collect::<String>();
                let remedy = "`ip link` lists those that it has".into();
                Err(LaunchError::Network { reason: format!("this host has no {name}"), remedy })
            }
            _ if inside.no_tpm && options.tpm => lacking("swtpm", "swtpm"),
            _ if inside.no_network && options.has_user_network() => lacking("passt", "passt"),
            _ => Ok(()),
        }
    }

    fn expect_free_ports(&self, forwards: &[Forward]) -> Result<(), LaunchError> {
        let busy = self.inside().busy_port;
        match forwards.iter().find(|forward| Some(forward.host_port) == busy) {
            None => Ok(()),
            Some(forward) => Err(LaunchError::Port {
                port: forward.to_string(),
                reason: "another program listens on it".into(),
            }),
        }
    }

    fn expect_free_screen(&self, address: SocketAddr) -> Result<(), LaunchError> {
        if self.inside().busy_port != Some(address.port()) {
            return Ok(());
        }
        let reason = "another program listens on it".into();
        Err(LaunchError::Port { port: format!("{address}/tcp"), reason })
    }

    fn rom(&self, id: Uuid, rom: &Rom) -> Result<Option<Vec<u8>>, LaunchError> {
        Ok(self.inside().roms.get(&(id, rom.device)).cloned())
    }

    fn create_files(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        let mut inside = self.inside();
        inside.files.insert(spec.id);
        inside.uids.insert(spec.id, spec.uid);
        for rom in spec.options.roms.iter().filter(|rom| !rom.content.is_empty()) {
            inside.roms.insert((spec.id, rom.device), rom.content.clone());
        }
        Ok(())
    }

    fn forget_firmware(&self, id: Uuid) -> Result<(), LaunchError> {
        *self.inside().forgotten.entry(id).or_default() += 1;
        Ok(())
    }

    fn remove_files(&self, id: Uuid) -> Result<(), LaunchError> {
        let mut inside = self.inside();
        if let Some(reason) = inside.removal_refusal.take() {
            let path = format!("machines/{id}");
            return Err(LaunchError::File { action: "remove".into(), path, reason });
        }
        inside.files.remove(&id);
        inside.roms.retain(|(machine, _), _| *machine != id);
        Ok(())
    }

    fn launch(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError> {
        let mut inside = self.inside();
        if let Some(reason) = inside.refusal.take() {
            return Err(LaunchError::Start { reason });
        }
        if inside.running.contains_key(&spec.id) {
            return Err(LaunchError::Start { reason: "it runs already".into() });
        }
        if !inside.files.contains(&spec.id) {
            return Err(LaunchError::Start { reason: "it has no files".into() });
        }
        let boot_id = self
            .host
            .boot_id()
            .map_err(|error| LaunchError::Start { reason: error.to_string() })?;
        if let Err(reason) = self.open_groups(spec.id, spec.uid, &spec.slots, spec.access) {
            self.host.inside().kernel.users.retain(|_, user| *user != spec.id);
            return Err(LaunchError::Start { reason });
        }
        inside.started += 1;
        let handle = MachineHandle { id: spec.id, run: inside.current_run(), boot_id };
        if let Some(container) = &spec.container {
            let end = container.config.len().saturating_sub(4096);
            let record = container.config.get(end..).unwrap_or_default().to_vec();
            inside.results.insert(spec.id, record);
        }
        inside.launched.insert(spec.id, spec.clone());
        inside.ports.insert(spec.id, Ports::of(spec));
        inside.running.insert(spec.id, handle.clone());
        Ok(handle)
    }

    fn is_pinned(&self, _id: Uuid) -> bool {
        !self.inside().refuses_pins
    }

    fn find(&self, id: Uuid) -> Presence {
        let inside = self.inside();
        if inside.unknown.contains(&id) {
            return Presence::Unknown("the simulation says so".into());
        }
        inside.running.get(&id).cloned().map_or(Presence::Gone, Presence::Running)
    }

    fn pause(&self, id: Uuid) -> Result<Execution, LaunchError> {
        let mut inside = self.inside();
        if inside.execution(id)? == Execution::Running {
            inside.paused.insert(id);
        }
        inside.execution(id)
    }

    fn resume(&self, id: Uuid) -> Result<Execution, LaunchError> {
        let mut inside = self.inside();
        inside.execution(id)?;
        inside.paused.remove(&id);
        inside.execution(id)
    }

    fn execution(&self, id: Uuid) -> Result<Execution, LaunchError> {
        self.inside().execution(id)
    }

    fn usage(&self, id: Uuid) -> Result<Usage, LaunchError> {
        let inside = self.inside();
        inside.execution(id)?;
        Ok(inside.usage.get(&id).copied().unwrap_or_default())
    }

    fn check_space(&self, _spec: &MachineSpec) -> Result<(), LaunchError> {
        Ok(())
    }

    fn choices(&self, spec: &MachineSpec) -> Result<Vec<Choice>, LaunchError> {
        let slots = spec.slots.iter().map(|slot| {
            let functions: Vec<String> =
                slot.addresses().map(|address| address.to_string()).collect();
            Choice::new(format!("port {}", slot.port), functions.join(" "), "simulated")
        });
        Ok(slots.collect())
    }

    fn shut_down(&self, id: Uuid, _grace: Duration) -> Result<ShutDown, LaunchError> {
        let by_guest = !self.inside().stubborn.contains(&id);
        self.kill(id).map(|()| ShutDown { exit: Exit { code: Some(0) }, by_guest })
    }

    fn kill(&self, id: Uuid) -> Result<(), LaunchError> {
        if self.inside().unknown.contains(&id) {
            return Err(LaunchError::Deadline { action: "end".into(), seconds: 10 });
        }
        self.end(id, Some(0));
        Ok(())
    }

    fn wait(&self, handle: &MachineHandle) -> Result<Exit, LaunchError> {
        let mut inside = self.inside();
        while inside.running.get(&handle.id) == Some(handle) {
            inside = self.gone.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        let exit = inside.exits.get(&(handle.id, handle.run.clone())).copied();
        Ok(exit.unwrap_or(Exit { code: None }))
    }

    fn console(&self, id: Uuid) -> PathBuf {
        PathBuf::from(format!("{id}.log"))
    }

    /// The simulated guest repeats what it is sent.
    fn open_console(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError> {
        if !self.inside().running.contains_key(&id) {
            return Err(LaunchError::Gone);
        }
        let failed = |error: io::Error| LaunchError::Monitor { reason: error.to_string() };
        let (ours, its) = UnixStream::pair().map_err(failed)?;
        let mut input = its.try_clone().map_err(failed)?;
        let mut output = its.try_clone().map_err(failed)?;
        thread::spawn(move || io::copy(&mut input, &mut output));
        self.inside().consoles.push((id, its));
        Ok(Some(ours))
    }

    fn open_display(&self, id: Uuid, _display: Display) -> Result<UnixStream, LaunchError> {
        let reason = "it does not run".to_owned();
        self.open_console(id)?.ok_or(LaunchError::Monitor { reason })
    }

    fn open_agent(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError> {
        let mut inside = self.inside();
        if !inside.running.contains_key(&id) {
            return Err(LaunchError::Gone);
        }
        let failed = |error: io::Error| LaunchError::Monitor { reason: error.to_string() };
        let (ours, its) = UnixStream::pair().map_err(failed)?;
        let serves = its.try_clone().map_err(failed)?;
        // As that of a process.
        ours.set_nonblocking(true).map_err(failed)?;
        inside.consoles.push((id, its));
        if let Some(agent) = inside.agents.get(&id).cloned() {
            thread::spawn(move || agent.serve(&serves));
        }
        Ok(Some(ours))
    }

    fn has_vsock(&self) -> bool {
        self.inside().has_vsock
    }

    fn open_vsock(
        &self,
        cid: u32,
        _port: u32,
        _within: Duration,
    ) -> Result<UnixStream, LaunchError> {
        self.connect_vsock(cid)
    }

    fn guest_result(&self, id: Uuid) -> Result<Option<Vec<u8>>, LaunchError> {
        Ok(self.inside().results.get(&id).cloned())
    }

    fn device_access(&self, slots: &[GuestSlot], _running: Option<Uuid>) -> DeviceAccess {
        let takes = self.inside().takes_descriptors;
        let host = self.host.inside();
        let has_node = |source| match source {
            GuestSource::Function(address) => host.kernel.device_nodes.contains_key(&address),
            GuestSource::Mdev(_) => false,
        };
        let mut functions = slots.iter().flat_map(|slot| &slot.functions);
        match takes && functions.all(|function| has_node(function.source)) {
            true => DeviceAccess::Descriptors,
            false => DeviceAccess::Groups,
        }
    }

    fn free_port(&self, id: Uuid, slot: &GuestSlot, taken: &[u32]) -> Result<u32, LaunchError> {
        self.find_port(id, slot, taken)
    }

    fn plug(&self, plug: &Plug) -> Result<(), LaunchError> {
        self.plug_in(plug)
    }

    fn unplug(
        &self,
        id: Uuid,
        slot: &GuestSlot,
        _patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        self.take_out(id, slot)
    }

    fn plugged(&self, id: Uuid) -> Result<Option<Vec<PluggedFunction>>, LaunchError> {
        self.list_plugged(id).map(Some)
    }

    fn plug_part(&self, plug: &PartPlug) -> Result<(), LaunchError> {
        self.plug_in_part(plug)
    }

    fn unplug_part(
        &self,
        id: Uuid,
        place: PartPlace,
        _patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        self.take_out_part(id, place)
    }

    fn plugged_parts(&self, id: Uuid) -> Result<Option<Vec<PartPlace>>, LaunchError> {
        self.list_parts(id).map(Some)
    }

    fn machines(&self) -> Vec<KnownMachine> {
        let inside = self.inside();
        let ids: BTreeSet<Uuid> =
            inside.files.iter().chain(inside.running.keys()).copied().collect();
        let machine = |id| KnownMachine {
            id,
            uid: inside.uids.get(&id).copied(),
            dir: format!("/sim/machines/{id}").into(),
        };
        ids.into_iter().map(machine).collect()
    }
}
