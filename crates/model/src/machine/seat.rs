//! What a machine gets of the host's own seat: the display, the keyboard and the mouse, other USB devices.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Code, Refusal};

/// The most USB devices of a machine: QEMU's controller has so many ports of each speed.
pub const MOST_USB: usize = 15;

/// What a machine gets of the host's seat. The default is what machines of earlier versions have: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seat {
    /// Whether the host's desktop and consoles end on the cards that the machine gets, as long as it runs.
    pub take_display: bool,
    /// When the services that were stopped for that are started again.
    pub restart_units: RestartUnits,
    /// USB devices of the host.
    pub usb: Vec<UsbWish>,
    /// Whether it gets all USB keyboards and mice of the host.
    pub input: bool,
    /// The USB devices that it got at its last start, until they are given back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<UsbDevice>,
}

impl Seat {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// When services that were stopped to take the display are started again. The display manager waits for the end always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartUnits {
    /// When the machine has ended, and its devices are back.
    #[default]
    AtEnd,
    /// When the machine runs.
    AfterStart,
}

impl RestartUnits {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::AtEnd, Self::AfterStart];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtEnd => "at-end",
            Self::AfterStart => "after-start",
        }
    }
}

/// A USB device of the host, found again at each start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum UsbWish {
    /// The only device with these ids.
    Model(u16, u16),
    /// The device at a port: the bus, and the ports from its root hub on.
    Port(u8, Vec<u8>),
}

impl UsbWish {
    /// Whether it means this device.
    #[must_use]
    pub fn means(&self, device: &UsbDevice) -> bool {
        match self {
            Self::Model(vendor, product) => (device.vendor, device.product) == (*vendor, *product),
            Self::Port(bus, ports) => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                device.name == format!("{bus}-{}", ports.join("."))
            }
        }
    }
}

impl fmt::Display for UsbWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(vendor, product) => write!(f, "{vendor:04x}:{product:04x}"),
            Self::Port(bus, ports) => {
                write!(f, "{bus}")?;
                ports.iter().try_for_each(|port| write!(f, ".{port}"))
            }
        }
    }
}

impl FromStr for UsbWish {
    type Err = Refusal;

    /// `046d:c31c`, or `1.2` and `1.2.4` (bus and ports, also as the kernel writes them: `1-2.4`).
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let id = |text: &str| {
            let hex = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then(|| u16::from_str_radix(text, 16).ok()).flatten()
        };
        let model = text
            .split_once(':')
            .and_then(|(vendor, product)| Some(Self::Model(id(vendor)?, id(product)?)));
        let number = |text: &str| {
            let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse::<u8>().ok()).flatten()
        };
        let port = || {
            let (bus, ports) = text.split_once(['.', '-'])?;
            let ports: Vec<u8> = ports.split('.').map(number).collect::<Option<_>>()?;
            // A root hub and at most six others in a row (USB 2.0 specification, 4.1.1).
            (ports.len() <= 6).then_some(Self::Port(number(bus)?, ports))
        };
        model.or_else(port).ok_or_else(|| {
            Refusal::new(
                Code::InvalidRequest,
                format!("{text:?} is no USB device"),
                "give VENDOR:PRODUCT, as `lsusb` shows it (046d:c31c), or BUS.PORT, as `lsusb -t` shows it (1.2)",
            )
        })
    }
}

impl TryFrom<String> for UsbWish {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<UsbWish> for String {
    fn from(wish: UsbWish) -> Self {
        wish.to_string()
    }
}

/// A USB device that is connected to the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsbDevice {
    /// Its name in the kernel: `1-2.4`.
    pub name: String,
    /// The vendor's id.
    pub vendor: u16,
    /// The product's id.
    pub product: u16,
    /// What it says that it is: `Logitech USB Keyboard`.
    pub title: String,
    /// Whether it is a hub.
    pub is_hub: bool,
    /// Whether it is a keyboard.
    pub is_keyboard: bool,
    /// Whether it is a mouse.
    pub is_mouse: bool,
    /// What the host uses it for, in words, if that is known: `sda1 is mounted at /srv`.
    pub used: Option<String>,
    /// The number of its node's directory.
    pub bus: u16,
    /// The number of its node.
    pub number: u16,
}

impl UsbDevice {
    /// The path of its node.
    #[must_use]
    pub fn node(&self) -> String {
        format!("/dev/bus/usb/{:03}/{:03}", self.bus, self.number)
    }

