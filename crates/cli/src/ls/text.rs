//! Prints the listing as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::topology::words::UNKNOWN_NODE;
use model::{Address, Kind, Role, short_titles};

use super::footnotes::Footnotes;
use super::parts::Parts;
use super::rows::{Listing, MemberRow, Row, State};
use crate::table::Table;
use crate::wrap::paragraph;

/// At most this many users of a device are named.
const USERS: usize = 3;

/// Members of one IOMMU group that are listed again with each of its devices, if they are fewer.
const FEW: usize = 3;

/// No value, and no dash.
const BLANK: &str = " ";

/// The listing as text: a row for each assembly with its members below it, then each obstacle once.
pub fn render(listing: &Listing<'_>, width: Option<usize>) -> String {
    let mut headings = vec!["ADDRESS", "KIND", "NAME", "GROUP", "NODE", "DRIVER", "STATE"];
    headings.retain(|heading| listing.numa || *heading != "NODE");
    let mut rows = Rows {
        table: Table::with_names(&headings, "NAME"),
        listing,
        footnotes: Footnotes::default(),
        groups: BTreeMap::new(),
    };
    listing.assemblies.iter().for_each(|row| rows.add(row));
    let mut text = match listing.assemblies.is_empty() {
        true => "No matching device.\n".to_owned(),
        false => rows.table.render_within(width),
    };
    rows.footnotes.write(&mut text, width);
    if listing.hidden > 0 {
        let functions = if listing.hidden == 1 { "function" } else { "functions" };
        let hidden = format!(
            "{} {functions} of the host itself not shown (`handover ls --all` shows them)",
            listing.hidden
        );
        let _ = write!(text, "\n{}\n", paragraph(&hidden, 0, 0, width));
    }
    text
}

struct Rows<'a> {
    table: Table,
    listing: &'a Listing<'a>,
    footnotes: Footnotes<'a>,
    /// The row that lists the members of a big IOMMU group.
    groups: BTreeMap<u32, Address>,
}

impl<'a> Rows<'a> {
    /// Adds an assembly: its row, and those of its members.
    fn add(&mut self, row: &'a Row<'_>) {
        let node = row.numa_node.map_or_else(|| UNKNOWN_NODE.to_owned(), |n| n.to_string());
        let state = self.state(row);
        self.line(
            [row.address.to_string(), row.kind.to_string(), row.name.clone()],
            short_titles(row.kind, &row.name),
            [number(row.iommu_group), node, row.driver.unwrap_or_default().to_owned(), state],
        );
        let mut below = Vec::new();
        // All members of others have rows of their own.
        if row.kind != Kind::Bridge && !row.is_behind_another {
            let referred = self.refer(row);
            below.extend(row.members.iter().filter_map(|member| {
                let is_referred = referred.iter().any(|(role, ..)| member.role == *role);
                (!is_referred || !shares_group(row, member)).then(|| Below::of(member))
            }));
            below.extend(
                referred.iter().map(|(role, count, at)| Below::others(row, *role, *count, *at)),
            );
        }
        below.extend(row.vgpus.iter().flat_map(Below::vgpus));
        let last = below.len().saturating_sub(1);
        for (index, Below { what: [at, kind, name], shorter, group, driver, state }) in
            below.into_iter().enumerate()
        {
            let branch = if index == last { "└" } else { "├" };
            self.line(
                [format!("{branch} {at}"), kind, name],
                shorter,
                [group, BLANK.into(), driver, state],
            );
        }
    }

    /// The roles of which the members in the row's own group are not listed again: how many there are, and where they are
    /// listed. A big group has a row for each of its devices: with all members at each, N devices would be N² rows.
    fn refer(&mut self, row: &Row<'_>) -> Vec<(Role, usize, Address)> {
        let mut counts: Vec<(Role, usize)> = Vec::new();
        for member in row.members.iter().filter(|member| shares_group(row, member)) {
            match counts.iter_mut().find(|(role, _)| *role == member.role) {
                Some((_, count)) => *count += 1,
                None => counts.push((member.role, 1)),
            }
        }
        counts.retain(|(_, count)| *count >= FEW);
        let Some(group) = row.iommu_group.filter(|_| !counts.is_empty()) else { return Vec::new() };
        match self.groups.get(&group) {
            Some(at) => counts.into_iter().map(|(role, count)| (role, count, *at)).collect(),
            None => {
                self.groups.insert(group, row.address);
                Vec::new()
            }
        }
    }

