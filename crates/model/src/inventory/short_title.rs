//! Shorter forms of a function's name, for tables.

use crate::Kind;

/// Words at the end of a company's name that tell nothing about the device.
const COMPANY: [&str; 12] = [
    "ag",
    "co",
    "company",
    "corp",
    "corporation",
    "gmbh",
    "inc",
    "limited",
    "llc",
    "ltd",
    "technologies",
    "technology",
];

/// Words that can follow those: `Broadcom Inc. and subsidiaries`.
const MORE: [&str; 2] = ["and", "subsidiaries"];

/// The vendor's name ends within this many words.
const VENDOR_WORDS: usize = 6;

/// Forms of a title ([`Function::title`](crate::Function::title)), from the title itself to the shortest:
/// `NVIDIA GA102 [GeForce RTX 3090]`, `NVIDIA GeForce RTX 3090`, `GeForce RTX 3090`.
///
/// `pci.ids` has the name that people know in brackets for displays, accelerators and network cards; elsewhere brackets
/// have other things.
#[must_use]
pub fn short_titles(kind: Kind, title: &str) -> Vec<String> {
    let (vendor, device) = split(title);
    let with_vendor = |name: &str| match vendor {
        "" => name.to_owned(),
        vendor if name.starts_with(vendor) => name.to_owned(),
        vendor => format!("{vendor} {name}"),
    };
    let known = matches!(kind, Kind::Gpu | Kind::Accelerator | Kind::Nic);
    let known = known.then(|| in_brackets(device)).flatten();
    let mut forms = vec![title.to_owned(), with_vendor(device)];
    match known {
        Some(known) => forms.extend([with_vendor(known), known.to_owned()]),
        None => forms.push(device.to_owned()),
    }
    forms.dedup();
    forms
}

/// The vendor's usual name, empty if it cannot be told, and the device's.
fn split(title: &str) -> (&str, &str) {
    let mut end_of_name = None;
    let mut at = 0;
    let mut rest = None;
    for (index, word) in title.split(' ').enumerate() {
        let start = at;
        at += word.len() + 1;
        let word = word.trim_end_matches([',', '.']).to_lowercase();
        let is_company = COMPANY.contains(&word.as_str());
        let goes_on = is_company || MORE.contains(&word.as_str());
        match (end_of_name, if end_of_name.is_some() { goes_on } else { is_company }) {
            (None, true) if index > 0 && index < VENDOR_WORDS => end_of_name = Some(start),
            (Some(_), false) => {
                rest = title.get(start..);
                break;
            }
            _ => {}
        }
    }
    let rest = rest.filter(|rest| !rest.trim().is_empty());
    let (Some(end), Some(rest)) = (end_of_name, rest) else { return ("", title) };
    // `Advanced Micro Devices, Inc. [AMD/ATI] Navi 21`.
    let usual = rest.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let usual = usual.filter(|(_, device)| !device.trim().is_empty());
    let long = title.get(..end).unwrap_or_default().trim_end_matches([' ', ',']);
    usual.unwrap_or((long, rest))
}

/// What a name ends with in brackets.
fn in_brackets(name: &str) -> Option<&str> {
    let (_, known) = name.strip_suffix(']')?.rsplit_once('[')?;
    (!known.trim().is_empty()).then_some(known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shortest(kind: Kind, title: &str) -> String {
        short_titles(kind, title).pop().unwrap()
    }

    #[test]
    fn a_card_has_the_name_that_people_know() {
        assert_eq!(
            short_titles(Kind::Gpu, "NVIDIA Corporation GA102 [GeForce RTX 3090]"),
            [
                "NVIDIA Corporation GA102 [GeForce RTX 3090]",
                "NVIDIA GA102 [GeForce RTX 3090]",
                "NVIDIA GeForce RTX 3090",
                "GeForce RTX 3090",
            ]
        );
        let amd = "Advanced Micro Devices, Inc. [AMD/ATI] Rage 4 [Rage 128 PRO AGP 4X]";
        let forms = short_titles(Kind::Gpu, amd);
        assert_eq!(forms[2..], ["AMD/ATI Rage 128 PRO AGP 4X", "Rage 128 PRO AGP 4X"]);
        let mellanox = "Mellanox Technologies MT28908 Family [ConnectX-6]";
        assert_eq!(shortest(Kind::Nic, mellanox), "ConnectX-6");
        let aspeed = "ASPEED Technology, Inc. ASPEED Graphics Family";
        assert_eq!(shortest(Kind::Gpu, aspeed), "ASPEED Graphics Family");
        assert_eq!(short_titles(Kind::Gpu, aspeed).len(), 2);
    }

    #[test]
    fn brackets_of_others_are_no_names() {
        let sata = "Intel Corporation 82801IR (ICH9R) 6 port SATA Controller [AHCI mode]";
        let shown = shortest(Kind::Storage, sata);
        assert_eq!(shown, "82801IR (ICH9R) 6 port SATA Controller [AHCI mode]");
        let broadcom = "Broadcom Inc. and subsidiaries BCM57414 NetXtreme-E 10Gb/25Gb";
        assert_eq!(shortest(Kind::Nic, broadcom), "BCM57414 NetXtreme-E 10Gb/25Gb");
        for whole in ["10de:2204", "", "Inc", "Corporation []", "Texas Instruments XIO3130"] {
            assert_eq!(short_titles(Kind::Gpu, whole), [whole]);
        }
    }

    proptest! {
        #[test]
        fn any_name_has_forms(title in "[A-Za-z\\[\\], .ä…]{0,40}") {
            for kind in Kind::ALL {
                let forms = short_titles(kind, &title);
                prop_assert_eq!(&forms[0], &title);
                prop_assert!(forms.iter().all(|form| form.chars().count() <= title.chars().count()));
            }
        }
    }
}