    /// How a person knows it: `Logitech USB Keyboard (046d:c31c at 1.2)`.
    #[must_use]
    pub fn shown(&self) -> String {
        let Self { name, vendor, product, title, .. } = self;
        let port = name.replacen('-', ".", 1);
        let ids = format!("{vendor:04x}:{product:04x} at {port}");
        if title.is_empty() { format!("USB device {ids}") } else { format!("{title} ({ids})") }
    }
}

impl Seat {
    /// Finds what the machine gets among what is connected to the host. `taken` are the names of USB devices that other machines
    /// have, with these machines' names.
    ///
    /// # Errors
    /// `device_not_found`, `conflict` for ids that several devices have, `in_use`, `not_assignable`.
    pub fn find(
        &self,
        connected: &[UsbDevice],
        taken: &[(String, String)],
    ) -> Result<Vec<UsbDevice>, Refusal> {
        let mut found: Vec<&UsbDevice> = Vec::new();
        for wish in &self.usb {
            let device = one_of(wish, connected)?;
            if found.iter().any(|other| other.name == device.name) {
                return Err(Refusal::new(
                    Code::InvalidRequest,
                    format!("{} is given twice", device.shown()),
                    "give each USB device once, by its ids or by its port",
                ));
            }
            found.push(device);
        }
        let inputs = connected.iter().filter(|one| one.is_keyboard || one.is_mouse);
        for device in inputs.filter(|_| self.input) {
            if !found.iter().any(|other| other.name == device.name) {
                found.push(device);
            }
        }
        if self.input && !found.iter().any(|device| device.is_keyboard) {
            return Err(Refusal::new(
                Code::DeviceNotFound,
                "no USB keyboard is connected to this host",
                "connect one (a keyboard that is not a USB device cannot be given to a machine), or change the instance: `handover \
                 instance set NAME --input false`",
            ));
        }
        if found.len() > MOST_USB {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!(
                    "the machine would have {} USB devices of the host, with keyboards and mice",
                    found.len()
                ),
                format!("give {MOST_USB} at most"),
            ));
        }
        found.iter().try_for_each(|device| expect_free(device, taken))?;
        self.expect_keyboard_left(connected, &found)?;
        Ok(found.into_iter().cloned().collect())
    }

    /// Refuses to take all keyboards from a host that keeps its display.
    fn expect_keyboard_left(&self, all: &[UsbDevice], found: &[&UsbDevice]) -> Result<(), Refusal> {
        let stays = |device: &&UsbDevice| !found.iter().any(|one| one.name == device.name);
        let mut keyboards = all.iter().filter(|one| one.is_keyboard);
        let Some(last) = found.iter().rev().find(|device| device.is_keyboard) else {
            return Ok(());
        };
        if self.take_display || keyboards.any(|device| stays(&device)) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::InUse,
            format!(
                "{} is the last USB keyboard of this host, which keeps its display",
                last.shown()
            ),
            "connect another keyboard, or give the machine the display too: --take-display",
        ))
    }
}

fn expect_free(device: &UsbDevice, taken: &[(String, String)]) -> Result<(), Refusal> {
    let shown = device.shown();
    if device.is_hub {
        return Err(Refusal::new(
            Code::NotAssignable,
            format!("{shown} is a hub"),
            "give the devices at its ports instead; `lsusb -t` shows them",
        ));
    }
    if let Some((_, machine)) = taken.iter().find(|(name, _)| *name == device.name) {
        return Err(Refusal::new(
            Code::InUse,
            format!("{shown} is in use by the instance {machine:?}"),
            format!("stop that instance first: `handover instance stop {machine}`"),
        ));
    }
    if let Some(used) = &device.used {
        return Err(Refusal::new(
            Code::InUse,
            format!("{shown} is in use by this host: {used}"),
            "end this use first, for example with `umount`",
        ));
    }
    Ok(())
}

