//! The wire protocol: vfio-user, with QEMU's `vfio-user-pci`.
//!
//! Each function has its own socket, which accepts one connection: when QEMU closes it, the device ends.

use super::{device::Device, settings::Settings};
use anyhow::{Context, Result};
use std::{fs::File, io, os::unix::fs::FileTypeExt, path::Path, time::Instant};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

/// Emulates one function on `socket` until QEMU, its one client, disconnects.
pub fn serve(socket: &Path, settings: &Settings) -> Result<()> {
    Listening::on(socket, settings)?.serve()
}

/// An emulated function with a listening socket and no client yet: QEMU can be started.
pub struct Listening {
    server: Server,
    device: Device,
}

impl Listening {
    /// Creates the socket; replaces one that an earlier server left behind.
    pub fn on(socket: &Path, settings: &Settings) -> Result<Self> {
        settings.check().context("invalid settings for a PCI function")?;
        if socket.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(socket)
                .with_context(|| format!("cannot remove the old socket {}", socket.display()))?;
        }
        let server = Server::new(socket, true, interrupts(), regions(settings))
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        Ok(Self { server, device: Device::new(settings) })
    }

    /// Waits for the one client, and serves it until it disconnects.
    pub fn serve(mut self) -> Result<()> {
        self.server.run(&mut self.device).context("the connection to QEMU failed")
    }
}

fn regions(settings: &Settings) -> Vec<ServerRegion> {
    let size = |index: u32| match index {
        VFIO_PCI_CONFIG_REGION_INDEX => 4096,
        _ => {
            settings.bars.iter().find(|bar| u32::from(bar.index) == index).map_or(0, |bar| bar.size)
        }
    };
    let region = |index| ServerRegion {
        region_info: vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            flags: match size(index) {
                0 => 0,
                _ => VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
            },
            index,
            size: size(index),
            ..Default::default()
        },
        sparse_areas: Vec::new(),
        mmap_fd: None, // the server handles each access: a reset must clear the memory
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

fn interrupts() -> Vec<IrqInfo> {
    let interrupt = |index| {
        let (more, count) = match index {
            VFIO_PCI_INTX_IRQ_INDEX => (VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED, 1),
            VFIO_PCI_MSI_IRQ_INDEX => (VFIO_IRQ_INFO_NORESIZE, 1),
            _ => (VFIO_IRQ_INFO_NORESIZE, 0),
        };
        IrqInfo { index, flags: VFIO_IRQ_INFO_EVENTFD | more, count }
    };
    (0..VFIO_PCI_NUM_IRQS).map(interrupt).collect()
}

impl ServerBackend for Device {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.read_config(offset, data, Instant::now()),
            bar => self.read_bar(bar, offset, data, Instant::now()),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.write_config(offset, data, Instant::now()),
            bar => self.write_bar(bar, offset, data, Instant::now()),
        }
        Ok(())
    }

    /// The function never reads or writes its host's memory.
    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        _offset: u64,
        _address: u64,
        _size: u64,
        _memory: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _flags: DmaUnmapFlags, _address: u64, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.reset_from_outside(Instant::now());
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        self.interrupts.set(index, flags, start, count, fds);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{
        bars::{DOORBELL, ID},
        settings::Bar,
    };
    use std::{io::Read, os::fd::AsRawFd, thread};
    use vfio_bindings::bindings::vfio::{
        VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    };
    use vfio_user::Client;

    const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;

    fn read32(client: &mut Client, region: u32, at: u64) -> u32 {
        let mut data = [0; 4];
        client.region_read(region, at, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    fn serving(settings: Settings, talk: impl FnOnce(&mut Client)) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gpu.sock");
        let listening = Listening::on(&socket, &settings).unwrap();
        let server = thread::spawn(move || listening.serve());
        let mut client = Client::new(&socket).unwrap();
        talk(&mut client);
        drop(client);
        server.join().unwrap().unwrap();
        assert!(!socket.exists());
    }

    #[test]
    fn a_client_sees_the_function() {
        let size = 16 << 30;
        let huge = Bar { index: 4, size, prefetchable: true, is_64bit: true, memory: size };
        let mut settings = Settings::default();
        settings.bars[2] = huge;
        serving(settings, |client| {
            let size = |client: &Client, index| client.region(index).map(|region| region.size);
            assert_eq!(size(client, 0), Some(16 << 20));
            assert_eq!(size(client, 4), Some(16 << 30));
            assert_eq!(size(client, CONFIG), Some(4096));
            assert_eq!(read32(client, CONFIG, 0), 0x20b0_10de);
            client.region_write(CONFIG, 4, &[0x06, 0]).unwrap();
            assert_eq!(read32(client, 0, ID), 0x1700_00a1);
            client.region_write(4, (16 << 30) - 4, &[1, 2, 3, 4]).unwrap();
            assert_eq!(read32(client, 4, (16 << 30) - 4), 0x0403_0201);
            client.reset().unwrap();
            client.region_write(CONFIG, 4, &[0x06, 0]).unwrap();
            assert_eq!(read32(client, 4, (16 << 30) - 4), 0);
            assert_eq!(read32(client, 0, u64::MAX), !0);
        });
    }

    #[test]
    fn the_doorbell_reaches_the_client() {
        serving(Settings::default(), |client| {
            let (mut heard, rings) = io::pipe().unwrap();
            let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
            client.set_irqs(VFIO_PCI_MSI_IRQ_INDEX, flags, 0, 1, &[rings.as_raw_fd()]).unwrap();
            drop(rings);
            client.region_write(CONFIG, 4, &[0x06, 0]).unwrap();
            client.region_write(0, DOORBELL, &[1, 0, 0, 0]).unwrap(); // by the line: no receiver
            client.region_write(CONFIG, 0x6a, &[0x81, 0]).unwrap();
            client.region_write(0, DOORBELL, &[1, 0, 0, 0]).unwrap();
            let off = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
            client.set_irqs(VFIO_PCI_MSI_IRQ_INDEX, off, 0, 0, &[]).unwrap();
            client.region_write(0, DOORBELL, &[1, 0, 0, 0]).unwrap();
            let mut all = Vec::new();
            heard.read_to_end(&mut all).unwrap();
            assert_eq!(all, 1u64.to_ne_bytes());
        });
    }

    #[test]
    fn an_old_socket_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gpu.sock");
        let settings = Settings::default();
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        drop(Listening::on(&socket, &settings).unwrap());
        std::fs::write(&socket, "keep").unwrap();
        assert!(Listening::on(&socket, &settings).is_err());
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "keep");
    }
}
