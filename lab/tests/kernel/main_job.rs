//! The main job on a real kernel: a GPU with its audio function, a NIC and an NVMe drive are handed to a machine, work
//! there, and are returned.

use crate::support::{AUDIO, GPU, Host, NIC, NVME, wanted};
use serde_json::json;

/// The line of the guest's report with this beginning.
fn line<'a>(report: &'a str, begins: &str) -> &'a str {
    let found = report
        .lines()
        .find_map(|line| line.split_once("GUEST ").filter(|(_, l)| l.starts_with(begins)));
    found.unwrap_or_else(|| panic!("the guest does not say {begins:?}:\n{report}")).1
}

/// Checks the guest's report: every device exists, with the right BAR sizes, and works.
fn devices_work_in_the_guest(report: &str) {
    let gpu = report.lines().find(|line| line.contains("10de:2204 class=030000")).unwrap();
    let audio = report.lines().find(|line| line.contains("10de:1aef class=040300")).unwrap();
    let slot = |line: &str| {
        let word = line.split("GUEST pci ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        word.rsplit_once('.')
            .map(|(slot, function)| (slot.to_owned(), function.to_owned()))
            .unwrap()
    };
    assert_eq!(slot(gpu).0, slot(audio).0, "the card's functions are in different slots");
    assert_eq!((slot(gpu).1.as_str(), slot(audio).1.as_str()), ("0", "1"));
    for size in ["bar0=16M", "bar1=256M", "bar3=32M"] {
        assert!(gpu.contains(size), "{size}: {gpu}");
    }
    let id = line(report, "gpu ");
    assert!(
        id.contains("pattern=0xC0FFEE42") && id.to_lowercase().contains("id=0xb72000a1"),
        "{id}"
    );
    assert_eq!(line(report, "rom "), "rom of the NIC: ROM from a file");
    for check in ["gpu", "nvme", "nic"] {
        line(report, &format!("check {check} ok"));
    }
    line(report, "done rc=0");
}

#[test]
fn devices_go_to_a_machine_and_come_back() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    let all = [GPU, AUDIO, NIC, NVME];
    host.serve("");
    let before = (host.snapshot(), host.drivers(&all));
    for (name, address) in [("l4-gpu", GPU), ("nic0", NIC), ("drive", NVME)] {
        host.register(name, address);
    }
    host.import_guest(
        "guest",
        "handover.run=gpu,nvme,nic handover.stay=1 handover.marker=from-the-guest",
    );

    let mut machine = Host::machine("ml-training", "guest", &["l4-gpu", "nic0", "drive"]);
    // A ROM that is no program for this card, with a text in it; and none for the GPU.
    let rom = format!(
        "VaoBAAAAAAAAAAAAAAAAAAAAAAAAAAAAHAAAAFBDSVL/////AAAcAAAAAAABAAAAAIAAAAAAAAAAAAAAAAAAAAAAUk9NIGZyb20gYSBmaWxl{}AAA=",
        "A".repeat(572)
    );
    machine["roms"] = json!([{ "device": "nic0", "content": rom }, { "device": "l4-gpu" }]);
    let instance = host.create("/instances", &machine);
    assert_eq!(instance["state"], "Running", "{instance:#}");
    assert!(host.drivers(&all).values().all(|driver| driver == "vfio-pci"));
    assert_eq!(host.get("/devices/l4-gpu")["attached_to"], instance["id"]);
    let gpus = host.get("/resources")["gpu"]["devices"].clone();
    let gpu = gpus.as_array().and_then(|all| all.iter().find(|one| one["name"] == "l4-gpu"));
    assert_eq!(gpu.map(|gpu| &gpu["available"]), Some(&json!(false)), "{gpus:#}");
    devices_work_in_the_guest(&host.guest_report("ml-training"));
    a_machine_is_a_stranger(&host);
    the_daemon_can_die_meanwhile(&host, &instance["id"]);
    the_guest_can_reboot(&host);
    stop_and_start(&host);

    host.ask("DELETE", "/instances/ml-training", None).expect(204);
    assert_eq!((host.snapshot(), host.drivers(&all)), before);
    let written = host.sh("head -c 512 /dev/nvme0n1");
    assert!(written.starts_with("from-the-guest"), "the host reads {written:?} from the drive");
    assert!(host.sh("lspci -k -s 01:00.0").contains("Kernel driver in use: labgpu"));
    host.ask("DELETE", "/devices/l4-gpu", None).expect(204);
}

/// The VMM has its own user, cgroup and limits, and no further rights.
fn a_machine_is_a_stranger(host: &Host) {
    let status = host.sh("cat /proc/$(pgrep -x qemu-system-x86)/status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(field("Uid:").iter().all(|uid| uid == "1900000000"), "{status}");
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("Seccomp:"), ["2"]);
    let limits = host.sh("grep 'Max locked memory' /proc/$(pgrep -x qemu-system-x86)/limits");
    let bytes: u64 = limits.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(bytes >= 256 << 20, "{limits}");
    let cgroup = host.sh("cat /proc/$(pgrep -x qemu-system-x86)/cgroup");
    assert!(cgroup.contains("handover-"), "{cgroup}");
    it_can_open_no_device_of_the_host_nor_of_another(host);
}

