//! Trees of hosts of different sizes.
#![allow(clippy::panic)]

mod hosts;

use model::Inventory;
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
    assert!(shown(&host, Some(100)).lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn eight_gpus_and_six_nvswitches() {
    let host = picture(&hosts::hgx());
    snapbox::assert_data_eq!(shown(&host, None), snapbox::file!["golden/hgx.txt"]);
    assert!(host.distances.is_empty(), "24 devices are too many by default");
    let asked = Picture::of(&hosts::hgx(), Wanted { distances: true, ..Wanted::default() });
    assert_eq!(asked.distances.len(), 24 * 23 / 2);
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

proptest! {
    #[test]
    fn no_inventory_makes_a_renderer_panic(inventory in crate::any_inventory::inventory(), width in 0usize..120, all: bool) {
        let picture = Picture::of(&inventory, Wanted { all, distances: true, meant: None });
        text::render(&picture, Some(width));
        serde_json::to_string(&picture).unwrap();
        let text = svg::render(&picture);
        prop_assert!(roxmltree::Document::parse(&text).is_ok(), "{}", text);
    }
}
