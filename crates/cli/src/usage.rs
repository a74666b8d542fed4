//! Reports help, the version, and arguments that cannot be parsed.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Error, FromArgMatches as _};
use model::shown::{escaped, is_deceptive};

use crate::{Handover, habits, terminal};

/// Prints what clap says of this process's arguments, and returns the exit status.
pub fn report(error: Error) -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let status = u8::try_from(error.exit_code()).unwrap_or(2);
    let text = words(error, &arguments);
    if status == 0 {
        // A closed standard output has no reader.
        let _ = terminal::print(&text);
    } else {
        terminal::report(&text);
    }
    ExitCode::from(status)
}

/// The error's words. It repeats arguments, which may come from elsewhere: those are escaped.
fn words(error: Error, arguments: &[String]) -> String {
    let error = with_hint(error);
    if !arguments.iter().any(|word| word.chars().any(is_deceptive)) {
        return error.render().ansi().to_string();
    }
    let safe = arguments.iter().map(|word| escaped(word).into_owned());
    let again = crate::command().try_get_matches_from(safe);
    match again.and_then(|matches| Handover::from_arg_matches(&matches)) {
        Err(error) => error.render().ansi().to_string(),
        // Only the original is wrong: without styles, whatever it contains is escaped.
        Ok(_) => {
            error.render().to_string().lines().map(|line| format!("{}\n", escaped(line))).collect()
        }
    }
}

/// The error with our command for a word that is one of another tool's.
fn with_hint(mut error: Error) -> Error {
    let hint = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => habits::hint(word),
        _ => None,
    };
    if let Some(hint) = hint {
        // Words that only look alike.
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_other_tools_get_ours_as_a_hint() {
        for (arguments, ours) in [
            (&["handover", "bind", "0000:01:00.0"][..], "`handover claim ADDRESS`"),
            (&["handover", "detach"], "`handover claim ADDRESS`"),
            (&["handover", "nodedev-reattach"], "`handover release CLAIM`"),
            (&["handover", "list"], "`handover ls`"),
            (&["handover", "reset"], "`handover device reset ADDRESS`"),
            (&["handover", "set-override"], "`handover boot-list ADDRESS`"),
            (&["handover", "device", "detach"], "`handover claim ADDRESS`"),
        ] {
            let error = crate::command().try_get_matches_from(arguments).unwrap_err();
            let text = with_hint(error).render().to_string();
            assert!(text.contains("tip: ") && text.contains(ours), "{text}");
            assert!(!text.contains("similar subcommand"), "{text}");
        }
        let error = crate::command().try_get_matches_from(["handover", "clami"]).unwrap_err();
        assert!(with_hint(error).render().to_string().contains("similar subcommand"));
    }

    #[test]
    fn arguments_that_are_repeated_are_escaped() {
        let words = |arguments: &[&str]| {
            let error = crate::command().try_get_matches_from(arguments).unwrap_err();
            words(error, &arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        let text = words(&["handover", "\u{1b}[8m\u{9b}2J\nfake"]);
        assert!(text.contains("\\u001b[8m\\u009b2J\\nfake"), "{text:?}");
        assert!(!text.contains("\u{1b}[8m") && !text.contains('\u{9b}'), "{text:?}");
        // clap's own styles stay.
        let text = words(&["handover", "topo", "--type\u{1b}[2J"]);
        assert!(text.contains("\u{1b}[") && text.contains("\\u001b[2J"), "{text:?}");
    }
}
