//! Reads the kernel's attributes for a physical function's virtual functions (VFs): how many it supports, how many are
//! configured, which exist, and whether drivers bind to new ones (drivers/pci/iov.c).

use model::Address;
use rustix::io::Errno;

use crate::function_files::DEVICES;
use crate::root::{Dir, Root};

/// How many VFs the function supports.
const TOTAL: &str = "sriov_totalvfs";
/// How many VFs are configured.
pub const VF_COUNT: &str = "sriov_numvfs";
/// Whether the kernel binds drivers to new VFs.
pub const AUTOPROBE: &str = "sriov_drivers_autoprobe";
/// The prefix of the links to VFs; a number follows.
const LINK: &str = "virtfn";

/// The SR-IOV attributes in the directory of a function.
#[derive(Clone, Copy, Debug)]
pub struct Sriov<'a>(&'a Dir);

/// An attribute without a valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The read failed.
    Refused {
        /// The attribute.
        name: &'static str,
        /// The error; `ENOENT` if the function does not have the attribute.
        errno: Errno,
    },
    /// Its text cannot be parsed.
    Malformed {
        /// The attribute.
        name: &'static str,
        /// Its text.
        text: String,
    },
}

impl<'a> Sriov<'a> {
    /// The attributes of the function with this directory.
    pub const fn of(function: &'a Dir) -> Self {
        Self(function)
    }

    /// How many VFs it supports. The kernel has this in memory.
    pub fn total(self) -> Result<u16, Unread> {
        self.value(TOTAL, |text| text.parse().ok())
    }

    /// How many VFs are configured. Reading it waits for the device's lock (`sriov_numvfs_show`).
    pub fn vf_count(self) -> Result<u16, Unread> {
        self.value(VF_COUNT, |text| text.parse().ok())
    }

    /// Whether the kernel binds drivers to new VFs. Reading it takes no lock (`sriov_drivers_autoprobe_show`).
    pub fn autoprobe(self) -> Result<bool, Unread> {
        self.value(AUTOPROBE, |text| match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })
    }

    /// The VFs that exist: each has its link, and the directory that the link points to.
    pub fn present(self, root: &Root) -> Vec<Address> {
        let names = self.0.names(".").unwrap_or_default();
        let numbered = |name: &&String| {
            let number = name.strip_prefix(LINK).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        };
        let links = names.iter().filter(numbered).filter_map(|name| self.0.link_name(name).ok());
        let exists = |address: &Address| root.exists(&format!("{DEVICES}/{address}"));
        links.filter_map(|name| name.parse().ok()).filter(exists).collect()
    }

    fn value<T>(
        self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Unread> {
        let text = self.0.attribute(name).map_err(|errno| Unread::Refused { name, errno })?;
        parse(&text).ok_or(Unread::Malformed { name, text })
    }
}

/// How many VFs a physical function supports; 0 if that cannot be read.
pub fn total_of(root: &Root, physical: Address) -> u16 {
    let Ok(dir) = root.dir(&format!("{DEVICES}/{physical}")) else { return 0 };
    Sriov::of(&dir).total().unwrap_or_default()
}
