//! What a running machine has lost: a program that served it has ended, and the guest goes on without.

use model::MachineOptions;

use super::cgroup;
use super::procfs::Proc;
use super::run_dir::Record;

/// A program that serves a machine.
struct Server {
    /// Its name.
    name: &'static str,
    /// How many of its processes the machine has.
    count: usize,
    /// What the guest has no longer, if one has ended.
    gives: &'static str,
}

/// The programs that serve a machine with these options.
fn servers(options: &MachineOptions) -> [Server; 2] {
    [
        Server { name: "passt", count: options.user_cards().count(), gives: "network" },
        Server { name: "swtpm", count: usize::from(options.tpm), gives: "TPM" },
    ]
}

/// What the machine of this record has lost, in words; `None` also if its processes are not known.
pub fn lost(proc: &Proc, record: &Record, options: &MachineOptions) -> Option<String> {
    let vmm = record.handle.pid()?;
    let others =
        cgroup::processes(record.cgroup.as_deref()?)?.into_iter().filter(|pid| *pid != vmm);
    // A process without a name has ended meanwhile.
    let names: Vec<String> = others.filter_map(|pid| proc.name(pid)).collect();
    said(&servers(options), &names)
}

/// The sentence about the programs that are not among these processes.
fn said(servers: &[Server], names: &[String]) -> Option<String> {
    let runs = |server: &Server, name: &String| {
        // passt executes a build for this processor: `passt.avx2`.
        name.strip_prefix(server.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let ended = servers
        .iter()
        .filter(|server| names.iter().filter(|name| runs(server, name)).count() < server.count);
    let texts: Vec<String> = ended
        .map(|server| {
            let Server { name, gives, .. } = server;
            format!(
                "{name} has ended: the guest has no {gives} until the machine is stopped and started"
            )
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_has_ended_is_named() {
        let card = "52:54:00:12:34:56".parse().unwrap();
        let card = model::NetworkCard {
            mac: card,
            link: model::CardLink::User,
            forwards: Vec::new(),
            port: None,
        };
        let both = MachineOptions { cards: vec![card], tpm: true, ..MachineOptions::default() };
        let of = |options: &MachineOptions, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            said(&servers(options), &names).unwrap_or_default()
        };
        assert_eq!(of(&both, &["passt.avx2", "swtpm"]), "");
        let passt =
            "passt has ended: the guest has no network until the machine is stopped and started";
        let swtpm =
            "swtpm has ended: the guest has no TPM until the machine is stopped and started";
        assert_eq!(of(&both, &["swtpm"]), passt);
        assert_eq!(of(&both, &["passt", "sh"]), swtpm);
        assert_eq!(of(&both, &["passta", "swtpm2"]), format!("{passt}; {swtpm}"));
        assert_eq!(of(&MachineOptions::default(), &[]), "");
    }
}
