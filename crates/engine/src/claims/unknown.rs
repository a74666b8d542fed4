//! Names in a request that nothing has: refused, with the nearest word that exists.

use std::collections::BTreeMap;

use model::catalog::Catalog;
use model::choose::{Want, WantKind};
use model::{Address, Code, Kind, Refusal};

/// How many letters may be wrong for a hint.
const MOST_WRONG: usize = 2;

/// Refuses a request that names a device that is neither registered nor an address, or a resource that the devices file does not
/// have.
pub fn expect_known(
    wants: &[Want],
    names: &BTreeMap<String, Address>,
    catalog: &Catalog,
) -> Result<(), Refusal> {
    for want in wants {
        if let WantKind::Any(filter) = &want.kind
            && let Some(resource) = &filter.resource
            && !catalog.names().any(|name| name == *resource)
        {
            return Err(no_resource(resource, catalog));
        }
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

fn no_resource(name: &str, catalog: &Catalog) -> Refusal {
    let all: Vec<String> = catalog.names().collect();
    let remedy = match nearest(name, all.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if catalog.lines.is_empty() => {
            "start the daemon with a devices file that has it: `handover serve --resource-manager-pci-devices-file FILE` \
             (docs/catalog.md)"
                .to_owned()
        }
        None => "`handover resources` lists those of the devices file".to_owned(),
    };
    Refusal::new(Code::NotFound, format!("no resource {name:?}"), remedy)
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
            ("nvidia.com/gpus", Some("`nvidia.com/gpu`")),
            ("gpu.nvidia/a100", None),
        ] {
            let none = Catalog::default();
            let refusal = expect_known(&[text.parse().unwrap()], &names, &none).unwrap_err();
            assert_eq!(refusal.code, Code::NotFound);
            match near {
                Some(near) => assert!(refusal.remedy.contains(near), "{text}: {refusal:?}"),
                None => assert!(!refusal.remedy.contains("mean"), "{text}: {refusal:?}"),
            }
        }
        for text in [
            "0000:77:00.0",
            "pci_0000_01_00_0",
            "l40s-left",
            "gpu",
            "profile=x",
            "vf",
            "nvidia.com/gpu",
        ] {
            let none = Catalog::default();
            assert_eq!(expect_known(&[text.parse().unwrap()], &names, &none), Ok(()), "{text}");
        }
    }
}
