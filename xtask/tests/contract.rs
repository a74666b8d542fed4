//! The simulation keeps the contract of a host; `lab/tests/contract.rs` runs the same checks on a kernel.
#![allow(clippy::unwrap_used)]

use model::Kind;
use sim::SimHost;
use xtask::contract;

#[test]
fn the_simulation_keeps_the_contract() {
    let hardware = sim::workstation();
    let heads = hardware.functions.values().filter(|function| {
        matches!(function.kind(), Kind::Gpu | Kind::Nic | Kind::Nvme) && function.driver.is_some()
    });
    let heads: Vec<_> = heads.map(|function| function.address).collect();
    assert!(heads.len() >= 3);
    for head in heads {
        let host = SimHost::new(hardware.clone());
        contract::check(&host, head).unwrap_or_else(|error| panic!("{head}: {error:#}"));
    }
}
