//! What a test decides of the launcher and of its guests.

use super::*;

impl SimLauncher {
    /// Lets the VMM take descriptors of devices, where the kernel has nodes for them.
    pub fn set_takes_descriptors(&self) {
        self.inside().takes_descriptors = true;
    }

    /// Lets a service own the processes of machines that are started from now on, as libvirt does.
    pub fn set_service(&self) {
        self.inside().service = true;
    }

    /// Makes the next launch fail.
    pub fn refuse_next(&self, reason: &str) {
        self.inside().refusal = Some(reason.into());
    }

    /// Makes the next removal of files fail.
    pub fn refuse_next_removal(&self, reason: &str) {
        self.inside().removal_refusal = Some(reason.into());
    }

    /// Makes the VMM unavailable, or available again.
    pub fn set_missing(&self, reason: Option<&str>) {
        self.inside().missing = reason.map(Into::into);
    }

    /// Makes this host one without UEFI firmware, without passt and without swtpm.
    pub fn set_bare(&self) {
        let mut inside = self.inside();
        (inside.no_uefi, inside.no_network, inside.no_tpm) = (true, true, true);
    }

    /// How often the variables of a machine's firmware were removed.
    #[must_use]
    pub fn forgotten(&self, id: Uuid) -> u32 {
        self.inside().forgotten.get(&id).copied().unwrap_or_default()
    }

    /// What the machine was last started with.
    #[must_use]
    pub fn launched(&self, id: Uuid) -> Option<MachineSpec> {
        self.inside().launched.get(&id).cloned()
    }

    /// The host loses its bridges.
    pub fn set_no_bridge(&self) {
        self.inside().no_bridge = true;
    }

    /// The host does not let virtual processors be pinned.
    pub fn refuse_pins(&self) {
        self.inside().refuses_pins = true;
    }

    /// Lets another program listen on a port.
    pub fn set_busy_port(&self, port: u16) {
        self.inside().busy_port = Some(port);
    }

    /// Makes the presence of machines unknown, or known again.
    pub fn set_unknown(&self, id: Uuid, unknown: bool) {
        let mut inside = self.inside();
        if unknown {
            inside.unknown.insert(id);
        } else {
            inside.unknown.remove(&id);
        }
    }

    /// Lets the VMM stop a guest, or takes back why it did.
    pub fn set_halted(&self, id: Uuid, halt: Option<Halt>) {
        let mut inside = self.inside();
        match halt {
            Some(halt) => drop(inside.halted.insert(id, halt)),
            None => drop(inside.halted.remove(&id)),
        }
    }

    /// What a machine uses from now on.
    pub fn set_usage(&self, id: Uuid, usage: Usage) {
        self.inside().usage.insert(id, usage);
    }

    /// Lets a guest run this agent, or none.
    pub fn set_agent(&self, id: Uuid, agent: Option<SimAgent>) {
        let mut inside = self.inside();
        match agent {
            Some(agent) => drop(inside.agents.insert(id, agent)),
            None => drop(inside.agents.remove(&id)),
        }
    }

    /// Makes all monitors silent, or answer again.
    pub fn set_silent(&self, silent: bool) {
        self.inside().silent = silent;
    }

    /// The init in the guest of a container image writes how its command ended, and the machine ends.
    pub fn end_command(&self, id: Uuid, record: Vec<u8>) {
        self.inside().results.insert(id, record);
        self.end(id, Some(0));
    }

    /// The guest shuts itself down.
    pub fn exit(&self, id: Uuid, code: i32) {
        self.end(id, Some(code));
    }

    /// All machines end with the host's reboot.
    pub fn reboot(&self) {
        for id in self.running() {
            self.end(id, None);
        }
    }
}
