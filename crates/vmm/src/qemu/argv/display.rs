//! The screen: a VGA adapter, a pointer, and a server for viewers that listens nowhere. Each viewer's connection is passed to
//! QEMU as a descriptor (QMP's `add_client`), so the display has no port, no password and no path.

use model::{Display, DisplayProtocol};
use serde_json::json;

use super::{Line, MIB, Ports, insert};

/// The id of the graphics adapter.
pub const VIDEO: &str = "video";

/// The last free slot of the root complex: the root ports are counted from the first one.
const SLOT: &str = "1e.0";

/// The screen.
pub fn display(line: &mut Line, ports: &mut Ports, display: Display) {
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
        DisplayProtocol::Vnc => line.option("-vnc", "none"),
        DisplayProtocol::Spice => {
            line.option("-spice", "port=0,disable-ticketing=on,seamless-migration=off");
            let bus = ports.port("agent-port");
            ports.device(json!({"driver": "virtio-serial-pci", "id": "serial0", "bus": bus}));
            line.option("-chardev", "spicevmc,id=agent,name=vdagent");
            ports.device(json!({
                "driver": "virtserialport", "bus": "serial0.0", "chardev": "agent",
                "name": "com.redhat.spice.0",
            }));
        }
    }
}
