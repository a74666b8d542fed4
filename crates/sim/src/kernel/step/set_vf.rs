//! Configuring a virtual function at its physical function.

use model::{Address, Observed, VfSettings};

use crate::kernel::{EBUSY, EINVAL, EIO, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EINVAL, EBUSY, EIO];

pub(super) fn observe(
    kernel: &Kernel,
    address: Address,
    parent: Address,
    index: u16,
    from: &VfSettings,
    to: &VfSettings,
) -> Result<Observed, Errno> {
    if kernel.state(address).is_err() {
        return Ok(Observed::Absent);
    }
    Ok(compare(&kernel.vf_settings(parent, index)?, from, to))
}

/// Settings are written one by one: some may still be old, and some already new.
fn compare(now: &VfSettings, from: &VfSettings, to: &VfSettings) -> Observed {
    fn either<T: PartialEq>(now: Option<T>, from: Option<T>, to: Option<T>) -> bool {
        to.is_none() || now == from || now == to
    }
    if to.holds_in(now) {
        return Observed::After;
    }
    let ours = either(now.mac, from.mac, to.mac)
        && either(now.vlan, from.vlan, to.vlan)
        && either(now.qos, from.qos, to.qos)
        && either(now.trust, from.trust, to.trust)
        && either(now.spoof_check, from.spoof_check, to.spoof_check)
        && either(now.min_rate, from.min_rate, to.min_rate)
        && either(now.max_rate, from.max_rate, to.max_rate);
    if ours { Observed::Before } else { Observed::Other(format!("it with {}", now.only(to))) }
}

pub(super) fn make(
    kernel: &mut Kernel,
    address: Address,
    parent: Address,
    index: u16,
    to: &VfSettings,
) -> Result<(), Errno> {
    kernel.tell(address, parent, index, to)
}
