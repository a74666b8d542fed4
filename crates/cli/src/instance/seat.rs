//! Options for what a machine gets of the host's seat: display, keyboard, other USB devices.

use api::{CreateInstance, UpdateInstance};
use clap::Args;

/// Options of a new instance
#[derive(Debug, Args)]
pub struct Seat {
    /// End the host's desktop and console on the GPUs that it gets, as long as it runs: the display manager and its sessions are
    /// stopped, and the display manager is started again afterwards
    #[arg(long)]
    pub take_display: bool,
    /// When other services that were stopped for --take-display are started again: at-end (the usual one) or after-start
    #[arg(long, value_name = "WHEN", requires = "take_display")]
    pub restart_units: Option<String>,
    /// USB device of the host (repeatable), such as 046d:c31c or 1.2; found again at each start
    #[arg(long = "usb", value_name = "VENDOR:PRODUCT|BUS.PORT")]
    pub usb: Vec<String>,
    /// Give it all USB keyboards and mice of the host
    #[arg(long)]
    pub input: bool,
}

impl Seat {
    /// Adds them to a request.
    pub fn fill(self, body: &mut CreateInstance) {
        body.take_display = self.take_display.then_some(true);
        body.restart_units = self.restart_units;
        body.usb = (!self.usb.is_empty()).then_some(self.usb);
        body.input = self.input.then_some(true);
    }
}

/// Options of a change
#[derive(Debug, Args)]
pub struct ChangedSeat {
    /// Whether the host's desktop and console end on its GPUs while it runs: true or false
    #[arg(long, value_name = "BOOL")]
    take_display: Option<bool>,
    /// When other services that were stopped for that are started again: at-end or after-start
    #[arg(long, value_name = "WHEN")]
    restart_units: Option<String>,
    /// USB device of the host (repeatable), in place of all that the instance has
    #[arg(long = "usb", value_name = "VENDOR:PRODUCT|BUS.PORT")]
    usb: Vec<String>,
    /// Take all its USB devices
    #[arg(long, conflicts_with = "usb")]
    no_usb: bool,
    /// Whether it gets all USB keyboards and mice of the host: true or false
    #[arg(long, value_name = "BOOL")]
    input: Option<bool>,
}

impl ChangedSeat {
    /// Adds them to a request.
    pub fn fill(self, body: &mut UpdateInstance) {
        body.take_display = self.take_display;
        body.restart_units = self.restart_units;
        body.usb = (self.no_usb || !self.usb.is_empty()).then_some(self.usb);
        body.input = self.input;
    }
}

/// What an instance has of the seat, in words.
pub fn shown(machine: &api::Instance) -> (String, String) {
    let units = machine.restart_units.as_deref();
    let display = match (machine.take_display, units) {
        (Some(true), Some("after-start")) => "taken (other services run again after the start)",
        (Some(true), _) => "taken",
        _ => "",
    };
    let input = (machine.input == Some(true)).then(|| "all keyboards and mice".to_owned());
    let usb: Vec<String> = machine.usb.iter().cloned().chain(input).collect();
    (display.to_owned(), usb.join(", "))
}
