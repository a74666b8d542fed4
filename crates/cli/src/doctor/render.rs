//! Prints the verdict: a short block for each finding, the worst first, and a last line.

use std::borrow::Cow;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::Address;
use model::boot_list::{INSTALL_TOOL, NO_TOOL};
use model::doctor::{Devices, Finding, Remedy, Severity, Verdict, is_optional};
use model::shown::escaped;

/// The verdict as text, for a terminal of this width. Passed checks are only counted unless `all` is set.
pub fn text(verdict: &Verdict, all: bool, only: Option<Address>, width: Option<usize>) -> String {
    let width = width.map_or(WIDTH, |width| width.clamp(LEAST_WIDTH, WIDTH));
    let mut text = String::new();
    let mut told = false;
    for severity in ORDER {
        let of = |finding: &&Finding| finding.severity == severity;
        let findings: Vec<&Finding> = verdict.findings.iter().filter(of).collect();
        if findings.is_empty() || severity == Severity::Good && !all {
            continue;
        }
        let (style, title) = (style(severity), title(severity));
        let _ = writeln!(text, "{style}{title}{style:#}");
        for finding in findings {
            block(&mut text, &once(finding, &mut told), width);
        }
        text.push('\n');
    }
    conclusion(&mut text, verdict, all, only, width);
    text
}

/// The finding, without the long way to a tool for the initial ramdisk if that was told above.
fn once<'a>(finding: &'a Finding, told: &mut bool) -> Cow<'a, Finding> {
    let long = format!(": {INSTALL_TOOL}");
    let has = |remedy: &&Remedy| remedy.words.contains(&long);
    let Some(remedy) = finding.remedy.as_ref().filter(has) else { return Cow::Borrowed(finding) };
    if !std::mem::replace(told, true) {
        return Cow::Borrowed(finding);
    }
    let words =
        remedy.words.replace(&format!("{NO_TOOL}{long}"), "first install such a tool, as above");
    Cow::Owned(Finding { remedy: Some(Remedy { words, ..remedy.clone() }), ..finding.clone() })
}

/// The indent of the lines of a finding.
const INDENT: &str = "    ";
/// The line width of prose, and the least one; commands are not wrapped.
const WIDTH: usize = 100;
const LEAST_WIDTH: usize = 40;

/// The order of the groups, the worst first.
const ORDER: [Severity; 5] =
    [Severity::Impossible, Severity::Warning, Severity::Note, Severity::Unseen, Severity::Good];

const fn title(severity: Severity) -> &'static str {
    match severity {
        Severity::Impossible => "Blocking",
        Severity::Warning => "Warnings",
        Severity::Note => "Good to know",
        Severity::Unseen => "Not checked",
        Severity::Good => "Passed",
    }
}

const fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Impossible => "✗",
        Severity::Warning => "!",
        Severity::Note => "i",
        Severity::Unseen => "?",
        Severity::Good => "✓",
    }
}

fn style(severity: Severity) -> Style {
    let color = match severity {
        Severity::Impossible => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Note | Severity::Unseen => AnsiColor::Cyan,
        Severity::Good => AnsiColor::Green,
    };
    Style::new().bold().fg_color(Some(color.into()))
}

fn block(text: &mut String, finding: &Finding, width: usize) {
    let (style, bold) = (style(finding.severity), Style::new().bold());
    let mark = mark(finding.severity);
    let _ = write!(text, "{style}{mark}{style:#} {bold}{}{bold:#}", finding.check);
    // What was read often begins with the address.
    if let Some(address) = finding.address.map(|address| address.to_string())
        && !finding.read.starts_with(&address)
    {
        let _ = write!(text, " {address}");
    }
    text.push_str(": ");
    prose(text, &finding.read, width);
    if finding.severity == Severity::Unseen && finding.remedy.is_none() {
        return;
    }
    text.push_str(INDENT);
    prose(text, &finding.meaning, width);
    if let Some(remedy) = &finding.remedy {
        prescribe(text, remedy, width);
    }
}

/// Prints several lines. Text from the host is escaped: it must not control the terminal.
fn prose(text: &mut String, words: &str, width: usize) {
    let styled = text.lines().last().unwrap_or_default();
    let mut column = anstream::adapter::strip_str(styled).to_string().chars().count();
    let mut first = true;
    for word in words.split([' ', '\n']).map(escaped) {
        let length = word.chars().count();
        if length == 0 {
            continue;
        }
        if !first && column + 1 + length > width {
            text.push('\n');
            text.push_str(INDENT);
            column = INDENT.len();
        } else if !first {
            text.push(' ');
            column += 1;
        }
        text.push_str(&word);
        column += length;
        first = false;
    }
    text.push('\n');
}

fn prescribe(text: &mut String, remedy: &Remedy, width: usize) {
    let bold = Style::new().bold();
    let _ = write!(text, "{INDENT}{bold}what to do:{bold:#} ");
    prose(text, &remedy.words, width);
    // Remedies that write files are for the script, not for typing.
    if remedy.commands.iter().any(|command| command.contains("<<'")) {
        text.push_str("        handover doctor --fix-script   # prints the files and commands\n");
    } else {
        for line in remedy.commands.iter().flat_map(|command| command.lines()) {
            let _ = writeln!(text, "        {}", escaped(line));
        }
    }
    if remedy.reboot {
        text.push_str("        then reboot this host\n");
    }
}

