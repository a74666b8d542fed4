//! Texts that are nearly an address or a request: what was probably meant.

use crate::{Address, Id, Kind};

/// A hint for a text that is neither an address nor a name; `None` if it resembles none of the known mistakes.
#[must_use]
pub fn hint(text: &str) -> Option<String> {
    if let Some(address) = Address::meant(text) {
        return Some(format!("did you mean `{address}`?"));
    }
    if let Some(vendor) = vendor(text) {
        return Some(format!(
            "`{vendor}:` is a vendor without a device: `handover ls {vendor}:` lists its devices; request one by both ids, such \
             as `{vendor}:20b0`."
        ));
    }
    if let Some(several) = several(text) {
        return Some(several);
    }
    let (kind, count) = text.split_once('=')?;
    let kind: Kind = kind.parse().ok()?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    Some(format!("did you mean `{count}x{kind}`?"))
}

/// Several wishes in one text: `gpu+nic`.
fn several(text: &str) -> Option<String> {
    let wishes: Vec<&str> = text.split(['+', ',', '&']).map(str::trim).collect();
    let is_wish = |one: &&str| {
        let what = one.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let kind = what.strip_prefix('x').filter(|_| what.len() < one.len()).unwrap_or(one);
        kind.parse::<Kind>().is_ok() || one.parse::<Address>().is_ok()
    };
    (wishes.len() > 1 && wishes.iter().all(is_wish))
        .then(|| format!("separate wishes by spaces: `{}`.", wishes.join(" ")))
}

/// The vendor of `10de:`.
fn vendor(text: &str) -> Option<Id> {
    text.strip_suffix(':').filter(|digits| digits.len() == 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_near_miss_has_its_hint() {
        for (text, meant) in [
            ("1:0.0", "`0000:01:00.0`"),
            ("01:0.0", "`0000:01:00.0`"),
            ("0:1:0.0", "`0000:01:00.0`"),
            ("01:00", "`0000:01:00.0`"),
            ("0000:01:00", "`0000:01:00.0`"),
            ("pci_0000_01_00", "`0000:01:00.0`"),
            ("pci_10000_e1_00", "`10000:e1:00.0`"),
            ("gpu=2", "`2xgpu`"),
            ("10de:", "`handover ls 10de:`"),
            ("gpu+nic", "`gpu nic`"),
            ("2xgpu+0000:01:00.0", "`2xgpu 0000:01:00.0`"),
        ] {
            let hint = hint(text).unwrap();
            assert!(hint.contains(meant), "{text}: {hint}");
        }
        for text in [
            "",
            "gpu",
            "gpu+",
            "gpu+toaster",
            "gpu=0",
            "gpu=x",
            "toaster=2",
            "01:",
            "01:20.0",
            "a:b:c:d",
            "10de:20b0",
        ] {
            assert_eq!(hint(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,24}", hexish in "[0-9a-f:._=+]{0,16}") {
            let _ = (hint(&text), hint(&hexish));
        }
    }
}
