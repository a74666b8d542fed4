//! All remedies as one script to read, change and run.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::{Finding, Severity, Verdict};
use super::is_rebuild;
use crate::shown::is_deceptive;

const HEAD: &str = "#!/bin/sh
# Fixes what `handover doctor` found on this host. Read it before you run it. It is idempotent.
# Optional fixes are comments: uncomment those that you want, and with them the comments after the last edit (`Make the
# edits take effect`).
set -eu
if [ \"$(id -u)\" -ne 0 ]; then
    echo 'run this script as root' >&2
    exit 1
fi
trap '[ \"$?\" -eq 0 ] || echo \"this script stopped before its end: until it has run to its end, what it edited may not take effect; run it again\" >&2' EXIT
";

/// The file that exists from before the edits of a script until after its rebuilds.
pub const PENDING: &str = "/etc/handover/to-rebuild";

/// The command after the rebuilds.
pub(super) const DONE: &str = "rm -f /etc/handover/to-rebuild";

/// The commands before the edits.
const BEGIN: &str = "
# Until it is removed below, the doctor reports that a script stopped before its end.
mkdir -p /etc/handover
: > /etc/handover/to-rebuild
";

/// A POSIX shell script of all remedies. Each command appears once; commands that rebuild boot loaders and initial
/// ramdisks come after all edits. Remedies of notes are comments.
#[must_use]
pub fn script(verdict: &Verdict) -> String {
    let mut script = Script::default();
    for finding in &verdict.findings {
        script.add(finding);
    }
    script.finish()
}

#[derive(Default)]
struct Script<'a> {
    text: String,
    given: BTreeSet<&'a str>,
    offered: BTreeSet<&'a str>,
    rebuilds: Vec<&'a str>,
    optional_rebuilds: Vec<&'a str>,
    reboot: bool,
}

impl<'a> Script<'a> {
    fn add(&mut self, finding: &'a Finding) {
        let Some(remedy) = &finding.remedy else { return };
        let wanted = finding.severity >= Severity::Warning;
        let _ = writeln!(
            self.text,
            "\n# {}{}: {}",
            finding.check,
            subject(finding),
            comment(&finding.read)
        );
        let _ = writeln!(
            self.text,
            "# {}{}",
            if wanted { "" } else { "Optional: " },
            comment(&remedy.words)
        );
        if remedy.commands.is_empty() {
            self.text += "# No command can do this.\n";
        }
        self.reboot |= wanted && remedy.reboot;
        for command in remedy.commands.iter().map(String::as_str) {
            if command == DONE {
                // After all rebuilds.
            } else if is_rebuild(command) {
                let list = if wanted { &mut self.rebuilds } else { &mut self.optional_rebuilds };
                if !list.contains(&command) {
                    list.push(command);
                }
            } else if !wanted {
                // Each command once: several devices can have the same remedy.
                if !self.offered.insert(command) {
                    continue;
                }
                for line in command.lines() {
                    let _ = writeln!(self.text, "{}", format!("#   {line}").trim_end());
                }
            } else if self.given.insert(command) {
                self.text += command;
                self.text.push('\n');
            }
        }
    }

    fn finish(mut self) -> String {
        let optional = self.optional_rebuilds.iter().filter(|one| !self.rebuilds.contains(one));
        let optional: Vec<&str> = optional.copied().collect();
        if !self.rebuilds.is_empty() || !optional.is_empty() {
            self.text += "\n# Make the edits take effect.\n";
        }
        for rebuild in &self.rebuilds {
            let _ = writeln!(self.text, "{rebuild}");
        }
        let begin = if self.rebuilds.is_empty() {
            HEAD.to_owned()
        } else {
            let _ = writeln!(self.text, "{DONE}");
            format!("{HEAD}{BEGIN}")
        };
        self.text.insert_str(0, &begin);
        for line in optional.iter().flat_map(|rebuild| rebuild.lines()) {
            let _ = writeln!(self.text, "#   {line}");
        }
        self.text += if self.reboot {
            "\necho 'Done. Reboot this host for all changes to take effect.'\n"
        } else {
            "\necho 'Done. Run handover doctor to check the result.'\n"
        };
        self.text
    }
}

fn subject(finding: &Finding) -> String {
    finding.address.map(|address| format!(" ({address})")).unwrap_or_default()
}

/// Text that stays in one comment line: it can contain anything that was read from the host.
fn comment(text: &str) -> String {
    text.chars().map(|c| if is_deceptive(c) { ' ' } else { c }).collect()
}
