//! Why a line of a catalog matches no function of a host, and similar functions.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Catalog, ClassOrDevice, Line, counts};
use crate::{Address, Class, Function, Id, Inventory};

/// The most similar functions that are listed.
const MAX_SHOWN: usize = 6;

/// A line that got no function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// Its line number in the file.
    pub line: u32,
    /// Its resource.
    pub resource: String,
    /// The reason.
    pub reason: Reason,
    /// Similar functions, closest first, up to a limit.
    pub instead: Vec<Seen>,
}

/// Why a line got no function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum Reason {
    /// The host has no function of the vendor.
    NoVendor {
        /// The vendor.
        vendor: Id,
    },
    /// The host has functions of the vendor, but none of this class.
    NoClass {
        /// The class.
        class: Class,
    },
    /// The host has functions of the vendor, but not this device.
    NoDevice {
        /// The device.
        device: Id,
    },
    /// The host has the device, but with another subsystem or revision.
    OtherVariant,
    /// The host has the device, but not at the listed addresses, or only at excluded ones.
    OtherPlace,
    /// The line covers only physical functions with virtual functions; only the latter can be handed over.
    HasVirtualFunctions,
    /// Other lines fit the same functions, and are more specific or come later.
    Shadowed {
        /// Their line numbers.
        lines: Vec<u32>,
    },
}

/// A variant of function that this host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// Class code.
    pub class: Class,
    /// Subsystem vendor and subsystem id.
    pub subsystem: Option<(Id, Id)>,
    /// Revision.
    pub revision: u8,
    /// Its display name.
    pub name: String,
    /// The address of one.
    pub address: Address,
    /// The number of them.
    pub count: usize,
}

impl Catalog {
    /// Why the line at `index` got no function.
    pub(super) fn unmatched(&self, inventory: &Inventory, index: usize) -> Option<Unmatched> {
        let line = self.lines.get(index)?;
        let all = || inventory.functions.values();
        let of_vendor = || all().filter(|function| function.vendor == line.vendor);
        let (reason, instead) = if of_vendor().next().is_none() {
            let same_id = all().filter(|function| line.pattern.fits_id(function));
            // A class fits functions of many vendors, which does not help. A device id of another vendor may be a
            // mistake.
            let helps = matches!(line.pattern.id, ClassOrDevice::Device(_));
            (Reason::NoVendor { vendor: line.vendor }, seen(same_id.filter(|_| helps)))
        } else {
            self.missing(line, of_vendor)
        };
        Some(Unmatched { line: line.number, resource: line.resource(), reason, instead })
    }

    fn missing<'a, I>(&self, line: &Line, of_vendor: impl Fn() -> I) -> (Reason, Vec<Seen>)
    where
        I: Iterator<Item = &'a Function>,
    {
        let pattern = &line.pattern;
        let by_id = || of_vendor().filter(|function| pattern.fits_id(function));
        let by_variant = || by_id().filter(|function| pattern.fits_variant(function));
        let by_place = || by_variant().filter(|function| pattern.fits_place(function.address));
        if by_id().next().is_none() {
            return match pattern.id {
                ClassOrDevice::Class(class) => {
                    let near = |function: &Function| class.0 >> 16 == function.class.0 >> 16;
                    (Reason::NoClass { class }, nearest(of_vendor(), near))
                }
                ClassOrDevice::Device(device) => {
                    // `0302` often means the class 0302xx.
                    let near = |function: &Function| function.class.prefix() == u32::from(device.0);
                    (Reason::NoDevice { device }, nearest(of_vendor(), near))
                }
            };
        }
        if by_variant().next().is_none() {
            return (Reason::OtherVariant, seen(by_id()));
        }
        if by_place().next().is_none() {
            return (Reason::OtherPlace, seen(by_variant()));
        }
        let Some(first) = by_place().find(|function| counts(function)) else {
            let pfs: Vec<Address> = by_place().map(|function| function.address).collect();
            let parent = |function: &Function| function.physical_function;
            let vfs = of_vendor().filter(|f| parent(f).is_some_and(|pf| pfs.contains(&pf)));
            return (Reason::HasVirtualFunctions, seen(vfs));
        };
        let others = by_place().filter(|function| counts(function));
        let mut lines: Vec<u32> = others
            .filter_map(|function| Some(self.lines.get(self.line_of(function)?)?.number))
            .collect();
        lines.sort_unstable();
        lines.dedup();
        (Reason::Shadowed { lines }, seen(std::iter::once(first)))
    }
}

