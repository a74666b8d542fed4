//! Programs that are known to use or manage GPUs.

/// What a program does with GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Shows a desktop or a login screen.
    Display,
    /// Shows a desktop over the network.
    RemoteDesktop,
    /// Keeps NVIDIA's driver loaded and GPUs initialized.
    Persistence,
    /// Monitors GPUs.
    Monitor,
    /// Sets up NVSwitch.
    Fabric,
    /// Creates vGPUs.
    VgpuManager,
}

/// The names of programs with their purposes.
const PROGRAMS: [(&str, Purpose); 40] = [
    ("Xorg", Purpose::Display),
    ("X", Purpose::Display),
    ("Xwayland", Purpose::Display),
    ("gnome-shell", Purpose::Display),
    ("mutter", Purpose::Display),
    ("kwin_wayland", Purpose::Display),
    ("kwin_x11", Purpose::Display),
    ("plasmashell", Purpose::Display),
    ("sway", Purpose::Display),
    ("weston", Purpose::Display),
    ("Hyprland", Purpose::Display),
    ("cosmic-comp", Purpose::Display),
    ("labwc", Purpose::Display),
    ("wayfire", Purpose::Display),
    ("gamescope", Purpose::Display),
    ("cage", Purpose::Display),
    ("gdm3", Purpose::Display),
    ("gdm", Purpose::Display),
    ("sddm", Purpose::Display),
    ("lightdm", Purpose::Display),
    ("plymouthd", Purpose::Display),
    ("gnome-remote-desktop-daemon", Purpose::RemoteDesktop),
    ("xrdp", Purpose::RemoteDesktop),
    ("krfb", Purpose::RemoteDesktop),
    ("krdpserver", Purpose::RemoteDesktop),
    ("x11vnc", Purpose::RemoteDesktop),
    ("wayvnc", Purpose::RemoteDesktop),
    ("Xvnc", Purpose::RemoteDesktop),
    ("Xtigervnc", Purpose::RemoteDesktop),
    ("dcvserver", Purpose::RemoteDesktop),
    ("nxserver.bin", Purpose::RemoteDesktop),
    ("sunshine", Purpose::RemoteDesktop),
    ("rustdesk", Purpose::RemoteDesktop),
    ("nvidia-persistenced", Purpose::Persistence),
    ("nv-hostengine", Purpose::Monitor),
    ("dcgm-exporter", Purpose::Monitor),
    ("nvtop", Purpose::Monitor),
    ("nv-fabricmanager", Purpose::Fabric),
    ("nvidia-vgpu-mgr", Purpose::VgpuManager),
    ("nvidia-vgpud", Purpose::VgpuManager),
];

/// Characters of a program's name that the kernel keeps (`TASK_COMM_LEN` without the NUL, include/linux/sched.h).
const COMM: usize = 15;

/// What a program does with GPUs, by its full name or its `comm`.
#[must_use]
pub fn purpose(name: &str) -> Option<Purpose> {
    known(name).map(|(_, purpose)| *purpose)
}

/// The full name of a known program by its `comm` (15 characters); `None` if unknown.
#[must_use]
pub fn full_name(comm: &str) -> Option<&'static str> {
    known(comm).map(|(name, _)| *name)
}

fn known(name: &str) -> Option<&'static (&'static str, Purpose)> {
    PROGRAMS
        .iter()
        .find(|(known, _)| *known == name || known.len() > COMM && known.get(..COMM) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_what_the_kernel_keeps_of_its_name() {
        assert_eq!(full_name("nvidia-persiste"), Some("nvidia-persistenced"));
        assert_eq!(purpose("gnome-remote-de"), Some(Purpose::RemoteDesktop));
        assert_eq!(purpose("nv-fabricmanage"), Some(Purpose::Fabric));
        assert_eq!(purpose("gnome-session-b"), None);
        assert_eq!(purpose(""), None);
    }
}
