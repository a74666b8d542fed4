//! systemd's manager on the D-Bus system bus (org.freedesktop.systemd1(5)).

use std::time::{Duration, Instant};

use model::HostError;
use rustix::io::Errno;
use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Str};

use crate::problem;
use crate::root::Root;

/// systemd creates this directory early at boot (sd_booted(3)).
const BOOTED: &str = "run/systemd/system";
const BUS: &str = "run/dbus/system_bus_socket";

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
    bus: Connection,
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
            let reason = "no D-Bus system bus; install the package dbus or dbus-broker";
            return Err(refused(Errno::NOENT, reason.into()));
        }
        let address = format!("unix:path={}", escaped(&root.shown(BUS)));
        let bus = Builder::address(address.as_str())
            .and_then(|builder| builder.method_timeout(ANSWER).build());
        match bus {
            Ok(bus) => Ok(Self { root, bus }),
            Err(error) => Err(refused(Errno::IO, error.to_string())),
        }
    }

    /// The state of a unit (`active`, `inactive`, ...); `None` if there is no such unit.
    pub fn state(&self, unit: &str) -> Result<Option<String>, HostError> {
        let failed = |error| self.failed("query the state of", unit, error);
        let path: OwnedObjectPath = self.manager("LoadUnit", &unit).map_err(failed)?;
        if self.property(&path, UNIT, "LoadState").map_err(failed)? == "not-found" {
            return Ok(None);
        }
        self.property(&path, UNIT, "ActiveState").map_err(failed).map(Some)
    }

    /// Starts or stops a unit and waits for the end of that job; `false` after `patience`.
    pub fn change(
        &self,
        unit: &str,
        change: Change,
        patience: Duration,
    ) -> Result<bool, HostError> {
        let (method, words) = match change {
            Change::Start => ("StartUnit", "start"),
            Change::Stop => ("StopUnit", "stop"),
        };
        // `replace`: like systemctl.
        let job: OwnedObjectPath = self
            .manager(method, &(unit, "replace"))
            .map_err(|error| self.failed(words, unit, error))?;
        let until = Instant::now() + patience;
        // The object of a job disappears when the job is done.
        while self.property(&job, JOB, "State").is_ok() {
            if Instant::now() >= until {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(true)
    }

    fn manager<B: serde::Serialize + DynamicType>(
        &self,
        method: &str,
        body: &B,
    ) -> zbus::Result<OwnedObjectPath> {
        let reply = self.bus.call_method(Some(SYSTEMD), PATH, Some(MANAGER), method, body)?;
        reply.body().deserialize()
    }

    fn property(
        &self,
        path: &OwnedObjectPath,
        interface: &str,
        name: &str,
    ) -> zbus::Result<String> {
        let body = (interface, name);
        let reply = self.bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &body)?;
        let value: OwnedValue = reply.body().deserialize()?;
        let text = Str::try_from(value)?;
        Ok(text.as_str().to_owned())
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

/// Escapes a path for a D-Bus address (D-Bus Specification, Server Addresses).
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte);
    let one = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }
    };
    path.bytes().map(one).collect()
}
