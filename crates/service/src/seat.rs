//! What machines get of the host's seat: display, keyboard, other USB devices.

use engine::ChangeSeat;
use model::{Refusal, RestartUnits, Seat, UsbWish};

use crate::refusals::invalid;

/// The seat that the fields of a creation ask for.
pub fn wanted(wanted: &api::CreateInstance) -> Result<Seat, Refusal> {
    let units = wanted.restart_units.as_deref().map(restart_units).transpose()?;
    Ok(Seat {
        take_display: wanted.take_display.unwrap_or_default(),
        restart_units: units.unwrap_or_default(),
        usb: usb(wanted.usb.iter().flatten())?,
        input: wanted.input.unwrap_or_default(),
        given: Vec::new(),
    })
}

/// The change that the fields of an update ask for.
pub fn change(wanted: &api::UpdateInstance) -> Result<ChangeSeat, Refusal> {
    Ok(ChangeSeat {
        take_display: wanted.take_display,
        restart_units: wanted.restart_units.as_deref().map(restart_units).transpose()?,
        usb: wanted.usb.as_ref().map(usb).transpose()?,
        input: wanted.input,
    })
}

fn usb<'a>(wishes: impl IntoIterator<Item = &'a String>) -> Result<Vec<UsbWish>, Refusal> {
    wishes.into_iter().map(|wish| wish.parse()).collect()
}

fn restart_units(word: &str) -> Result<RestartUnits, Refusal> {
    let known = RestartUnits::ALL.into_iter().find(|one| one.as_str() == word);
    known.ok_or_else(|| {
        let words = RestartUnits::ALL.map(RestartUnits::as_str).join(", ");
        invalid(format!("units cannot be started again {word:?}"), format!("use one of {words}"))
    })
}

/// The word for it; `None` if it is the default.
pub fn shown_units(units: RestartUnits) -> Option<String> {
    (units != RestartUnits::default()).then(|| units.as_str().to_owned())
}

/// The words of its USB devices.
pub fn shown_usb(seat: &Seat) -> Vec<String> {
    seat.usb.iter().map(ToString::to_string).collect()
}
