//! Names in a request that nothing has: refused, with the nearest word that exists.

use std::collections::BTreeMap;

use model::choose::{Want, WantKind};
use model::{Address, Code, Kind, Refusal};

/// How many letters may be wrong for a hint.
const MOST_WRONG: usize = 2;

/// Refuses a request that names a device that is neither registered nor an address.
pub fn expect_known(wants: &[Want], names: &BTreeMap<String, Address>) -> Result<(), Refusal> {
    for want in wants {
        let name = match &want.kind {
            WantKind::Device(name) => Some(name),
            WantKind::Vf { of, .. } | WantKind::Profile { of, .. } => of.as_ref(),
            WantKind::Any(_) | WantKind::Mdev(_) => None,
        };
        let Some(name) = name else { continue };
        if names.contains_key(name) || name.parse::<Address>().is_ok() {
            continue;
        }
        let is_whole = matches!(want.kind, WantKind::Device(_));
        return Err(unknown(name, names, is_whole));
    }
    Ok(())
}

fn unknown(name: &str, names: &BTreeMap<String, Address>, is_whole: bool) -> Refusal {
    let listing = "`handover device list` lists registered devices, `handover ls` lists addresses";
    let kinds = Kind::ALL.iter().filter(|kind| is_whole && **kind != Kind::Bridge);
    let kinds = kinds.map(|kind| kind.as_str()).chain(is_whole.then_some("vf"));
    let words = names.keys().map(String::as_str).chain(kinds);
    let remedy = match (model::near_miss::hint(name), nearest(name, words)) {
        (Some(hint), _) => format!("{hint} {listing}"),
        (None, Some(near)) => format!("did you mean `{near}`? {listing}"),
        (None, None) => listing.to_owned(),
    };
    Refusal::new(Code::NotFound, format!("no device {name:?}"), remedy)
}

/// The word that differs least, if few letters differ.
fn nearest<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let far = |word: &str| strsim::osa_distance(&lower, &word.to_lowercase());
    let near = words.map(|word| (far(word), word)).min()?;
    // A short word resembles many others.
    let allowed = MOST_WRONG.min(name.chars().count() / 3);
    (near.0 <= allowed.max(1)).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_gets_a_hint() {
        let names = BTreeMap::from([("l40s-left".to_owned(), "0000:01:00.0".parse().unwrap())]);
        for (text, near) in [
            ("gpuu", Some("`gpu`")),
            ("GPU", Some("`gpu`")),
            ("2xgpus", Some("`gpu`")),
            ("nvem", Some("`nvme`")),
            ("l40s-lefd", Some("`l40s-left`")),
            ("vf@l40s-lft", Some("`l40s-left`")),
            ("vf@gpuu", None),
            ("10de:", None),
            ("1:0.0", Some("`0000:01:00.0`")),
            ("0:1:0.0", Some("`0000:01:00.0`")),
            ("pci_0000_01_00", Some("`0000:01:00.0`")),
            ("gpu=2", Some("`2xgpu`")),
            ("something", None),
        ] {
            let refusal = expect_known(&[text.parse().unwrap()], &names).unwrap_err();
            assert_eq!(refusal.code, Code::NotFound);
            match near {
                Some(near) => assert!(refusal.remedy.contains(near), "{text}: {refusal:?}"),
                None => assert!(!refusal.remedy.contains("mean"), "{text}: {refusal:?}"),
            }
        }
        for text in ["0000:77:00.0", "pci_0000_01_00_0", "l40s-left", "gpu", "profile=x", "vf"] {
            assert_eq!(expect_known(&[text.parse().unwrap()], &names), Ok(()), "{text}");
        }
    }
}
