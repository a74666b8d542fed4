//! Prints the listing as text.

use std::collections::HashMap;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::topology::words::UNKNOWN_NODE;
use model::{Kind, Refusal, Role};

use super::rows::{Listing, Row, State};
use crate::table::Table;
use crate::terminal::several_lines;

/// At most this many users of a device are named.
const USERS: usize = 3;

/// The listing as text: a row for each assembly with its members below it, then each obstacle once.
pub fn render(listing: &Listing<'_>, width: Option<usize>) -> String {
    let mut headings = vec!["ADDRESS", "KIND", "NAME", "GROUP", "NODE", "DRIVER", "STATE"];
    headings.retain(|heading| listing.numa || *heading != "NODE");
    let mut obstacles = Obstacles::default();
    let mut table = Table::new(&headings);
    for row in &listing.assemblies {
        add(&mut table, row, listing, &mut obstacles);
    }
    let mut text = match listing.assemblies.is_empty() {
        true => "No matching device.\n".to_owned(),
        false => table.render_within(width, 2),
    };
    obstacles.explain(&mut text);
    if listing.hidden > 0 {
        let functions = if listing.hidden == 1 { "function" } else { "functions" };
        let _ = write!(
            text,
            "\n{} {functions} of the host itself not shown (`handover ls --all` shows them)\n",
            listing.hidden
        );
    }
    text
}

fn add<'a>(
    table: &mut Table,
    row: &'a Row<'_>,
    listing: &Listing<'_>,
    obstacles: &mut Obstacles<'a>,
) {
    let numa = listing.numa;
    let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let node = |node: String| numa.then_some(node);
    let place = [row.address.to_string(), row.kind.to_string(), row.name.clone()];
    table.row(
        place
            .into_iter()
            .chain([number(row.iommu_group)])
            .chain(node(row.numa_node.map_or_else(|| UNKNOWN_NODE.to_owned(), |n| n.to_string())))
            .chain([text(row.driver), state(row, listing.users_hidden, obstacles)]),
    );
    // All members have rows of their own.
    if row.kind == Kind::Bridge || row.is_behind_another {
        return;
    }
    let last = row.members.len().saturating_sub(1);
    for (index, member) in row.members.iter().enumerate() {
        let branch = if index == last { "└" } else { "├" };
        let role = match member.role {
            Role::Guest => "also handed over",
            Role::Held => "held on vfio-pci",
            Role::Bystander => "stays",
            Role::Dependent => "goes away",
        };
        let address = format!("{branch} {}", member.address);
        table.row(
            [address, member.kind.to_string(), member.name.clone(), number(member.iommu_group)]
                .into_iter()
                .chain(node(" ".into()))
                .chain([text(member.driver), format!("{role}: {}", member.reason)]),
        );
    }
}

fn state<'a>(row: &'a Row<'_>, users_hidden: bool, obstacles: &mut Obstacles<'a>) -> String {
    match row.state {
        State::Free if users_hidden => "use unknown".to_owned(),
        State::OnVfio if users_hidden => "on vfio, use unknown".to_owned(),
        State::Free => "free".to_owned(),
        State::OnVfio => "on vfio".to_owned(),
        State::Claimed => format!("claimed: {}", some(&row.claimed_by)),
        State::InUse => format!("in use: {}", some(&row.used_by)),
        State::Unhealthy => {
            let number = row.obstacles.last().map(|why| obstacles.number(why)).unwrap_or_default();
            format!("needs attention, see{number}")
        }
        State::Impossible => {
            let numbers: String =
                row.obstacles.iter().map(|refusal| obstacles.number(refusal)).collect();
            format!("not possible, see{numbers}")
        }
    }
}

/// The first of several texts, and how many more there are.
fn some(texts: &[String]) -> String {
    let named: Vec<&str> = texts.iter().take(USERS).map(String::as_str).collect();
    let more = texts.len() - named.len();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", named.join("; "))
}

/// The obstacles, each numbered once.
#[derive(Default)]
struct Obstacles<'a> {
    numbers: HashMap<(&'a str, &'a str), usize>,
    in_order: Vec<&'a Refusal>,
}

