//! The lab itself: L1 boots, has its devices and groups, and runs a guest with a device that is passed through by hand.
//!
//! Needs the lab's images, which take minutes and a package mirror to build: runs with `HANDOVER_LAB=1` only.

#![expect(clippy::panic, reason = "a lab that does not boot fails the tests, and says why")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use lab::Lab;

/// One boot for all tests here.
fn workstation() -> Option<&'static Lab> {
    static LAB: OnceLock<Option<Lab>> = OnceLock::new();
    LAB.get_or_init(|| {
        if std::env::var_os("HANDOVER_LAB").is_none_or(|value| value != "1") {
            // Not captured by the test runner.
            let _ = writeln!(std::io::stderr(), "SKIPPED: boots: HANDOVER_LAB=1 is not set");
            return None;
        }
        Some(
            Lab::boot("workstation")
                .unwrap_or_else(|error| panic!("the lab does not boot: {error:#}")),
        )
    })
    .as_ref()
}

/// Locked by a test that reads or changes drivers.
fn drivers() -> MutexGuard<'static, ()> {
    static DRIVERS: Mutex<()> = Mutex::new(());
    DRIVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn streams_and_status_stay_apart() {
    let Some(lab) = workstation() else { return };
    let output = lab.exec("echo out; echo err >&2; exit 7").unwrap();
    assert_eq!(
        (output.status, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    assert_eq!(lab.exec("kill -9 $$").unwrap().status, 137);
}

#[test]
fn a_missed_deadline_kills_all_that_the_command_started() {
    let Some(lab) = workstation() else { return };
    let error = lab
        .exec_within("echo begun; sleep 1234 & sleep 1234", Duration::from_millis(800))
        .unwrap_err();
    assert!(format!("{error:#}").contains("begun"), "{error:#}");
    lab.sh("for i in {1..50}; do pgrep -x -f 'sleep 1234' || exit 0; sleep 0.1; done; exit 1")
        .unwrap();
}

#[test]
fn background_processes_of_a_command_keep_running() {
    let Some(lab) = workstation() else { return };
    let pid = lab.sh("sleep 4321 & echo $!").unwrap();
    lab.sh(&format!("sleep 0.5; kill {pid}")).unwrap();
}

#[test]
fn files_travel_both_ways() {
    let Some(lab) = workstation() else { return };
    let dir = std::env::temp_dir().join(format!("lab-files-{}", std::process::id()));
    let data: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::fs::write(&dir, &data).unwrap();
    lab.put(&dir, "/tmp/there/file").unwrap();
    std::fs::remove_file(&dir).unwrap();
    assert_eq!(lab.get("/tmp/there/file").unwrap(), data);
    assert!(lab.get("/nonesuch").is_err());
}

#[test]
fn a_port_in_l1_is_reached_from_here() {
    let Some(lab) = workstation() else { return };
    lab.sh("setsid socat TCP-LISTEN:7001,bind=127.0.0.1,fork,reuseaddr EXEC:cat </dev/null >/dev/null 2>&1 &
        for i in {1..50}; do ss -ltn | grep -q :7001 && exit; sleep 0.1; done; exit 1")
        .unwrap();
    let port = lab.forward(0, "127.0.0.1:7001").unwrap();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"to and fro").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, "to and fro");
    }
}

#[test]
fn devices_have_their_native_drivers_and_groups() {
    let Some(lab) = workstation() else { return };
    let _turn = drivers();
    let facts = lab
        .sh("cd /sys/bus/pci/devices; for d in 0000:0[1-9]:*; do
            echo $d $(cat $d/vendor):$(cat $d/device) group=$(basename $(readlink $d/iommu_group)) \
                 driver=$(basename \"$(readlink $d/driver)\"); done; ls -l /dev/kvm /dev/vfio/vfio")
        .unwrap();
    let group = |address: &str| -> String {
        let line = facts.lines().find(|l| l.starts_with(address)).expect(address);
        line.split("group=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    // The GPU and its audio function; the host's own card and its own.
    assert_eq!(group("0000:01:00.0"), group("0000:01:00.1"), "{facts}");
    assert_eq!(group("0000:02:00.0"), group("0000:02:00.1"), "{facts}");
    assert_ne!(group("0000:03:00.0"), group("0000:04:00.0"), "{facts}");
    for driver in ["labgpu", "labaudio", "snd_hda_intel", "e1000e", "nvme"] {
        assert!(facts.contains(&format!("driver={driver}\n")), "no {driver} in\n{facts}");
    }
    assert_eq!(facts.matches("crw-rw-rw-").count(), 2, "{facts}");
}

/// A whole hand-over with the kernel's files and QEMU's command line: the baseline for Handover.
#[test]
fn a_guest_with_kvm_gets_a_nic_by_hand() {
    let Some(lab) = workstation() else { return };
    let _turn = drivers();
    lab.sh("set -e; modprobe vfio-pci; d=/sys/bus/pci/devices/0000:03:00.0
        echo vfio-pci >$d/driver_override; echo 0000:03:00.0 >$d/driver/unbind
        echo 0000:03:00.0 >/sys/bus/pci/drivers_probe")
        .unwrap();
    let guest = lab.exec_within(
        "qemu-system-x86_64 -machine q35 -accel kvm -cpu host -m 256 -nodefaults -display none -no-reboot \
            -serial stdio -kernel /opt/lab/guest/vmlinux -initrd /opt/lab/guest/initrd.gz \
            -append 'console=ttyS0 quiet panic=-1 rdinit=/init handover.run=nic' \
            -device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:03:00.0,bus=rp1 </dev/null",
        Duration::from_secs(300),
    );
    let driver = lab
        .sh("set -e; d=/sys/bus/pci/devices/0000:03:00.0
            echo >$d/driver_override; echo 0000:03:00.0 >$d/driver/unbind
            echo 0000:03:00.0 >/sys/bus/pci/drivers_probe; readlink $d/driver")
        .unwrap();
    assert!(driver.trim_end().ends_with("/e1000e"), "{driver}");
    let console = guest.unwrap().success().unwrap();
    assert!(console.contains("GUEST check nic ok"), "{console}");
    assert!(console.contains("GUEST done rc=0"), "{console}");
}
