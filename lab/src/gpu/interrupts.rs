//! Interrupts: raised by the doorbell, delivered to QEMU by event file descriptors.

use std::{fs::File, io::Write};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
};

/// The targets of interrupts: event file descriptors from the client, one of each kind.
#[derive(Debug, Default)]
pub struct Interrupts {
    line: Option<File>,
    message: Option<File>,
}

impl Interrupts {
    /// Raises an interrupt, by message or by the line. Without a descriptor it is dropped.
    pub fn raise(&mut self, by_message: bool) {
        let to = if by_message { &mut self.message } else { &mut self.line };
        if let Some(event) = to {
            // If the counter is full, an interrupt is already pending.
            let _ = event.write(&1u64.to_ne_bytes());
        }
    }

    /// `VFIO_DEVICE_SET_IRQS`: sets the descriptor of the first vector, or removes it if the count is 0. The client
    /// does the masking.
    pub fn set(&mut self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) {
        let to = match index {
            VFIO_PCI_INTX_IRQ_INDEX => &mut self.line,
            VFIO_PCI_MSI_IRQ_INDEX => &mut self.message,
            _ => return,
        };
        if flags & VFIO_IRQ_SET_ACTION_TRIGGER == 0 || start != 0 {
            return;
        }
        if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0
            || flags & VFIO_IRQ_SET_DATA_NONE != 0 && count == 0
        {
            *to = fds.into_iter().next();
        }
    }
}