impl<'a> Obstacles<'a> {
    fn number(&mut self, refusal: &'a Refusal) -> String {
        let next = self.in_order.len() + 1;
        let key = (refusal.message.as_str(), refusal.remedy.as_str());
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.in_order.push(refusal);
        }
        format!(" [{number}]")
    }

    fn explain(&self, text: &mut String) {
        let (bold, red) = (Style::new().bold(), Style::new().fg_color(Some(AnsiColor::Red.into())));
        for (index, refusal) in self.in_order.iter().enumerate() {
            let number = index + 1;
            let Refusal { code, message, remedy } = refusal;
            let (message, remedy) = (several_lines(message), several_lines(remedy));
            let _ = write!(
                text,
                "\n{red}[{number}]{red:#} {message} ({code})\n    {bold}what to do:{bold:#} {remedy}\n",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use model::choose::ExistingClaim;
    use model::{
        Address, Claim, ClaimState, ClaimedMember, Code, Holder, Inventory, Mechanism, NumaNode,
        OwnState, Part, Partition, Unhealthy, VfSettings, VirtualFunctions,
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::rows::Wanted;
    use super::*;
    use crate::filter::Filter;

    fn shown(inventory: &Inventory, holders: &[Holder], wanted: &Wanted<'_>) -> String {
        let listing = Listing::of(inventory, holders, &OwnState::default(), wanted);
        anstream::adapter::strip_str(&render(&listing, None)).to_string()
    }

    /// The workstation with a drive on vfio and the default route through its NIC.
    fn busy() -> (Inventory, Vec<Holder>) {
        let mut inventory = sim::workstation();
        let address = "0000:04:00.0".parse().unwrap();
        inventory.functions.get_mut(&address).unwrap().driver = Some("vfio-pci".into());
        let user = "default route".to_owned();
        let nic = "0000:03:00.0".parse().unwrap();
        (
            inventory,
            vec![Holder {
                address: nic,
                kind: model::HolderKind::Network,
                pid: None,
                started: None,
                program: None,
                user,
                by: "eth0".into(),
                mdev: None,
            }],
        )
    }

    #[test]
    fn assemblies_with_what_goes_with_them() {
        let (inventory, holders) = busy();
        snapbox::assert_data_eq!(
            shown(&inventory, &holders, &Wanted::default()),
            snapbox::file!["tests/workstation.txt"]
        );
    }

    #[test]
    fn as_json_with_all_that_a_program_asks_for() {
        let (inventory, holders) = busy();
        let listing = Listing::of(&inventory, &holders, &OwnState::default(), &Wanted::default());
        snapbox::assert_data_eq!(
            serde_json::to_string_pretty(&listing).unwrap() + "\n",
            snapbox::file!["tests/workstation.json"]
        );
    }

    #[test]
    fn nodes_are_shown_where_there_are_several() {
        let (mut inventory, holders) = busy();
        inventory.numa_nodes = (0..2).map(|node| (node, NumaNode::default())).collect();
        for function in inventory.functions.values_mut() {
            function.numa_node = Some(u32::from(function.address.bus() / 2).min(1));
        }
        snapbox::assert_data_eq!(
            shown(&inventory, &holders, &Wanted { all: true, ..Wanted::default() }),
            snapbox::file!["tests/numa.txt"]
        );
    }

    #[test]
    fn a_device_is_free_only_if_its_users_were_seen() {
        let (inventory, holders) = busy();
        let listing = Listing::of(&inventory, &holders, &OwnState::default(), &Wanted::default());
        let listing = Listing { users_hidden: true, ..listing };
        let text = anstream::adapter::strip_str(&render(&listing, None)).to_string();
        assert!(!text.contains(" free"), "{text}");
        assert!(text.contains("use unknown") && text.contains("on vfio, use unknown"), "{text}");
        assert!(text.contains("in use: default route"), "{text}");
    }

    #[test]
    fn claimed_devices_say_whose_they_are_and_how_they_are_released() {
        let mut inventory = sim::workstation();
        let nic: Address = "0000:03:00.0".parse().unwrap();
        let vfs: Vec<Address> = vec!["0000:03:10.0".parse().unwrap()];
        inventory.functions.get_mut(&nic).unwrap().sriov =
            Some(VirtualFunctions { total: 4, present: vfs.clone(), autoprobe: None });
        let claim = |owner: &str, head: Address, partition, state| {
            let members = vec![ClaimedMember::unknown(head)];
            ExistingClaim {
                claim: Claim {
                    id: Uuid::nil(),
                    owner: owner.parse().unwrap(),
                    reason: None,
                    expires: None,
                    parts: vec![Part { head, partition, members, at_boot: false }],
                    state,
                    boot_id: None,
                },
                owner: owner.into(),
                why: Refusal::new(Code::InUse, format!("is claimed by {owner}"), "release it"),
            }
        };
        let how = Mechanism::Vf { index: 0, settings: VfSettings::default() };
        let wedged = Unhealthy {
            word: "wedged",
            why: Refusal::new(Code::DeviceWedged, "the drive needs manual attention", "look at it"),
        };
        let own = OwnState {
            claims: vec![
                claim("job/7", "0000:01:00.0".parse().unwrap(), None, ClaimState::Prepared),
                claim("job/8", "0000:02:00.0".parse().unwrap(), None, ClaimState::Reserved),
                claim("pod/a", vfs[0], Some(Partition { parent: nic, how }), ClaimState::Prepared),
            ],
            unhealthy: [("0000:04:00.0".parse().unwrap(), wedged)].into(),
            names: std::collections::BTreeMap::new(),
        };
        let listing = Listing::of(&inventory, &[], &own, &Wanted::default());
        let text = anstream::adapter::strip_str(&render(&listing, None)).to_string();
        let ends = |address: &str, state: &str| {
            let row = text.lines().find(|line| line.starts_with(address)).unwrap();
            assert!(row.ends_with(state), "{row}");
        };
        ends("0000:01:00.0", "claimed: job/7");
        ends("0000:02:00.0", "claimed: job/8 (reserved)");
        ends("0000:03:00.0", "claimed: 1 partition by pod/a");
        ends("0000:04:00.0", "needs attention, see [1]");
        assert!(!text.contains("sriov set"), "what a claim made is released, not removed: {text}");
    }

    #[test]
    fn an_obstacle_of_the_host_is_printed_once() {
        let mut inventory = sim::workstation();
        inventory.vfio.iommu = false;
        let text = shown(&inventory, &[], &Wanted { all: true, ..Wanted::default() });
        assert_eq!(text.matches("intel_iommu=on").count(), 1, "{text}");
        assert!(text.contains("not possible, see [1]"), "{text}");
    }

    #[test]
    fn filters_find_an_assembly_by_any_function_that_it_takes() {
        let inventory = sim::workstation();
        let heads = |filters: &[&str]| {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            let wanted = Wanted { filters: &filters, ..Wanted::default() };
            let listing = Listing::of(&inventory, &[], &OwnState::default(), &wanted);
            listing.assemblies.iter().map(|row| row.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(heads(&["01:00.1"]), ["0000:01:00.0"]);
        assert_eq!(heads(&["audio", "group:3"]), ["0000:02:00.0"]);
        // The root port stays with the host, so it does not bring in the card behind it.
        assert!(heads(&["driver:pcieport"]).is_empty());
    }

    #[test]
    fn many_users_are_counted() {
        let (inventory, holders) = busy();
        let holders: Vec<Holder> = (0..500)
            .map(|number| Holder { by: format!("eth{number}"), ..holders[0].clone() })
            .collect();
        let text = shown(&inventory, &holders, &Wanted::default());
        assert!(
            text.contains("on eth0; default route on eth1; default route on eth2; and 497 more")
        );
    }

    proptest! {
        #[test]
        fn no_inventory_makes_the_listing_panic(
            inventory in crate::any_inventory::inventory(),
            width in prop::option::of(0usize..200),
        ) {
            let listing = Listing::of(&inventory, &[], &OwnState::default(), &Wanted { all: true, ..Wanted::default() });
            let heads: Vec<_> = listing.assemblies.iter().map(|row| row.address).collect();
            prop_assert!(heads.is_sorted());
            render(&listing, width);
            serde_json::to_string(&listing).unwrap();
        }
    }
}
