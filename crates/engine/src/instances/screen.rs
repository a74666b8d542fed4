//! The screen of an instance on an address of the host: its port, its password, and how viewers reach it.

use std::net::SocketAddr;

use model::{Code, Display, DisplayProtocol, Forward, Protocol, Refusal, Secret};
use uuid::Uuid;

use super::Instances;
use crate::Instance;
use crate::refusals;
use crate::store::StoredInstance;

/// The ports from which one is chosen. VNC counts its screens from the first one.
const PORTS: std::ops::Range<u16> = 5900..6000;

/// The first port that a machine without privileges can listen on.
const FIRST: u16 = 1024;

/// How viewers reach the screen of an instance by its address.
#[derive(Clone, Debug)]
pub struct ScreenAccess {
    /// The instance's name, which is that in the certificate.
    pub name: String,
    /// The protocol.
    pub protocol: DisplayProtocol,
    /// The address.
    pub listen: SocketAddr,
    /// The password.
    pub password: Secret,
    /// The certificate in PEM, if the connection is encrypted.
    pub certificate: Option<String>,
}

/// Checks a requested screen, and makes a password if it needs one and there is none.
pub fn checked(
    display: Option<Display>,
    password: Option<Secret>,
) -> Result<Option<Secret>, Refusal> {
    let Some(display) = display else { return Ok(None) };
    expect_video_memory(display)?;
    let Some(listen) = display.listen else {
        return match password {
            None => Ok(None),
            Some(_) => Err(invalid(
                "the screen has a password, and listens on no address",
                "give an address with `listen`, or leave the password out: only the daemon reaches the screen then",
            )),
        };
    };
    let (first, longest, made) = match display.protocol {
        DisplayProtocol::Vnc => (PORTS.start, 8, 8),
        DisplayProtocol::Spice => (FIRST, 60, 16),
    };
    let name = display.protocol.as_str();
    if listen.port() != 0 && listen.port() < first {
        return Err(invalid(
            format!("a screen of {name} cannot listen on port {}", listen.port()),
            format!("choose a port from {first} on, or leave it out"),
        ));
    }
    if listen.ip().is_multicast() {
        return Err(invalid(
            format!("a screen cannot listen on {}", listen.ip()),
            "use an address of this host",
        ));
    }
    let Some(password) = password else { return Ok(Some(generated(made))) };
    let length = password.reveal().len();
    let is_printable = password.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    if !is_printable || !(1..=longest).contains(&length) {
        return Err(invalid(
            format!("a screen of {name} cannot have this password"),
            format!(
                "use 1 to {longest} letters, digits and signs of ASCII, or leave it out: then one is made"
            ),
        ));
    }
    Ok(Some(password))
}

impl Instances {
    /// Chooses a port for the screen, and checks that no other instance has the one that was asked for. Call it under the
    /// allocation lock.
    pub(super) fn reserve_screen(&self, instance: &mut Instance) -> Result<(), Refusal> {
        let Some(listen) = instance.options.screen() else { return Ok(()) };
        let mut others = self.store.read(StoredInstance::all)?;
        others.retain(|other| other.instance.id != instance.id);
        let others = others.iter().map(|other| &other.instance.options);
        let mut taken: Vec<Forward> = instance.options.forwards().copied().collect();
        for other in others {
            taken.extend(other.forwards());
            taken.extend(other.screen().map(listening));
        }
        let launcher = self.launcher(&instance.hypervisor)?;
        let is_taken = |at: SocketAddr| taken.iter().any(|one| one.collides(&listening(at)));
        let chosen = if listen.port() == 0 {
            let mut all = PORTS.map(|port| SocketAddr::new(listen.ip(), port));
            let free = |at: &SocketAddr| !is_taken(*at) && launcher.expect_free_screen(*at).is_ok();
            // If none is free, the first one says why.
            all.find(free).unwrap_or_else(|| SocketAddr::new(listen.ip(), PORTS.start))
        } else {
            listen
        };
        if is_taken(chosen) {
            return Err(Refusal::new(
                Code::PortInUse,
                format!(
                    "{chosen} is taken by a screen or a forwarded port of this or another instance"
                ),
                "choose another port, or leave it out",
            ));
        }
        let free = launcher.expect_free_screen(chosen);
        free.map_err(|error| refusals::launch_failed(&error))?;
        if let Some(display) = &mut instance.options.display {
            display.listen = Some(chosen);
        }
        Ok(())
    }

