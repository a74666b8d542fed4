//! `handover claim`, `claims`, `prepare`, `unprepare`, `release` and `renew`.

mod elsewhere;
mod print;

use std::path::PathBuf;

use api::client::segment;
use api::{CreateClaim, PlannedClaim, PrepareClaim, RenewClaim, Wish};
use clap::Args;
use service::claims::ClaimService;

use crate::backend::Backend;
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::names::Names;
use crate::output;
use crate::source::Source;
use crate::values::{number, seconds};

/// Claim devices or parts of devices, and prepare them for a virtual machine
///
/// Claims everything requested, or nothing. Claiming is idempotent per owner and request. Prints what QEMU, Cloud
/// Hypervisor, libvirt and container tools need to use the devices.
#[derive(Debug, Args)]
#[command(after_long_help = format!("What can be claimed:\n{}", model::choose::GRAMMAR))]
pub struct Claim {
    #[command(flatten)]
    backend: Backend,

    /// Devices to claim: an address, a registered name, 2xgpu, 10de:20b0, 4xvf@NIC, profile=L40S-1Q, mdev=UUID
    #[arg(required = true, value_name = "WANT")]
    wants: Vec<String>,

    /// Owner KIND/ID; person/YOU by default
    #[arg(long, value_name = "KIND/ID")]
    owner: Option<String>,

    /// Purpose, as free text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Duration of the lease, such as 90s, 30m, 8h or 2d; no lease by default
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    lease: Option<u64>,

    /// Reserve only; `handover prepare` prepares the claim later
    #[arg(long)]
    reserve: bool,

    /// Print the devices that would be claimed and the steps that would prepare them; change nothing, and reserve nothing
    #[arg(long)]
    dry_run: bool,

    /// With --dry-run: what would be claimed on the host of this recording, or below this root directory
    #[arg(long, value_name = "DIR|FILE", requires = "dry_run")]
    root: Option<PathBuf>,

    #[command(flatten)]
    how: How,

    /// Leave the companions of a GPU (audio, USB) that are in other IOMMU groups
    #[arg(long)]
    alone: bool,

    /// Accept several devices of a kind that are not of one model, as in 2xgpu
    #[arg(long)]
    mixed: bool,

    /// Let a kind of device also mean the display of the host's console or of its management controller, if there is no
    /// other
    #[arg(long)]
    any_display: bool,

    /// Also write mdevctl definitions for created mdevs (removed on release)
    #[arg(long)]
    define: bool,

    /// Keep the devices on the boot list for as long as the claim lasts; takes effect when the initial ramdisk is
    /// rebuilt
    #[arg(long)]
    at_boot: bool,
}

/// Options of preparing
#[derive(Debug, Clone, Copy, Args)]
struct How {
    /// User id that may open the prepared devices; root by default
    #[arg(long, value_name = "UID", value_parser = number::<u32>)]
    uid: Option<u32>,

    /// Reset the functions after binding them to vfio
    #[arg(long)]
    reset: bool,

    /// Ask processes that use a function to terminate; none is killed
    #[arg(long)]
    evict: bool,

    /// Take devices that the host's network uses, if they are claimed by address or registered name; their routes,
    /// addresses and sessions end
    #[arg(long)]
    force_network: bool,

    /// Take GPUs that the host's desktop or console draws on: the display manager and its sessions end, and come back when
    /// the claim ends. Only with a daemon
    #[arg(long)]
    take_display: bool,
}

/// List the claims
#[derive(Debug, Args)]
pub struct Claims {
    #[command(flatten)]
    backend: Backend,
}

/// Prepare a reserved claim for a virtual machine
#[derive(Debug, Args)]
pub struct Prepare {
    #[command(flatten)]
    backend: Backend,
    /// Id of the claim, or its owner KIND/ID if that has no other claim
    claim: String,
    #[command(flatten)]
    how: How,
}

/// Return a claim's devices to the host, and keep the reservation
#[derive(Debug, Args)]
pub struct Unprepare {
    #[command(flatten)]
    backend: Backend,
    /// Id of the claim, or its owner KIND/ID if that has no other claim
    claim: String,
}

/// Release a claim, and return its devices to the host
///
/// The devices get the drivers that they had before. A claim that a machine uses is not released: stop the machine first.
/// The claims of an instance end with the instance (`handover instance rm`).
#[derive(Debug, Args)]
#[command(
    override_usage = "handover release [OPTIONS] <CLAIM>\n       handover release [OPTIONS] --owner <KIND/ID>"
)]
pub struct Release {
    #[command(flatten)]
    backend: Backend,
    /// Id of the claim, or its owner KIND/ID if that has no other claim
    #[arg(required_unless_present = "owner")]
    claim: Option<String>,
    /// Release only if the claim has this owner; without CLAIM: release the owner's only claim
    #[arg(long, value_name = "KIND/ID")]
    owner: Option<String>,
}

