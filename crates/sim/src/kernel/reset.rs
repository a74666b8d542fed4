//! Resets: affected functions and results (`reset_method_show`, `pci_reset_function` in drivers/pci/pci.c).

use std::collections::BTreeSet;

use model::{Address, Checked, LinkBaseline, ResetDomain};

use super::{ENOENT, ENOTTY, Errno, Kernel, Outcome, ResetDone};

impl Kernel {
    /// The functions that a reset would affect now.
    pub(super) fn reset_domain(&self, address: Address) -> Vec<Address> {
        let now = self.listing();
        now.function(address).map_or_else(Vec::new, |f| ResetDomain::of(&now, f).functions)
    }

    /// A write to `reset`. It affects everything below the bridge, even if in use.
    pub(crate) fn reset(&mut self, address: Address) -> Result<(), Errno> {
        let known = self.known.function(address).ok_or(ENOENT)?;
        if !known.resettable {
            return Err(ENOENT);
        }
        let hit = self.reset_domain(address);
        if hit.is_empty() {
            return Err(ENOTTY);
        }
        let user = |function: &Address| self.users.get(&self.group_of(*function)?).copied();
        let open = hit.iter().filter(|function| self.is_open(**function));
        let disturbed: BTreeSet<_> = open.filter_map(user).collect();
        self.resets.push(ResetDone { hit, disturbed });
        match std::mem::take(&mut self.outcome) {
            Outcome::Well => {}
            Outcome::Silent => {
                self.silent.insert(address);
            }
            Outcome::Slower => {
                if let Some(link) = self.links.get_mut(&address) {
                    link.speed = 25;
                    link.width = 1;
                }
            }
        }
        Ok(())
    }

    /// Whether the function responds and its link is not degraded.
    pub(crate) fn checked(&self, address: Address, link: Option<LinkBaseline>) -> Checked {
        if self.silent.contains(&address) {
            return Checked::Silent;
        }
        match (link, self.links.get(&address)) {
            (Some(was), Some(now)) if now.speed < was.speed || now.width < was.width => {
                Checked::Slower { now: *now }
            }
            _ => Checked::Well,
        }
    }
}
