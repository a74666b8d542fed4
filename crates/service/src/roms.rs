//! ROMs of a machine's devices: requests, and how they are shown.

use api::Rom;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::{Engine, Instance, RomWish};
use model::Refusal;

use crate::refusals::invalid;

/// The ROMs that a request asks for.
pub fn wishes(wanted: Option<Vec<Rom>>) -> Result<Vec<RomWish>, Refusal> {
    let wish = |Rom { device, content }: Rom| {
        let content = content.map(|text| BASE64.decode(text)).transpose().map_err(|error| {
            let message = format!("the ROM of {device} is not base64: {error}");
            invalid(message, "encode it with padding, as base64(1) does")
        })?;
        Ok(RomWish { device, content })
    };
    wanted.unwrap_or_default().into_iter().map(wish).collect()
}

/// The ROMs of an instance, as a template has them.
pub fn template(engine: &Engine, instance: &Instance) -> Option<Vec<Rom>> {
    let rom = |rom: &model::Rom| Rom {
        device: rom.device.to_string(),
        content: engine.instances().rom(instance, rom).map(|content| BASE64.encode(content)),
    };
    let roms: Vec<Rom> = instance.options.roms.iter().map(rom).collect();
    (!roms.is_empty()).then_some(roms)
}
