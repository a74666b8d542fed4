//! Root ports and the cards behind them.

use anyhow::Result;

use super::Tree;

/// Sequential numbers, as a kernel assigns them.
#[derive(Default)]
pub struct Numbers {
    group: usize,
    card: usize,
    drm: usize,
    interface: usize,
    nvme: usize,
}

/// The properties of one function.
struct Kind {
    vendor: u16,
    device: u16,
    class: u32,
    driver: &'static str,
    resource: &'static str,
}

const PORT: Kind = Kind {
    vendor: 0x8086,
    device: 0x1901,
    class: 0x06_0400,
    driver: "pcieport",
    resource: "0x0000000000000000 0x0000000000000000 0x0000000000000000\n",
};
const GPU: Kind = Kind {
    vendor: 0x10de,
    device: 0x20b0,
    class: 0x03_0200,
    driver: "nvidia",
    resource: "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n\
               0x0000380000000000 0x0000380fffffffff 0x000000000014220c\n",
};
const AUDIO: Kind = Kind {
    vendor: 0x10de,
    device: 0x1aef,
    class: 0x04_0300,
    driver: "snd_hda_intel",
    resource: "0x00000000f1000000 0x00000000f1003fff 0x0000000000040200\n",
};
const NIC: Kind = Kind {
    vendor: 0x15b3,
    device: 0x101d,
    class: 0x02_0000,
    driver: "mlx5_core",
    resource: "0x0000390000000000 0x0000390001ffffff 0x000000000014220c\n",
};
const NVME: Kind = Kind {
    vendor: 0x144d,
    device: 0xa80a,
    class: 0x01_0802,
    driver: "nvme",
    resource: "0x00000000f2000000 0x00000000f2003fff 0x0000000000140204\n",
};

