//! `handover serve`: the daemon.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use daemon::serve::{Daemon, Options, run};
use engine::{Config, JournalKept};
use host::Follower;
use model::{Following, Refusal};
use service::cdi::Folder;

use crate::failure::{Done, Failure};
use crate::{log, this_host};

/// Run the daemon
///
/// It listens on a unix socket, which root and the group handover may open: who can is as good as root. When it ends,
/// machines go on running; the next start manages them again, and finishes or undoes what was begun.
#[derive(Debug, Args)]
pub struct Serve {
    /// The socket; RUN_DIR/handover.sock by default
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Listen by TCP, too: plain HTTP
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// The file with the token that TCP asks for; only its owner may read it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Disable token authentication (loopback only)
    #[arg(long, requires = "listen")]
    no_auth: bool,

    /// A name by which this host is called over TCP (may be repeated)
    #[arg(long = "host-name", value_name = "NAME")]
    host_names: Vec<String>,

    /// Where the journal, images and machines' disks are
    #[arg(long, value_name = "DIR", default_value = "/var/lib/handover")]
    state_dir: PathBuf,

    /// Where sockets and locks are: empty after a boot
    #[arg(long, value_name = "DIR", default_value = "/run/handover")]
    run_dir: PathBuf,

    /// Directory for CDI specifications of prepared claims (`none` disables them)
    #[arg(long, value_name = "DIR|none", default_value = service::cdi::USUAL)]
    cdi_dir: PathBuf,

    /// A directory from below which images may be imported by path (may be repeated)
    #[arg(long = "image-dir", value_name = "DIR")]
    image_dirs: Vec<PathBuf>,

    /// The users that machines run as, one each
    // Unused in systemd's table of user ids (UIDS-GIDS), which ends its own ranges at 1879048191.
    #[arg(long, value_name = "START-END", default_value = "1900000000-1900000999", value_parser = uids)]
    machine_uids: Range<u32>,

    /// How long a guest may take to shut down before its machine is ended
    // Less than the minute after which HTTP clients commonly give up on an answer.
    #[arg(long, value_name = "SECONDS", default_value = "45")]
    shutdown_grace: u64,

    /// How long an operation waits for a journal that cannot be written before it is rolled back
    #[arg(
        long,
        env = "HANDOVER_JOURNAL_TIMEOUT",
        hide_env = true,
        value_name = "SECONDS",
        default_value = "60"
    )]
    journal_timeout: u64,

    /// How many of the latest operations the journal keeps
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    journal_operations: u32,

    /// How many days the journal keeps an operation; what a claim needs for its undo stays longer
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    journal_days: u32,

    /// QEMU, where it is not the one on PATH
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,

    /// How much is logged, such as debug or engine=debug
    #[arg(
        long,
        env = "RUST_LOG",
        hide_env_values = true,
        value_name = "FILTER",
        default_value = "info"
    )]
    log: String,

    /// The root of sysfs, procfs and devfs
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Reads `START-END`, both within.
fn uids(text: &str) -> Result<Range<u32>, String> {
    let numbers = text.split_once('-').and_then(|(start, end)| {
        Some((start.parse::<u32>().ok()?, end.parse::<u32>().ok()?.checked_add(1)?))
    });
    match numbers {
        Some((0, _)) => Err("0 is root: a machine never runs as root".to_owned()),
        Some((start, end)) if start < end => Ok(start..end),
        _ => Err("write it like 1900000000-1900000999".to_owned()),
    }
}

impl Serve {
    pub fn run(self) -> Done {
        let _log = log::start(&self.log);
        self.serve().map_err(Failure::to("serve"))
    }

    fn serve(self) -> Result<(), Refusal> {
        let host = this_host::host(&self.root, &self.run_dir)?;
        let launchers = this_host::launchers(&self.root, &self.run_dir, &self.state_dir, self.qemu);
        let following = following(&self.root);
        let options = Options {
            socket: self.socket.unwrap_or_else(|| self.run_dir.join("handover.sock")),
            listen: self.listen,
            token_file: self.token_file,
            no_auth: self.no_auth,
            host_names: self.host_names,
            cdi: Folder::from_option(&self.cdi_dir),
        };
        let config = Config {
            state_dir: self.state_dir,
            image_dirs: self.image_dirs,
            machine_uids: self.machine_uids,
            shutdown_grace: Duration::from_secs(self.shutdown_grace),
            journal_timeout: Duration::from_secs(self.journal_timeout),
            journal_kept: JournalKept {
                operations: self.journal_operations,
                days: self.journal_days,
            },
        };
        let host = Arc::new(host);
        let examined = host.clone();
        run(Daemon { options, config, host, launchers, following, examined })
    }
}

/// The inventory that follows the kernel. Only the running system tells of itself, and not into every sandbox.
fn following(root: &Path) -> Option<Arc<dyn Following>> {
    if root != Path::new("/") {
        return None;
    }
    match Follower::listen() {
        Ok(follower) => Some(Arc::new(follower)),
        Err(error) => {
            tracing::warn!("no uevent monitoring; rescanning on every request: {error}");
            None
        }
    }
}
