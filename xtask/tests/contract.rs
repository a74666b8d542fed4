//! The simulation fulfils the contract of a host; `lab/tests/contract.rs` runs the same checks on a kernel.
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

#[test]
fn the_simulation_keeps_the_contract_of_parts() {
    let at = |text: &str| text.parse().unwrap();
    let host = SimHost::new(sim::server());
    contract::vfs(&host, at("0000:01:00.0")).unwrap();
    contract::vfs(&host, at("0000:02:00.0")).unwrap();
    contract::mdevs(&host, at("0000:03:00.0")).unwrap();
    host.write_vf_count(at("0000:04:00.0"), 16).unwrap();
    contract::vgpus(&host, at("0000:04:00.0")).unwrap();
}