    /// How viewers reach the screen of an instance by its address.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it has no screen, or that listens on no address.
    pub fn screen_access(&self, key: &str) -> Result<ScreenAccess, Refusal> {
        let instance = self.find(key)?;
        let name = instance.name;
        let options = instance.options;
        let (Some(display), Some(listen), Some(password)) =
            (options.display, options.screen(), options.display_password.clone())
        else {
            if options.display.is_none() {
                return Err(Refusal::new(
                    Code::InvalidState,
                    format!("{name:?} has no screen"),
                    format!(
                        "`handover instance set {name} --display vnc` gives it one while it is stopped"
                    ),
                ));
            }
            return Err(Refusal::new(
                Code::InvalidState,
                format!("the screen of {name:?} listens on no address"),
                format!(
                    "`handover instance view {name}` shows it by the daemon; `handover instance set {name} \
                     --display vnc,listen=ADDRESS` gives it an address while it is stopped"
                ),
            ));
        };
        let launcher = self.launcher(&instance.hypervisor)?;
        let certificate = match display.protocol {
            DisplayProtocol::Vnc => None,
            DisplayProtocol::Spice => {
                launcher.screen_certificate(instance.id).map_err(|error| {
                    Refusal::new(Code::Internal, error.to_string(), "stop and start the instance")
                })?
            }
        };
        Ok(ScreenAccess { name, protocol: display.protocol, listen, password, certificate })
    }
}

/// A screen's address as a port of the host that is taken.
fn listening(at: SocketAddr) -> Forward {
    let (address, host_port) = (at.ip(), at.port());
    Forward { protocol: Protocol::Tcp, address, host_port, guest_port: host_port }
}

/// Random letters and digits, without those that look alike.
pub fn generated(length: usize) -> Secret {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut text = String::new();
    while text.len() < length {
        let bytes = Uuid::new_v4().into_bytes();
        // A byte that would make some letters more likely is left out: 56 letters, four times.
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < LETTERS.len() * 4);
        let letters = fair.filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
        text.extend(letters.map(|&letter| char::from(letter)).take(length - text.len()));
    }
    Secret::new(text)
}

/// Refuses an amount of memory that no graphics adapter has.
fn expect_video_memory(display: Display) -> Result<(), Refusal> {
    let Some(memory) = display.video_memory else { return Ok(()) };
    if memory.is_power_of_two() && Display::VIDEO_MEMORY.contains(&memory) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidSize,
        format!("a screen cannot have {} of memory", model::shown::bytes(memory)),
        "ask for a power of two from 1MB to 512MB, such as 32MB",
    ))
}

fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        protocol: DisplayProtocol,
        listen: Option<&str>,
        password: Option<&str>,
    ) -> Result<Option<Secret>, Refusal> {
        let listen = listen.map(|text| text.parse().unwrap());
        let display = Display { protocol, video_memory: None, listen };
        checked(Some(display), password.map(|text| Secret::new(text.into())))
    }

    #[test]
    fn a_screen_on_an_address_has_a_password() {
        use DisplayProtocol::{Spice, Vnc};
        assert_eq!(asked(Vnc, None, None).unwrap(), None);
        let length =
            |protocol| asked(protocol, Some("127.0.0.1:0"), None).unwrap().unwrap().reveal().len();
        assert_eq!((length(Vnc), length(Spice)), (8, 16));
        assert_ne!(generated(8), generated(8));
        for (protocol, listen, password) in [
            (Vnc, None, Some("secret")),
            (Vnc, Some("127.0.0.1:5899"), None),
            (Spice, Some("127.0.0.1:1023"), None),
            (Vnc, Some("224.0.0.1:5900"), None),
            (Vnc, Some("127.0.0.1:0"), Some("")),
            (Vnc, Some("127.0.0.1:0"), Some("123456789")),
            (Spice, Some("127.0.0.1:0"), Some("a b")),
        ] {
            let refusal = asked(protocol, listen, password).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidRequest);
            assert!(!refusal.message.contains("123456789"), "{refusal}");
        }
        assert!(asked(Vnc, Some("[::]:5900"), Some("12345678")).is_ok());
    }
}
