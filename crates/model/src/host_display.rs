//! What draws on a card of the host, and the steps that end it, so that a machine can have the only GPU.

use crate::holder::{Holder, HolderKind};
use crate::{Address, Step};

/// Units that have a card open for others, which end with the sessions, or that Handover itself depends on.
const NEVER_STOPPED: [&str; 6] = [
    "systemd-logind.service",
    "elogind.service",
    "seatd.service",
    "dbus.service",
    "dbus-broker.service",
    "handover.service",
];

/// Units of the boot: they are asked to end, and not started again.
const OF_THE_BOOT: [&str; 1] = ["plymouth-start.service"];

/// What the kernel and the display manager do with a card of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDisplay {
    /// The unit of the display manager, if there is one.
    pub manager: Option<String>,
    /// Whether it is active.
    pub manager_runs: bool,
    /// Whether the host has another card that draws.
    pub has_other_card: bool,
    /// The virtual consoles that are drawn on the card, N of `vtconN`.
    pub consoles: Vec<u32>,
    /// Framebuffers of the firmware in the card's memory that have a driver.
    pub framebuffers: Vec<FirmwareFramebuffer>,
    /// The modules that keep the card's driver from letting go of the card, those that use others first.
    pub modules: Vec<String>,
    /// Where this process runs.
    pub own: UserPlace,
}

/// A framebuffer of the firmware with its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareFramebuffer {
    /// The platform device: `simple-framebuffer.0`.
    pub device: String,
    /// Its driver.
    pub driver: String,
}

/// Where a process that uses a card runs, by its control group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UserPlace {
    /// A service of the system.
    Service(String),
    /// A login session: its scope and its user.
    Session(String, u32),
    /// The service manager of a user, which ends with the user's last session.
    Manager(u32),
    /// Neither, or unknown.
    #[default]
    Other,
}

impl UserPlace {
    /// Reads the words after the pid in [`Holder::user`]: `gdm.service`, `session-2.scope of user 1000`.
    #[must_use]
    pub fn parse(words: &str) -> Self {
        match words.split_once(" of user ") {
            Some((unit, uid)) => match uid.parse() {
                Ok(uid) if unit.starts_with("session-") => Self::Session(unit.to_owned(), uid),
                Ok(uid) => Self::Manager(uid),
                Err(_) => Self::Other,
            },
            None if words.ends_with(".service") => Self::Service(words.to_owned()),
            None => Self::Other,
        }
    }

    /// The user of a login session.
    const fn user(&self) -> Option<u32> {
        match self {
            Self::Session(_, uid) | Self::Manager(uid) => Some(*uid),
            Self::Service(_) | Self::Other => None,
        }
    }

    /// Whether ending the sessions of `other` ends a process here too.
    fn ends_with(&self, other: &Self) -> bool {
        match self {
            Self::Session(..) => self == other,
            Self::Manager(uid) => other.user() == Some(*uid),
            Self::Service(_) | Self::Other => false,
        }
    }
}

impl Holder {
    /// Whether it is a process that draws or computes on a card, or plays sound through it: it has a node of the card's
    /// own driver open. Machines are left out.
    #[must_use]
    pub fn draws(&self) -> bool {
        let nodes = ["/dev/dri/", "/dev/nvidia", "/dev/fb", "/dev/kfd", "/dev/snd/"];
        let is_machine = self.program.as_deref().is_some_and(|name| name.starts_with("qemu-"));
        self.kind == HolderKind::Process
            && self.pid.is_some()
            && self.started.is_some()
            && !is_machine
            && nodes.iter().any(|node| self.by.starts_with(node))
    }

    /// Where the process runs.
    #[must_use]
    pub fn place(&self) -> UserPlace {
        let words = self.user.split_once(" (pid ").and_then(|(_, rest)| rest.strip_suffix(')'));
        let unit = words.and_then(|words| words.split_once(", "));
        unit.map_or(UserPlace::Other, |(_, unit)| UserPlace::parse(unit))
    }
}

impl HostDisplay {
    /// The units to stop, in order: the display manager first, so that the others are started before it.
    #[must_use]
    pub fn units(&self, users: &[Holder]) -> Vec<String> {
        let users: Vec<UserPlace> =
            users.iter().filter(|user| user.draws()).map(Holder::place).collect();
        let is_manager = |unit: &String| Some(unit) == self.manager.as_ref();
        let draws = users.iter().any(|place| match place {
            UserPlace::Service(unit) => is_manager(unit),
            UserPlace::Session(..) | UserPlace::Manager(_) => true,
            UserPlace::Other => false,
        });
        // It opens the only card at any time.
        let ends = self.manager_runs && (draws || !self.has_other_card);
        let manager = self.manager.iter().filter(|_| ends).cloned();
        let mut units: Vec<String> = manager.collect();
        for place in users {
            let UserPlace::Service(unit) = place else { continue };
            let stays =
                NEVER_STOPPED.contains(&unit.as_str()) || OF_THE_BOOT.contains(&unit.as_str());
            if !stays && !units.contains(&unit) {
                units.push(unit);
            }
        }
        units
    }

