//! The simulated launcher, with consoles that are files.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Availability, Choice, Display, Execution, Exit, KnownMachine, LaunchError, Launcher,
    MachineHandle, MachineSpec, Presence, Rom, ShutDown, Usage,
};
use sim::SimLauncher;
use uuid::Uuid;

pub struct Recorded {
    pub inner: Arc<SimLauncher>,
    pub dir: PathBuf,
}

impl Launcher for Recorded {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn availability(&self) -> Availability {
        self.inner.availability()
    }

    fn create_files(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        self.inner.create_files(spec)
    }

    fn remove_files(&self, id: Uuid) -> Result<(), LaunchError> {
        self.inner.remove_files(id)
    }

    fn launch(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError> {
        std::fs::write(self.console(spec.id), "GUEST one\r\nGUEST \"two\"\nlogin: ").unwrap();
        self.inner.launch(spec)
    }

    fn find(&self, id: Uuid) -> Presence {
        self.inner.find(id)
    }

    fn pause(&self, id: Uuid) -> Result<Execution, LaunchError> {
        self.inner.pause(id)
    }

    fn resume(&self, id: Uuid) -> Result<Execution, LaunchError> {
        self.inner.resume(id)
    }

    fn execution(&self, id: Uuid) -> Result<Execution, LaunchError> {
        self.inner.execution(id)
    }

    fn usage(&self, id: Uuid) -> Result<Usage, LaunchError> {
        self.inner.usage(id)
    }

    fn check_space(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        self.inner.check_space(spec)
    }

    fn choices(&self, spec: &MachineSpec) -> Result<Vec<Choice>, LaunchError> {
        self.inner.choices(spec)
    }

    fn shut_down(&self, id: Uuid, grace: Duration) -> Result<ShutDown, LaunchError> {
        self.inner.shut_down(id, grace)
    }

    fn kill(&self, id: Uuid) -> Result<(), LaunchError> {
        self.inner.kill(id)
    }

    fn wait(&self, handle: &MachineHandle) -> Result<Exit, LaunchError> {
        self.inner.wait(handle)
    }

    fn console(&self, id: Uuid) -> PathBuf {
        self.dir.join(self.inner.console(id))
    }

    fn open_console(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError> {
        self.inner.open_console(id)
    }

    fn open_display(&self, id: Uuid, display: Display) -> Result<UnixStream, LaunchError> {
        self.inner.open_display(id, display)
    }

    fn rom(&self, id: Uuid, rom: &Rom) -> Result<Option<Vec<u8>>, LaunchError> {
        self.inner.rom(id, rom)
    }

    fn open_agent(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError> {
        self.inner.open_agent(id)
    }

    fn has_vsock(&self) -> bool {
        self.inner.has_vsock()
    }

    fn open_vsock(&self, cid: u32, port: u32, within: Duration) -> Result<UnixStream, LaunchError> {
        self.inner.open_vsock(cid, port, within)
    }

    fn guest_result(&self, id: Uuid) -> Result<Option<Vec<u8>>, LaunchError> {
        self.inner.guest_result(id)
    }

    fn machines(&self) -> Vec<KnownMachine> {
        self.inner.machines()
    }
}
