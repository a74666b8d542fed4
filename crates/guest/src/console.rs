//! What the init says to a person: lines on the console, which are in the machine's log.

use std::fs::OpenOptions;
use std::io::Write;

/// Writes a line to the console. It is lost if there is none.
pub fn say(line: &str) {
    let console = OpenOptions::new().write(true).open("/dev/console");
    if let Ok(mut console) = console {
        // Text of the image must not control a terminal.
        let clean: String =
            line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let _ = console.write_all(format!("handover: {clean}\n").as_bytes());
    }
}
