//! The process that runs one target.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::found::{HUNG, name_of};
use super::mutate::mutated;
use super::random::Random;
use crate::{Kind, Target, seeds};

/// The longest that a reader may take for one input.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most memory that a reader may take for one input.
const MEMORY: u64 = 4 << 30;

/// The stack of a thread that reads, as of the daemon.
const STACK: usize = 1 << 20;

/// The most inputs that are kept as parents of others.
const MOST_KEPT: usize = 4000;

/// What the process is to do.
#[derive(Clone, Debug)]
pub struct Order {
    /// For how long.
    pub seconds: u64,
    /// Where its random numbers begin.
    pub seed: u64,
    /// The directory for failing inputs, and for the input that is being read.
    pub folder: PathBuf,
}

/// What panics said, by the place in the code: each place is one failure.
type Panics = Arc<Mutex<Vec<(String, String)>>>;

/// Reads seeds and their mutations for some seconds, with as much stack as a thread of the daemon. Returns the failing inputs
/// that were saved.
///
/// # Errors
/// The seeds cannot be read, or a file cannot be written.
pub fn work(target: &'static Target, order: &Order) -> anyhow::Result<Vec<PathBuf>> {
    limit();
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK);
        let thread = builder.spawn_scoped(scope, || read_all(target, order))?;
        thread.join().unwrap_or_else(|_| bail!("the driver itself panicked"))
    })
}

fn read_all(target: &'static Target, order: &Order) -> anyhow::Result<Vec<PathBuf>> {
    let panics = Panics::default();
    listen(&panics);
    let mut runner = Runner::new(target, order, panics)?;
    let began = Instant::now();
    let until = began + Duration::from_secs(order.seconds);
    for (_, seed) in seeds::of(target)? {
        runner.read(seed)?;
    }
    let mut random = Random::new(order.seed);
    let mut told = began;
    while Instant::now() < until {
        let next = runner.next(&mut random);
        runner.read(next)?;
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            runner.tell(began);
        }
    }
    runner.tell(began);
    Ok(runner.saved)
}

/// Bounds memory and core files: an allocation that fails ends the process, and the parent reports its input.
fn limit() {
    let limit = |resource, most| {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    };
    limit(Resource::As, MEMORY);
    limit(Resource::Core, 0);
}

/// Notes every panic of any thread, also one that the reader itself catches.
fn listen(panics: &Panics) {
    let panics = panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = format!("panicked at {place}: {}", words(panic.payload()));
        panics.lock().unwrap_or_else(PoisonError::into_inner).push((place, said));
    }));
}

fn words(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

struct Runner<'a> {
    target: &'static Target,
    folder: &'a Path,
    /// The input that is being read: its length in eight bytes, then itself.
    current: File,
    /// The number of inputs, which the watchdog sees grow.
    read: Arc<AtomicU64>,
    panics: Panics,
    places: BTreeSet<String>,
    kinds: BTreeSet<Kind>,
    kept: Vec<Vec<u8>>,
    saved: Vec<PathBuf>,
}

impl<'a> Runner<'a> {
    fn new(target: &'static Target, order: &'a Order, panics: Panics) -> anyhow::Result<Self> {
        let folder = order.folder.as_path();
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let current =
            File::create(folder.join("current")).context("cannot write the input down")?;
        let read = Arc::new(AtomicU64::new(0));
        watch(read.clone());
        let (places, kinds) = Default::default();
        let (kept, saved) = (vec![Vec::new()], Vec::new());
        Ok(Self { target, folder, current, read, panics, places, kinds, kept, saved })
    }

    /// Mutates an input that was kept; a recent one as likely as any other.
    fn next(&self, random: &mut Random) -> Vec<u8> {
        let recent = self.kept.get(self.kept.len().saturating_sub(16)..).unwrap_or_default();
        let from = if random.below(2) == 0 { recent } else { &self.kept };
        let (parent, other) = (random.pick(from), random.pick(&self.kept));
        let (parent, other) = (parent.map(Vec::as_slice), other.map(Vec::as_slice));
        let Target { words, longest, .. } = *self.target;
        mutated(parent.unwrap_or_default(), other.unwrap_or_default(), words, longest, random)
    }

    fn read(&mut self, input: Vec<u8>) -> anyhow::Result<()> {
        let length = u64::try_from(input.len()).unwrap_or(u64::MAX);
        let record = [&length.to_le_bytes(), input.as_slice()].concat();
        self.current.write_all_at(&record, 0).context("cannot write the input down")?;
        self.read.fetch_add(1, Ordering::Relaxed);
        let kind = catch_unwind(AssertUnwindSafe(|| (self.target.read)(&input)));
        let panics =
            std::mem::take(&mut *self.panics.lock().unwrap_or_else(PoisonError::into_inner));
        for (place, said) in panics {
            if self.places.insert(place) {
                let path = self.folder.join(name_of(&input));
                fs::write(&path, &input).context("cannot save a failing input")?;
                println!("{}: FAILED: {said}", self.target.name);
                self.saved.push(path);
            }
        }
        if let Ok(kind) = kind
            && self.kinds.insert(kind)
        {
            if self.kept.len() < MOST_KEPT {
                self.kept.push(input);
            } else if let Some(place) =
                self.kept.get_mut(usize::try_from(length).unwrap_or_default() % MOST_KEPT)
            {
                *place = input;
            }
        }
        Ok(())
    }

    fn tell(&self, began: Instant) {
        let (read, seconds) = (self.read.load(Ordering::Relaxed), began.elapsed().as_secs().max(1));
        println!(
            "{:<12} {seconds:>5} s {read:>10} executions {:>8}/s {:>6} kinds {:>3} failures",
            self.target.name,
            read / seconds,
            self.kinds.len(),
            self.saved.len(),
        );
    }
}

/// Ends the process if one input takes too long.
fn watch(read: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = read.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if seen > 0 && since.elapsed() > PATIENCE {
                exit(HUNG);
            }
        }
    });
}
