//! PCI Express links in words.

use crate::Link;

/// `16 GT/s x16`; if more is possible, `8 of 16 GT/s x16`, `16 GT/s x8 of x16`; `no link` if there is none.
#[must_use]
pub fn text(link: &Link) -> String {
    if link.speed == 0 || link.width == 0 {
        return "no link".into();
    }
    let (now, width) = (rate(link.speed), link.width);
    let (most, max_width) = (rate(link.max_speed), link.max_width);
    match (link.speed < link.max_speed, link.width < link.max_width) {
        (false, false) => format!("{now} GT/s x{width}"),
        (true, false) => format!("{now} of {most} GT/s x{width}"),
        (false, true) => format!("{now} GT/s x{width} of x{max_width}"),
        (true, true) => format!("{now} GT/s x{width} of {most} GT/s x{max_width}"),
    }
}

/// The current speed and width only: a port's maximum says little about the card.
#[must_use]
pub fn now(link: &Link) -> String {
    text(&Link { max_speed: link.speed, max_width: link.width, ..*link })
}

/// Like [`text`], with the limit of the port above, if that limits the link.
#[must_use]
pub fn with_reason(link: &Link, port: Option<&Link>) -> String {
    let text = text(link);
    match port {
        Some(port) if is_slow(link) && limits(port, link) => {
            format!("{text} (the port supports {} GT/s x{})", rate(port.max_speed), port.max_width)
        }
        _ => text,
    }
}

/// Whether it is slower or narrower than the function supports.
#[must_use]
pub const fn is_slow(link: &Link) -> bool {
    link.speed != 0 && (link.speed < link.max_speed || link.width < link.max_width)
}

/// Whether the port limits the link.
const fn limits(port: &Link, link: &Link) -> bool {
    port.max_speed <= link.speed && port.max_width <= link.width
        || port.max_speed < link.max_speed
        || port.max_width < link.max_width
}

/// A speed in GT/s.
fn rate(speed: u16) -> String {
    if speed.is_multiple_of(10) {
        (speed / 10).to_string()
    } else {
        format!("{}.{}", speed / 10, speed % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_and_what_it_could_be() {
        let link = |speed, width| Link { speed, width, max_speed: 160, max_width: 16 };
        assert_eq!(text(&link(160, 16)), "16 GT/s x16");
        assert_eq!(text(&link(80, 16)), "8 of 16 GT/s x16");
        assert_eq!(text(&link(160, 8)), "16 GT/s x8 of x16");
        assert_eq!(text(&link(25, 8)), "2.5 GT/s x8 of 16 GT/s x16");
        assert_eq!(text(&link(0, 0)), "no link");
        let port = Link { speed: 80, width: 8, max_speed: 80, max_width: 8 };
        let said = with_reason(&link(80, 8), Some(&port));
        assert_eq!(said, "8 GT/s x8 of 16 GT/s x16 (the port supports 8 GT/s x8)");
        let port = Link { max_speed: 160, max_width: 16, ..port };
        assert_eq!(with_reason(&link(80, 8), Some(&port)), "8 GT/s x8 of 16 GT/s x16");
    }
}
