//! The doctor never panics, and its output can be read and run.

use proptest::prelude::*;

use super::super::CHECKS;
use super::{Host, at};
use crate::doctor::{Finding, Framebuffer, InitramfsTool, IommuDevice, Severity};
use crate::{
    Acs, Address, Bar, Class, Detail, Function, Group, Holder, Id, Link, PortType, Power,
    ResizableBar, VgpuTypes, VirtualFunctions,
};

const VENDORS: [u16; 6] = [0x10de, 0x1002, 0x8086, 0x15b3, 0x1a03, 0xffff];
const DEVICES: [u16; 5] = [0x67df, 0x2345, 0x1eb8, 0x20b5, 0xffff];
const CLASSES: [u32; 9] = [
    0x03_0000, 0x03_0200, 0x04_0300, 0x02_0000, 0x01_0802, 0x06_0400, 0x06_8000, 0x06_0100,
    0x12_0000,
];
const DRIVERS: [&str; 7] =
    ["nvidia", "nouveau", "vfio-pci", "pcieport", "pci-stub", "", "weird\u{0}driver"];
const METHODS: [&str; 6] = ["flr", "bus", "pm", "device_specific", "cxl_bus", "garbage"];
const PORTS: [PortType; 5] = [
    PortType::RootPort,
    PortType::SwitchUpstream,
    PortType::SwitchDownstream,
    PortType::PcieToPci,
    PortType::Endpoint,
];

fn address() -> impl Strategy<Value = Address> {
    (0u8..4, 0u8..2, 0u8..3)
        .prop_map(|(bus, device, function)| Address::new(0, bus, device, function).unwrap())
}

fn any_of<T: Clone + std::fmt::Debug + 'static>(items: &'static [T]) -> impl Strategy<Value = T> {
    (0..items.len()).prop_map(move |index| items[index].clone())
}

fn detail() -> impl Strategy<Value = Detail> {
    let link = proptest::option::of((any::<u16>(), any::<u8>(), any::<u16>(), any::<u8>()))
        .prop_map(|link| {
            link.map(|(speed, width, max_speed, max_width)| Link {
                speed,
                width,
                max_speed,
                max_width,
            })
        });
    let acs = proptest::option::of((any::<u16>(), any::<u16>()))
        .prop_map(|acs| acs.map(|(supported, enabled)| Acs { supported, enabled }));
    let bars = proptest::collection::vec((any::<u8>(), any::<u64>(), any::<u64>()), 0..3).prop_map(
        |bars| {
            bars.into_iter()
                .map(|(index, size, largest)| ResizableBar { index, size, largest })
                .collect()
        },
    );
    let vgpu = proptest::option::of(any::<Option<u32>>())
        .prop_map(|vgpu| vgpu.map(|current| VgpuTypes { current, creatable: Vec::new() }));
    (
        link,
        proptest::option::of(any_of(&PORTS)),
        acs,
        bars,
        any::<Option<u16>>(),
        vgpu,
        proptest::option::of(any_of(&DRIVERS)),
    )
        .prop_map(|(link, port_type, acs, resizable_bars, vf_count, vgpu, driver_override)| {
            Detail {
                link,
                port_type,
                acs,
                resizable_bars,
                vf_count,
                vgpu,
                driver_override: driver_override.map(String::from),
                ..Detail::default()
            }
        })
}

