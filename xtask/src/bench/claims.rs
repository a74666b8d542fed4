//! Costs of claims: Handover's share of a step, claims per second over REST, and devices prepared in parallel. The
//! kernel is simulated; journal, workers and daemon are real.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use api::client::{Client, Endpoint, segment};
use api::{CreateClaim, Wish};
use daemon::serve::{self, Daemon, Options};
use engine::{ClaimRequest, Config, Engine, Observer, Silent};
use host::LinuxHost;
use model::{Host, Launcher, Owner, Step};
use sim::{SimHost, SimLauncher};

use super::Figure;
use super::engine::{Folder, synchronous_write};
use super::host::{Spent, WithWorkers};

const RUNS: usize = 50;

/// A NIC of the simulated workstation.
pub(super) const NIC: &str = "0000:03:00.0";

/// A virtual function of the simulated server.
const VF: &str = "vf@0000:01:00.0";

/// How long the clients send requests.
const ASKING: Duration = Duration::from_secs(4);

/// Number of concurrent clients.
const CLIENTS: usize = 4;

fn config(folder: &Path) -> Config {
    Config {
        state_dir: folder.join("state"),
        image_dirs: vec![folder.to_owned()],
        block_dirs: Vec::new(),
        image_limits: engine::ImageLimits::default(),
        machine_uids: 1_900_000_000..1_900_001_000,
        shutdown_grace: Duration::from_secs(1),
        journal_timeout: engine::JOURNAL_TIMEOUT,
        journal_kept: engine::JournalKept::default(),
        guest_init: None,
    }
}

pub(super) fn engine(
    folder: &Path,
    host: Arc<dyn Host>,
    sim: &Arc<SimHost>,
    observer: Arc<dyn Observer>,
) -> Result<Engine> {
    let launchers: Vec<Arc<dyn Launcher>> = vec![Arc::new(SimLauncher::new(sim.clone()))];
    let engine = Engine::open(config(folder), host, launchers, observer);
    let engine = engine.map_err(|refusal| anyhow!(refusal))?;
    engine.recover()?;
    Ok(engine)
}

fn request(wants: &[&str]) -> Result<ClaimRequest> {
    let wants = wants.iter().map(|want| want.parse()).collect::<Result<_, _>>()?;
    Ok(ClaimRequest::new(Owner { kind: "bench".into(), id: "1".into() }, wants))
}

/// Claims and releases one NIC repeatedly: Handover's time per step, by part.
pub fn step() -> Result<String> {
    let folder = Folder::make()?;
    let (mut times, mut spent, mut all) = (Vec::new(), Vec::new(), 0);
    let sim = Arc::new(SimHost::new(sim::workstation()));
    verbs(&folder.0, &sim, NIC, RUNS, |steps, one| {
        times.push((one.journal + one.worker + one.checks) / steps);
        spent.push(one);
        all += steps;
    })?;
    let each = |part: fn(&Spent) -> Duration| {
        let sum: Duration = spent.iter().map(part).sum();
        sum.as_secs_f64() * 1e3 / f64::from(all.max(1))
    };
    let disk = synchronous_write(&folder.0)?;
    let figure = Figure {
        what: "Handover's share of a step (journal, worker, checks) in a claim and its release"
            .into(),
        goal: "under 2 ms",
        limit: format!(
            "one synchronous write to this disk takes {disk:.2} ms, and each verb has one"
        ),
        times,
    };
    Ok(format!(
        "{}\n    on average: journal {:.2} ms, worker {:.2} ms, checks {:.2} ms; plus the simulated kernel, {:.2} ms",
        figure.line(),
        each(|spent| spent.journal),
        each(|spent| spent.worker),
        each(|spent| spent.checks),
        each(|spent| spent.kernel),
    ))
}

/// Repeats a claim and its release; reports the number of steps and their cost each time.
pub(super) fn verbs(
    folder: &Path,
    sim: &Arc<SimHost>,
    want: &str,
    times: usize,
    mut tell: impl FnMut(u32, Spent),
) -> Result<()> {
    let host = Arc::new(WithWorkers::new(sim.clone())?);
    let clock = host.clock();
    let engine = engine(folder, host, sim, clock.clone())?;
    let wanted = request(&[want])?;
    for _ in 0..times {
        let before = sim.performed();
        clock.take();
        engine.claims().claim(&wanted)?;
        engine.claims().release("bench/1", None)?;
        let steps = u32::try_from(sim.performed() - before)?.max(1);
        tell(steps, clock.take());
    }
    Ok(())
}

/// How many claims and releases of a virtual function the store can record per second, each synced to disk, without
/// other work. There is one writer, so more threads do not make it faster.
fn recorded() -> Result<f64> {
    let folder = Folder::make()?;
    let mut journal = Duration::ZERO;
    verbs(&folder.0, &with_vfs(8)?, VF, RUNS, |_, spent| journal += spent.journal)?;
    Ok(2.0 * RUNS as f64 / journal.as_secs_f64())
}

