//! Prints the verdict: a short block for each finding, the worst first, and a last line.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::Address;
use model::doctor::{Finding, Remedy, Severity, Verdict};
use model::shown::escaped;

/// The verdict as text. Passed checks are only counted unless `all` is set.
pub fn text(verdict: &Verdict, all: bool, only: Option<Address>) -> String {
    let mut text = String::new();
    for severity in ORDER {
        let of = |finding: &&Finding| finding.severity == severity;
        let findings: Vec<&Finding> = verdict.findings.iter().filter(of).collect();
        if findings.is_empty() || severity == Severity::Good && !all {
            continue;
        }
        let (style, title) = (style(severity), title(severity));
        let _ = writeln!(text, "{style}{title}{style:#}");
        for finding in findings {
            block(&mut text, finding);
        }
        text.push('\n');
    }
    conclusion(&mut text, verdict, all, only);
    text
}

/// The indent of the lines of a finding.
const INDENT: &str = "    ";
/// The line width of prose; commands are not wrapped.
const WIDTH: usize = 100;

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

fn block(text: &mut String, finding: &Finding) {
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
    prose(text, &finding.read);
    if finding.severity == Severity::Unseen && finding.remedy.is_none() {
        return;
    }
    text.push_str(INDENT);
    prose(text, &finding.meaning);
    if let Some(remedy) = &finding.remedy {
        prescribe(text, remedy);
    }
}

/// Prints several lines. Text from the host is escaped: it must not control the terminal.
fn prose(text: &mut String, words: &str) {
    let styled = text.lines().last().unwrap_or_default();
    let mut column = anstream::adapter::strip_str(styled).to_string().chars().count();
    let mut first = true;
    for word in words.split([' ', '\n']).map(escaped) {
        let length = word.chars().count();
        if length == 0 {
            continue;
        }
        if !first && column + 1 + length > WIDTH {
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

fn prescribe(text: &mut String, remedy: &Remedy) {
    let bold = Style::new().bold();
    let _ = write!(text, "{INDENT}{bold}what to do:{bold:#} ");
    prose(text, &remedy.words);
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

fn conclusion(text: &mut String, verdict: &Verdict, all: bool, only: Option<Address>) {
    let count =
        |severity| verdict.findings.iter().filter(|finding| finding.severity == severity).count();
    let good = count(Severity::Good);
    if good > 0 && !all {
        let checks = if good == 1 { "check" } else { "checks" };
        let _ = writeln!(text, "{good} {checks} passed (`--all` shows them)");
    }
    let worst = verdict.worst();
    let subject =
        only.map_or_else(|| "this host's devices".to_owned(), |address| address.to_string());
    let unseen = count(Severity::Unseen);
    let barred = verdict
        .findings
        .iter()
        .any(|one| one.check == "assignable" && one.severity == Severity::Warning);
    let said = match worst {
        Severity::Impossible if only.is_some() => {
            format!("{subject} cannot be handed over yet: see Blocking above")
        }
        Severity::Impossible => {
            "not everything can be handed over yet: see Blocking above".to_owned()
        }
        Severity::Warning if barred => {
            "not every device can be handed over: see assignable in the warnings above".to_owned()
        }
        // "can be handed over" is said only if everything that it depends on was read.
        Severity::Warning if unseen > 0 => {
            format!(
                "nothing that could be read prevents a hand-over of {subject}, but read the warnings above"
            )
        }
        _ if unseen > 0 => format!("nothing that could be read prevents a hand-over of {subject}"),
        Severity::Warning => format!("{subject} can be handed over, but read the warnings above"),
        _ => format!("{subject} can be handed over"),
    };
    let unseen = match unseen {
        0 => String::new(),
        1 => "; 1 check was not possible: see Not checked above".to_owned(),
        more => format!("; {more} checks were not possible: see Not checked above"),
    };
    let style = style(worst);
    let _ = writeln!(text, "{style}Verdict:{style:#} {said}{unseen}");
}
