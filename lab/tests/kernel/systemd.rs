//! The unit that `make install` installs, under a real systemd: hardened as it says, and still able to do its work.

use std::path::Path;
use std::time::{Duration, Instant};

use lab::Options;
use serde_json::Value;

use crate::support::{Host, IGB as NIC, wanted};

/// The file that `--token-file` names, and its two contents.
const TOKEN_FILE: &str = "/etc/handover/token";
const TOKENS: [&str; 2] = ["first-token-0123456789", "second-token-0123456789"];

/// The graphics card of the topology.
const SCREEN: &str = "0000:00:05.0";

/// The boundaries of the journal at which the daemon is killed while it takes the display.
const DEATHS: [u32; 3] = [4, 6, 20];

/// `systemd-analyze security` rates from 0 (nothing is allowed) to 10. passt needs namespaces and mounts to confine itself.
const MOST_EXPOSED: f64 = 5.9;

/// Installs the built executable and the unit as the README says, and starts it.
fn install(state: Option<&Path>) -> Host {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let options = Options {
        topology: "systemd".into(),
        share: Some(repository),
        state: state.map(Path::to_owned),
        ..Options::default()
    };
    let host = Host::with(&options);
    // The group is the unit's to create. The executable is a link of the lab's.
    host.sh("sed -i /^handover:/d /etc/group; rm /usr/local/bin/handover
             cd /host && BUILT=/lab/bin/handover scripts/install");
    options_of_the_unit(&host, "--no-auth");
    host.sh("systemctl enable --now handover");
    assert_eq!(property(&host, "ActiveState"), "active");
    host
}

/// Gives the unit options as an operator does, for a daemon that the tests can ask by TCP.
fn options_of_the_unit(host: &Host, more: &str) {
    host.sh(&format!(
        "mkdir -p /etc/systemd/system/handover.service.d
         cat >/etc/systemd/system/handover.service.d/options.conf <<'EOF'
[Service]
ExecStart=
ExecStart=/usr/local/bin/handover serve --listen 127.0.0.1:8080 --image-dir /opt/lab/guest {more}
EOF
         systemctl daemon-reload"
    ));
}

fn property(host: &Host, name: &str) -> String {
    host.sh(&format!("systemctl show --value -p {name} handover")).trim().to_owned()
}

fn driver(host: &Host) -> String {
    host.drivers(&[NIC])[NIC].clone()
}

/// The rating of the unit as it runs.
fn exposure(host: &Host) -> f64 {
    let rated = host.sh("systemd-analyze security --no-pager handover | tail -n 1");
    let number = rated.split(": ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{rated}"))
}

fn files_have_their_modes(host: &Host) {
    let modes = host.sh("stat -c '%a %U:%G %n' /var/lib/handover /run/handover /run/handover.sock /run/handover/handover.sock 2>/dev/null || true");
    assert!(modes.contains("711 root:root /var/lib/handover"), "{modes}");
    assert!(modes.contains("755 root:root /run/handover"), "{modes}");
    assert!(modes.contains("660 root:handover"), "{modes}");
}

