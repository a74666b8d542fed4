//! The power cut of L1 itself: synced data survives, other data is lost, and so are writes that the disk acknowledged
//! and lost.

use std::path::Path;

use lab::{Lab, Options, images::Choice};

use crate::support::wanted;

/// L1 on this disk, with Debian's kernel: the slim one has no device mapper.
fn boot(state: &Path) -> Lab {
    let options = Options {
        topology: "bare".into(),
        kernel: Choice::Stock,
        state: Some(state.to_owned()),
        ..Options::default()
    };
    Lab::start(&options).unwrap()
}

fn boot_id(lab: &Lab) -> String {
    lab.sh("cat /proc/sys/kernel/random/boot_id").unwrap()
}

/// The contents of a file on the disk; empty if it does not exist.
fn content(lab: &Lab, name: &str) -> String {
    lab.sh(&format!("cat /var/lib/handover/{name} || true")).unwrap()
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_nothing_else() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.img");

    let first = boot(&state);
    let mounted = first.sh("findmnt -no SOURCE,FSTYPE /var/lib/handover").unwrap();
    assert_eq!(mounted.split_whitespace().collect::<Vec<_>>(), ["/dev/mapper/lab-state", "ext4"]);
    first.sh("cd /var/lib/handover; echo synced >synced; sync; echo not synced >unsynced").unwrap();
    let first_id = boot_id(&first);
    first.cut_power();
    assert!(first.ended().is_some());
    assert!(first.exec("true").is_err(), "nothing runs in it any more");
    drop(first);

    let second = boot(&state);
    assert_ne!(boot_id(&second), first_id);
    assert_eq!(content(&second, "synced"), "synced\n");
    assert_eq!(content(&second, "unsynced"), "");
    second.sh("cd /var/lib/handover; echo before >before; sync").unwrap();
    second.lose_writes().unwrap();
    second.sh("cd /var/lib/handover; echo after >after; sync; cat after").unwrap();
    second.cut_power();
    drop(second);

    let third = boot(&state);
    let all = ["synced", "before", "after"].map(|name| content(&third, name));
    assert_eq!(all, ["synced\n", "before\n", ""]);
}
