//! Plays many histories, and shrinks those that fail.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::history::{Event, History};
use crate::play::play;

/// How many histories `cargo test` plays; the gate plays 8,000 (`scripts/test-histories`).
const DEFAULT_HISTORIES: u64 = 300;

/// Histories that failed once.
const KNOWN: &str = include_str!("known.jsonl");

/// A history takes milliseconds; one that takes this long is deadlocked.
const STUCK: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Removes what is not needed to make the history fail.
fn shrink(mut history: History) -> (History, String) {
    let mut why = String::new();
    // A failure may depend on the order of random ids, so each history is played more than once.
    let fails = |history: &History| (0..2).find_map(|_| play(history).err());
    loop {
        let mut smaller = false;
        for turn in (0..history.events.len()).rev() {
            let mut less = history.clone();
            less.events.remove(turn);
            if let Some(told) = fails(&less) {
                (history, why, smaller) = (less, told, true);
            }
        }
        for turn in 0..history.events.len() {
            for event in simpler(&history.events[turn]) {
                let mut less = history.clone();
                less.events[turn] = event;
                if let Some(told) = fails(&less) {
                    (history, why, smaller) = (less, told, true);
                    break;
                }
            }
        }
        if !smaller {
            return (history, why);
        }
    }
}

/// Simpler variants of an event.
fn simpler(event: &Event) -> Vec<Event> {
    match event.clone() {
        Event::Do { verb, meanwhile: Some(_) } => vec![Event::Do { verb, meanwhile: None }],
        Event::Do { .. } | Event::Outside(_) | Event::Restart | Event::Reboot => Vec::new(),
        Event::Crash { verb, meanwhile, at, again } => {
            let mut all = vec![Event::Do { verb: verb.clone(), meanwhile: meanwhile.clone() }];
            if meanwhile.is_some() {
                all.push(Event::Crash { verb: verb.clone(), meanwhile: None, at, again });
            }
            if again != u16::MAX {
                all.push(Event::Crash { verb, meanwhile, at, again: u16::MAX });
            }
            all
        }
        Event::PowerCut { verb, .. } => vec![Event::Do { verb, meanwhile: None }],
    }
}

/// The report of a failure: cause, shrunk history, and how to repeat it.
fn report(seed: u64) -> String {
    let history = History::of(seed);
    let failure = match (0..3).find_map(|_| play(&history).err()) {
        None => "it passed when it was played again".to_owned(),
        Some(first) => {
            let (small, why) = shrink(history);
            let line = serde_json::to_string(&small).unwrap();
            let why = if why.is_empty() { first } else { why };
            let events: Vec<String> = small.events.iter().map(|e| format!("  {e:?}")).collect();
            format!("{why}\non {:?}:\n{}\n{line}", small.on, events.join("\n"))
        }
    };
    format!(
        "\nseed {seed}: {failure}\n\nto repeat: HANDOVER_SEED={seed} cargo test -p engine --test soak -- --nocapture\n\
         after the fix, add the last line to crates/engine/tests/soak/known.jsonl\n"
    )
}

/// Plays seeds from `first` on until `enough` returns true. Returns how many were played, and the seeds that failed.
fn search(first: u64, enough: impl Fn(u64) -> bool + Sync) -> (u64, Vec<u64>) {
    let next = AtomicU64::new(first);
    let over = AtomicBool::new(false);
    let failed = Mutex::new(Vec::new());
    let most = number("HANDOVER_FAILURES").unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let playing = Mutex::new(vec![(0, Instant::now()); threads]);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (next, over, failed, playing, done, enough) =
                (&next, &over, &failed, &playing, &done, &enough);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if enough(seed - first) {
                        break;
                    }
                    playing.lock().unwrap()[thread] = (seed, Instant::now());
                    if play(&History::of(seed)).is_err() {
                        let mut failed = failed.lock().unwrap();
                        failed.push(seed);
                        over.fetch_or(failed.len() as u64 >= most, Ordering::Relaxed);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                playing.lock().unwrap()[thread] = (u64::MAX, Instant::now());
            });
        }
        watch(&playing);
    });
    (done.into_inner(), failed.into_inner().unwrap())
}

/// Exits the process if a history does not end: it is deadlocked.
fn watch(playing: &Mutex<Vec<(u64, Instant)>>) {
    loop {
        let now = playing.lock().unwrap().clone();
        if now.iter().all(|(seed, _)| *seed == u64::MAX) {
            return;
        }
        let stuck = now.iter().find(|(seed, began)| *seed != u64::MAX && began.elapsed() > STUCK);
        if let Some((seed, _)) = stuck {
            eprintln!(
                "seed {seed} does not end; to repeat: HANDOVER_SEED={seed} cargo test -p engine --test soak"
            );
            std::process::exit(1);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn any_history_passes() {
    if let Some(seed) = number("HANDOVER_SEED") {
        if play(&History::of(seed)).is_err() {
            panic!("{}", report(seed));
        }
        println!("seed {seed} passes");
        return;
    }
    let began = Instant::now();
    let first = number("HANDOVER_FIRST").unwrap_or(0);
    let many = number("HANDOVER_HISTORIES").unwrap_or(DEFAULT_HISTORIES);
    let seconds = number("SOAK_SECONDS").map(Duration::from_secs);
    let (done, failed) = search(first, |done| match seconds {
        Some(seconds) => began.elapsed() > seconds,
        None => done >= many,
    });
    let rate = done as f64 / began.elapsed().as_secs_f64();
    println!("{done} histories, {rate:.0} a second");
    for seed in &failed {
        eprintln!("{}", report(*seed));
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn histories_that_failed_once_pass() {
    for (turn, line) in KNOWN.lines().enumerate().filter(|(_, line)| line.starts_with('{')) {
        let history: History = serde_json::from_str(line).unwrap();
        if let Err(why) = play(&history) {
            panic!("known.jsonl, line {}: {why}", turn + 1);
        }
    }
}