/// The only device that a wish means.
fn one_of<'a>(wish: &UsbWish, all: &'a [UsbDevice]) -> Result<&'a UsbDevice, Refusal> {
    let means: Vec<&UsbDevice> = all.iter().filter(|device| wish.means(device)).collect();
    match means.as_slice() {
        [only] => Ok(only),
        [] => Err(Refusal::new(
            Code::DeviceNotFound,
            format!("no USB device {wish} is connected to this host"),
            "connect it, or take it from the instance with `handover instance set`; `lsusb` lists what is connected",
        )),
        several => {
            let ports: Vec<String> =
                several.iter().map(|device| device.name.replacen('-', ".", 1)).collect();
            Err(Refusal::new(
                Code::Conflict,
                format!("{} USB devices are {wish}", several.len()),
                format!("give one by its port: {}", ports.join(", ")),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, ids: (u16, u16)) -> UsbDevice {
        let (vendor, product) = ids;
        UsbDevice { name: name.into(), vendor, product, bus: 1, number: 4, ..UsbDevice::default() }
    }

    fn seat(wishes: &[&str]) -> Seat {
        let usb = wishes.iter().map(|wish| wish.parse().unwrap()).collect();
        Seat { usb, ..Seat::default() }
    }

    #[test]
    fn a_device_is_named_by_its_ids_or_its_port() {
        for (text, shown) in [("046D:c31c", "046d:c31c"), ("1.2", "1.2"), ("1-2.4", "1.2.4")] {
            let wish: UsbWish = text.parse().unwrap();
            assert_eq!(wish.to_string(), shown);
            let json = serde_json::to_string(&wish).unwrap();
            assert_eq!(serde_json::from_str::<UsbWish>(&json).unwrap(), wish);
        }
        for text in [
            "",
            "1",
            "1.",
            "0.1",
            "1.2.3.4.5.6.7.8",
            "46d:c31c",
            "1.-2",
            "+1.2",
            "300.1",
            "01.2",
            "a.b",
        ] {
            assert!(text.parse::<UsbWish>().is_err(), "{text}");
        }
        assert!("1.2.4".parse::<UsbWish>().unwrap().means(&device("1-2.4", (1, 2))));
        assert!(!"1.2".parse::<UsbWish>().unwrap().means(&device("1-2.4", (1, 2))));
    }

    #[test]
    fn a_device_that_cannot_be_had_is_refused() {
        let all = [
            device("1-1", (1, 2)),
            device("1-2", (1, 2)),
            UsbDevice { is_hub: true, ..device("1-3", (3, 3)) },
            UsbDevice { used: Some("sda1 is mounted at /srv".into()), ..device("1-4", (4, 4)) },
            UsbDevice { is_keyboard: true, ..device("1-5", (5, 5)) },
        ];
        let code = |seat: &Seat, taken: &[(String, String)]| {
            seat.find(&all, taken).map_err(|refusal| refusal.code)
        };
        assert_eq!(code(&seat(&["0001:0002"]), &[]), Err(Code::Conflict));
        assert_eq!(code(&seat(&["0009:0009"]), &[]), Err(Code::DeviceNotFound));
        assert_eq!(code(&seat(&["1.3"]), &[]), Err(Code::NotAssignable));
        assert_eq!(code(&seat(&["1.4"]), &[]), Err(Code::InUse));
        assert_eq!(code(&seat(&["1.5"]), &[]), Err(Code::InUse), "the only keyboard");
        assert_eq!(code(&seat(&["1.1", "1.1"]), &[]), Err(Code::InvalidRequest));
        assert_eq!(code(&seat(&["1.1"]), &[("1-1".into(), "vm".into())]), Err(Code::InUse));
        let consents = Seat { take_display: true, ..seat(&["1.5"]) };
        assert_eq!(code(&consents, &[]).unwrap()[0].node(), "/dev/bus/usb/001/004");
    }

    #[test]
    fn input_is_all_keyboards_and_mice() {
        let keyboard = UsbDevice { is_keyboard: true, ..device("1-1", (1, 1)) };
        let mouse = UsbDevice { is_mouse: true, ..device("1-2", (2, 2)) };
        let all = [keyboard, mouse, device("1-3", (3, 3))];
        let input = Seat { input: true, take_display: true, ..Seat::default() };
        let names = |seat: &Seat| -> Vec<String> {
            seat.find(&all, &[]).unwrap().into_iter().map(|one| one.name).collect()
        };
        assert_eq!(names(&input), ["1-1", "1-2"]);
        assert_eq!(
            names(&Seat { usb: seat(&["1.3", "1.2"]).usb, ..input.clone() }),
            ["1-3", "1-2", "1-1"]
        );
        let refused = |seat: &Seat, all: &[UsbDevice]| seat.find(all, &[]).unwrap_err().code;
        assert_eq!(refused(&input, &all[1..]), Code::DeviceNotFound);
        assert_eq!(refused(&Seat { take_display: false, ..input }, &all), Code::InUse);
    }
}
