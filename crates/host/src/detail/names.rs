//! Short names of capabilities (PCI Code and ID Assignment Specification, chapters 2 and 3).

use super::config::Config;

/// The names of a function's capabilities, in its order, each once. An unknown capability has its number.
pub fn of(config: Config<'_>) -> Vec<String> {
    let standard = config.capabilities().into_iter().map(|one| {
        standard(one.id).map_or_else(|| format!("capability {:02x}", one.id), str::to_owned)
    });
    // GPUs have Null capabilities in their lists, which have no meaning (PCI Code and ID Assignment, chapter 3).
    let extended =
        config.extended_capabilities().into_iter().filter(|one| one.id != 0).map(|one| {
            extended(one.id)
                .map_or_else(|| format!("extended capability {:04x}", one.id), str::to_owned)
        });
    let mut names: Vec<String> = Vec::new();
    for name in standard.chain(extended) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

const fn standard(id: u16) -> Option<&'static str> {
    Some(match id {
        0x01 => "PM",
        0x02 => "AGP",
        0x03 => "VPD",
        0x04 => "Slot ID",
        0x05 => "MSI",
        0x06 => "CompactPCI Hot Swap",
        0x07 => "PCI-X",
        0x08 => "HyperTransport",
        0x09 => "Vendor-Specific",
        0x0a => "Debug Port",
        0x0b => "CompactPCI CRC",
        0x0c => "SHPC",
        0x0d => "SSVID",
        0x0e => "AGP 8x",
        0x0f => "Secure Device",
        0x10 => "PCIe",
        0x11 => "MSI-X",
        0x12 => "SATA",
        0x13 => "AF",
        0x14 => "EA",
        0x15 => "FPB",
        _ => return None,
    })
}

const fn extended(id: u16) -> Option<&'static str> {
    Some(match id {
        0x01 => "AER",
        0x02 | 0x09 => "VC",
        0x03 => "DSN",
        0x04 => "Power Budgeting",
        0x05 => "RC Link Declaration",
        0x06 => "RC Internal Link Control",
        0x07 => "RCEC Association",
        0x08 => "MFVC",
        0x0a => "RCRB",
        0x0b => "VSEC",
        0x0d => "ACS",
        0x0e => "ARI",
        0x0f => "ATS",
        0x10 => "SR-IOV",
        0x11 => "MR-IOV",
        0x12 => "Multicast",
        0x13 => "PRI",
        0x15 => "ReBAR",
        0x16 => "DPA",
        0x17 => "TPH",
        0x18 => "LTR",
        0x19 => "Secondary PCIe",
        0x1a => "PMUX",
        0x1b => "PASID",
        0x1c => "LNR",
        0x1d => "DPC",
        0x1e => "L1 PM Substates",
        0x1f => "PTM",
        0x20 => "M-PCIe",
        0x21 => "FRS Queueing",
        0x22 => "RTR",
        0x23 => "DVSEC",
        0x24 => "VF ReBAR",
        0x25 => "Data Link Feature",
        0x26 => "16.0 GT/s",
        0x27 => "Lane Margining",
        0x28 => "Hierarchy ID",
        0x29 => "NPEM",
        0x2a => "32.0 GT/s",
        0x2b => "Alternate Protocol",
        0x2c => "SFI",
        0x2d => "Shadow Functions",
        0x2e => "DOE",
        0x2f => "Device 3",
        0x30 => "IDE",
        0x31 => "64.0 GT/s",
        0x32 => "Flit Logging",
        _ => return None,
    })
}
