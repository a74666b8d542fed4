//! `handover serve`: the daemon.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use daemon::serve::{Daemon, HOLD_CHANGES, Options, run};
use engine::{Config, ImageLimits, JournalKept};
use host::Follower;
use model::{HostMonitor, Refusal};
use service::cdi::Folder;

use crate::failure::{Done, Failure};
use crate::{log, this_host, values};

/// Run the daemon
///
/// Listens on a unix socket that root and the group handover may open; access to it is equivalent to root. Machines keep
/// running when the daemon ends; the next start manages them again, and finishes or rolls back interrupted operations.
#[derive(Debug, Args)]
pub struct Serve {
    /// Unix socket to listen on; RUN_DIR/handover.sock by default
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Listen on TCP too (plain HTTP), such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = values::listen_address)]
    listen: Option<SocketAddr>,

    /// File with the token for TCP clients; accessible to its owner only, read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Disable token authentication (loopback only)
    #[arg(long, requires = "listen")]
    no_auth: bool,

    /// Host name that TCP clients may use for this host (repeatable)
    #[arg(long = "host-name", value_name = "NAME")]
    host_names: Vec<String>,

    /// Directory of the journal, images and machines' disks
    #[arg(long, value_name = "DIR", default_value = "/var/lib/handover")]
    state_dir: PathBuf,

    /// Directory of sockets and locks; must be empty after a boot
    #[arg(long, value_name = "DIR", default_value = "/run/handover")]
    run_dir: PathBuf,

    /// Directory for CDI specs of prepared claims (`none` disables them)
    #[arg(long, value_name = "DIR|none", default_value = service::cdi::USUAL)]
    cdi_dir: PathBuf,

    /// Directory below which images may be imported by path (repeatable)
    #[arg(long = "image-dir", value_name = "DIR")]
    image_dirs: Vec<PathBuf>,

    /// Directory with names of block devices that machines may have as disks (repeatable), such as /dev/disk/by-id; none by
    /// default
    #[arg(long = "block-dir", value_name = "DIR")]
    block_dirs: Vec<PathBuf>,

    /// Devices file, whose names requests can use (docs/catalog.md); read again on SIGHUP
    #[arg(long = "resource-manager-pci-devices-file", value_name = "FILE")]
    devices_file: Option<PathBuf>,

    /// Largest file of an image, with its holes: all of it is hashed
    #[arg(long, value_name = "SIZE", default_value = "256GB", value_parser = values::size)]
    image_size: u64,

    /// How many images may be uploaded and imported at the same time; others are refused
    #[arg(long, value_name = "COUNT", default_value_t = ImageLimits::default().at_once,
        value_parser = values::imports)]
    image_imports: u32,

    /// User ids for machines, one each
    // Unused in systemd's table of user ids (UIDS-GIDS), which ends its own ranges at 1879048191.
    #[arg(long, value_name = "START-END", default_value = "1900000000-1900000999", value_parser = uids)]
    machine_uids: Range<u32>,

    /// Time that a guest has to shut down before its machine is killed
    // Less than the usual 60-second timeout of HTTP clients.
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = values::number::<u64>)]
    shutdown_grace: u64,

    /// How long an operation waits for a journal that cannot be written before it is rolled back
    #[arg(
        long,
        env = "HANDOVER_JOURNAL_TIMEOUT",
        hide_env = true,
        value_name = "SECONDS",
        default_value = "60",
        value_parser = values::number::<u64>
    )]
    journal_timeout: u64,

    /// How many of the latest operations the journal keeps
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = values::number::<u32>)]
    journal_operations: u32,

    /// How many days the journal keeps an operation; what a claim needs for its rollback stays longer
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = values::number::<u32>)]
    journal_days: u32,

    /// QEMU executable, such as /usr/bin/qemu-system-x86_64; the one on PATH by default
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,

    /// Log filter, such as debug or engine=debug
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

/// Parses `START-END`, inclusive.
fn uids(text: &str) -> Result<Range<u32>, String> {
    let numbers = text.split_once('-').and_then(|(start, end)| {
        Some((start.parse::<u32>().ok()?, end.parse::<u32>().ok()?.checked_add(1)?))
    });
    match numbers {
        Some((0, _)) => Err("0 is root: a machine never runs as root".to_owned()),
        Some((start, end)) if start < end => Ok(start..end),
        _ => Err("expected a range such as 1900000000-1900000999".to_owned()),
    }
}

impl Serve {
    pub fn run(self) -> Done {
        let _log = log::start(&self.log);
        self.serve().map_err(Failure::to("serve"))
    }

    fn serve(self) -> Result<(), Refusal> {
        if let Some(qemu) = &self.qemu {
            this_host::check_qemu(qemu)?;
        }
        let host = this_host::host(&self.root, &self.run_dir)?;
        let launchers = this_host::launchers(&self.root, &self.run_dir, &self.state_dir, self.qemu);
        let monitor = monitor(&self.root);
        let options = Options {
            socket: self.socket.unwrap_or_else(|| self.run_dir.join("handover.sock")),
            listen: self.listen,
            token_file: self.token_file,
            devices_file: self.devices_file,
            no_auth: self.no_auth,
            host_names: self.host_names,
            cdi: Folder::from_option(&self.cdi_dir),
            hold_changes: HOLD_CHANGES,
        };
        let config = Config {
            state_dir: self.state_dir,
            image_dirs: self.image_dirs,
            block_dirs: self.block_dirs.iter().map(|dir| absolute(dir)).collect(),
            image_limits: ImageLimits {
                largest_file: self.image_size,
                at_once: self.image_imports,
            },
            machine_uids: self.machine_uids,
            shutdown_grace: Duration::from_secs(self.shutdown_grace),
            journal_timeout: Duration::from_secs(self.journal_timeout),
            journal_kept: JournalKept {
                operations: self.journal_operations,
                days: self.journal_days,
            },
            guest_init: this_host::guest_init(),
        };
        let host = Arc::new(host);
        let scan = host.clone();
        run(Daemon { options, config, host, launchers, monitor, scan })
    }
}

/// The directory with its whole path: its names are recorded.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// Uevent monitoring of the running system; `None` for another root, or in a sandbox without netlink.
fn monitor(root: &Path) -> Option<Arc<dyn HostMonitor>> {
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
