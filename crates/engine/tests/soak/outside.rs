//! Events by other tools, people, programs and hardware.

use engine::{Engine, InstanceState};
use model::{Address, Holder, Host, HostError, PowerControl, Step};
use sim::Fault;
use uuid::Uuid;

use crate::history::Outside;
use crate::truth::Ours;
use crate::world::{World, lock};

/// The UUID of a mediated device that another tool creates.
fn mdev(number: u8) -> Uuid {
    Uuid::from_u128(0xf_0000 + u128::from(number))
}

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

impl World {
    /// Performs an event outside of the engine; `meanwhile`: during a verb.
    pub fn outside(&self, engine: &Engine, what: &Outside, meanwhile: bool) {
        let before = self.host.snapshot();
        self.happens(engine, what, meanwhile);
        let after = self.host.snapshot();
        let ours = Ours::of(&engine.claims().all().unwrap(), meanwhile);
        let mut truth = lock(&self.truth);
        truth.see(&self.host.inventory().unwrap());
        // A stuck step that continues was started by the engine.
        if !matches!(what, Outside::GoOn) {
            truth.changed(&before, &after, &ours);
        }
    }

    fn happens(&self, engine: &Engine, what: &Outside, meanwhile: bool) {
        match what {
            Outside::Unbind { .. }
            | Outside::Return { .. }
            | Outside::Override { .. }
            | Outside::Script { .. }
            | Outside::MakeMdev { .. }
            | Outside::RemoveMdev { .. }
            | Outside::VfCount { .. }
            | Outside::Vgpu { .. } => self.meddle(what),
            Outside::Stray { .. }
            | Outside::Hold { .. }
            | Outside::LetGo { .. }
            | Outside::Network { .. }
            | Outside::HideHolders { .. } => self.use_it(what),
            Outside::GuestExits { .. }
            | Outside::RefuseLaunch
            | Outside::RefuseRemoval
            | Outside::Unknown { .. } => self.machine(engine, what, meanwhile),
            Outside::Dice { seed, per_mille, kinds } => {
                let kinds: Vec<Fault> =
                    kinds.iter().map(|kind| Fault::ALL[usize::from(*kind)]).collect();
                lock(&self.truth).may_lose |= kinds.contains(&Fault::Lose);
                self.host.dice(*seed, *per_mille, &kinds);
            }
            Outside::ClearFaults => self.host.clear_faults(),
            Outside::GoOn => self.host.release(),
            _ => self.hardware(what),
        }
    }

    fn hardware(&self, what: &Outside) {
        match what {
            Outside::Remove { address } => {
                self.host.remove(at(address));
                // Returning it rescans its bus and finds it.
                lock(&self.truth).loosen(at(address));
            }
            Outside::Pull { address } => self.host.pull(at(address)),
            Outside::Plug { address, another } => {
                self.host.plug(at(address), another.then_some("00-00-00-ff-fe-99-99-99"));
            }
            Outside::LoseLink { address } => self.host.lose_link(at(address)),
            Outside::RegainLink { address } => self.host.regain_link(at(address)),
            _ => {}
        }
    }

    /// Performs another tool's steps, as far as the kernel allows.
    fn meddle(&self, what: &Outside) {
        let now = self.host.snapshot();
        let driver = |address: &str| now.functions.get(&at(address))?.driver.clone();
        let reserved = |address: &str| now.functions.get(&at(address))?.driver_override.clone();
        let native = |address: &str| {
            let detail = self.host.detail(&[at(address)]).ok()?;
            detail.function(at(address))?.detail.as_ref()?.candidate_drivers.first().cloned()
        };
        let steps = match what {
            Outside::Unbind { address } => driver(address)
                .map(|driver| Step::Unbind { address: at(address), driver })
                .into_iter()
                .collect(),
            Outside::Return { address } => native(address)
                .map(|driver| Step::Return { address: at(address), driver })
                .into_iter()
                .collect(),
            Outside::Override { address, driver } => {
                let from = reserved(address);
                vec![Step::SetOverride { address: at(address), from, to: driver.clone() }]
            }
            Outside::Script { address } => script(at(address), reserved(address), driver(address)),
            Outside::MakeMdev { address, number, type_id } => {
                let (address, uuid) = (at(address), mdev(*number));
                vec![Step::CreateMdev { address, uuid, type_id: type_id.clone() }]
            }
            Outside::RemoveMdev { number } => now
                .mdevs
                .get(&mdev(*number))
                .map(|there| Step::RemoveMdev {
                    address: there.parent,
                    uuid: mdev(*number),
                    type_id: there.type_id.clone(),
                })
                .into_iter()
                .collect(),
            Outside::VfCount { address, count } => {
                let address = at(address);
                lock(&self.counted).insert(address);
                let from = now.vf_counts.get(&address).copied().unwrap_or_default();
                vec![Step::SetVfCount { address, from, to: *count }]
            }
            Outside::Vgpu { address, type_id } => {
                let _ = self.host.write_vgpu(at(address), *type_id);
                Vec::new()
            }
            _ => Vec::new(),
        };
        for step in steps {
            // A hanging step takes effect later.
            if let Err(HostError::Deadline { .. }) = self.host.meddle(&step) {
                step.address().into_iter().for_each(|address| lock(&self.truth).loosen(address));
            }
        }
        // A driver that is unbound removes its virtual functions.
        let before = now.vf_counts;
        let after = self.host.snapshot().vf_counts;
        let changed =
            before.keys().chain(after.keys()).filter(|at| before.get(at) != after.get(at));
        lock(&self.counted).extend(changed);
    }

