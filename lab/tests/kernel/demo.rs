//! `make demo`: the first commands that a newcomer sees.

use std::path::Path;
use std::time::Duration;

use crate::support::{Host, wanted};

#[test]
fn the_quick_start_of_the_demo_runs_to_its_end() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/quick-start");
    host.lab.put(Path::new(script), "/tmp/quick-start").unwrap();
    let output = host.lab.exec_within("bash /tmp/quick-start", Duration::from_secs(400)).unwrap();
    assert_eq!(output.status, 0, "{}\n{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("All checks passed."), "{}", output.stdout);
    assert!(!output.stdout.contains('✗'), "{}", output.stdout);
}
