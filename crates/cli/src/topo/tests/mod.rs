//! Trees of hosts of different sizes.
#![allow(clippy::panic)]

mod hosts;

use model::choose::ExistingClaim;
use model::{Address, Claim, ClaimState, ClaimedMember, Code, Inventory, OwnState, Part, Refusal};
use proptest::prelude::*;

use super::*;

fn picture(inventory: &Inventory) -> Picture {
    Picture::of(inventory, Wanted::default())
}

fn shown(picture: &Picture, width: Option<usize>) -> String {
    anstream::adapter::strip_str(&text::render(picture, width)).to_string()
}

#[test]
fn a_workstation() {
    let host = picture(&hosts::workstation());
    snapbox::assert_data_eq!(shown(&host, None), snapbox::file!["golden/workstation.txt"]);
}

#[test]
fn a_server_with_switches() {
    let host = picture(&hosts::server());
    snapbox::assert_data_eq!(shown(&host, None), snapbox::file!["golden/server.txt"]);
    snapbox::assert_data_eq!(shown(&host, Some(100)), snapbox::file!["golden/server-100.txt"]);
    snapbox::assert_data_eq!(shown(&host, Some(60)), snapbox::file!["golden/server-60.txt"]);
    for width in 30..160 {
        let text = shown(&host, Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
    }
}

#[test]
fn eight_gpus_and_six_nvswitches() {
    let host = picture(&hosts::hgx());
    snapbox::assert_data_eq!(shown(&host, None), snapbox::file!["golden/hgx.txt"]);
    assert!(host.distances.is_empty(), "24 devices are too many by default");
    let asked = Picture::of(&hosts::hgx(), Wanted { distances: true, ..Wanted::default() });
    assert_eq!(asked.distances.len(), 24 * 23 / 2);
    // It is shown in blocks of columns.
    for width in [60, 80, 120] {
        let text = anstream::adapter::strip_str(&text::render(&asked, Some(width))).to_string();
        let matrix = text.split_once("\nDistances\n").unwrap().1;
        assert!(matrix.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
        assert!(matrix.contains("[24]") && matrix.contains("[1]"), "{text}");
    }
}

#[test]
fn the_pictures_are_those_in_git() {
    let pictures = [
        (hosts::workstation(), snapbox::file!["golden/workstation.svg"]),
        (hosts::server(), snapbox::file!["golden/server.svg"]),
        (hosts::hgx(), snapbox::file!["golden/hgx.svg"]),
    ];
    for (inventory, golden) in pictures {
        let text = svg::render(&picture(&inventory));
        roxmltree::Document::parse(&text).unwrap();
        snapbox::assert_data_eq!(text, golden.raw());
    }
}

#[test]
fn json_has_a_stable_shape() {
    let text = serde_json::to_string_pretty(&picture(&hosts::workstation())).unwrap() + "\n";
    snapbox::assert_data_eq!(text, snapbox::file!["golden/workstation.json"]);
}

#[test]
fn a_filter_keeps_the_path_to_the_device_and_its_assembly() {
    let only = |inventory: &Inventory, filter: &str| {
        let filters: [Filter; 1] = [filter.parse().unwrap()];
        let meant = |function: &Function| Filter::all_match(&filters, function);
        Picture::of(inventory, Wanted { meant: Some(&meant), ..Wanted::default() })
    };
    let host = only(&hosts::workstation(), "01:00.0");
    let places: Vec<String> =
        host.topology.functions().map(|place| place.address.to_string()).collect();
    assert_eq!(places, ["0000:00:01.0", "0000:01:00.0", "0000:01:00.1"]);
    let host = only(&hosts::server(), "0000:25:00.3");
    assert!(host.topology.functions().any(|place| place.virtual_functions.len() == 7));
}

#[test]
fn the_hosts_own_functions_are_folded_by_default() {
    let some = picture(&hosts::workstation());
    let all = Picture::of(&hosts::workstation(), Wanted { all: true, ..Wanted::default() });
    let bus =
        |picture: &Picture| picture.topology.functions().any(|place| place.name.contains("SMBus"));
    assert!(!bus(&some) && bus(&all) && some.hidden == 2 && all.hidden == 0);
}

#[test]
fn names_cannot_break_out_of_the_picture_or_steer_the_terminal() {
    let mut inventory = hosts::workstation();
    let hostile = "</text><script>alert(1)</script>\u{1b}[2J\u{0}\u{ffff}\"&";
    for function in inventory.functions.values_mut() {
        function.device_name = Some(hostile.into());
        function.driver = Some(hostile.into());
    }
    let host = picture(&inventory);
    let text = svg::render(&host);
    let document = roxmltree::Document::parse(&text).unwrap();
    assert!(!document.descendants().any(|node| node.has_tag_name("script")));
    assert!(!text::render(&host, None).contains("[2J\u{0}"));
    assert!(!text::render(&host, None).contains("\u{1b}[2J"));
}

#[test]
fn a_card_behind_a_slow_or_narrow_uplink_is_marked() {
    let gpu: model::Address = "0000:23:00.0".parse().unwrap();
    let uplink: model::Address = "0000:21:00.0".parse().unwrap();
    let with = |change: &dyn Fn(&mut model::Link)| {
        let mut inventory = hosts::server();
        let switch = inventory.functions.get_mut(&uplink).unwrap();
        change(switch.detail.as_mut().unwrap().link.as_mut().unwrap());
        inventory
    };
    let marks = |inventory: &Inventory| {
        let host = picture(inventory);
        let place = host.topology.functions().find(|place| place.address == gpu).unwrap().clone();
        let line = shown(&host, None)
            .lines()
            .find(|line| line.contains("0000:23:00.0"))
            .unwrap()
            .to_owned();
        (place.uplink, line, svg::render(&host))
    };
    let (none, line, _) = marks(&hosts::server());
    assert!(none.is_none() && !line.contains("only"), "{line}");
    for (change, said) in [
        (
            &(|link: &mut model::Link| link.width = 4) as &dyn Fn(&mut model::Link),
            "only 16 GT/s x4 above 0000:21:00.0",
        ),
        (&|link: &mut model::Link| link.speed = 25, "only 2.5 GT/s x16 above 0000:21:00.0"),
    ] {
        let (found, line, drawn) = marks(&with(change));
        assert_eq!(found.map(|found| found.switch), Some(uplink));
        assert!(line.contains(said), "{line}");
        assert!(
            drawn.contains(&format!(r#"<text class="slow" x="64" y="209">{said}"#))
                || drawn.contains(said),
            "{said}"
        );
    }
}

/// A function whose bus has no node is shown on "unknown"; no such heading is left when a filter takes its functions.
#[test]
fn the_unknown_node_is_shown_only_with_functions() {
    let mut inventory = hosts::server();
    let stray: model::Address = "0000:f0:00.0".parse().unwrap();
    let mut function = Function::unknown(stray);
    function.class = model::Class(0x02_0000);
    inventory.functions.insert(stray, function);
    assert!(shown(&picture(&inventory), None).contains("\nNUMA node unknown\n"));
    let filters: [Filter; 1] = ["gpu".parse().unwrap()];
    let meant = |function: &Function| Filter::all_match(&filters, function);
    let some = Picture::of(&inventory, Wanted { meant: Some(&meant), ..Wanted::default() });
    assert!(!shown(&some, None).contains("unknown"), "{}", shown(&some, None));
}

/// The hue of a colour in degrees.
fn hue(colour: &str) -> f64 {
    let part = |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap());
    let (red, green, blue) = (part(0), part(2), part(4));
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let range = most - least;
    let sixth = if most == red {
        ((green - blue) / range).rem_euclid(6.0)
    } else if most == green {
        (blue - red) / range + 2.0
    } else {
        (red - green) / range + 4.0
    };
    sixth * 60.0
}

/// Orange means a slow link, so no group has a colour near it, by day or by night.
#[test]
fn no_group_has_the_colour_of_a_slow_link() {
    let style = svg::render(&picture(&hosts::workstation()));
    let colours = |class: &str| -> Vec<f64> {
        let begin = format!(".{class} {{ ");
        let parts = style.split(&begin).skip(1);
        let rules = parts.filter_map(|rest| rest.split('}').next()?.split("fill: #").nth(1));
        rules.map(hue).collect()
    };
    let slow = colours("slow");
    assert_eq!(slow.len(), 2);
    for group in 0..8 {
        let own = colours(&format!("c{group}"));
        assert_eq!(own.len(), 2, "c{group}");
        for (own, slow) in own.iter().zip(&slow) {
            let apart = (own - slow).abs();
            assert!(apart.min(360.0 - apart) > 25.0, "c{group}: {own} and {slow}");
        }
    }
}

proptest! {
    #[test]
    fn no_inventory_makes_a_renderer_panic(inventory in crate::any_inventory::inventory(), width in 0usize..120, all: bool) {
        let picture = Picture::of(&inventory, Wanted { all, distances: true, own: None, meant: None });
        let text = anstream::adapter::strip_str(&text::render(&picture, Some(width))).to_string();
        let (tree, matrix) = text.split_once("\nDistances\n").unwrap_or((&text, ""));
        prop_assert!(width < 30 || tree.lines().all(|line| line.chars().count() <= width), "{text}");
        // One column of distances is always shown.
        prop_assert!(width < 50 || matrix.lines().all(|line| line.chars().count() <= width), "{text}");
        serde_json::to_string(&picture).unwrap();
        let text = svg::render(&picture);
        prop_assert!(roxmltree::Document::parse(&text).is_ok(), "{}", text);
    }
}

#[test]
fn a_card_says_whose_it_is() {
    let inventory = hosts::workstation();
    let gpu: Address = "0000:01:00.0".parse().unwrap();
    let claim = Claim {
        id: uuid::Uuid::nil(),
        owner: "job/7".parse().unwrap(),
        reason: None,
        expires: None,
        parts: vec![Part {
            head: gpu,
            partition: None,
            members: vec![ClaimedMember::unknown(gpu)],
            at_boot: false,
        }],
        state: ClaimState::Reserved,
        boot_id: None,
    };
    let why = Refusal::new(Code::InUse, "is claimed by job/7", "release it");
    let own = OwnState {
        claims: vec![ExistingClaim { claim, owner: "job/7".into(), why }],
        ..OwnState::default()
    };
    let picture = Picture::of(&inventory, Wanted { own: Some(&own), ..Wanted::default() });
    let text = anstream::adapter::strip_str(&text::render(&picture, None)).to_string();
    let row = text.lines().find(|line| line.contains("0000:01:00.0")).unwrap();
    assert!(row.ends_with("claimed: job/7 (reserved)"), "{row}");
    assert!(svg::render(&picture).contains(r#"<text class="state""#));
    assert!(
        serde_json::to_string(&picture).unwrap().contains(r#""state":"claimed: job/7 (reserved)""#)
    );
}
