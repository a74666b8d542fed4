//! The unit: as closed as a daemon that binds drivers can be, and installed with all that it names.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_unit_stays_as_closed_as_it_is() {
    // 52 before machines had passt, which needs namespaces and mounts to confine itself; 56 before agents in guests were reached by
    // vsock, which systemd counts among the exotic sockets.
    let unit = tree().join("packaging/handover.service");
    let analyzed = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=58"])
        .arg(&unit)
        .output();
    let Ok(analyzed) = analyzed else {
        println!("SKIPPED: there is no systemd-analyze here");
        return;
    };
    let text = String::from_utf8_lossy(&analyzed.stdout);
    let last = text.lines().last().unwrap_or_default();
    assert!(analyzed.status.success(), "{last}\n{}", String::from_utf8_lossy(&analyzed.stderr));
}

#[test]
fn the_installed_files_are_those_that_the_unit_names() {
    let place = tempfile::tempdir().unwrap();
    let script = std::fs::read_to_string(tree().join("scripts/install")).unwrap();
    // The executable is a stand-in that writes one page: building the real one for release takes minutes.
    let fake = place.path().join("target/release/handover");
    std::fs::create_dir_all(fake.parent().unwrap()).unwrap();
    std::fs::write(&fake, "#!/bin/sh\n[ $1 != man ] || echo page >$2/handover.1\n").unwrap();
    let guest = place.path().join("target/lib/handover/handover-guest");
    std::fs::create_dir_all(guest.parent().unwrap()).unwrap();
    std::fs::write(&guest, "the init").unwrap();
    for program in [&fake, &guest] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(program, mode).unwrap();
    }
    std::fs::create_dir_all(place.path().join("scripts")).unwrap();
    std::fs::write(place.path().join("scripts/install"), script).unwrap();
    let packaging = place.path().join("packaging");
    std::fs::create_dir_all(&packaging).unwrap();
    for file in [
        "handover.service",
        "handover-guests.service",
        "handover.sysusers",
        "handover-guest.copyright",
    ] {
        std::fs::copy(tree().join("packaging").join(file), packaging.join(file)).unwrap();
    }
    let root = place.path().join("root");
    let installed = Command::new("bash")
        .arg(place.path().join("scripts/install"))
        .env("DESTDIR", &root)
        .env("PREFIX", "/opt/handover")
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let prefix = root.join("opt/handover");
    for file in [
        "bin/handover",
        // Where `handover` looks for it: ../lib/handover.
        "lib/handover/handover-guest",
        "share/doc/handover/handover-guest.copyright",
        "share/man/man1/handover.1",
        "share/zsh/site-functions/_handover",
    ] {
        assert!(prefix.join(file).exists(), "{file}");
    }
    // systemd does not look below such a prefix.
    let unit = root.join("etc/systemd/system/handover.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    assert!(unit.contains("ExecStart=/opt/handover/bin/handover serve\n"), "{unit}");
    let guests = root.join("etc/systemd/system/handover-guests.service");
    let guests = std::fs::read_to_string(guests).unwrap();
    assert!(
        guests.contains("ExecStop=/opt/handover/bin/handover instance stop --all\n"),
        "{guests}"
    );
    assert!(root.join("etc/sysusers.d/handover.conf").exists());
    assert!(unit.contains("Documentation=man:handover(1)"));
}