/// A NIC with so many virtual functions.
pub(super) fn with_vfs(count: u16) -> Result<Arc<SimHost>> {
    let sim = Arc::new(SimHost::new(sim::server()));
    sim.write_vf_count("0000:01:00.0".parse()?, count).map_err(|errno| anyhow!("errno {errno}"))?;
    Ok(sim)
}

/// Eight devices whose drivers take half a second to bind, compared with one.
pub fn together() -> Result<String> {
    let delay = Duration::from_millis(500);
    let time = |wants: &[&str]| -> Result<Duration> {
        let folder = Folder::make()?;
        let sim = Arc::new(SimHost::new(sim::gpus()));
        sim.set_delay(move |step| match step {
            Step::Bind { .. } => delay,
            _ => Duration::ZERO,
        });
        let host = Arc::new(WithWorkers::new(sim.clone())?);
        let engine = engine(&folder.0, host, &sim, Arc::new(Silent))?;
        let wanted = request(wants)?;
        let began = Instant::now();
        engine.claims().claim(&wanted)?;
        Ok(began.elapsed())
    };
    let (one, eight) = (time(&["gpu"])?, time(&["8xgpu"])?);
    Ok(format!(
        "eight devices that take 500 ms each to bind: {:.0} ms, one: {:.0} ms; ratio {:.2} (goal: under 1.4)",
        eight.as_secs_f64() * 1e3,
        one.as_secs_f64() * 1e3,
        eight.as_secs_f64() / one.as_secs_f64()
    ))
}

/// Serves REST on a socket in this folder, until this process exits.
pub(super) fn served(folder: &Path, sim: Arc<SimHost>) -> Result<Client> {
    let socket = folder.join("socket");
    let options = Options {
        devices_file: None,
        socket: socket.clone(),
        listen: None,
        token_file: None,
        no_auth: false,
        host_names: Vec::new(),
        cdi: None,
        hold_changes: daemon::serve::HOLD_CHANGES,
    };
    let launchers: Vec<Arc<dyn Launcher>> = vec![Arc::new(SimLauncher::new(sim.clone()))];
    let scan = Arc::new(LinuxHost::reader(Path::new("/"))?);
    let (config, host) = (config(folder), sim);
    let daemon = Daemon { options, config, host, launchers, monitor: None, scan };
    std::thread::spawn(move || serve::run(daemon));
    Ok(Client::new(Endpoint::Unix(socket), None))
}

/// The body of a client's claim of a virtual function.
pub(super) fn wish(owner: &str) -> CreateClaim {
    CreateClaim {
        owner: owner.to_owned(),
        wants: vec![Wish::Words(VF.into())],
        reason: None,
        lease_seconds: None,
        prepare: Some(true),
        uid: None,
        alone: false,
        mixed: false,
        any_display: false,
        define: false,
        at_boot: false,
        reset: false,
        evict: false,
        force_network: false,
        take_display: false,
    }
}

/// Claims of virtual functions over REST by several clients, compared with what the store alone can record.
pub fn rest() -> Result<String> {
    let limit = recorded()?;
    let folder = Folder::make()?;
    let client = served(&folder.0, with_vfs(8)?)?;
    let verbs = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + ASKING + Duration::from_millis(500);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (client, verbs) = (client.clone(), verbs.clone());
            std::thread::spawn(move || ask(&client, number, until, &verbs))
        })
        .collect();
    for client in clients {
        client.join().map_err(|_| anyhow!("a client died"))??;
    }
    let rate = verbs.load(Ordering::Relaxed) as f64 / ASKING.as_secs_f64();
    let writes = 1e3 / synchronous_write(&folder.0)?;
    Ok(format!(
        "claims and releases over REST: {rate:.0} a second; what the store alone can record of them: {limit:.0} a second; ratio \
         {:.2} (goal: over 0.5)\n    the disk alone takes {writes:.0} synchronous writes of 4 KiB a second; each of them has one",
        rate / limit
    ))
}

fn ask(client: &Client, number: usize, until: Instant, verbs: &AtomicU64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let owner = format!("bench/{number}");
    let body = wish(&owner);
    let path = format!("/claims/{}", segment(&owner));
    runtime.block_on(async {
        let ready = until.checked_sub(ASKING).context("the clock began a moment ago")?;
        while Instant::now() < ready {
            if client.get::<api::Health>("/health").await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        while Instant::now() < until {
            client.post::<api::Claim>("/claims", Some(&body)).await?;
            client.delete(&path).await?;
            verbs.fetch_add(2, Ordering::Relaxed);
        }
        Ok(())
    })
}
