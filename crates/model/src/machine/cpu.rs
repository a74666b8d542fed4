//! The processors of a machine, and the operating system that they suit.

use serde::{Deserialize, Serialize};

/// The processors of a machine, besides their number. The default is what machines of earlier versions have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// How they are arranged; the VMM chooses if this is `None`.
    pub topology: Option<Topology>,
    /// Whether the guest is not told that it runs on KVM: some drivers refuse that.
    pub hide_kvm: bool,
    /// The guest's operating system.
    pub os: GuestOs,
}

/// How processors are arranged. Their number is the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Cores of each socket.
    pub cores: u32,
    /// Threads of each core.
    pub threads: u32,
}

impl Topology {
    /// The number of processors.
    #[must_use]
    pub const fn vcpus(&self) -> u32 {
        self.sockets.saturating_mul(self.cores).saturating_mul(self.threads)
    }
}

/// An operating system that needs its own clock and interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestOs {
    /// Linux, or another one that reads the clock as UTC.
    #[default]
    Other,
    /// Windows: Hyper-V's interfaces, and a clock that shows local time.
    Windows,
}

impl GuestOs {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Other, Self::Windows];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Windows => "windows",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_processors_is_the_product() {
        let vcpus = |sockets, cores, threads| Topology { sockets, cores, threads }.vcpus();
        assert_eq!(vcpus(1, 8, 2), 16);
        assert_eq!(vcpus(u32::MAX, u32::MAX, 2), u32::MAX);
        assert_eq!(vcpus(0, 8, 2), 0);
    }
}
