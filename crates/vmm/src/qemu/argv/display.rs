//! The screen: a VGA adapter, a pointer, and a server for viewers, which usually listens nowhere. Each viewer's connection is
//! passed to QEMU as a descriptor (QMP's `add_client`), so the display has no port, no password and no path.
//!
//! If it listens on an address, QEMU itself does, so that it works without the daemon. Its password is set by QMP before
//! the guest runs; until then no viewer is accepted.

use std::net::IpAddr;

use model::{Display, DisplayProtocol};
use serde_json::json;

use super::{Environment, Line, MIB, NotUtf8, Ports, agent, doubled, insert, text};

/// The id of the graphics adapter.
pub const VIDEO: &str = "video";

/// The last free slot of the root complex: the root ports are counted from the first one.
const SLOT: &str = "1e.0";

/// The screen.
pub fn display(
    line: &mut Line,
    ports: &mut Ports,
    display: Display,
    environment: &Environment<'_>,
) -> Result<(), NotUtf8> {
    let mut video = json!({"driver": "VGA", "id": VIDEO, "bus": "pcie.0", "addr": SLOT});
    if let Some(memory) = display.video_memory {
        insert(&mut video, "vgamem_mb", json!(memory.div_ceil(MIB)));
    }
    ports.device(video);
    // A pointer with absolute positions: that of the viewer and that of the guest are at the same place.
    let bus = ports.port("usb-port");
    ports.device(json!({"driver": "qemu-xhci", "id": "usb", "bus": bus}));
    ports.device(json!({"driver": "usb-tablet", "id": "tablet", "bus": "usb.0"}));
    match display.protocol {
        DisplayProtocol::Vnc => line.option("-vnc", vnc(display)),
        DisplayProtocol::Spice => {
            line.option("-spice", spice(display, environment)?);
            let bus = agent::serial_bus(ports);
            line.option("-chardev", "spicevmc,id=agent,name=vdagent");
            ports.device(json!({
                "driver": "virtserialport", "bus": bus, "chardev": "agent",
                "name": "com.redhat.spice.0",
            }));
        }
    }
    Ok(())
}

/// Where VNC listens.
fn vnc(display: Display) -> String {
    let Some(listen) = display.listen else { return "none".into() };
    // QEMU counts screens from this port.
    let number = listen.port().saturating_sub(5900);
    match listen.ip() {
        IpAddr::V4(address) => format!("{address}:{number},password=on"),
        IpAddr::V6(address) => format!("[{address}]:{number},password=on"),
    }
}

/// Where SPICE listens.
fn spice(display: Display, environment: &Environment<'_>) -> Result<String, NotUtf8> {
    let Some(listen) = display.listen else {
        return Ok("port=0,disable-ticketing=on,seamless-migration=off".into());
    };
    let (address, port) = (listen.ip(), listen.port());
    let dir = doubled(text(&environment.screen)?);
    Ok(format!("addr={address},tls-port={port},x509-dir={dir},seamless-migration=off"))
}