/// The users of a device are found, although the unit sees `/proc` with `ProtectProc`.
fn a_user_of_another_account_is_seen(host: &Host) {
    host.sh(&format!("handover claim {NIC} --owner job/unit"));
    assert_eq!(driver(host), "vfio-pci");
    host.sh("exec 7<>/dev/vfio/$(ls /dev/vfio | grep -m1 '^[0-9]')
         setsid setpriv --reuid 4242 --clear-groups sleep 600 <&7 >/dev/null 2>&1 &
         until pgrep -x sleep; do sleep 0.1; done");
    let refused = host.lab.exec("handover release job/unit").unwrap();
    assert_ne!(refused.status, 0);
    assert!(refused.stderr.contains("sleep"), "{}", refused.stderr);
    host.sh("pkill -x sleep; while pgrep -x sleep; do sleep 0.1; done; handover release job/unit");
    assert_eq!(driver(host), "e1000e");
}

/// A display manager of the test's own: it has the card open, on which the kernel draws the text console.
fn start_desktop(host: &Host) {
    host.sh("modprobe bochs; until [ -e /dev/dri/card0 ] && [ $(cat /sys/class/vtconsole/vtcon1/bind) = 1 ]; do sleep 0.1; done
         cat >/etc/systemd/system/labdm.service <<'EOF'
[Service]
ExecStart=/bin/sh -c 'exec 7<>/dev/dri/card0; exec tail -f /dev/null'
EOF
         ln -s /etc/systemd/system/labdm.service /etc/systemd/system/display-manager.service
         systemctl daemon-reload; systemctl start labdm");
    host.wait("the display manager", 20, || {
        host.sh("ls -l /proc/$(systemctl show --value -p MainPID labdm)/fd").contains("card0")
    });
    assert_eq!(desktop(host), "active 1 bochs-drm");
}

/// The display manager's state, whether consoles are drawn on the card (nothing without any framebuffer), and its driver.
fn desktop(host: &Host) -> String {
    host.sh(&format!(
        "echo $(systemctl is-active labdm || true) $(cat /sys/class/vtconsole/vtcon1/bind) \
         $(basename $(readlink /sys/bus/pci/devices/{SCREEN}/driver))"
    ))
    .trim()
    .to_owned()
}

/// The card of the desktop is refused without consent; with it, the desktop ends, and comes back with the claim's end, also if
/// the daemon dies on the way.
fn the_desktop_comes_back(host: &Host) {
    let refused = host.lab.exec(&format!("handover claim {SCREEN}")).unwrap();
    assert_ne!(refused.status, 0);
    for word in ["tail (pid", "labdm.service", "/dev/dri/card0", "--take-display"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    let claim = format!("handover claim {SCREEN} --owner job/screen --take-display");
    host.sh(&claim);
    assert_eq!(desktop(host), "inactive vfio-pci");
    host.sh("handover release job/screen");
    assert_eq!(desktop(host), "active 1 bochs-drm");
    // After the unit was stopped, after the console was unbound, and when vfio-pci has the card.
    for boundary in DEATHS {
        host.sh(&format!(
            "mkdir -p /run/systemd/system/handover.service.d
             printf '[Service]\\nEnvironment=HANDOVER_KILL_AT={boundary}\\nRestart=no\\n' >/run/systemd/system/handover.service.d/kill.conf
             systemctl daemon-reload; systemctl restart handover"
        ));
        let killed = host.lab.exec(&claim).unwrap();
        assert_ne!(killed.status, 0, "boundary {boundary}");
        host.sh("rm /run/systemd/system/handover.service.d/kill.conf
             systemctl daemon-reload; systemctl reset-failed handover; systemctl start handover");
        assert_eq!(desktop(host), "active 1 bochs-drm", "boundary {boundary}: {}", log(host));
    }
}

fn instance(host: &Host) -> Value {
    host.get("/instances/vm")
}

/// A machine survives a restart of the daemon and its death, and sees no process but its own. It has the display until it
/// ends.
fn a_machine_outlives_the_daemon(host: &Host) {
    host.register("nic0", NIC);
    host.import_guest("guest", "handover.run=nic handover.stay=1");
    let mut machine = Host::machine("vm", "guest", &["nic0", SCREEN]);
    machine["take_display"] = true.into();
    host.create("/instances", &machine);
    assert_eq!(desktop(host), "inactive vfio-pci");
    let report = host.guest_report("vm");
    assert!(report.contains("check nic ok"), "{report}\n{}", log(host));
    let network = &host.get("/instances/vm")["network"];
    assert_eq!(network["enabled"], true, "the unit lets passt confine itself");
    assert!(!host.sh("pgrep passt").is_empty());
    let machine = host.sh("pgrep -x qemu-system-x86");
    let machine = machine.trim();
    let mounts = host.sh(&format!("grep ' /proc ' /proc/{machine}/mountinfo"));
    assert!(mounts.contains("hidepid=invisible"), "{mounts}");
    let capabilities = host.sh(&format!("grep CapEff /proc/{machine}/status"));
    assert!(capabilities.trim().ends_with("0000000000000000"), "{capabilities}");

    let daemon = property(host, "MainPID");
    host.sh("systemctl restart handover");
    assert_ne!(property(host, "MainPID"), daemon);
    assert_eq!(instance(host)["state"], "Running");

    let daemon = property(host, "MainPID");
    host.sh(&format!("kill -9 {daemon}"));
    host.wait("the daemon's next start", 60, || {
        property(host, "ActiveState") == "active" && property(host, "MainPID") != daemon
    });
    assert_eq!(instance(host)["state"], "Running");
    assert_eq!(host.sh("pgrep -x qemu-system-x86").trim(), machine);
    assert_eq!(driver(host), "vfio-pci");
    assert_eq!(desktop(host), "inactive vfio-pci");

    host.sh(&format!("kill -9 {machine}"));
    let until = Instant::now() + Duration::from_secs(60);
    while desktop(host) != "active 1 bochs-drm" {
        let shown = || host.sh("handover instance show vm; handover claims; ps aux | grep qemu");
        assert!(Instant::now() < until, "{}: {}\n{}", desktop(host), shown(), log(host));
        std::thread::sleep(Duration::from_millis(300));
    }
    host.ask("DELETE", "/instances/vm", None).expect(204);
    assert_eq!(driver(host), "e1000e");
}

/// `systemctl reload` reads the token again.
fn the_token_is_read_again(host: &Host) {
    let write = |token: &str| {
        host.sh(&format!("mkdir -p /etc/handover; (umask 077; echo {token} >{TOKEN_FILE})"));
    };
    let statuses = || {
        TOKENS.map(|token| {
            host.raw(&format!("-H 'Authorization: Bearer {token}' localhost:8080/devices")).status
        })
    };
    write(TOKENS[0]);
    options_of_the_unit(host, &format!("--token-file {TOKEN_FILE}"));
    host.sh("systemctl restart handover");
    assert_eq!(statuses(), [200, 401]);
    write(TOKENS[1]);
    host.sh("systemctl reload handover");
    host.wait("the new token", 10, || statuses() == [401, 200]);
}

/// The unit writes to the directories of the boot list and of CDI specs, and to no others.
fn only_its_directories_are_written(host: &Host) {
    host.sh(&format!("handover claim {NIC} --owner job/unit && grep -q vfio /run/cdi/*"));
    host.sh("handover release job/unit");
    let daemon = property(host, "MainPID");
    let inside = |script: &str| host.lab.exec(&format!("nsenter -t {daemon} -m {script}"));
    for place in ["/etc", "/run", "/run/handover", "/var/lib/handover", "/tmp"] {
        let written = inside(&format!("touch {place}/probe")).unwrap();
        assert_eq!(written.status, 0, "{place}: {}", written.stderr);
        inside(&format!("rm {place}/probe")).unwrap();
    }
    for place in ["/usr", "/usr/local/bin", "/var", "/root", "/opt"] {
        assert_ne!(inside(&format!("touch {place}/probe")).unwrap().status, 0, "{place}");
    }
}

fn log(host: &Host) -> String {
    host.sh("journalctl --no-pager -u handover | tail -n 60; systemctl status --no-pager handover || true")
}

#[test]
fn the_unit_does_its_work_under_systemd() {
    if !wanted() {
        return;
    }
    let host = install(None);
    let exposure = exposure(&host);
    println!("systemd-analyze security: {exposure}");
    assert!(exposure < MOST_EXPOSED);
    files_have_their_modes(&host);
    start_desktop(&host);
    let before = host.snapshot();
    the_desktop_comes_back(&host);
    a_user_of_another_account_is_seen(&host);
    a_machine_outlives_the_daemon(&host);
    only_its_directories_are_written(&host);
    assert_eq!(host.snapshot(), before);
    the_token_is_read_again(&host);
    host.sh("systemctl stop handover");
    assert_eq!(property(&host, "Result"), "success");
    assert_eq!(driver(&host), "e1000e");
}

/// A machine is stopped by its power button when the host shuts down, and is started when the host starts.
#[test]
fn guests_shut_down_and_start_with_the_host() {
    if !wanted() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let host = install(Some(&state));
    host.sh("systemctl enable --now handover-guests");
    host.register("nic0", NIC);
    host.import_guest("guest", "handover.stay=1");
    host.create("/instances", &Host::machine("vm", "guest", &["nic0"]));
    host.sh("handover instance set vm --start-order 3 --restart always");
    host.guest_report("vm");
    // Only a shutdown of the host stops it.
    host.sh("systemctl restart handover");
    assert_eq!(instance(&host)["state"], "Running");
    // The lab's own agent ends early in the shutdown.
    host.sh("setsid sh -c 'sleep 1; systemctl poweroff' >/dev/null 2>&1 </dev/null &");
    let until = Instant::now() + Duration::from_secs(180);
    while host.lab.ended().is_none() {
        assert!(Instant::now() < until, "the host does not shut down");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(host);

    let host = install(Some(&state));
    host.wait("the machine's start", 60, || instance(&host)["state"] == "Running");
    let console = host.sh("handover instance logs vm --tail 1000");
    assert_eq!(console.matches("GUEST power button").count(), 1, "{console}");
    assert_eq!(instance(&host)["autostart"]["order"], 3);
    assert_eq!(driver(&host), "vfio-pci");
    host.ask("DELETE", "/instances/vm", None).expect(204);
    assert_eq!(driver(&host), "e1000e");
}