    /// The steps that stop them.
    #[must_use]
    pub fn stop_units(&self, card: Address, users: &[Holder]) -> Vec<Step> {
        let units = self.units(users).into_iter();
        units.map(|unit| Step::SetUnit { address: card, unit, from: true, to: false }).collect()
    }

    /// The steps by which the kernel stops drawing on the card, when no process does any more. A module's console is
    /// drawn on its framebuffer, so consoles come first.
    #[must_use]
    pub fn let_go(&self, card: Address) -> Vec<Step> {
        let address = card;
        let (from, to) = (true, false);
        let consoles = self.consoles.iter().map(|console| Step::SetConsole {
            address,
            console: *console,
            from,
            to,
        });
        let framebuffers = self.framebuffers.iter().cloned().map(|one| Step::SetFramebuffer {
            address,
            device: one.device,
            driver: one.driver,
            from,
            to,
        });
        let modules = self.modules.iter().cloned();
        let modules = modules.map(|module| Step::SetModule { address, module, from, to });
        consoles.chain(framebuffers).chain(modules).collect()
    }

    /// The user whose session this process is in, if that ends: `Xorg (pid 12, session-2.scope of user 1000)`.
    #[must_use]
    pub fn ends_us<'a>(&self, users: &'a [Holder]) -> Option<&'a Holder> {
        users.iter().filter(|user| user.draws()).find(|user| self.own.ends_with(&user.place()))
    }
}

/// Whether a process that draws ends by itself when the sessions do, or keeps a card open for them.
#[must_use]
pub fn is_broker(holder: &Holder) -> bool {
    matches!(holder.place(), UserPlace::Service(unit) if NEVER_STOPPED.contains(&unit.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(pid: u32, place: &str, by: &str) -> Holder {
        Holder {
            address: "0000:01:00.0".parse().unwrap(),
            kind: HolderKind::Process,
            pid: Some(pid),
            started: Some(1),
            program: Some("x".into()),
            user: format!("x (pid {pid}{place})"),
            by: by.into(),
            mdev: None,
            interface: None,
        }
    }

    fn display() -> HostDisplay {
        HostDisplay {
            manager: Some("gdm.service".into()),
            manager_runs: true,
            ..HostDisplay::default()
        }
    }

    #[test]
    fn a_session_ends_by_its_display_manager() {
        let shell = user(7, ", org.gnome.Shell@wayland.service of user 1000", "/dev/dri/card0");
        let broker = user(8, ", systemd-logind.service", "/dev/dri/card0");
        let boot = user(9, ", plymouth-start.service", "/dev/dri/card0");
        let server = user(10, ", ollama.service", "/dev/nvidia0");
        let all = [shell.clone(), broker.clone(), boot, server];
        let other = HostDisplay { has_other_card: true, ..display() };
        assert_eq!(other.units(&all), ["gdm.service", "ollama.service"]);
        assert_eq!(other.units(std::slice::from_ref(&broker)), Vec::<String>::new());
        assert_eq!(
            display().units(&[broker]),
            ["gdm.service"],
            "it opens the only card at any time"
        );
        let none = HostDisplay { manager: None, ..display() };
        assert_eq!(none.units(&[shell]), Vec::<String>::new());
    }

    #[test]
    fn what_runs_in_a_session_that_ends_is_known() {
        let xorg = user(7, ", session-2.scope of user 1000", "/dev/dri/card0");
        let ends = |own: &str| {
            let own = UserPlace::parse(own);
            HostDisplay { own, ..display() }.ends_us(std::slice::from_ref(&xorg)).is_some()
        };
        assert!(ends("session-2.scope of user 1000"));
        assert!(ends("vte-spawn.scope of user 1000"), "a terminal of the desktop");
        assert!(!ends("session-5.scope of user 1000"), "an ssh session");
        assert!(!ends("handover.service"));
        assert!(!ends(""));
    }

    #[test]
    fn machines_and_drives_do_not_draw() {
        assert!(user(7, "", "/dev/dri/renderD128").draws());
        assert!(user(7, "", "/dev/snd/controlC1").draws());
        assert!(!user(7, "", "/dev/vfio/1").draws());
        assert!(!user(7, "", "/dev/nvme0").draws());
        let machine = Holder {
            program: Some("qemu-system-x86".into()),
            ..user(7, "", "/dev/dri/renderD128")
        };
        assert!(!machine.draws());
    }
}
