//! The kernel's answers over rtnetlink: the settings of virtual functions, errors, and dumps.

use host::rtnetlink::{dump, settings};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "netlink",
    reads: "rtnetlink's answers about virtual functions, interfaces, addresses, routes and rules",
    read,
    words: &[
        "\u{10}\u{0}",
        "\u{2}\u{0}",
        "\u{16}\u{0}",
        "\u{16}\u{0}",
        "\u{4}\u{0}\u{1}\u{0}",
        "\u{28}\u{0}\u{1}\u{0}",
    ],
    longest: 1 << 16,
};

fn read(bytes: &[u8]) -> Kind {
    let mut kind = Kind::of("settings");
    for vf in [0, 1, 255, u16::MAX] {
        kind = kind.with(match settings(bytes, vf) {
            Ok(Some(settings)) => {
                let text = serde_json::to_string(&settings).unwrap_or_default();
                assert_eq!(serde_json::from_str(&text).ok(), Some(settings));
                Kind::of(text)
            }
            Ok(None) => Kind::of("none"),
            Err(refused) => {
                Kind::of(format!("{:?}", refused.errno)).and(usize::from(refused.words.is_some()))
            }
        });
    }
    if let Some(route) = dump::route(bytes) {
        kind = kind.with(Kind::of("route")).and(route.indices.len());
    }
    if let Some(rule) = dump::rule(bytes) {
        kind = kind.with(Kind::of("rule")).and(rule.interfaces.len());
    }
    kind.and(usize::from(dump::link(bytes).is_some()))
        .and(usize::from(dump::address(bytes).is_some()))
}
