//! `handover instance ssh`: runs ssh(1), which verifies the guest by the host key that Handover gave it.

use std::ffi::OsString;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use api::Instance as Machine;
use api::client::segment;
use clap::Args;
use model::{Code, Forward, Refusal};

use super::networks;
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{terminal, values};

/// How long one try to reach the guest's server may take, and the pause between tries.
const TRY: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(500);

/// The port of SSH servers.
const SSH: u16 = 22;

/// Log in to the guest by SSH
#[derive(Debug, Args)]
pub struct Ssh {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// User of the guest
    #[arg(short = 'l', long, default_value = "root")]
    user: String,
    /// How long to wait until the guest's SSH server answers, such as 30s or 2m
    #[arg(long, default_value = "2m", value_name = "TIME", value_parser = values::duration)]
    timeout: Duration,
    /// After `--`: options of ssh, such as -i KEY, and a command to run in the guest; a shell by default
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Ssh {
    pub fn run(self, connection: &Connection) -> Done {
        let what = format!("log in to {}", self.instance);
        let path = format!("/instances/{}", segment(&self.instance));
        let machine: Machine = connection
            .talk(async |client| client.get(&path).await)
            .map_err(Failure::to(what.clone()))?;
        self.log_in(connection, &machine).map_err(Failure::to(what))
    }

    /// Becomes ssh; returns only if that fails.
    fn log_in(self, connection: &Connection, machine: &Machine) -> Result<(), Refusal> {
        if machine.state != "Running" {
            return Err(does_not_run(machine));
        }
        if !connection.is_local() {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "the daemon is on another host, whose ports may not be reachable from here",
                "run `handover instance ssh` on that host",
            ));
        }
        let at = port(machine)?;
        let path = format!("/instances/{}", segment(&machine.id));
        let now = || connection.talk(async |client| client.get::<Machine>(&path).await).ok();
        wait(at, self.timeout, machine, now)?;
        let mut ssh = Command::new("ssh");
        ssh.args(arguments(machine, at)).arg("-l").arg(&self.user);
        ssh.arg(at.ip().to_string()).args(&self.command);
        let error = ssh.exec();
        Err(Refusal::new(
            Code::Internal,
            format!("cannot run ssh: {error}"),
            match error.kind() {
                ErrorKind::NotFound => "install it: apt install openssh-client",
                _ => "check that ssh can be run",
            },
        ))
    }
}

/// Where the guest's SSH server is reached: by a forwarded port of this host, or by the guest's own address.
fn port(machine: &Machine) -> Result<SocketAddr, Refusal> {
    let cards = networks::cards(machine);
    let forwards = cards.iter().flat_map(|card| &card.forwards);
    let mut forwards = forwards.filter_map(|text| text.parse::<Forward>().ok());
    if let Some(forward) = forwards.find(Forward::is_ssh) {
        let ip = match forward.address {
            IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            one => one,
        };
        return Ok(SocketAddr::new(ip, forward.host_port));
    }
    // Behind passt, the guest's own address is not reached.
    let own = cards.iter().filter(|card| card.enabled && card.mode != "user");
    let mut known = own.clone().filter_map(|card| card.ip.as_ref()?.parse::<IpAddr>().ok());
    if let Some(ip) = known.next() {
        return Ok(SocketAddr::new(ip, SSH));
    }
    let (why, remedy) = if own.count() > 0 {
        (
            "this host does not know an address of",
            "wait until it has started; or look the address up by its hardware address in your DHCP server, and use ssh itself",
        )
    } else if machine.network.enabled {
        (
            "no port of this host leads to the SSH server of",
            "create the instance with `--ssh-key FILE`, or with `--publish 2222:22`",
        )
    } else {
        (
            "there is no network card in",
            "log in by the address of a NIC that was handed over, or create the instance without `--network none`",
        )
    };
    Err(Refusal::new(Code::InvalidState, format!("{why} {}", machine.name), remedy))
}

/// Options of ssh(1). With a known host key, no other is accepted and no file of known hosts is read or written: the
/// guest's address is that of many others.
fn arguments(machine: &Machine, at: SocketAddr) -> Vec<String> {
    let mut options = vec![format!("Port={}", at.port())];
    if let Some(key) = &machine.ssh_host_key {
        options.extend([
            format!("HostKeyAlias={}", machine.id),
            format!("KnownHostsCommand=/bin/echo %H {}", two_words(key)),
            "UserKnownHostsFile=/dev/null".into(),
            "GlobalKnownHostsFile=/dev/null".into(),
            "StrictHostKeyChecking=yes".into(),
        ]);
    }
    options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect()
}

