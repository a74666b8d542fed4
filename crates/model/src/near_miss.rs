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
    let (kind, count) = text.split_once('=')?;
    let kind: Kind = kind.parse().ok()?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    Some(format!("did you mean `{count}x{kind}`?"))
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
        ] {
            let hint = hint(text).unwrap();
            assert!(hint.contains(meant), "{text}: {hint}");
        }
        for text in
            ["", "gpu", "gpu=0", "gpu=x", "toaster=2", "01:", "01:20.0", "a:b:c:d", "10de:20b0"]
        {
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
