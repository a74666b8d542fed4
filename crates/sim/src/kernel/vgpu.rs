//! NVIDIA's vendor-specific VFIO: `nvidia/current_vgpu_type` and `nvidia/creatable_vgpu_types` of virtual functions.

use model::{Address, VgpuType, VgpuTypes};

use super::{EBUSY, EINVAL, ENOENT, Errno, Kernel};
use crate::hardware::VgpuBoard;
use crate::split_mix::scramble;

/// Attempts to free a vGPU: ten per second for ten seconds.
const TRIES: u32 = 100;

impl Kernel {
    fn board(&self, address: Address) -> Option<(Address, &VgpuBoard)> {
        let (parent, physical) = self.physical_of(address)?;
        Some((parent, physical.vgpus.as_ref()?))
    }

    /// The types that a virtual function can become now: those that its siblings leave room for, and none while it is a
    /// vGPU.
    pub(super) fn creatable(&self, address: Address) -> Vec<VgpuType> {
        let Some((parent, board)) = self.board(address) else { return Vec::new() };
        let current = |f: Address| self.state(f).ok().and_then(|state| state.vgpu).unwrap_or(0);
        let made: Vec<u32> =
            self.virtual_functions(parent).map(current).filter(|id| *id != 0).collect();
        if current(address) != 0 {
            return Vec::new();
        }
        let cost = |id: &u32| {
            let of = board.types.iter().find(|(kind, _)| kind.id == *id);
            of.map_or(0, |(_, cost)| *cost)
        };
        let left = board.capacity.saturating_sub(made.iter().map(cost).sum());
        let fits = |(kind, cost): &&(VgpuType, u32)| {
            *cost <= left && (!board.uniform || made.iter().all(|id| *id == kind.id))
        };
        board.types.iter().filter(fits).map(|(kind, _)| kind.clone()).collect()
    }

    pub(super) fn listed_vgpus(&self, address: Address) -> Option<VgpuTypes> {
        let current = self.state(address).ok()?.vgpu?;
        let current = (current != 0).then_some(current);
        Some(VgpuTypes { current, creatable: self.creatable(address) })
    }

    /// A write to `current_vgpu_type`.
    pub(crate) fn write_vgpu(&mut self, address: Address, id: u32) -> Result<(), Errno> {
        let current = self.state(address)?.vgpu.ok_or(ENOENT)?;
        if id == 0 {
            return if current == 0 { Ok(()) } else { self.free_vgpu(address) };
        }
        if current != 0 {
            return Err(EBUSY);
        }
        if !self.creatable(address).iter().any(|kind| kind.id == id) {
            return Err(EINVAL);
        }
        self.change(address, |state| state.vgpu = Some(id))?;
        self.make_nodes(address);
        Ok(())
    }

    fn free_vgpu(&mut self, address: Address) -> Result<(), Errno> {
        if self.is_open(address) {
            return Err(EBUSY);
        }
        if !self.releasing.contains_key(&address) {
            let most = self.board(address).map_or(0, |(_, board)| board.slow_release);
            self.released += 1;
            let turns = scramble(self.seed, self.released) % (u64::from(most) + 1);
            self.releasing.insert(address, u32::try_from(turns).unwrap_or_default());
        }
        if let Some(left) = self.releasing.get_mut(&address).filter(|left| **left > 0) {
            *left -= 1;
            return Err(EBUSY);
        }
        self.releasing.remove(&address);
        self.change(address, |state| state.vgpu = Some(0))?;
        self.drop_nodes(address);
        Ok(())
    }

    /// Freeing is retried while it is busy.
    pub(super) fn set_vgpu(&mut self, address: Address, id: u32) -> Result<(), Errno> {
        let mut tries = if id == 0 { TRIES } else { 1 };
        loop {
            tries -= 1;
            match self.write_vgpu(address, id) {
                Err(EBUSY) if tries > 0 => {}
                other => return other,
            }
        }
    }
}
