//! Finds a function by its address, or by the beginning of it.

use model::{Address, Code, Inventory, Refusal};

use crate::filter::Pattern;

/// At most this many functions are named in an error.
const NAMED: usize = 4;

/// The one function that `text` matches.
pub fn find(inventory: &Inventory, text: &str) -> Result<Address, Refusal> {
    let Some(pattern) = Pattern::parse(text) else {
        return match Address::meant(text) {
            // An address that is not there is no suggestion.
            Some(address) if inventory.function(address).is_none() => {
                let pattern = Pattern::parse(&address.to_string());
                Err(pattern.map_or_else(
                    || model::no_such_function(address),
                    |pattern| nothing_there(inventory, text, pattern),
                ))
            }
            _ => text.parse::<Address>().map_err(Refusal::from),
        };
    };
    let functions = inventory.functions.values();
    let meant: Vec<Address> = functions
        .filter(|function| pattern.matches(function))
        .map(|function| function.address)
        .collect();
    match meant[..] {
        [only] => Ok(only),
        [] => Err(nothing_there(inventory, text, pattern)),
        _ => Err(Refusal::new(
            Code::InvalidPciAddress,
            format!("{text} is ambiguous: {}", names(&meant)),
            "use the full address",
        )),
    }
}

fn nothing_there(inventory: &Inventory, text: &str, pattern: Pattern) -> Refusal {
    let mut near: Vec<Address> = inventory.functions.keys().copied().collect();
    near.sort_by_key(|address| pattern.far(*address));
    near.truncate(NAMED);
    near.sort_unstable();
    let message = if near.is_empty() {
        format!("no PCI function at {text}: this host has none")
    } else {
        format!("no PCI function at {text}; the nearest are {}", names(&near))
    };
    let is_there = Address::meant(text).is_none_or(|address| inventory.function(address).is_some());
    let hint = model::near_miss::hint(text).filter(|_| is_there);
    let hint = hint.map(|hint| format!("{hint} ")).unwrap_or_default();
    Refusal::new(
        Code::DeviceNotFound,
        message,
        format!(
            "{hint}run `handover ls --all` to list all functions; addresses can change between boots"
        ),
    )
}

fn names(addresses: &[Address]) -> String {
    let mut names: Vec<String> = addresses.iter().take(NAMED).map(Address::to_string).collect();
    if addresses.len() > NAMED {
        names.push(format!("{} more", addresses.len() - NAMED));
    }
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_where_it_is_clear_and_near_ones_where_it_is_not_there() {
        let inventory = sim::workstation();
        let at = |text: &str| find(&inventory, text);
        assert_eq!(at("03:00.0").unwrap().to_string(), "0000:03:00.0");
        assert_eq!(at("03:").unwrap().to_string(), "0000:03:00.0");
        let error = at("01:00").unwrap_err();
        assert_eq!(error.message, "01:00 is ambiguous: 0000:01:00.0 and 0000:01:00.1");
        let error = at("0000:03:01.0").unwrap_err();
        assert_eq!(error.code, Code::DeviceNotFound);
        assert!(error.message.contains("nearest are") && error.message.contains("0000:03:00.0"));
        assert!(at("10de:").unwrap_err().remedy.contains("`handover ls 10de:`"));
        assert!(at("3:0.0").unwrap_err().remedy.contains("did you mean `0000:03:00.0`?"));
        for absent in ["0000:99:00.0", "99:00.0", "99:0.0", "99:00"] {
            let error = at(absent).unwrap_err();
            assert_eq!(error.code, Code::DeviceNotFound, "{absent}");
            assert!(!format!("{error:?}").contains("did you mean"), "{absent}: {error:?}");
        }
        assert_eq!(at("gpu").unwrap_err().code, Code::InvalidPciAddress);
        let error = find(&Inventory::default(), "03:00.0").unwrap_err();
        assert!(error.message.ends_with("this host has none"));
    }
}