impl Tree<'_> {
    /// A root port with the next card behind it, or as many of its functions as are still needed.
    pub fn port(&mut self, domain: usize, port: usize) -> Result<()> {
        let (slot, function, bus) = (port / 8 + 1, port % 8, port + 1);
        let node = domain % 2;
        let root = format!("sys/devices/pci{domain:04x}:00");
        let port = format!("{domain:04x}:00:{slot:02x}.{function}");
        let at = format!("{root}/{port}");
        self.function(&at, &port, &PORT, node)?;
        let bus = format!("{domain:04x}:{bus:02x}:00");
        let behind = |function: usize| {
            let address = format!("{bus}.{function}");
            (format!("{at}/{address}"), address)
        };
        let card = self.next.card;
        self.next.card += 1;
        match card % 3 {
            0 => {
                let (at, address) = behind(0);
                if self.function(&at, &address, &GPU, node)? {
                    self.drm(&at)?;
                }
                let (at, address) = behind(1);
                self.function(&at, &address, &AUDIO, node)?;
            }
            1 => {
                for number in 0..2 {
                    let (at, address) = behind(number);
                    if self.function(&at, &address, &NIC, node)? {
                        self.interface(&at)?;
                    }
                }
            }
            _ => {
                let (at, address) = behind(0);
                if self.function(&at, &address, &NVME, node)? {
                    self.drive(&at)?;
                }
            }
        }
        Ok(())
    }

    /// Writes one function; false if no more are needed.
    fn function(&mut self, at: &str, address: &str, kind: &Kind, node: usize) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let Kind { vendor, device, class, driver, resource } = kind;
        self.folder(at)?;
        let up = "../".repeat(at.matches('/').count());
        for (name, text) in [
            ("vendor", format!("0x{vendor:04x}\n")),
            ("device", format!("0x{device:04x}\n")),
            ("subsystem_vendor", format!("0x{vendor:04x}\n")),
            ("subsystem_device", "0x0001\n".into()),
            ("class", format!("0x{class:06x}\n")),
            ("revision", "0xa1\n".into()),
            ("modalias", modalias(kind)),
            ("resource", resources(resource)),
            ("numa_node", format!("{node}\n")),
            ("reset_method", "flr bus\n".into()),
        ] {
            self.file(&format!("{at}/{name}"), text)?;
        }
        if self.whole {
            self.rest(at, address, kind, node)?;
        }
        self.link(&format!("{at}/driver"), &format!("{up}bus/pci/drivers/{driver}"))?;
        self.link(&format!("{at}/subsystem"), &format!("{up}bus/pci"))?;
        let group = self.next.group;
        self.next.group += 1;
        let folder = format!("sys/kernel/iommu_groups/{group}");
        self.folder(&format!("{folder}/devices"))?;
        self.file(&format!("{folder}/type"), "DMA-FQ\n")?;
        let there = at.trim_start_matches("sys/");
        self.link(&format!("{folder}/devices/{address}"), &format!("../../../../{there}"))?;
        self.link(&format!("{at}/iommu_group"), &format!("{up}kernel/iommu_groups/{group}"))?;
        self.link(&format!("sys/bus/pci/devices/{address}"), &format!("../../../{there}"))?;
        Ok(true)
    }

    /// Attributes that a listing does not need but other programs read.
    fn rest(&mut self, at: &str, address: &str, kind: &Kind, node: usize) -> Result<()> {
        self.folder(&format!("{at}/power"))?;
        for (name, text) in [
            ("uevent", uevent(kind, address)),
            ("irq", "16\n".into()),
            ("enable", "1\n".into()),
            ("local_cpus", format!("{:02x}\n", 0xf << (node * 4))),
            ("local_cpulist", format!("{}-{}\n", node * 4, node * 4 + 3)),
            ("dma_mask_bits", "64\n".into()),
            ("consistent_dma_mask_bits", "64\n".into()),
            ("msi_bus", "1\n".into()),
            ("broken_parity_status", "0\n".into()),
            ("ari_enabled", "0\n".into()),
            ("driver_override", "(null)\n".into()),
            ("power_state", "D0\n".into()),
            ("d3cold_allowed", "1\n".into()),
            ("current_link_speed", "16.0 GT/s PCIe\n".into()),
            ("current_link_width", "16\n".into()),
            ("max_link_speed", "16.0 GT/s PCIe\n".into()),
            ("max_link_width", "16\n".into()),
            ("reset", String::new()),
            ("power/control", "on\n".into()),
            ("power/runtime_status", "active\n".into()),
        ] {
            self.file(&format!("{at}/{name}"), text)?;
        }
        self.file(&format!("{at}/config"), config(kind))
    }

    /// A node of a driver, with the links to it by class and by number.
    fn node(&mut self, at: &str, class: &str, name: &str, number: Option<&str>) -> Result<()> {
        self.folder(at)?;
        let there = at.trim_start_matches("sys/");
        self.link(&format!("sys/class/{class}/{name}"), &format!("../../{there}"))?;
        let up = "../".repeat(at.matches('/').count());
        self.link(&format!("{at}/subsystem"), &format!("{up}class/{class}"))?;
        let Some(number) = number else { return Ok(()) };
        self.file(&format!("{at}/dev"), format!("{number}\n"))?;
        let kind = if class == "block" { "block" } else { "char" };
        self.link(&format!("sys/dev/{kind}/{number}"), &format!("../../{there}"))
    }

    fn drm(&mut self, at: &str) -> Result<()> {
        let number = self.next.drm;
        self.next.drm += 1;
        // The first 64 cards have separate minors, the others share one range (drm_minor_alloc).
        let (card, render) =
            if number < 64 { (number, number + 128) } else { (192 + 2 * number, 193 + 2 * number) };
        for (name, minor) in [("card", card), ("renderD", render)] {
            let name = format!("{name}{minor}");
            self.node(&format!("{at}/drm/{name}"), "drm", &name, Some(&format!("226:{minor}")))?;
        }
        Ok(())
    }

    fn interface(&mut self, at: &str) -> Result<()> {
        let number = self.next.interface;
        self.next.interface += 1;
        let name = format!("eth{number}");
        let at = format!("{at}/net/{name}");
        self.node(&at, "net", &name, None)?;
        let bytes = u32::try_from(number)?.to_be_bytes();
        let last: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.file(&format!("{at}/address"), format!("02:00:{}\n", last.join(":")))
    }

    fn drive(&mut self, at: &str) -> Result<()> {
        let number = self.next.nvme;
        self.next.nvme += 1;
        let controller = format!("nvme{number}");
        let at = format!("{at}/nvme/{controller}");
        self.node(&at, "nvme", &controller, Some(&format!("240:{number}")))?;
        let disk = format!("{controller}n1");
        let at = format!("{at}/{disk}");
        self.node(&at, "block", &disk, Some(&format!("259:{number}")))?;
        self.folder(&format!("{at}/holders"))
    }
}

fn modalias(kind: &Kind) -> String {
    let Kind { vendor, device, class, .. } = kind;
    let [_, base, sub, interface] = class.to_be_bytes();
    format!(
        "pci:v{vendor:08X}d{device:08X}sv{vendor:08X}sd00000001bc{base:02X}sc{sub:02X}i{interface:02X}\n"
    )
}

fn uevent(kind: &Kind, address: &str) -> String {
    let Kind { vendor, device, class, driver, .. } = kind;
    format!(
        "DRIVER={driver}\nPCI_CLASS={class:X}\nPCI_ID={vendor:04X}:{device:04X}\n\
         PCI_SUBSYS_ID={vendor:04X}:0001\nPCI_SLOT_NAME={address}\nMODALIAS={}",
        modalias(kind)
    )
}

/// 13 resources; the card defines the first.
fn resources(first: &str) -> String {
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let rest = 13usize.saturating_sub(first.lines().count());
    format!("{first}{}", none.repeat(rest))
}

/// 256 bytes of configuration space, empty after the header.
fn config(kind: &Kind) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let bridge = kind.class == PORT.class;
    let header = [
        (0, kind.vendor.to_le_bytes().to_vec()),
        (2, kind.device.to_le_bytes().to_vec()),
        (8, (kind.class << 8 | 0xa1).to_le_bytes().to_vec()),
        (0x0e, vec![u8::from(bridge)]),
    ];
    for (at, value) in header {
        for (byte, new) in bytes.iter_mut().skip(at).zip(value) {
            *byte = new;
        }
    }
    bytes
}
