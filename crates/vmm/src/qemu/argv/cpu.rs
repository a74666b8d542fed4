//! Processors, clock and machine options of the command line.

use model::{Cpu, GuestOs, MachineSpec};

use super::{Line, memory};
use crate::qemu::binary::Accelerator;

/// What Windows uses of Hyper-V's interfaces when it finds them
/// (<https://www.qemu.org/docs/master/system/i386/hyperv.html>). All need KVM.
const HYPER_V: &str = "hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff,hv-vpindex=on,hv-runtime=on,hv-time=on,hv-synic=on,\
                       hv-stimer=on,hv-frequencies=on,hv-tlbflush=on,hv-ipi=on,hv-reset=on";

/// The processors.
pub fn processors(
    line: &mut Line,
    spec: &MachineSpec,
    accelerator: Accelerator,
    most_bits: Option<u32>,
) {
    let Cpu { topology, hide_kvm, os } = spec.options.cpu;
    let mut model = match accelerator {
        // Without the host's physical address bits, large BARs do not fit into 40 of them.
        Accelerator::Kvm { .. } => "host,host-phys-bits=on".to_owned(),
        Accelerator::Tcg => "max".to_owned(),
    };
    if matches!(accelerator, Accelerator::Kvm { .. }) {
        if let Some(bits) = most_bits {
            model = format!("{model},host-phys-bits-limit={bits}");
        }
        if os == GuestOs::Windows {
            model = format!("{model},{HYPER_V}");
        }
        if hide_kvm {
            model = format!("{model},kvm=off");
            if os == GuestOs::Windows {
                // The vendor that Hyper-V's interfaces name is KVM's otherwise.
                model = format!("{model},hv-vendor-id=Handover");
            }
        }
    }
    line.option("-cpu", model);
    let smp = match topology {
        None => by_cells(spec),
        Some(topology) => format!(
            "{},sockets={},cores={},threads={}",
            spec.vcpus, topology.sockets, topology.cores, topology.threads
        ),
    };
    line.option("-smp", smp);
}

/// A socket for each NUMA node of the guest, if they are equal: Linux complains of processors of one socket on several nodes.
fn by_cells(spec: &MachineSpec) -> String {
    let cells = memory::cells(spec);
    match cells.first() {
        Some(first) if first.vcpus > 0 && cells.iter().all(|cell| cell.vcpus == first.vcpus) => {
            format!("{},sockets={},cores={},threads=1", spec.vcpus, cells.len(), first.vcpus)
        }
        _ => spec.vcpus.to_string(),
    }
}

/// The clocks of Windows: local time, and no timers that cost processor time while it is idle.
pub fn clock(line: &mut Line, os: GuestOs) {
    if os == GuestOs::Windows {
        line.option("-rtc", "base=localtime,driftfix=slew");
        line.option("-global", "kvm-pit.lost_tick_policy=delay");
    }
}

/// The machine's own option for it.
pub const fn machine(os: GuestOs) -> &'static str {
    match os {
        GuestOs::Other => "",
        GuestOs::Windows => ",hpet=off",
    }
}