/// The device nodes that every process may open: they lead to no device, or to one of the caller's own.
const HARMLESS: [&str; 17] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts/ptmx",
    "/dev/kvm",
    "/dev/net/tun",
    "/dev/fuse",
    "/dev/vsock",
    "/dev/vhost-vsock",
    "/dev/vhost-net",
    // L1's kernel lets everyone read its log, and no udev closes the timer.
    "/dev/kmsg",
    "/dev/snd/timer",
    // The container of groups, which is empty without a group's node.
    "/dev/vfio/vfio",
];

/// A program in the place of the VMM, with its user, groups, cgroup and mounts, tries to open each device node: its own
/// machine's, those of a claim for another user, and the host's.
const OPEN_ALL: &str = r#"cat >/tmp/probe <<'END'
find /dev \( -type c -o -type b \) | while read -r node; do
    for way in 'exec 3<"$node"' 'exec 3<>"$node"' 'exec 3>>"$node"'; do
        (eval "$way") 2>/dev/null && { echo "$node"; break; }
    done
done
true
END
    pid=$(pgrep -x qemu-system-x86)
    of() { sed -n "s/^$1:[[:space:]]*//p" /proc/$pid/status; }
    set -- $(of Uid); uid=$1; set -- $(of Gid); gid=$1
    grouped=--clear-groups; groups=$(of Groups | sed 's/ *$//' | tr ' ' ,); [ -z "$groups" ] || grouped="--groups $groups"
    cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
    (echo $BASHPID >$cgroup/cgroup.procs
     exec timeout 60 nsenter -t $pid -m setpriv --reuid $uid --regid $gid $grouped --no-new-privs --inh-caps=-all \
         bash /tmp/probe </dev/null)
    rm /tmp/probe"#;

fn it_can_open_no_device_of_the_host_nor_of_another(host: &Host) {
    host.sh("handover claim 0000:02:00.0 --owner job/other --uid 1900000007");
    let opened = host.sh(OPEN_ALL);
    assert!(opened.lines().any(|node| node == "/dev/null"), "the probe works: {opened}");
    // By groups, the machine's own are its user's; by descriptors, none is.
    let own = host.sh("find /dev -user 1900000000");
    let own: Vec<&str> = own.lines().collect();
    let is_other = |node: &&str| !HARMLESS.contains(node) && !own.contains(node);
    let others: Vec<&str> = opened.lines().filter(is_other).collect();
    assert!(others.is_empty(), "{others:?}");
    let has_iommufd = host.sh("ls /dev").lines().any(|name| name == "iommu");
    let access = host.get("/instances/ml-training")["device_access"].clone();
    assert_eq!(access, if has_iommufd { "descriptors" } else { "groups" });
    assert_eq!(own.is_empty(), has_iommufd, "{own:?}");
    host.sh("handover release job/other");
}

/// The daemon is killed and restarted: the machine keeps running, and is managed again. It is paused meanwhile.
fn the_daemon_can_die_meanwhile(host: &Host, id: &serde_json::Value) {
    let pid = host.sh("pgrep -x qemu-system-x86");
    let said = host.sh("handover instance pause ml-training");
    assert_eq!(said.trim(), "Paused the instance ml-training.");
    host.kill_daemon();
    assert_eq!(host.sh("pgrep -x qemu-system-x86"), pid, "the machine died with the daemon");
    host.serve("");
    let instance = host.get("/instances/ml-training");
    assert_eq!((&instance["state"], &instance["id"]), (&json!("Paused"), id));
    assert_eq!(host.sh("pgrep -x qemu-system-x86"), pid);
    let used = host.get("/instances/ml-training/stats");
    // VFIO has pinned all of the guest's memory.
    let is_pinned = used["memory_rss_bytes"].as_u64() >= used["allocated_memory_bytes"].as_u64();
    assert!(is_pinned && used["cpu_seconds"].as_f64() > Some(0.0), "{used:#}");
    let resumed = host.ask("POST", "/instances/ml-training/resume", None).expect(200);
    assert_eq!((&resumed["state"], &resumed["state_error"]), (&json!("Running"), &json!(null)));
}

/// The guest restarts from within: the machine goes on, and the devices work again.
fn the_guest_can_reboot(host: &Host) {
    let pid = host.sh("pgrep -x qemu-system-x86");
    host.sh(
        r"(sleep 2; printf '\rreboot -f\r'; sleep 4; printf '\035'; sleep 1) |
          socat - EXEC:'handover instance console ml-training',pty,setsid,ctty,stderr >/tmp/session.log 2>&1 || true",
    );
    let log = || host.sh("handover instance logs ml-training --tail 2000");
    host.wait("the second report", 300, || log().matches("GUEST done").count() == 2);
    let log = log();
    devices_work_in_the_guest(log.split_once("GUEST done").unwrap().1);
    assert_eq!(host.sh("pgrep -x qemu-system-x86"), pid);
    assert_eq!(host.get("/instances/ml-training")["state"], "Running");
}

/// Stopped, the devices stay with the instance; started, the guest finds them again.
fn stop_and_start(host: &Host) {
    let stopped = host.ask("POST", "/instances/ml-training/stop", None).expect(200);
    assert_eq!(stopped["state"], "Stopped");
    assert_eq!(host.sh("pgrep -xc qemu-system-x86 || true").trim(), "0");
    host.ask("DELETE", "/devices/l4-gpu", None).refused(409, "in_use");
    let started = host.ask("POST", "/instances/ml-training/start", None).expect(200);
    assert_eq!(started["state"], "Running");
}
