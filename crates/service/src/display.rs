//! The screen of a machine: reads requests, and shows it.

use std::net::{IpAddr, SocketAddr};

use api::DisplayAccess;
use engine::Engine;
use model::{Display, DisplayProtocol, Refusal, Secret, format_size, parse_size};

use crate::refusals::invalid;

/// The screen that a request asks for, and the password of its viewers; or none.
pub(crate) fn display(wanted: api::Display) -> Result<Option<(Display, Option<Secret>)>, Refusal> {
    if wanted.enabled == Some(false) {
        if wanted != (api::Display { enabled: Some(false), ..api::Display::default() }) {
            return Err(invalid(
                "a machine without a screen has no protocol, address or password of one",
                "leave `enabled` out, or the other fields of `display`",
            ));
        }
        return Ok(None);
    }
    let name = wanted.protocol.as_deref().unwrap_or(DisplayProtocol::Vnc.as_str());
    let protocol = DisplayProtocol::ALL.into_iter().find(|one| one.as_str() == name);
    let protocol = protocol.ok_or_else(|| {
        let names = DisplayProtocol::ALL.map(DisplayProtocol::as_str).join(" or ");
        invalid(format!("{name:?} is no protocol of a screen"), format!("use {names}"))
    })?;
    let video_memory = wanted.video_memory.as_deref().map(parse_size).transpose()?;
    let listen = wanted.listen.as_deref().map(address).transpose()?;
    let password = wanted.password.map(Secret::new);
    Ok(Some((Display { protocol, video_memory, listen }, password)))
}

/// An address with or without a port; without one, the port is 0.
fn address(text: &str) -> Result<SocketAddr, Refusal> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    let with_port = || text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    alone.ok().or_else(with_port).ok_or_else(|| {
        invalid(
            format!("{text:?} is not an address on which a screen can listen"),
            "use an IP address of this host, with or without a port, such as 192.168.1.103:5902 or [::1]",
        )
    })
}

/// A screen, as it is shown.
pub(crate) fn shown(display: Display) -> api::Display {
    api::Display {
        enabled: None,
        protocol: Some(display.protocol.as_str().to_owned()),
        video_memory: display.video_memory.map(format_size),
        listen: display.listen.map(|listen| listen.to_string()),
        password: None,
    }
}

/// How viewers reach the screen of an instance by its address.
///
/// # Errors
/// `not_found`; `invalid_state` if it has no screen, or that listens on no address.
pub fn access(engine: &Engine, key: &str) -> Result<DisplayAccess, Refusal> {
    let access = engine.instances().screen_access(key)?;
    let subject = access.certificate.is_some().then(|| format!("CN={}", access.name));
    Ok(DisplayAccess {
        protocol: access.protocol.as_str().to_owned(),
        listen: access.listen.to_string(),
        password: access.password.reveal().to_owned(),
        certificate: access.certificate,
        subject,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_or_none() {
        for (text, read) in [
            ("192.0.2.1", "192.0.2.1:0"),
            ("0.0.0.0:5902", "0.0.0.0:5902"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::]:5901", "[::]:5901"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), read);
        }
        for wrong in ["", "host", "localhost:5900", "192.0.2.1:0", "192.0.2.1:70000", ":5900"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
