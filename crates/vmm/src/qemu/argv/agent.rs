//! The port that leads to the agent in the guest: a virtio serial port of the name that qemu-guest-agent opens.

use serde_json::json;

use super::Ports;
use crate::process::FD;

/// The id of the port.
pub const PORT: &str = "agent0";

/// The back-end of the port: an inherited socket.
const SOCKET: &str = "guest-agent";

/// The controller of virtio serial ports, which the agents of the guest and of SPICE share.
const CONTROLLER: &str = "serial0";

/// Adds the port. It is the last device, so that it changes no place of another.
pub fn agent(ports: &mut Ports) {
    let bus = serial_bus(ports);
    ports.device(json!({
        "driver": "virtserialport", "id": PORT, "bus": bus, "chardev": SOCKET,
        "name": "org.qemu.guest_agent.0",
    }));
}

/// The bus of virtio serial ports; adds their controller if there is none.
pub fn serial_bus(ports: &mut Ports) -> String {
    if !ports.has(CONTROLLER) {
        let bus = ports.port("agent-port");
        ports.device(json!({"driver": "virtio-serial-pci", "id": CONTROLLER, "bus": bus}));
    }
    format!("{CONTROLLER}.0")
}

/// The arguments for the socket of the port, with [`FD`] for the descriptor.
pub fn socket() -> Vec<String> {
    vec!["-chardev".into(), format!("socket,id={SOCKET},fd={FD},server=on,wait=off")]
}
