//! Each check with a bad and a good value; whole hosts; and no panics.

mod checks;
mod parts;
mod properties;
mod scenarios;

use crate::choose::ExistingClaim;
use crate::doctor::{Finding, InitramfsTool, Patient, Platform, Severity};
use crate::{
    Acs, Address, Bar, Class, Detail, Function, Group, Holder, HolderKind, Inventory, Link,
    PortType, VfioSupport, VirtualFunctions,
};
use crate::{
    AsFound, Claim, ClaimState, ClaimedMember, Code, Fingerprint, OwnState, Part, Refusal,
};

/// A host to examine.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub inventory: Inventory,
    pub holders: Vec<Holder>,
    pub platform: Platform,
    pub own: OwnState,
}

pub fn at(text: &str) -> Address {
    text.parse().unwrap()
}

impl Host {
    /// A Debian host of lines `address ids class group driver [below bridge,bridge]`; `-` stands for none.
    pub fn new(lines: &[&str]) -> Self {
        let mut host = Self {
            inventory: Inventory {
                vfio: VfioSupport {
                    iommu: true,
                    vfio_pci: true,
                    type1: true,
                    ..VfioSupport::default()
                },
                ..Inventory::default()
            },
            platform: Platform {
                kernel: Some("6.12.48-amd64".into()),
                initramfs: InitramfsTool::InitramfsTools,
                ..Platform::default()
            },
            holders: Vec::new(),
            own: OwnState::default(),
        };
        for line in lines {
            let function = function(line);
            if let Some(group) = function.iommu_group {
                let group: &mut Group = host.inventory.groups.entry(group).or_default();
                group.members.push(function.address);
            }
            host.inventory.functions.insert(function.address, function);
        }
        host
    }

    /// The host with a function changed.
    pub fn with(mut self, address: &str, change: impl FnOnce(&mut Function)) -> Self {
        change(self.inventory.functions.get_mut(&at(address)).unwrap());
        self
    }

    /// The host with a function's detail changed.
    pub fn detailed(self, address: &str, change: impl FnOnce(&mut Detail)) -> Self {
        self.with(address, |function| change(function.detail.get_or_insert_default()))
    }

    /// The host with a root port or switch port, and its Access Control Services.
    pub fn port(self, address: &str, kind: PortType, acs: Option<Acs>) -> Self {
        self.detailed(address, |detail| {
            detail.port_type = Some(kind);
            detail.acs = acs;
        })
    }

    /// The host with a link: present speed and width, then the highest of both.
    pub fn link(self, address: &str, speed: u16, width: u8, max_speed: u16, max_width: u8) -> Self {
        self.detailed(address, |detail| {
            detail.link = Some(Link { speed, width, max_speed, max_width })
        })
    }

    /// The host with a user of a function.
    pub fn held(mut self, address: &str, pid: u32, user: &str, by: &str) -> Self {
        let pid = (pid != 0).then_some(pid);
        let kind = match user.split(' ').next() {
            _ if pid.is_some() => HolderKind::Process,
            Some("mounted") => HolderKind::Mount,
            Some("part") => HolderKind::Volume,
            _ => HolderKind::Network,
        };
        self.holders.push(Holder {
            address: at(address),
            kind,
            pid,
            started: None,
            program: None,
            user: user.into(),
            by: by.into(),
            mdev: None,
            interface: (kind == HolderKind::Network).then(|| by.into()),
        });
        self
    }

    /// The host with a claim of a function, which was on this driver before.
    pub fn claimed(mut self, address: &str, state: ClaimState, before: Option<&str>) -> Self {
        let as_found = AsFound {
            address: at(address),
            driver: before.map(ToOwned::to_owned),
            driver_override: None,
            power: None,
            link: None,
            fingerprint: Fingerprint::unknown(),
        };
        let head = at(address);
        let member = ClaimedMember { as_found: Some(as_found), ..ClaimedMember::unknown(head) };
        let part = Part { head, partition: None, members: vec![member], at_boot: false };
        let claim = Claim {
            id: uuid::Uuid::nil(),
            owner: "job/7".parse().unwrap(),
            reason: None,
            expires: None,
            parts: vec![part],
            state,
            boot_id: None,
        };
        let why = Refusal::new(Code::InUse, "is claimed by job/7", "release it");
        self.own.claims.push(ExistingClaim { claim, owner: "job/7".into(), why });
        self
    }

    pub fn on(mut self, change: impl FnOnce(&mut Platform)) -> Self {
        change(&mut self.platform);
        self
    }

    pub fn examine(&self, only: Option<&str>) -> Vec<Finding> {
        let Self { inventory, holders, platform, own } = self;
        super::all(Patient { inventory, holders, platform, own }, only.map(at))
    }

    /// The findings of one check for one function.
    pub fn says(&self, check: &str, only: &str) -> Vec<Finding> {
        self.examine(Some(only)).into_iter().filter(|finding| finding.check == check).collect()
    }

    /// The only finding of one check for one function.
    pub fn one(&self, check: &str, only: &str) -> Finding {
        let mut findings = self.says(check, only);
        assert_eq!(findings.len(), 1, "{check} of {only}: {findings:#?}");
        findings.remove(0)
    }

    /// The severity of one check for one function; `None` without a finding.
    pub fn worst(&self, check: &str, only: &str) -> Option<Severity> {
        self.says(check, only).into_iter().map(|finding| finding.severity).max()
    }

    /// The findings of one check in an overview of the host.
    pub fn overview(&self, check: &str) -> Vec<Finding> {
        self.examine(None).into_iter().filter(|finding| finding.check == check).collect()
    }
}

fn function(line: &str) -> Function {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [address, ids, class, group, driver, rest @ ..] = &words[..] else { panic!("{line}") };
    let (vendor, device) = ids.split_once(':').unwrap();
    let below = rest.last().map(|bridges| bridges.split(',').map(at).collect());
    Function {
        vendor: vendor.parse().unwrap(),
        device: device.parse().unwrap(),
        class: class.parse::<Class>().unwrap(),
        driver: (*driver != "-").then(|| (*driver).into()),
        iommu_group: group.parse().ok(),
        path: below.unwrap_or_default(),
        reset_methods: vec!["flr".into()],
        resettable: true,
        ..Function::unknown(at(address))
    }
}

/// A 64-bit BAR.
pub fn bar(index: u8, start: u64, size: u64) -> Bar {
    Bar { index, start, size, io: false, is_64bit: true, prefetchable: true, unassigned: false }
}

pub fn virtual_functions(total: u16, present: &[&str]) -> Option<VirtualFunctions> {
    let present = present.iter().map(|address| at(address)).collect();
    Some(VirtualFunctions { total, present, autoprobe: Some(true) })
}

/// All ACS features that isolate.
pub const ISOLATING: Acs = Acs { supported: 0x5d, enabled: 0x1d };

/// A card with audio in a separate slot, on its native driver.
pub const CARD: [&str; 3] = [
    "0000:00:01.0 8086:1901 060400 1 pcieport",
    "0000:01:00.0 10de:2684 030000 12 nouveau below 0000:00:01.0",
    "0000:01:00.1 10de:22ba 040300 12 snd_hda_intel below 0000:00:01.0",
];

/// The GPU of that card.
pub const GPU: &str = "0000:01:00.0";

pub fn card() -> Host {
    Host::new(&CARD).port("0000:00:01.0", PortType::RootPort, Some(ISOLATING))
}
