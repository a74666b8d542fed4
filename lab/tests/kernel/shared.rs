//! Emulated hosts that tests use one after another: a boot takes as long as many a test. A host is used again only if it
//! is as it was after its boot.

use std::sync::{Arc, Mutex, PoisonError};

use lab::Lab;

/// The idle hosts.
static IDLE: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

/// How many hosts are kept while no test uses them: their memory is the machine's.
const KEPT: usize = 3;

/// A host for several tests.
pub struct Shared {
    /// L1.
    pub lab: Arc<Lab>,
    /// The name of its kind: its topology, and what was prepared on it.
    kind: &'static str,
    /// What [`state`] said after its boot.
    booted: String,
}

/// Ends what tests start, and removes what they create.
const CLEAN: &str = r"
    pkill -9 -x handover; pkill -9 -x qemu-system-x86; pkill -x sleep
    umount -q /var/lib/handover
    cd /sys/bus/pci/devices
    for count in */sriov_numvfs; do
        [ $(<$count) = 0 ] || { echo 1 >${count%numvfs}drivers_autoprobe; echo 0 >$count; }
    done
    for try in 1 2 3; do
        for module in $(lsmod | awk 'NR > 1 { print $1 }' | grep -vxFf /run/first-modules); do
            modprobe -r $module 2>/dev/null
        done
    done
    rm -rf /var/lib/handover /run/handover /var/run/cdi/* /etc/mdevctl.d/* /etc/handover /tmp/* /tmp/.[!.]*
    true";

/// Devices, their parts, modules, nodes of VFIO, and processes.
const STATE: &str = r#"
    cd /sys/bus/pci/devices
    for d in *; do
        echo $d $(basename "$(readlink $d/driver)") $(cat $d/driver_override $d/power/control $d/sriov_numvfs $d/sriov_drivers_autoprobe 2>/dev/null)
    done
    ls /sys/bus/mdev/devices /dev/vfio 2>/dev/null
    ip link show | grep -o ' vf [0-9]* .*'
    lsmod | awk 'NR > 1 { print $1 }' | sort
    for process in /proc/[0-9]*; do
        command=$(tr '\0' ' ' <$process/cmdline 2>/dev/null)
        [ -z "$command" ] || [ ${process#/proc/} = $$ ] || [ "$(awk '/^PPid/ { print $2 }' $process/status)" = $$ ] || echo "${command:0:80}"
    done | sort
    true"#;

impl Shared {
    /// An idle host of this kind, else a new one.
    pub fn take(kind: &'static str, boot: impl FnOnce() -> Lab) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = idle.iter().position(|host| host.kind == kind) {
            return idle.remove(at);
        }
        drop(idle);
        let lab = boot();
        lab.sh("lsmod | awk 'NR > 1 { print $1 }' >/run/first-modules").unwrap();
        let booted = lab.sh(STATE).unwrap();
        Self { lab: Arc::new(lab), kind, booted }
    }

    /// Cleans the host, and keeps it for other tests if it is as it was after its boot.
    pub fn give_back(self) {
        let now = self.lab.sh(CLEAN).and_then(|_| self.lab.sh(STATE));
        match now {
            Ok(now) if now == self.booted => {
                let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
                idle.push(self);
                let oldest = (idle.len() > KEPT).then(|| idle.remove(0));
                drop(idle);
                drop(oldest);
            }
            Ok(now) => {
                println!("{} is not used again: {}", self.kind, difference(&self.booted, &now))
            }
            Err(error) => println!("{} is not used again: {error:#}", self.kind),
        }
    }
}

/// The lines that only one of two texts has.
fn difference(one: &str, other: &str) -> String {
    let lacks = |text: &str, line: &str| !text.lines().any(|other| other == line);
    let gone = one.lines().filter(|line| lacks(other, line)).map(|line| format!("- {line}"));
    let new = other.lines().filter(|line| lacks(one, line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect::<Vec<_>>().join("; ")
}