    fn line(
        &mut self,
        what: [String; 3],
        shorter: Vec<String>,
        [group, node, driver, state]: [String; 4],
    ) {
        let node = self.listing.numa.then_some(node);
        let cells = what.into_iter().chain([group]).chain(node).chain([driver, state]);
        self.table.row_of(cells, shorter);
    }

    fn state(&mut self, row: &'a Row<'_>) -> String {
        let users_hidden = self.listing.users_hidden;
        match row.state {
            State::Free if users_hidden => "use unknown".to_owned(),
            State::OnVfio if users_hidden => "on vfio, use unknown".to_owned(),
            State::Free => match row.hosts_display {
                Some(display) => format!("free ({display})"),
                None => "free".to_owned(),
            },
            State::OnVfio => "on vfio".to_owned(),
            State::Claimed => format!("claimed: {}", some(&row.claimed_by)),
            State::InUse => format!("in use: {}", some(&row.used_by)),
            State::Wedged | State::Quarantined => {
                let why = row.obstacles.last().map(|why| self.footnotes.mark(row, why));
                let word = if row.state == State::Wedged { "wedged" } else { "quarantined" };
                format!("{word}, see{}", why.unwrap_or_default())
            }
            State::Impossible => {
                let marks = row.obstacles.iter().map(|refusal| self.footnotes.mark(row, refusal));
                format!("not possible, see{}", marks.collect::<String>())
            }
        }
    }
}

/// A line below the row of an assembly.
struct Below {
    what: [String; 3],
    shorter: Vec<String>,
    group: String,
    driver: String,
    state: String,
}

impl Below {
    /// A member of the assembly.
    fn of(member: &MemberRow<'_>) -> Self {
        Self {
            what: [member.address.to_string(), member.kind.to_string(), member.name.clone()],
            shorter: short_titles(member.kind, &member.name),
            group: number(member.iommu_group),
            driver: member.driver.unwrap_or_default().to_owned(),
            state: format!("{}: {}", role(member.role), member.reason),
        }
    }

    /// Members that are listed elsewhere.
    fn others(row: &Row<'_>, role: Role, count: usize, at: Address) -> Self {
        Self {
            what: [format!("{count} more"), BLANK.into(), BLANK.into()],
            shorter: Vec::new(),
            group: number(row.iommu_group),
            driver: BLANK.into(),
            state: format!("{}: others of this IOMMU group, listed at {at}", self::role(role)),
        }
    }

    /// The vGPUs of a card, and each profile.
    fn vgpus(parts: &Parts) -> impl Iterator<Item = Self> {
        let line = |at: &str, name: &str, state: String| Self {
            what: [at.into(), BLANK.into(), name.into()],
            shorter: Vec::new(),
            group: BLANK.into(),
            driver: BLANK.into(),
            state,
        };
        let used = line("vGPUs", BLANK, format!("{} of {} used", parts.used, parts.total));
        let profiles = parts.profiles.iter();
        let profiles = profiles.map(move |one| line("profile", &one.name, one.left()));
        std::iter::once(used).chain(profiles)
    }
}

fn number(number: Option<u32>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Guest => "also handed over",
        Role::Held => "held on vfio-pci",
        Role::Bystander => "stays",
        Role::Dependent => "goes away",
    }
}

fn shares_group(row: &Row<'_>, member: &MemberRow<'_>) -> bool {
    member.iommu_group.is_some() && member.iommu_group == row.iommu_group
}

/// The first of several texts, and how many more there are.
fn some(texts: &[String]) -> String {
    let named: Vec<&str> = texts.iter().take(USERS).map(String::as_str).collect();
    let more = texts.len() - named.len();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", named.join("; "))
}
