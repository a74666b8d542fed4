//! Prints what a catalog matches on a host.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::Refusal;
use model::catalog::{Resource, Seen, Survey, SurveyState, SurveyedDevice, Unmatched};
use model::shown::escaped;

use crate::table::Table;
use crate::terminal::several_lines;

/// At most this many addresses are shown of a resource.
const MOST_ADDRESSES: usize = 4;

/// A table of the resources, then the devices that cannot be handed over and why, then the lines that match nothing.
pub fn render(file: &str, survey: &Survey, width: Option<usize>) -> String {
    let mut table =
        Table::with_names(&["RESOURCE", "COUNT", "NOW", "ADDRESSES", "LINE"], "ADDRESSES");
    for resource in &survey.resources {
        table.row_of(row(resource), shorter(resource));
    }
    let file = escaped(file);
    let mut text = if survey.resources.is_empty() {
        format!("{file} names no devices\n")
    } else {
        table.render_within(width)
    };
    let waiting = survey.resources.iter().flat_map(|resource| &resource.devices);
    let waiting: Vec<&SurveyedDevice> =
        waiting.filter(|found| found.state != SurveyState::Free).collect();
    if !waiting.is_empty() {
        text.push_str(&not_now(&waiting));
    }
    for unmatched in &survey.unmatched {
        warning(&mut text, &file, unmatched);
    }
    text
}

/// The addresses of a resource, at most so many.
fn addresses(resource: &Resource, most: usize) -> String {
    let shown = resource.devices.iter().take(most).map(|found| found.address.to_string());
    let mut addresses: Vec<String> = shown.collect();
    if resource.devices.len() > most {
        addresses.push(format!("and {} more", resource.devices.len() - most));
    }
    addresses.join(" ")
}

/// Fewer addresses, for a narrow terminal.
fn shorter(resource: &Resource) -> Vec<String> {
    let most = MOST_ADDRESSES.min(resource.devices.len());
    (1..most).rev().map(|most| addresses(resource, most)).collect()
}

fn row(resource: &Resource) -> [String; 5] {
    let lines: Vec<String> = resource.lines.iter().map(u32::to_string).collect();
    [
        resource.name.clone(),
        resource.count.to_string(),
        resource.available.to_string(),
        addresses(resource, MOST_ADDRESSES),
        lines.join(" "),
    ]
}

/// The devices that cannot be handed over now. An obstacle that several share is printed once.
fn not_now(waiting: &[&SurveyedDevice]) -> String {
    let mut obstacles: Vec<&Refusal> = Vec::new();
    let bold = Style::new().bold();
    let mut text = format!("\n{bold}Not available now:{bold:#}\n");
    for found in waiting {
        let why = match &found.state {
            SurveyState::Free => continue,
            SurveyState::InUse => format!("in use: {}", found.used_by.join("; ")),
            SurveyState::Claimed => format!("claimed: {}", found.claimed_by.join("; ")),
            SurveyState::With { address } => {
                format!("handed over only together with {address}, which is already counted")
            }
            SurveyState::Impossible => {
                let numbers: Vec<String> = found
                    .obstacles
                    .iter()
                    .map(|refusal| {
                        let known = obstacles.iter().position(|other| *other == refusal);
                        let number = known.unwrap_or_else(|| {
                            obstacles.push(refusal);
                            obstacles.len() - 1
                        });
                        format!("[{}]", number + 1)
                    })
                    .collect();
                format!("not possible, see {}", numbers.join(" "))
            }
        };
        let (name, why) = (escaped(&found.name), escaped(&why));
        let _ = writeln!(text, "  {}  {name}: {why}", found.address);
    }
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    for (number, refusal) in obstacles.iter().enumerate() {
        let (number, Refusal { code, message, remedy }) = (number + 1, refusal);
        let (message, remedy) = (several_lines(message), several_lines(remedy));
        let _ = write!(
            text,
            "\n{red}[{number}]{red:#} {message} ({code})\n    {bold}what to do:{bold:#} {remedy}\n"
        );
    }
    text
}

fn warning(text: &mut String, file: &str, unmatched: &Unmatched) {
    let yellow = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    let bold = Style::new().bold();
    let Unmatched { line, resource, reason, instead } = unmatched;
    let (resource, reason, remedy) = (resource.to_string(), reason.to_string(), unmatched.remedy());
    let [resource, reason, remedy] = [&resource, &reason, &remedy].map(|value| escaped(value));
    let _ = write!(
        text,
        "\n{yellow}warning:{yellow:#} {file}:{line}: no {resource}\n  {bold}why:{bold:#} {reason}\n"
    );
    let _ = writeln!(text, "  {bold}what to do:{bold:#} {remedy}");
    if !instead.is_empty() {
        let _ = writeln!(text, "  {bold}this host has:{bold:#}");
        for seen in instead {
            let _ = writeln!(text, "    {}", escaped(&one(seen)));
        }
    }
}

fn one(seen: &Seen) -> String {
    let Seen { vendor, device, class, revision, name, address, count, .. } = seen;
    let mut text = format!("{vendor}:{device} class {class}");
    if let Some((vendor, device)) = seen.subsystem {
        let _ = write!(text, " subsystem {vendor}:{device}");
    }
    let _ = write!(text, " revision {revision:02x}  {address}");
    if *count > 1 {
        let _ = write!(text, " and {} more", count - 1);
    }
    if *name != format!("{vendor}:{device}") {
        let _ = write!(text, "  {name}");
    }
    text
}