    fn use_it(&self, what: &Outside) {
        match what {
            Outside::Stray { address, pid } => {
                let inventory = self.host.inventory().unwrap();
                let group = inventory.function(at(address)).and_then(|f| f.iommu_group);
                if let Some(group) = group {
                    self.host.open_group(group, *pid);
                }
            }
            Outside::Hold { address, pid, stubborn } => {
                let holder = Holder {
                    address: at(address),
                    kind: model::HolderKind::Process,
                    pid: Some(*pid),
                    started: Some(u64::from(*pid)),
                    program: Some("dpdk".into()),
                    user: format!("dpdk (pid {pid})"),
                    by: "/dev/uio0".into(),
                    mdev: None,
                    interface: None,
                };
                if *stubborn {
                    self.host.hold_stubbornly(holder);
                } else {
                    self.host.hold(holder);
                }
            }
            Outside::LetGo { pid } => self.host.let_go(*pid),
            Outside::Network { address, up: true } => {
                self.host.use_network(at(address), "port of br0");
            }
            Outside::Network { address, up: false } => self.host.end_network(at(address)),
            Outside::HideHolders { hidden } => self.host.hide_holders(*hidden),
            _ => {}
        }
    }

    fn machine(&self, engine: &Engine, what: &Outside, meanwhile: bool) {
        match what {
            Outside::GuestExits { name } => {
                let Ok(instance) = engine.instances().find(name) else { return };
                if instance.options.seat.take_display {
                    // Its display goes back to the host: the claim is only reserved then.
                    let owner = model::Owner::instance(instance.id).to_string();
                    lock(&self.touched).insert(owner);
                }
                self.launcher.exit(instance.id, 0);
                // A thread of the engine notices it; waiting for that makes the history reproducible.
                if !meanwhile && instance.state == InstanceState::Running {
                    let limit = std::time::Duration::from_secs(5);
                    let _ = engine.instances().wait(name, InstanceState::Shutdown, limit);
                    // In the same turn it gives devices back, such as the host's display. This waits for the turn, and is refused.
                    let _ = engine.instances().pause(name);
                }
            }
            Outside::RefuseLaunch => self.launcher.refuse_next("a fault"),
            Outside::RefuseRemoval => self.launcher.refuse_next_removal("a fault"),
            Outside::Unknown { name, unknown } => {
                if let Ok(instance) = engine.instances().find(name) {
                    self.launcher.set_unknown(instance.id, *unknown);
                }
            }
            _ => {}
        }
    }
}

/// The steps of a start script from a passthrough guide.
fn script(address: Address, reserved: Option<String>, driver: Option<String>) -> Vec<Step> {
    let vfio: String = "vfio-pci".into();
    let unbind = driver.filter(|driver| *driver != vfio);
    let mut steps = vec![
        Step::LoadModule { module: "vfio_pci".into() },
        Step::SetOverride { address, from: reserved, to: Some(vfio.clone()) },
    ];
    steps.extend(unbind.map(|driver| Step::Unbind { address, driver }));
    steps.push(Step::Bind { address, driver: vfio });
    steps.push(Step::SetPower { address, from: PowerControl::Auto, to: PowerControl::Auto });
    steps
}
