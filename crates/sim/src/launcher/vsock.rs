//! Connections to guests by vsock.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use model::LaunchError;

use super::SimLauncher;

/// Serves a connection to a guest.
pub(super) type Serve = Arc<dyn Fn(UnixStream) + Send + Sync>;

impl SimLauncher {
    /// Machines can have vsock from now on.
    pub fn set_vsock(&self) {
        self.inside().has_vsock = true;
    }

    /// What serves connections to guests by vsock from now on, each in a thread of its own. Without it nothing listens there.
    pub fn set_vsock_guest(&self, serve: impl Fn(UnixStream) + Send + Sync + 'static) {
        self.inside().vsock_guest = Some(Arc::new(serve));
    }

    pub(super) fn connect_vsock(&self, cid: u32) -> Result<UnixStream, LaunchError> {
        let inside = self.inside();
        let monitor = |reason: String| LaunchError::Monitor { reason };
        let runs = |id| inside.launched.get(id).and_then(|spec| spec.container.as_ref()?.vsock);
        if !inside.running.keys().any(|id| runs(id) == Some(cid)) {
            return Err(monitor(format!("no machine with the vsock number {cid} runs")));
        }
        let nothing = || monitor("nothing listens on the port of the guest's vsock".into());
        let serve = inside.vsock_guest.clone().ok_or_else(nothing)?;
        let (ours, its) = UnixStream::pair().map_err(|error| monitor(error.to_string()))?;
        thread::spawn(move || serve(its));
        Ok(ours)
    }
}
