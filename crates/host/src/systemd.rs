//! systemd's manager on the D-Bus system bus (org.freedesktop.systemd1(5)); by systemctl on a host without a bus.

use std::time::{Duration, Instant};

use model::HostError;
use rustix::io::Errno;
use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Str};

use crate::problem;
use crate::program::{self, Ran};
use crate::root::Root;

/// systemd creates this directory early at boot (sd_booted(3)).
const BOOTED: &str = "run/systemd/system";
const BUS: &str = "run/dbus/system_bus_socket";

/// Reaches systemd without a bus.
const SYSTEMCTL: &str = "systemctl";

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const JOB: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long systemd may take to answer a call. It answers at once; only jobs take long.
const ANSWER: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(50);

/// A connection to systemd.
pub struct Systemd<'a> {
    root: &'a Root,
    way: Way,
}

/// How systemd is reached.
enum Way {
    /// By the system bus.
    Bus(Connection),
    /// By this program, which has a way of its own that needs no bus.
    Program(String),
}

impl Change {
    /// The word of systemctl.
    const fn words(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

/// A change of a unit's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
}

impl<'a> Systemd<'a> {
    /// Connects. On a host without systemd or D-Bus the error has a remedy.
    pub fn connect(root: &'a Root) -> Result<Self, HostError> {
        let refused =
            |errno, reason: String| problem::because(root, "connect to", BUS, errno, reason);
        if !root.exists(BOOTED) {
            let reason =
                "this host was not booted with systemd; start and stop its services by hand";
            return Err(refused(Errno::OPNOTSUPP, reason.into()));
        }
        if !root.exists(BUS) {
            let Some(systemctl) = program::find(root, SYSTEMCTL).filter(|_| root.is_host()) else {
                let reason = "no D-Bus system bus; install the package dbus or dbus-broker";
                return Err(refused(Errno::NOENT, reason.into()));
            };
            return Ok(Self { root, way: Way::Program(systemctl) });
        }
        let address = format!("unix:path={}", escaped(&root.shown(BUS)));
        let bus = Builder::address(address.as_str())
            .and_then(|builder| builder.method_timeout(ANSWER).build());
        match bus {
            Ok(bus) => Ok(Self { root, way: Way::Bus(bus) }),
            Err(error) => Err(refused(Errno::IO, error.to_string())),
        }
    }

    /// The state of a unit (`active`, `inactive`, ...); `None` if there is no such unit.
    pub fn state(&self, unit: &str) -> Result<Option<String>, HostError> {
        let bus = match &self.way {
            Way::Bus(bus) => bus,
            Way::Program(systemctl) => return self.state_by(systemctl, unit),
        };
        let failed = |error| self.failed("query the state of", unit, error);
        let path: OwnedObjectPath = manager(bus, "LoadUnit", &unit).map_err(failed)?;
        if property(bus, &path, UNIT, "LoadState").map_err(failed)? == "not-found" {
            return Ok(None);
        }
        property(bus, &path, UNIT, "ActiveState").map_err(failed).map(Some)
    }

    /// Starts or stops a unit and waits for the end of that job; `false` after `patience`.
    pub fn change(
        &self,
        unit: &str,
        change: Change,
        patience: Duration,
    ) -> Result<bool, HostError> {
        let until = Instant::now() + patience;
        let bus = match &self.way {
            Way::Bus(bus) => bus,
            Way::Program(systemctl) => return self.change_by(systemctl, unit, change, until),
        };
        let method = match change {
            Change::Start => "StartUnit",
            Change::Stop => "StopUnit",
        };
        // `replace`: like systemctl.
        let job: OwnedObjectPath = manager(bus, method, &(unit, "replace"))
            .map_err(|error| self.failed(change.words(), unit, error))?;
        // The object of a job disappears when the job is done.
        while property(bus, &job, JOB, "State").is_ok() {
            if Instant::now() >= until {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(true)
    }

    fn state_by(&self, systemctl: &str, unit: &str) -> Result<Option<String>, HostError> {
        let args = ["show", "--property=LoadState,ActiveState", "--", unit];
        let ran = self.ran(systemctl, "query the state of", unit, &args)?;
        let value = |name: &str| {
            let mut lines = ran.output.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        if value("LoadState").as_deref() == Some("not-found") {
            return Ok(None);
        }
        Ok(value("ActiveState"))
    }

    /// Without waiting for the job, which has no timeout of ours; it is done when the unit has left the states between.
    fn change_by(
        &self,
        systemctl: &str,
        unit: &str,
        change: Change,
        until: Instant,
    ) -> Result<bool, HostError> {
        let args = ["--no-block", "--no-ask-password", change.words(), "--", unit];
        self.ran(systemctl, change.words(), unit, &args)?;
        loop {
            let state = self.state_by(systemctl, unit)?.unwrap_or_default();
            let is_done = match change {
                Change::Start => matches!(state.as_str(), "active" | "failed"),
                Change::Stop => matches!(state.as_str(), "inactive" | "failed"),
            };
            if is_done || Instant::now() >= until {
                return Ok(is_done);
            }
            std::thread::sleep(POLL);
        }
    }

    fn ran(
        &self,
        systemctl: &str,
        action: &str,
        unit: &str,
        args: &[&str],
    ) -> Result<Ran, HostError> {
        let ran = program::run(self.root, systemctl, args)?;
        if ran.well {
            return Ok(ran);
        }
        let action = format!("{action} {unit} through");
        Err(problem::because(self.root, action, systemctl, Errno::IO, ran.words))
    }

    fn failed(&self, action: &str, unit: &str, error: zbus::Error) -> HostError {
        let reason = match error {
            zbus::Error::MethodError(_, Some(words), _) => words,
            other => other.to_string(),
        };
        let action = format!("{action} {unit} through");
        problem::because(self.root, action, BUS, Errno::IO, reason)
    }
}

fn manager<B: serde::Serialize + DynamicType>(
    bus: &Connection,
    method: &str,
    body: &B,
) -> zbus::Result<OwnedObjectPath> {
    let reply = bus.call_method(Some(SYSTEMD), PATH, Some(MANAGER), method, body)?;
    reply.body().deserialize()
}

fn property(
    bus: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
    name: &str,
) -> zbus::Result<String> {
    let body = (interface, name);
    let reply = bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &body)?;
    let value: OwnedValue = reply.body().deserialize()?;
    let text = Str::try_from(value)?;
    Ok(text.as_str().to_owned())
}

/// Escapes a path for a D-Bus address (D-Bus Specification, Server Addresses).
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte);
    let one = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }
    };
    path.bytes().map(one).collect()
}
