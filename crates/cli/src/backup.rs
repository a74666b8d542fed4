//! `handover backup` and `handover restore`: copies of Handover's state.

use std::path::{Path, PathBuf};

use clap::Args;
use engine::Restored;
use model::{Code, Host as _, HostLockError, Refusal};

use crate::failure::{Done, Failure};
use crate::{output, this_host};

/// Back up Handover's state to a new file
///
/// Copies claims, registrations, instances and the journal as of one moment. The daemon may run meanwhile. Images and
/// the disks of machines are not copied: they are files below the state directory.
#[derive(Debug, Args)]
pub struct Backup {
    /// The new file
    file: PathBuf,

    /// Directory of the journal
    #[arg(long, value_name = "DIR", default_value = "/var/lib/handover")]
    state_dir: PathBuf,
}

/// Restore Handover's state from a backup; stop the daemon first
///
/// The replaced state is kept beside it, as state.db.replaced-1. Devices that were claimed after the backup are not
/// returned to their drivers: run `handover return --all`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    file: PathBuf,

    /// Directory of the journal
    #[arg(long, value_name = "DIR", default_value = "/var/lib/handover")]
    state_dir: PathBuf,

    /// Directory of locks
    #[arg(long, value_name = "DIR", default_value = "/run/handover")]
    run_dir: PathBuf,

    /// The root of sysfs, procfs and devfs
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

impl Backup {
    pub fn run(self) -> Done {
        let shown = self.file.display().to_string();
        if self.file == Path::new("-") {
            return Err(Failure::to("back up")(Refusal::new(
                Code::InvalidRequest,
                "a backup is a database, which is written to a file and not to standard output",
                "name a file: `handover backup FILE`; ./- is a file named -",
            )));
        }
        engine::backup(&self.state_dir, &self.file)
            .map_err(Failure::to(format!("back up to {shown}")))?;
        output::line(&format!("Backed up {} to {shown}.", self.state_dir.display()))
    }
}

impl Restore {
    pub fn run(self) -> Done {
        let shown = self.file.display().to_string();
        if self.file == Path::new("-") {
            return Err(Failure::to("restore")(Refusal::new(
                Code::InvalidRequest,
                "a backup is read from a file and not from standard input",
                "name the file: `handover restore FILE`; ./- is a file named -",
            )));
        }
        let Restored { kept, notes } =
            self.restore().map_err(Failure::to(format!("restore {shown}")))?;
        let kept = kept.map(|kept| format!(" The previous state is kept in {}.", kept.display()));
        output::line(&format!("Restored {shown}.{}", kept.unwrap_or_default()))?;
        output::line(
            "Start the daemon; then `handover return --all` returns devices that no claim has.",
        )?;
        notes.iter().for_each(|note| output::warning(note));
        Ok(())
    }

    fn restore(&self) -> Result<Restored, Refusal> {
        let host = this_host::host(&self.root, &self.run_dir)?;
        let _lock =
            host.lock_host(&self.state_dir).map_err(|error| locked(&error, &self.state_dir))?;
        engine::restore(&self.state_dir, &self.file)
    }
}

fn locked(error: &HostLockError, state_dir: &Path) -> Refusal {
    match error {
        HostLockError::Held(_) => Refusal::new(
            Code::StateLocked,
            error.to_string(),
            "stop it first: systemctl stop handover",
        ),
        HostLockError::Host(_) => Refusal::new(
            Code::Internal,
            format!("cannot lock the host for {}: {error}", state_dir.display()),
            "run as root",
        ),
    }
}