fn conclusion(
    text: &mut String,
    verdict: &Verdict,
    all: bool,
    only: Option<Address>,
    width: usize,
) {
    let of = |severity| verdict.findings.iter().filter(move |one| one.severity == severity);
    let good = of(Severity::Good).filter(|one| !is_optional(&one.check)).count();
    if good > 0 && !all {
        let checks = if good == 1 { "check" } else { "checks" };
        let said = format!("{good} {checks} passed (`--all` shows them, and optional programs)");
        prose(text, &said, width);
    }
    let worst = verdict.worst();
    let unseen = of(Severity::Unseen).count();
    let said = match (&verdict.devices, only) {
        (Some(devices), _) => of_host(devices, of(Severity::Impossible).count() > 0),
        (None, Some(address)) => of_one(address, worst, unseen),
        (None, None) => String::new(),
    };
    // "can be handed over" is said only if everything that it depends on was read.
    let limit = match unseen {
        0 => "",
        _ if only.is_some() => "",
        _ => "as far as it could be read, ",
    };
    let read = if worst == Severity::Warning { "; read the warnings above" } else { "" };
    let unseen = match unseen {
        0 => String::new(),
        1 => "; 1 check was not possible: see Not checked above".to_owned(),
        more => format!("; {more} checks were not possible: see Not checked above"),
    };
    let style = style(worst);
    let _ = write!(text, "{style}Verdict:{style:#} ");
    prose(text, &format!("{limit}{said}{read}{unseen}"), width);
}

/// The verdict on one device.
fn of_one(address: Address, worst: Severity, unseen: usize) -> String {
    match worst {
        Severity::Impossible => format!("{address} cannot be handed over yet: see Blocking above"),
        _ if unseen > 0 => format!("nothing that could be read prevents a hand-over of {address}"),
        _ => format!("{address} can be handed over"),
    }
}

/// How many of the host's devices can be handed over, and which.
fn of_host(devices: &Devices, blocked: bool) -> String {
    let Devices { ready, in_use, in_parts, barred } = devices;
    let all = ready.len() + in_use.len() + in_parts.len() + barred.len();
    let mut said = match (ready.len(), all) {
        (_, 0) if blocked => "devices cannot be handed over yet".to_owned(),
        (_, 0) => "this host has no GPU, accelerator, NIC or NVMe drive to hand over".to_owned(),
        (0, _) if !in_parts.is_empty() => parts_of(in_parts, all),
        (0, 1) => "this host's only device cannot be handed over now".to_owned(),
        (0, _) => format!("none of this host's {all} devices can be handed over now"),
        (count, _) if count == all => format!("{} can be handed over", some(ready)),
        (count, _) => {
            format!("{count} of this host's {all} devices can be handed over: {}", some(ready))
        }
    };
    if !in_parts.is_empty() && !ready.is_empty() {
        let _ = write!(said, "; in parts (`handover ls` lists them): {}", some(in_parts));
    }
    if !in_use.is_empty() {
        let _ = write!(said, "; in use: {}", some(in_use));
    }
    if blocked {
        said += "; see Blocking above";
    } else if !barred.is_empty() {
        let _ = write!(said, "; not possible: {}", some(barred));
    }
    said
}

/// The verdict if only partitions can be handed over.
fn parts_of(in_parts: &[Address], all: usize) -> String {
    let whole = match all {
        1 => "this host's only device can be handed over in parts only".to_owned(),
        _ => format!("none of this host's {all} devices can be handed over as a whole; in parts"),
    };
    format!("{whole} (`handover ls` lists them): {}", some(in_parts))
}

/// At most this many devices are named.
const NAMED: usize = 8;

/// `A`, `A and B`, `A, B and 3 more`.
fn some(addresses: &[Address]) -> String {
    let mut words: Vec<String> = addresses.iter().take(NAMED).map(Address::to_string).collect();
    match addresses.len().saturating_sub(NAMED) {
        0 => {}
        more => words.push(format!("{more} more")),
    }
    match words.pop() {
        Some(last) if !words.is_empty() => format!("{} and {last}", words.join(", ")),
        last => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_fits_the_terminal_and_commands_stay_whole() {
        let words = "a sentence that is longer than a line of a narrow terminal, and goes on for a while, with all its words";
        let command = "echo a command that is not broken, so that it can be copied from the terminal to a shell";
        let finding = Finding {
            check: "iommu".into(),
            severity: Severity::Impossible,
            address: None,
            read: words.into(),
            meaning: words.into(),
            remedy: Some(Remedy {
                words: words.into(),
                commands: vec![command.into()],
                reboot: true,
            }),
        };
        let verdict = Verdict { findings: vec![finding], devices: None };
        for width in [60, 80] {
            let address = "0000:01:00.0".parse().ok();
            let text = text(&verdict, false, address, Some(width));
            let text = anstream::adapter::strip_str(&text).to_string();
            for line in text.lines().filter(|line| !line.contains(command)) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            assert!(text.contains(command));
        }
    }
}
