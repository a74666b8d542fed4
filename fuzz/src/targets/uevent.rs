//! Uevents of the kernel.

use host::uevent::Uevent;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "uevent",
    reads: "uevents of the kernel",
    read,
    words: &[
        "add@/",
        "move@/devices/",
        "\u{0}",
        "SUBSYSTEM=pci\u{0}",
        "DEVPATH_OLD=/",
        "MAJOR=259\u{0}",
        "MINOR=1\u{0}",
        "DEVTYPE=disk\u{0}",
        "ERROR_EVENT=BEGIN_RECOVERY\u{0}",
        "/0000:01:00.0",
    ],
    longest: 8192,
};

fn read(bytes: &[u8]) -> Kind {
    let Some(event) = Uevent::parse(bytes) else { return Kind::of("no event") };
    assert!(
        !event.action.is_empty() && event.path.starts_with('/') && !event.subsystem.is_empty(),
        "{event:?}"
    );
    assert!(
        !event.name().contains('/') && !event.old_name().unwrap_or_default().contains('/'),
        "{event:?}"
    );
    if let Some(function) = event.function() {
        assert!(
            event.path.contains(|letter: char| letter.is_ascii_hexdigit()),
            "{function} is not in {event:?}"
        );
    }
    // The same event without what it does not know.
    let mut text = format!("{}@{}\0SUBSYSTEM={}\0", event.action, event.path, event.subsystem);
    event.old_path.iter().for_each(|path| text += &format!("DEVPATH_OLD={path}\0"));
    event.kind.iter().for_each(|kind| text += &format!("DEVTYPE={kind}\0"));
    event
        .number
        .iter()
        .for_each(|(major, minor)| text += &format!("MAJOR={major}\0MINOR={minor}\0"));
    let again = Uevent::parse(text.as_bytes());
    assert_eq!(again, Some(Uevent { error: None, ..event.clone() }));
    let parts =
        (event.function().is_some(), event.number.is_some(), event.old_path.is_some(), event.error);
    Kind::of(format!("{parts:?}"))
}