fn function() -> impl Strategy<Value = Function> {
    let ids = (any_of(&VENDORS), any_of(&DEVICES), any_of(&CLASSES));
    let bars = proptest::collection::vec((0u8..8, any::<u64>(), any::<u64>(), any::<bool>()), 0..4);
    let ties = (
        proptest::option::of(0u32..4),
        proptest::collection::vec(address(), 0..3),
        proptest::option::of(address()),
        proptest::option::of((any::<u16>(), proptest::collection::vec(address(), 0..3))),
    );
    let state = (
        proptest::option::of(any_of(&DRIVERS)),
        proptest::collection::vec(any_of(&METHODS), 0..3),
        any::<bool>(),
        proptest::option::of(any_of(&["D0", "D3hot", "D3cold", "unknown", ""])),
    );
    (address(), ids, bars, ties, state, proptest::option::of(detail())).prop_map(
        |(
            address,
            (vendor, device, class),
            bars,
            (group, path, parent, vfs),
            (driver, methods, flag, power),
            detail,
        )| {
            Function {
                vendor: Id(vendor),
                device: Id(device),
                class: Class(class),
                driver: driver.map(String::from),
                iommu_group: group,
                path,
                boot_vga: flag,
                physical_function: parent,
                sriov: vfs.map(|(total, present)| VirtualFunctions {
                    total,
                    present,
                    autoprobe: None,
                }),
                bars: bars
                    .into_iter()
                    .map(|(index, start, size, io)| Bar {
                        index,
                        start,
                        size,
                        io,
                        is_64bit: !io,
                        prefetchable: true,
                        unassigned: false,
                    })
                    .collect(),
                reset_methods: methods.into_iter().map(String::from).collect(),
                resettable: flag,
                power: Power { state: power.map(String::from), ..Power::default() },
                notes: if flag { vec!["garbage".into()] } else { Vec::new() },
                detail: detail.map(Box::new),
                ..Function::unknown(address)
            }
        },
    )
}

fn host() -> impl Strategy<Value = Host> {
    let holders = proptest::collection::vec((address(), any::<Option<u32>>(), ".{0,30}"), 0..4);
    let platform = (
        any::<Option<u8>>(),
        any::<Option<u8>>(),
        proptest::option::of(".{0,12}"),
        any::<(u64, u64)>(),
    );
    (proptest::collection::vec(function(), 0..10), holders, platform).prop_map(
        |(functions, holders, (cpu, iommu, kernel, (start, end)))| {
            let mut host = Host::new(&[]);
            for function in functions {
                // A group can name functions that no longer exist, and miss existing ones.
                if let Some(group) = function.iommu_group {
                    let group: &mut Group = host.inventory.groups.entry(group).or_default();
                    group.members.push(function.address);
                }
                host.inventory.functions.insert(function.address, function);
            }
            host.holders = holders
                .into_iter()
                .map(|(address, pid, user)| Holder {
                    address,
                    kind: crate::HolderKind::Process,
                    pid,
                    started: None,
                    program: None,
                    user,
                    by: "/dev/x".into(),
                    mdev: None,
                    interface: None,
                })
                .collect();
            host.platform.cpu.physical_bits = cpu;
            host.platform.iommus = vec![IommuDevice { name: "i".into(), address_bits: iommu }];
            host.platform.kernel = kernel;
            host.platform.initramfs = InitramfsTool::Dracut;
            host.platform.framebuffers = vec![Framebuffer { name: "efifb".into(), start, end }];
            host
        },
    )
}

/// A complete finding of a known check.
fn readable(finding: &Finding) -> bool {
    let words = [&finding.read, &finding.meaning];
    let remedy = finding.remedy.as_ref();
    CHECKS.iter().any(|(name, _)| *name == finding.check)
        && words.iter().all(|text| !text.is_empty())
        && remedy.is_none_or(|remedy| !remedy.words.is_empty())
}

proptest! {
    #[test]
    fn no_host_makes_it_panic(host in host(), asked in address()) {
        for finding in host.examine(Some(&asked.to_string())) {
            prop_assert!(readable(&finding), "{finding:?}");
        }
        for finding in host.examine(None) {
            prop_assert!(readable(&finding), "{finding:?}");
            prop_assert_ne!(finding.severity, Severity::Good);
            prop_assert_ne!(finding.severity, Severity::Impossible, "one device is not the host");
        }
    }

    #[test]
    fn what_is_not_there_is_said_and_nothing_else(host in host()) {
        let findings = host.examine(Some("0000:ff:00.0"));
        prop_assert_eq!(findings.len(), 1);
        prop_assert_eq!(findings[0].address, Some(at("0000:ff:00.0")));
    }
}