/// The type and the key, without a comment.
fn two_words(key: &str) -> String {
    key.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Waits until an SSH server answers, as long as the machine runs. `now` asks the daemon; while it does not answer, the
/// machine may still run.
fn wait(
    at: SocketAddr,
    timeout: Duration,
    machine: &Machine,
    now: impl Fn() -> Option<Machine>,
) -> Result<(), Refusal> {
    let until = Instant::now() + timeout;
    let mut is_said = false;
    while !answers(at) {
        if let Some(ended) =
            now().filter(|now| !matches!(now.state.as_str(), "Running" | "Unknown"))
        {
            let is_paused = ended.state == "Paused";
            return Err(if is_paused { does_not_run(&ended) } else { has_ended(&ended) });
        }
        if Instant::now() >= until {
            return Err(Refusal::new(
                Code::InvalidState,
                format!(
                    "no SSH server of {} answered at {at} within {} s",
                    machine.name,
                    timeout.as_secs()
                ),
                format!(
                    "`handover instance logs {0}` shows how far the guest is; if passt has ended, stop and start the \
                     instance",
                    machine.name
                ),
            ));
        }
        if !is_said {
            terminal::note("note: waiting until the guest's SSH server answers");
            is_said = true;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The refusal for a machine that does not run, or whose guest is paused.
fn does_not_run(machine: &Machine) -> Refusal {
    let Machine { name, state, .. } = machine;
    let remedy = match state.as_str() {
        "Paused" => format!("`handover instance resume {name}` lets it continue"),
        _ => format!("`handover instance start {name}` starts it"),
    };
    Refusal::new(Code::InvalidState, format!("{name} does not run: it is {state}"), remedy)
}

/// The refusal of a machine that ended while its server was waited for.
fn has_ended(machine: &Machine) -> Refusal {
    let Machine { name, state, exit_code, .. } = machine;
    let code = exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    let why = machine.state_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Refusal::new(
        Code::InvalidState,
        format!("{name} ended before its SSH server answered: it is {state}{code}{why}"),
        format!(
            "`handover instance logs {name}` shows its last words; `handover instance start {name}` starts it again"
        ),
    )
}

/// Whether an SSH server answers. Both sides begin with their version (RFC 4253, 4.2).
fn answers(at: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut server = TcpStream::connect_timeout(&at, TRY)?;
        server.set_read_timeout(Some(TRY))?;
        server.set_write_timeout(Some(TRY))?;
        server.write_all(b"SSH-2.0-handover\r\n")?;
        let mut begin = [0; 4];
        server.read_exact(&mut begin)?;
        Ok(&begin == b"SSH-")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(forwards: &[&str], key: Option<&str>) -> Machine {
        let text = serde_json::json!({
            "id": "6d616368-696e-6500-8000-000000000001", "name": "dev", "image": "i", "state": "Running",
            "state_error": null, "vcpus": 1, "size": "1GB", "firmware": "uefi",
            "network": {"enabled": true, "mode": "user", "forwards": forwards},
            "tags": {}, "exit_code": null, "created_at": "", "started_at": null, "stopped_at": null,
            "hypervisor": "qemu", "devices": [], "cmdline": null, "pid": null, "ssh_host_key": key,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn the_port_is_the_one_that_leads_to_ssh() {
        let at = |forwards: &[&str]| port(&machine(forwards, None)).map(|at| at.to_string());
        assert_eq!(
            at(&["127.0.0.1:8080:80/tcp", "0.0.0.0:2222:22/tcp"]).unwrap(),
            "127.0.0.1:2222"
        );
        assert_eq!(at(&["[::]:2222:22/tcp"]).unwrap(), "[::1]:2222");
        assert!(at(&["127.0.0.1:2222:22/udp"]).unwrap_err().remedy.contains("--ssh-key"));
    }

    #[test]
    fn only_the_known_host_key_is_accepted() {
        let at = "127.0.0.1:22000".parse().unwrap();
        let known = machine(&[], Some("ssh-ed25519 AAAA root@dev"));
        assert_eq!(
            arguments(&known, at).join(" "),
            "-o Port=22000 -o HostKeyAlias=6d616368-696e-6500-8000-000000000001 \
             -o KnownHostsCommand=/bin/echo %H ssh-ed25519 AAAA -o UserKnownHostsFile=/dev/null \
             -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes"
        );
        assert_eq!(arguments(&machine(&[], None), at).join(" "), "-o Port=22000");
    }

    #[test]
    fn the_wait_ends_with_the_machine() {
        let at = "127.0.0.1:1".parse().unwrap();
        let dev = machine(&[], None);
        let ended = Machine { state: "Shutdown".into(), exit_code: Some(1), ..dev.clone() };
        let begun = Instant::now();
        let refusal = wait(at, Duration::from_secs(60), &dev, || Some(ended.clone())).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(refusal.message.contains("it is Shutdown, exit code 1"), "{refusal}");
        let paused = Machine { state: "Paused".into(), ..dev.clone() };
        let refusal = wait(at, Duration::from_secs(60), &dev, || Some(paused.clone())).unwrap_err();
        assert!(refusal.remedy.contains("handover instance resume dev"), "{refusal:?}");
        // A daemon that does not answer says nothing about the machine.
        let silent = wait(at, Duration::from_millis(1), &dev, || None).unwrap_err();
        assert!(silent.message.contains("no SSH server"), "{silent}");
    }

    #[test]
    fn a_server_that_says_something_else_does_not_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let serve = std::thread::spawn(move || {
            for says in ["HTTP/1.1 400\r\n", "SSH-2.0-OpenSSH_9.2\r\n"] {
                let (mut client, _) = listener.accept().unwrap();
                client.write_all(says.as_bytes()).unwrap();
            }
        });
        assert!(!answers(at));
        assert!(answers(at));
        serve.join().unwrap();
    }
}
