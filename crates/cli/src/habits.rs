//! Commands of other tools that people type by habit (virsh, driverctl, mdevctl, container tools), and ours for the same.

/// The hint for a word that is no command.
const HABITS: &[(&[&str], &str)] = &[
    (
        &["bind", "vfio-bind"],
        "`handover claim ADDRESS` binds a device to vfio for an owner; `handover device bind ADDRESS` does so by hand",
    ),
    (
        &["detach", "nodedev-detach", "nodedev-dettach"],
        "`handover claim ADDRESS` takes a device from its driver for a machine; `handover release CLAIM` returns it",
    ),
    (
        &["unbind", "reattach", "nodedev-reattach", "unclaim", "free", "unlock"],
        "`handover release CLAIM` ends a claim and returns its devices, `handover device unbind ADDRESS` what was bound by hand; \
         `handover return ADDRESS` returns unclaimed ones",
    ),
    (
        &["attach", "attach-device", "assign", "passthrough"],
        "`handover instance create --device ADDRESS` starts a machine with a device; `handover claim ADDRESS` prepares one \
         for a machine of yours",
    ),
    (
        &["allocate", "acquire", "request", "lock"],
        "`handover claim ADDRESS` claims a device, `handover claim gpu` any GPU",
    ),
    (
        &["list", "list-devices", "nodedev-list", "devices", "gpus", "lspci"],
        "`handover ls` lists this host's devices, `handover device list` the registered ones",
    ),
    (
        &["reset", "nodedev-reset", "gpu-reset"],
        "`handover device reset ADDRESS` resets a device with its companions",
    ),
    (
        &["set-override"],
        "`handover boot-list ADDRESS` lets vfio-pci take a device at each boot; `handover claim ADDRESS` does so until the \
         claim is released",
    ),
    (&["unset-override"], "`handover boot-list ADDRESS --remove` takes a device off the boot list"),
    (
        &["list-overrides", "list-persisted"],
        "`handover boot-list --list` lists what vfio-pci takes at each boot",
    ),
    (
        &["status", "check", "diagnose"],
        "`handover doctor` shows what blocks devices, `handover claims` what is claimed",
    ),
    (
        &["info", "inspect", "dumpxml", "nodedev-dumpxml", "nodedev-info"],
        "`handover show ADDRESS` shows a device; `handover claim ADDRESS` prints libvirt's XML for it",
    ),
    (
        &["types", "profiles", "vgpu", "vgpus", "mdev"],
        "`handover resources` lists vGPU profiles and how many are left; `handover claim profile=NAME` claims one",
    ),
    (&["define"], "`handover claim profile=NAME --define` also writes an mdevctl definition"),
    (&["vf", "vfs", "numvfs"], "`handover sriov set ADDRESS COUNT` creates virtual functions"),
    (&["register", "add"], "`handover device add ADDRESS` registers a device"),
    (&["unregister"], "`handover device rm NAME` unregisters a device"),
    (
        &[
            "create", "run", "start", "stop", "ps", "machines", "console", "logs", "destroy",
            "pause", "suspend", "resume", "stats", "vm", "vms", "machine", "reboot", "restart",
        ],
        "`handover instance` manages machines: `handover instance create`, `handover instance list`, ...",
    ),
    (
        &["rm", "remove", "delete"],
        "`handover release CLAIM`, `handover instance rm NAME`, `handover device rm NAME` or `handover image rm NAME`",
    ),
    (
        &["import", "pull", "images"],
        "`handover image import` imports an image, `handover image list` lists them",
    ),
    (&["daemon", "server"], "`handover serve` is the daemon"),
    (&["tree", "topology"], "`handover topo` draws the device tree"),
    (&["monitor", "events"], "`handover watch` shows what changes"),
    (&["version"], "`handover --version` prints the version"),
];

/// What to type instead of this word, if it is a habit from another tool.
pub fn hint(word: &str) -> Option<&'static str> {
    let habit = HABITS.iter().find(|(words, _)| words.contains(&word));
    habit.map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_commands_that_exist() {
        let command = crate::command();
        for (words, hint) in HABITS {
            for word in *words {
                let is_command = command.get_subcommands().any(|own| {
                    own.get_name() == *word || own.get_all_aliases().any(|alias| alias == *word)
                });
                assert!(!is_command, "{word} is a command");
            }
            let named: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "{hint}");
            for line in named {
                let mut words = line.split(' ');
                assert_eq!(words.next(), Some("handover"), "{hint}");
                let mut at = &command;
                for word in words.filter(|word| word.chars().all(|c| c.is_lowercase() || c == '-'))
                {
                    if let Some(option) = word.strip_prefix("--") {
                        let known = at.get_arguments().any(|own| own.get_long() == Some(option));
                        assert!(known || option == "version", "{line}");
                    } else if at.has_subcommands() {
                        at = at.find_subcommand(word).unwrap_or_else(|| panic!("{line}"));
                    }
                }
            }
        }
    }

    #[test]
    fn no_habit_is_listed_twice() {
        let all: Vec<&str> = HABITS.iter().flat_map(|(words, _)| *words).copied().collect();
        let once: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), once.len());
    }
}
