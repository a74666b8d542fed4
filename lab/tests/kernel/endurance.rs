//! Ordinary use for a long time: the daemon's memory stays flat. `make endurance` runs it.

use std::time::{Duration, Instant};

use crate::support::{Host, IGB};

/// Between two readings of the daemon's memory.
const READING: Duration = Duration::from_secs(30);

/// What the daemon's memory may grow by in an hour, in KiB.
const MOST_PER_HOUR: f64 = 1024.0;

/// Claims, listings and uevents, until `/tmp/stop` exists. `/tmp/claims` and the others have a byte for each.
const USE: &str = r#"
    until [ -e /tmp/stop ]; do
        curl -sf -m 150 localhost:8080/claims -d '{"owner":"job/1","wants":["vf@IGB"]}' >/dev/null
        curl -sf -m 150 -X DELETE localhost:8080/claims/job%2F1 && printf x >>/tmp/claims
    done &
    until [ -e /tmp/stop ]; do
        for path in devices claims resources health openapi.json; do curl -s localhost:8080/$path >/dev/null; done
        handover ls >/dev/null; printf x >>/tmp/listings
    done &
    until [ -e /tmp/stop ]; do
        for device in /sys/bus/pci/devices/*; do echo change >$device/uevent; printf x >>/tmp/events; done
        sleep 1
    done &
    handover watch >/dev/null &
    true"#;

/// `(hours since the first reading, KiB)`.
type Reading = (f64, f64);

fn memory(host: &Host) -> f64 {
    let kib = host.sh("awk '/^VmRSS/ { print $2 }' /proc/$(</tmp/handover.pid)/status");
    kib.trim().parse().unwrap()
}

/// KiB an hour, by least squares.
fn slope(readings: &[Reading]) -> f64 {
    let count = readings.len() as f64;
    let mean = |of: fn(&Reading) -> f64| readings.iter().map(of).sum::<f64>() / count;
    let (hour, kib) = (mean(|reading| reading.0), mean(|reading| reading.1));
    let above: f64 = readings.iter().map(|(h, k)| (h - hour) * (k - kib)).sum();
    let below: f64 = readings.iter().map(|(h, _)| (h - hour).powi(2)).sum();
    above / below
}

#[test]
fn the_memory_of_the_daemon_stays_flat() {
    let Some(seconds) = std::env::var_os("ENDURANCE_SECONDS") else {
        println!("SKIPPED: it takes an hour; make endurance runs it");
        return;
    };
    let lasting = Duration::from_secs(seconds.to_str().unwrap().parse().unwrap());
    let host = Host::boot("server");
    host.serve("");
    host.sh(&format!("handover sriov set {IGB} 4"));
    host.sh(&USE.replace("IGB", IGB));
    let began = Instant::now();
    let mut readings: Vec<Reading> = Vec::new();
    while began.elapsed() < lasting {
        let hours = began.elapsed().as_secs_f64() / 3600.0;
        readings.push((hours, memory(&host)));
        println!("{:6.1} min {:8.0} KiB", hours * 60.0, readings.last().unwrap().1);
        std::thread::sleep(READING);
    }
    let done = host.sh("touch /tmp/stop; cd /tmp; wc -c claims listings events | head -n 3");
    // In the first half the store's caches fill: 2 MB a connection (sqlite.org/pragma.html#pragma_cache_size).
    let slope = slope(&readings[readings.len() / 2..]);
    println!("{slope:.0} KiB an hour in the second half; claims, listings, events:\n{done}");
    assert!(slope < MOST_PER_HOUR);
}
