//! The obstacles of a listing, as numbered footnotes.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::{Address, Code, Refusal};

use super::rows::Row;
use crate::terminal::several_lines;
use crate::wrap::paragraph;

/// What stands for the address of each device of a footnote that several have.
const ADDRESS: &str = "ADDRESS";

/// The indent of what belongs to a footnote.
const INDENT: usize = 4;

/// A footnote for each reason: obstacles of several devices that differ only in the device's address are one.
#[derive(Default)]
pub struct Footnotes<'a> {
    numbers: HashMap<Reason, usize>,
    in_order: Vec<Footnote<'a>>,
}

/// A reason, with a placeholder for the address of the device that has it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reason {
    code: Code,
    message: String,
    remedy: String,
}

struct Footnote<'a> {
    first: &'a Refusal,
    reason: Reason,
    devices: BTreeSet<Address>,
}

impl<'a> Footnotes<'a> {
    /// The mark of an obstacle of a row: ` [1]`.
    pub fn mark(&mut self, row: &Row<'_>, refusal: &'a Refusal) -> String {
        let subject = std::iter::once(row.address)
            .chain(row.members.iter().map(|member| member.address))
            .find(|address| without(&refusal.message, *address) != refusal.message);
        let plain = |text: &str| subject.map_or_else(|| text.to_owned(), |one| without(text, one));
        let reason = Reason {
            code: refusal.code,
            message: plain(&refusal.message),
            remedy: plain(&refusal.remedy),
        };
        let next = self.in_order.len() + 1;
        let number = *self.numbers.entry(reason.clone()).or_insert(next);
        if number == next {
            self.in_order.push(Footnote { first: refusal, reason, devices: BTreeSet::new() });
        }
        if let Some(footnote) = self.in_order.get_mut(number - 1) {
            footnote.devices.extend(subject);
        }
        format!(" [{number}]")
    }

    /// Writes the footnotes in lines of at most `width`, apart from longer words.
    pub fn write(&self, text: &mut String, width: Option<usize>) {
        let (bold, red) = (Style::new().bold(), Style::new().fg_color(Some(AnsiColor::Red.into())));
        for (index, footnote) in self.in_order.iter().enumerate() {
            let number = format!("[{}]", index + 1);
            let Footnote { first, reason, devices } = footnote;
            let (message, remedy) = match devices.len() {
                0 | 1 => (&first.message, &first.remedy),
                _ => (&reason.message, &reason.remedy),
            };
            let message = format!("{} ({})", several_lines(message), reason.code);
            let message = paragraph(&message, number.len() + 1, INDENT, width);
            let _ = write!(text, "\n{red}{number}{red:#} {message}\n");
            if devices.len() > 1 {
                let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
                let devices = format!("{ADDRESS}: {}", devices.join(", "));
                let _ = writeln!(text, "    {}", paragraph(&devices, INDENT, INDENT, width));
            }
            let label = "what to do:";
            let remedy = several_lines(remedy);
            let remedy = paragraph(&remedy, INDENT + label.len() + 1, INDENT, width);
            let _ = writeln!(text, "    {bold}{label}{bold:#} {remedy}");
        }
    }
}

/// The text with a placeholder for an address; `10000:01:00.0` does not contain `0000:01:00.0`.
fn without(text: &str, address: Address) -> String {
    let address = address.to_string();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(&address) {
        let digit = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_hexdigit());
        let whole = !digit(before.chars().next_back()) && !digit(after.chars().next());
        out.push_str(before);
        out.push_str(if whole { ADDRESS } else { &address });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_address_is_replaced() {
        let address: Address = "0000:01:00.0".parse().unwrap();
        assert_eq!(without("0000:01:00.0 and 10000:01:00.0", address), "ADDRESS and 10000:01:00.0");
        assert_eq!(without("echo 1 > /sys/0000:01:00.0/x", address), "echo 1 > /sys/ADDRESS/x");
        assert_eq!(without("0000:01:00.1", address), "0000:01:00.1");
    }
}
