//! USB devices of the host. The VMM inherits their nodes as open descriptors, in a set for each device (`-add-fd`): its user
//! cannot open them. QEMU wraps the descriptor with `libusb_wrap_sys_device` (`hostdevice` in hw/usb/host-libusb.c).

use model::{MachineSpec, UsbDevice};
use serde_json::json;

use super::Ports;
use crate::process::{FD, OpenFile};

/// The number of the first set: those of disks begin with 0.
const FIRST_SET: usize = 1000;

/// The controller, beside that of the screen.
const CONTROLLER: &str = "hostusb";

/// The nodes that the VMM inherits.
pub fn usb_files(spec: &MachineSpec) -> Vec<OpenFile> {
    let file = |(number, device): (usize, &UsbDevice)| OpenFile {
        path: device.node().into(),
        block: None,
        writable: true,
        vmm_args: vec!["-add-fd".into(), format!("fd={FD},set={}", FIRST_SET + number)],
    };
    spec.usb.iter().enumerate().map(file).collect()
}

/// The controller and the devices.
pub fn usb(ports: &mut Ports, spec: &MachineSpec) {
    if spec.usb.is_empty() {
        return;
    }
    let bus = ports.port("hostusb-port");
    // For each speed, because that of a device is not known here.
    let count = spec.usb.len();
    ports.device(json!({
        "driver": "qemu-xhci", "id": CONTROLLER, "bus": bus, "p2": count, "p3": count,
    }));
    for number in 0..spec.usb.len() {
        ports.device(json!({
            "driver": "usb-host",
            "id": format!("hostusb{number}"),
            "bus": format!("{CONTROLLER}.0"),
            "hostdevice": format!("/dev/fdset/{}", FIRST_SET + number),
        }));
    }
}
