//! How QEMU is started: the order for the launcher, and the launcher with the machine's lock in its hands.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};

use model::{LaunchError, MachineSpec};
use uuid::Uuid;

use super::argv::{Place, arguments};
use super::binary::Accelerator;
use super::files::expect_reachable;
use super::{Qemu, forget, window};
use crate::launcher::Order;
use crate::process::Watch;

/// What VFIO pins beside the guest's memory: QEMU's own, and the device memory that is mapped.
const MEMLOCK_MARGIN: u64 = 1 << 30;
const MEMLOCK_FUNCTION: u64 = 64 << 20;

impl Qemu {
    /// Orders for the launcher.
    pub(super) fn order(&self, spec: &MachineSpec) -> Result<Order, LaunchError> {
        let program = self.finder.path().map_err(|reason| LaunchError::Unavailable { reason })?;
        let files = self.files(spec.id);
        let accelerator = Accelerator::here(&self.config.root);
        let place = Place {
            root: &self.config.root,
            accelerator,
            disk: files.disk(),
            console: files.console(),
            mmio_window: window::needed(&self.config.root, spec),
        };
        let own = spec.disk.as_ref().map(|disk| &disk.base);
        let boot = spec.kernel.as_ref();
        let boot = boot.iter().flat_map(|boot| boot.initrd.iter().chain([&boot.kernel]));
        for file in own.into_iter().chain(boot).chain([&place.console]) {
            expect_reachable(file, spec.uid)?;
        }
        let args = arguments(spec, &place)
            .map_err(|error| LaunchError::Start { reason: error.to_string() })?;
        let group = match accelerator {
            Accelerator::Kvm { group } => group,
            Accelerator::Tcg => None,
        };
        Ok(Order {
            id: spec.id,
            root: self.config.root.clone(),
            run_dir: self.config.run_dir.clone(),
            uid: spec.uid,
            groups: group.into_iter().collect(),
            memlock: memlock(spec),
            program,
            args,
        })
    }

    /// Takes the machine's lock, writes the order into it, and starts the launcher with it.
    pub(super) fn spawn(&self, spec: &MachineSpec, order: &Order) -> Result<Watch, LaunchError> {
        let run = self.run_dir(spec.id);
        let at = run.path().to_owned();
        let failed = |action: &'static str| {
            let at = &at;
            move |error: io::Error| LaunchError::File {
                action: action.into(),
                path: at.display().to_string(),
                reason: error.to_string(),
            }
        };
        run.prepare().map_err(failed("make"))?;
        let Some(lock) = run.take_patiently().map_err(failed("lock"))? else {
            let reason = "something holds its lock: an earlier VMM is not yet gone".into();
            return Err(LaunchError::Start { reason });
        };
        let text = serde_json::to_vec(order)
            .map_err(|error| failed("write the order in")(error.into()))?;
        run.record()
            .and_then(|earlier| forget(&run, earlier.as_ref()))
            .and_then(|()| run.write_order(&text))
            .map_err(failed("write the order in"))?;
        let log = self.files(spec.id).open_log()?;
        self.start_launcher(spec.id, lock, log).map_err(|error| LaunchError::Start {
            reason: format!("the launcher cannot be run: {error}"),
        })
    }

    /// The lock becomes the launcher's standard input and is closed here: no other child can inherit it, and the VMM
    /// alone holds it.
    fn start_launcher(&self, id: Uuid, lock: File, log: File) -> io::Result<Watch> {
        let (program, arguments) =
            self.config.launcher.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::from(lock))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()?;
        Watch::of_child(&self.proc, id, child.id()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })
    }
}

/// VFIO pins all of the guest's memory, counted for the process (vfio_iommu_type1) or the user (iommufd). A machine
/// without devices pins nothing.
fn memlock(spec: &MachineSpec) -> Option<u64> {
    let functions: usize = spec.slots.iter().map(|slot| slot.functions.len()).sum();
    let functions = u64::try_from(functions).ok().filter(|functions| *functions > 0)?;
    let margin = MEMLOCK_MARGIN.saturating_add(functions.saturating_mul(MEMLOCK_FUNCTION));
    Some(spec.memory.saturating_add(margin))
}
