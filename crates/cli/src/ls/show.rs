//! The listing for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::{Refusal, Role};

use super::rows::{Listing, Row, State};
use crate::table::Table;

/// How much of a name is shown.
const LONGEST_NAME: usize = 48;

/// The listing as text: a row for each assembly with its members under it, then what stands in the way, each said once.
pub fn render(listing: &Listing) -> String {
    let mut obstacles: Vec<&Refusal> = Vec::new();
    let mut table = Table::new(&["ADDRESS", "KIND", "NAME", "GROUP", "DRIVER", "STATE"]);
    for row in &listing.assemblies {
        add(&mut table, row, &mut obstacles);
    }
    let mut text = table.render();
    let (bold, red) = (Style::new().bold(), Style::new().fg_color(Some(AnsiColor::Red.into())));
    for (number, refusal) in obstacles.iter().enumerate() {
        let _ = write!(
            text,
            "\n{red}[{}]{red:#} {} ({})\n    {bold}what to do:{bold:#} {}\n",
            number + 1,
            refusal.message,
            refusal.code,
            refusal.remedy
        );
    }
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

fn add<'a>(table: &mut Table, row: &'a Row, obstacles: &mut Vec<&'a Refusal>) {
    let driver = row.driver.clone().unwrap_or_default();
    let group = row.iommu_group.map(|group| group.to_string()).unwrap_or_default();
    let kind = row.kind.to_string();
    table.row([
        row.address.to_string(),
        kind,
        short(&row.name),
        group,
        driver,
        state(row, obstacles),
    ]);
    let last = row.members.len().saturating_sub(1);
    for (index, member) in row.members.iter().enumerate() {
        let branch = if index == last { "└" } else { "├" };
        let role = match member.role {
            Role::Guest => "goes with it",
            Role::Held => "held back with it",
            Role::Bystander => "stays",
        };
        table.row([
            format!("{branch} {}", member.address),
            member.kind.to_string(),
            short(&member.name),
            member.iommu_group.map(|group| group.to_string()).unwrap_or_default(),
            member.driver.clone().unwrap_or_default(),
            format!("{role}: {}", member.reason),
        ]);
    }
}

fn state<'a>(row: &'a Row, obstacles: &mut Vec<&'a Refusal>) -> String {
    match row.state {
        State::Free => "free".to_owned(),
        State::OnVfio => "on vfio".to_owned(),
        State::InUse => format!("in use: {}", row.used_by.join("; ")),
        State::Impossible => {
            let mut numbers = String::new();
            for refusal in &row.obstacles {
                let known = obstacles.iter().position(|other| *other == refusal);
                let number = known.unwrap_or_else(|| {
                    obstacles.push(refusal);
                    obstacles.len() - 1
                });
                let _ = write!(numbers, " [{}]", number + 1);
            }
            format!("not possible, see{numbers}")
        }
    }
}

fn short(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    name.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use model::{Holder, Inventory};

    use super::super::rows::Wanted;
    use super::*;

    fn shown(inventory: &Inventory, holders: &[Holder], all: bool) -> String {
        let listing = Listing::of(inventory, holders, &Wanted { all, kind: None, filters: &[] });
        anstream::adapter::strip_str(&render(&listing)).to_string()
    }

    #[test]
    fn assemblies_with_what_goes_with_them() {
        let mut inventory = sim::workstation();
        let address = "0000:04:00.0".parse().unwrap();
        inventory.functions.get_mut(&address).unwrap().driver = Some("vfio-pci".into());
        let user = "default route".to_owned();
        let nic = "0000:03:00.0".parse().unwrap();
        let holder = Holder { address: nic, pid: None, user, by: "eth0".into() };
        snapbox::assert_data_eq!(
            shown(&inventory, &[holder], false),
            snapbox::file!["tests/workstation.txt"]
        );
    }

    #[test]
    fn an_obstacle_of_the_host_is_said_once() {
        let mut inventory = sim::workstation();
        inventory.vfio.iommu = false;
        let text = shown(&inventory, &[], true);
        assert_eq!(text.matches("intel_iommu=on").count(), 1, "{text}");
        assert!(text.contains("not possible, see [1]"), "{text}");
    }

    #[test]
    fn filters_find_an_assembly_by_any_of_its_members() {
        let inventory = sim::workstation();
        let filters = ["01:00.1".to_owned()];
        let wanted = Wanted { all: false, kind: None, filters: &filters };
        let listing = Listing::of(&inventory, &[], &wanted);
        assert_eq!(listing.assemblies.len(), 1);
        assert_eq!(listing.assemblies[0].address.to_string(), "0000:01:00.0");
    }
}
