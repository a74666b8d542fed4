//! Steps on different functions run in parallel, except those that the kernel serializes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Address, Host, Lock, Step};
use sim::{SimHost, gpus, server};

/// The highest number of concurrent steps.
fn at_once(host: &SimHost, steps: &[Step]) -> usize {
    let running = Arc::new(Mutex::new((0, 0)));
    let seen = running.clone();
    // The delay holds only the step's own locks, so it sees concurrent steps.
    host.set_delay(move |_| {
        {
            let mut seen = seen.lock().unwrap();
            seen.0 += 1;
            seen.1 = seen.1.max(seen.0);
        }
        std::thread::sleep(Duration::from_millis(200));
        seen.lock().unwrap().0 -= 1;
        Duration::ZERO
    });
    std::thread::scope(|scope| {
        for step in steps {
            scope.spawn(|| host.perform(step).unwrap());
        }
    });
    running.lock().unwrap().1
}

fn gpu_addresses(host: &SimHost) -> Vec<Address> {
    let inventory = host.inventory().unwrap();
    inventory.functions.values().filter(|f| f.class.prefix() == 0x0302).map(|f| f.address).collect()
}

#[test]
fn eight_devices_take_as_long_as_one() {
    let host = SimHost::new(gpus());
    let unbind = |address| Step::Unbind { address, driver: "nvidia".into() };
    let steps: Vec<Step> = gpu_addresses(&host).into_iter().map(unbind).collect();
    assert_eq!(steps.len(), 8);
    assert_eq!(at_once(&host, &steps), 8);
}

#[test]
fn numbers_of_virtual_functions_change_one_at_a_time() {
    let host = SimHost::new(server());
    let step = |bus, to| {
        let address = Address::new(0, bus, 0, 0).unwrap();
        Step::SetVfCount { address, from: 0, to }
    };
    assert_eq!(at_once(&host, &[step(1, 8), step(2, 4), step(4, 16)]), 1);
    let counts: BTreeMap<_, _> = host.snapshot().vf_counts;
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [8, 4, 16]);
}

#[test]
fn a_reset_has_its_whole_domain_to_itself() {
    let host = SimHost::new(gpus());
    let pair: Vec<Address> = gpu_addresses(&host).into_iter().take(2).collect();
    for address in &pair {
        host.perform(&Step::Unbind { address: *address, driver: "nvidia".into() }).unwrap();
    }
    let reset = |address| Step::Reset { address, domain: pair.clone(), link: None };
    assert_eq!(at_once(&host, &[reset(pair[0]), reset(pair[1])]), 1);
}

#[test]
fn a_function_is_locked_while_a_step_is_at_it() {
    let host = SimHost::new(gpus());
    let address = gpu_addresses(&host)[0];
    let lock = Lock::Function(address);
    let (started, wait) = std::sync::mpsc::channel();
    let (go, told) = std::sync::mpsc::channel::<()>();
    let told = Mutex::new(told);
    host.set_delay(move |_| {
        started.send(()).unwrap();
        told.lock().unwrap().recv().unwrap();
        Duration::ZERO
    });
    std::thread::scope(|scope| {
        scope.spawn(|| host.perform(&Step::Unbind { address, driver: "nvidia".into() }).unwrap());
        wait.recv().unwrap();
        assert!(host.is_locked(&lock).unwrap());
        // Reading is not blocked meanwhile.
        assert!(host.inventory().unwrap().function(address).is_some());
        go.send(()).unwrap();
    });
    assert!(!host.is_locked(&lock).unwrap());
}
