//! The host's desktop: a display manager and consoles on a card.

use model::{Address, FirmwareFramebuffer, Holder, HolderKind, HostDisplay, UserPlace, is_vfio};

use super::{EAGAIN, ENODEV, ENOENT, Errno, Kernel};

/// The pids of the session and of the service that use the card.
const SESSION: u32 = 950;
const SERVER: u32 = 951;

impl Kernel {
    /// What the boot draws.
    pub(super) fn start_desktop(&mut self) {
        let Some(desktop) = self.hardware.desktop.clone() else { return };
        self.consoles = desktop.consoles.iter().map(|console| (*console, true)).collect();
        self.framebuffers = desktop.framebuffer.into_iter().map(|(name, _)| (name, true)).collect();
        self.card_modules = desktop.modules.into_iter().map(|module| (module, true)).collect();
    }

    /// The processes on the desktop's card.
    pub(super) fn drawing(&self) -> Vec<Holder> {
        let Some(desktop) = &self.hardware.desktop else { return Vec::new() };
        if !self.is_native(desktop.card) {
            return Vec::new();
        }
        let runs = |unit: &String| self.units.get(unit) == Some(&true);
        let session = runs(&desktop.manager).then(|| {
            drawing(desktop.card, SESSION, "Xorg", "session-2.scope of user 1000", "/dev/dri/card0")
        });
        let server = desktop.server.as_ref().filter(|unit| runs(unit));
        let server =
            server.map(|unit| drawing(desktop.card, SERVER, "xrdp", unit, "/dev/dri/renderD128"));
        session.into_iter().chain(server).collect()
    }

    /// What draws on these functions, besides processes.
    pub(crate) fn display_of(&self, addresses: &[Address]) -> HostDisplay {
        let Some(desktop) = &self.hardware.desktop else { return HostDisplay::default() };
        let has_other_card = self.functions.iter().any(|(address, state)| {
            let gpu = self.known.function(*address).map(model::Function::kind);
            gpu == Some(model::Kind::Gpu)
                && !addresses.contains(address)
                && state.driver.as_deref().is_some_and(|driver| !is_vfio(driver, "vfio-pci"))
        });
        if !addresses.contains(&desktop.card) {
            return HostDisplay { has_other_card, ..HostDisplay::default() };
        }
        let bound = |name: &String| self.framebuffers.get(name) == Some(&true);
        let framebuffers = desktop.framebuffer.iter().filter(|(name, _)| bound(name));
        let loaded = |module: &&String| self.card_modules.get(*module) == Some(&true);
        HostDisplay {
            manager: Some(desktop.manager.clone()),
            manager_runs: self.units.get(&desktop.manager) == Some(&true),
            has_other_card,
            consoles: self.consoles.iter().filter_map(|(n, on)| on.then_some(*n)).collect(),
            framebuffers: framebuffers
                .map(|(device, driver)| FirmwareFramebuffer {
                    device: device.clone(),
                    driver: driver.clone(),
                })
                .collect(),
            modules: desktop.modules.iter().filter(loaded).cloned().collect(),
            own: UserPlace::Other,
        }
    }

    /// What draws, by name, and whether it does; fabric sets are among it.
    pub(crate) fn drawn(&self) -> std::collections::BTreeMap<String, bool> {
        let consoles = self.consoles.iter().map(|(number, on)| (format!("vtcon{number}"), *on));
        let others = self.framebuffers.iter().chain(&self.card_modules);
        let sets = self.fabric.iter().flat_map(|fabric| &fabric.sets);
        let sets = sets.map(|set| (format!("fabric set {}", set.id), set.is_active));
        consoles.chain(others.map(|(name, on)| (name.clone(), *on))).chain(sets).collect()
    }

    /// Whether the native driver of the desktop's card would wait for what still draws on it.
    pub(super) fn is_drawn_on(&self, address: Address) -> bool {
        let Some(desktop) = &self.hardware.desktop else { return false };
        let on = |all: bool| all && self.is_native(address);
        desktop.card == address
            && on(!self.drawing().is_empty()
                || self.consoles.values().any(|on| *on)
                || self.card_modules.values().any(|on| *on))
    }

    /// `vtconN/bind`: a console needs a framebuffer, which the card's native driver makes.
    pub(super) fn set_console(&mut self, console: u32, on: bool) -> Result<(), Errno> {
        let native = self.hardware.desktop.as_ref().is_some_and(|one| self.is_native(one.card));
        if on && !native {
            return Err(ENODEV);
        }
        *self.consoles.get_mut(&console).ok_or(ENOENT)? = on;
        Ok(())
    }

    /// `bind` and `unbind` of a platform driver.
    pub(super) fn set_framebuffer(&mut self, device: &str, on: bool) -> Result<(), Errno> {
        *self.framebuffers.get_mut(device).ok_or(ENODEV)? = on;
        Ok(())
    }

    /// `delete_module` and `modprobe`: a module in use stays, and one that is loaded brings those that it uses.
    pub(super) fn set_card_module(&mut self, module: &str, on: bool) -> Result<(), Errno> {
        let Some(desktop) = self.hardware.desktop.clone() else { return Err(ENOENT) };
        let all = &desktop.modules;
        let at = all.iter().position(|one| one == module).ok_or(ENOENT)?;
        let is_on = |name: &String| self.card_modules.get(name) == Some(&true);
        if on {
            for used in all.iter().skip(at) {
                self.card_modules.insert(used.clone(), true);
            }
            return Ok(());
        }
        let drawn = self.consoles.values().any(|on| *on) || !self.drawing().is_empty();
        if drawn || all.iter().take(at).any(is_on) {
            return Err(EAGAIN);
        }
        self.card_modules.insert(module.into(), false);
        Ok(())
    }
}

fn drawing(address: Address, pid: u32, program: &str, place: &str, by: &str) -> Holder {
    Holder {
        address,
        kind: HolderKind::Process,
        pid: Some(pid),
        started: Some(pid.into()),
        program: Some(program.into()),
        user: format!("{program} (pid {pid}, {place})"),
        by: by.into(),
        mdev: None,
        interface: None,
    }
}
