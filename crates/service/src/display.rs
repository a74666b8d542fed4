//! The screen of a machine: reads requests, and shows it.

use model::{Display, DisplayProtocol, Refusal, format_size, parse_size};

use crate::refusals::invalid;

/// The screen that a request asks for.
pub fn display(wanted: api::Display) -> Result<Display, Refusal> {
    let name = wanted.protocol.as_deref().unwrap_or(DisplayProtocol::Vnc.as_str());
    let protocol = DisplayProtocol::ALL.into_iter().find(|one| one.as_str() == name);
    let protocol = protocol.ok_or_else(|| {
        let names = DisplayProtocol::ALL.map(DisplayProtocol::as_str).join(" or ");
        invalid(format!("{name:?} is no protocol of a screen"), format!("use {names}"))
    })?;
    let video_memory = wanted.video_memory.as_deref().map(parse_size).transpose()?;
    Ok(Display { protocol, video_memory })
}

/// A screen, as it is shown.
pub fn shown(display: Display) -> api::Display {
    api::Display {
        protocol: Some(display.protocol.as_str().to_owned()),
        video_memory: display.video_memory.map(format_size),
    }
}