impl Seen {
    fn of(function: &Function) -> Self {
        Self {
            vendor: function.vendor,
            device: function.device,
            class: function.class,
            subsystem: function.subsystem_vendor.zip(function.subsystem_device),
            revision: function.revision,
            name: function.title(),
            address: function.address,
            count: 1,
        }
    }

    fn same_as(&self, other: &Self) -> bool {
        (self.vendor, self.device, self.class) == (other.vendor, other.device, other.class)
            && (self.subsystem, self.revision) == (other.subsystem, other.revision)
    }
}

/// The distinct variants, in the order of the host.
fn seen<'a>(functions: impl Iterator<Item = &'a Function>) -> Vec<Seen> {
    let mut kinds: Vec<Seen> = Vec::new();
    for function in functions {
        let one = Seen::of(function);
        if let Some(known) = kinds.iter_mut().find(|known| known.same_as(&one)) {
            known.count += 1;
        } else if kinds.len() < MAX_SHOWN {
            kinds.push(one);
        }
    }
    kinds
}

/// Similar ones first, then others that are no bridges.
fn nearest<'a>(
    functions: impl Iterator<Item = &'a Function>,
    near: impl Fn(&Function) -> bool,
) -> Vec<Seen> {
    let (near, far): (Vec<_>, Vec<_>) = functions.partition(|function| near(function));
    let far = far.into_iter().filter(|function| function.kind() != crate::Kind::Bridge);
    seen(near.into_iter().chain(far))
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVendor { vendor } => write!(f, "this host has no functions of vendor {vendor}"),
            Self::NoClass { class } => {
                write!(f, "this host has no functions of the vendor with class {class}")
            }
            Self::NoDevice { device } => {
                write!(f, "this host has no device {device} of the vendor")
            }
            Self::OtherVariant => {
                f.write_str("the device exists, but with another subsystem or revision")
            }
            Self::OtherPlace => f.write_str(
                "the device exists, but not at an address that `addresses` and `exclude` allow",
            ),
            Self::HasVirtualFunctions => f.write_str(
                "the device has virtual functions, which are handed over instead of the whole device",
            ),
            Self::Shadowed { lines } => {
                let lines: Vec<String> = lines.iter().map(u32::to_string).collect();
                let (s, fit) = if lines.len() == 1 { ("", "fits") } else { ("s", "fit") };
                let lines = lines.join(", ");
                write!(
                    f,
                    "line{s} {lines} {fit} the same devices; the more specific line, then the later one, gets them"
                )
            }
        }
    }
}

impl Unmatched {
    /// How to fix the line.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Some(first) = self.instead.first() else {
            return "remove the line, or keep it if the file is for several hosts".into();
        };
        let Seen { vendor, device, class, revision, .. } = first;
        match &self.reason {
            Reason::NoVendor { .. } => {
                format!("device {device} belongs to vendor {vendor} on this host: move the line to that vendor")
            }
            Reason::NoClass { class: wanted } if wanted.0 >> 16 == class.0 >> 16 => {
                format!("{} has class {class}: write id: \"0x{class}\"", first.address)
            }
            Reason::NoDevice { device: wanted } if class.prefix() == u32::from(wanted.0) => format!(
                "four digits are a device id; for the class of {} write id: \"0x{class}\"",
                first.address
            ),
            Reason::NoClass { .. } | Reason::NoDevice { .. } => {
                "use one of the ids below, or keep the line if the file is for several hosts".into()
            }
            Reason::OtherVariant => first.subsystem.map_or_else(
                || format!("it has no subsystem; its revision is {revision:02x}"),
                |(vendor, device)| {
                    format!(
                        "{} has subsystem {vendor}:{device}, revision {revision:02x}: use that, or omit it",
                        first.address
                    )
                },
            ),
            Reason::OtherPlace => {
                format!("{} has one; addresses can change between boots", first.address)
            }
            Reason::HasVirtualFunctions => {
                format!("write id: \"0x{device}\" for its virtual functions, or remove them")
            }
            Reason::Shadowed { .. } => {
                "remove one of the lines, or make one of them more specific".into()
            }
        }
    }
}