/// Renew the lease of a claim from now on
#[derive(Debug, Args)]
#[command(
    override_usage = "handover renew [OPTIONS] --lease <TIME> <CLAIM>\n       handover renew [OPTIONS] --no-lease <CLAIM>"
)]
pub struct Renew {
    #[command(flatten)]
    backend: Backend,
    /// Id of the claim, or its owner KIND/ID if that has no other claim
    claim: String,
    /// Duration of the lease, such as 90s, 30m, 8h or 2d
    #[arg(long, value_name = "TIME", value_parser = seconds, required_unless_present = "no_lease")]
    lease: Option<u64>,
    /// Remove the lease: the claim stays until it is released
    #[arg(long, conflicts_with = "lease")]
    no_lease: bool,
}

impl Claim {
    pub fn run(self) -> Done {
        let what = Failure::to(format!("claim {}", self.wants.join(", ")));
        let body = CreateClaim {
            owner: self.owner.unwrap_or_else(person),
            wants: self.wants.into_iter().map(Wish::Words).collect(),
            reason: self.reason,
            lease_seconds: self.lease,
            prepare: Some(!self.reserve),
            uid: self.how.uid,
            alone: self.alone,
            mixed: self.mixed,
            any_display: self.any_display,
            define: self.define,
            at_boot: self.at_boot,
            reset: self.how.reset,
            evict: self.how.evict,
            force_network: self.how.force_network,
            take_display: self.how.take_display,
        };
        if let Some(root) = self.root {
            let planned = elsewhere::dry_run(&Source { root }, body).map_err(what)?;
            return print::planned(&self.backend.connection, &planned);
        }
        if self.dry_run {
            let here = body.clone();
            let planned: PlannedClaim = self
                .backend
                .ask(
                    async |client| client.post("/claims?dry_run=true", Some(&body)).await,
                    |engine| service::claims::dry_run(engine, here),
                )
                .map_err(what)?;
            return print::planned(&self.backend.connection, &planned);
        }
        let claim = self
            .backend
            .expect_daemon_for(body.take_display)
            .and_then(|()| self.backend.claim(body))
            .map_err(what)?;
        show(&self.backend.connection, &claim)
    }
}

impl Claims {
    pub fn run(self) -> Done {
        let claims = self.backend.list().map_err(Failure::to("list the claims"))?;
        print::all(&self.backend.connection, &claims, &self.instances(&claims))
    }
}

impl Claims {
    /// The names of instances that own claims; only ids if they cannot be read.
    fn instances(&self, claims: &[api::Claim]) -> Names {
        if !claims.iter().any(|claim| claim.owner.starts_with("instance/")) {
            return Names::default();
        }
        let all = self.backend.ask(
            async |client| client.get("/instances").await,
            |engine| service::instances::list(engine, &api::Tags::new(), None),
        );
        all.map(Names::instances).unwrap_or_default()
    }
}

impl Prepare {
    pub fn run(self) -> Done {
        let How { uid, reset, evict, force_network, take_display } = self.how;
        let body = PrepareClaim { uid, reset, evict, force_network, take_display };
        let path = format!("/claims/{}/prepare", segment(&self.claim));
        let claim = self
            .backend
            .expect_daemon_for(take_display)
            .and_then(|()| {
                self.backend.ask(
                    async |client| client.post(&path, Some(&body)).await,
                    |engine| service::claims::prepare(engine, &self.claim, body),
                )
            })
            .map_err(Failure::to(format!("prepare the claim {}", self.claim)))?;
        show(&self.backend.connection, &claim)
    }
}

impl Unprepare {
    pub fn run(self) -> Done {
        let path = format!("/claims/{}/unprepare", segment(&self.claim));
        let claim = self
            .backend
            .ask(
                async |client| client.post(&path, None::<&()>).await,
                |engine| service::claims::unprepare(engine, &self.claim),
            )
            .map_err(Failure::to(format!("unprepare the claim {}", self.claim)))?;
        show(&self.backend.connection, &claim)
    }
}

impl Release {
    pub fn run(self) -> Done {
        let Self { backend, claim, owner } = self;
        let Some(key) = claim.or_else(|| owner.clone()) else { return Ok(()) };
        let released = backend.release(&key, owner.as_deref());
        let released = released.map_err(Failure::to(format!("release the claim {key}")))?;
        released.notes.iter().for_each(|note| output::warning(note));
        output::changed(&backend.connection, &format!("Released the claim {key}."))
    }
}

impl Renew {
    pub fn run(self) -> Done {
        let path = format!("/claims/{}/renew", segment(&self.claim));
        let body = RenewClaim { lease_seconds: self.lease };
        let claim = self
            .backend
            .ask(
                async |client| client.post(&path, Some(&body)).await,
                |engine| service::claims::renew(engine, &self.claim, self.lease),
            )
            .map_err(Failure::to(format!("renew the claim {}", self.claim)))?;
        show(&self.backend.connection, &claim)
    }
}

pub fn show(connection: &Connection, claim: &api::Claim) -> Done {
    claim.notes.iter().for_each(|note| output::warning(note));
    if connection.json() { output::json(claim) } else { print::claim(claim) }
}

/// The owner of claims by default: the user who ran `sudo`, or the current user.
pub fn person() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|key| std::env::var(key).ok().filter(|name| !name.is_empty()));
    format!("person/{}", name.unwrap_or_else(|| "root".to_owned()))
}
