//! Which function a person means by an address, or by the beginning of one.

use model::{Address, Code, Inventory, Refusal};

use crate::filter::Pattern;

/// So many functions are named in an error.
const NAMED: usize = 4;

/// The one function that a text means.
pub fn find(inventory: &Inventory, text: &str) -> Result<Address, Refusal> {
    let Some(pattern) = Pattern::parse(text) else {
        return text.parse::<Address>().map_err(Refusal::from);
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
            format!("{text} can be {}", names(&meant)),
            "write the whole address of the one that is meant",
        )),
    }
}

fn nothing_there(inventory: &Inventory, text: &str, pattern: Pattern) -> Refusal {
    let mut near: Vec<Address> = inventory.functions.keys().copied().collect();
    near.sort_by_key(|address| pattern.far(*address));
    near.truncate(NAMED);
    near.sort_unstable();
    let message = if near.is_empty() {
        format!("there is no PCI function at {text}, nor anywhere on this host")
    } else {
        format!("there is no PCI function at {text}; the nearest are {}", names(&near))
    };
    Refusal::new(
        Code::DeviceNotFound,
        message,
        "`handover ls --all` shows what this host has; addresses can change between boots",
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
        assert_eq!(error.message, "01:00 can be 0000:01:00.0 and 0000:01:00.1");
        let error = at("0000:03:01.0").unwrap_err();
        assert_eq!(error.code, Code::DeviceNotFound);
        assert!(error.message.contains("nearest are") && error.message.contains("0000:03:00.0"));
        assert_eq!(at("gpu").unwrap_err().code, Code::InvalidPciAddress);
        let error = find(&Inventory::default(), "03:00.0").unwrap_err();
        assert!(error.message.ends_with("nor anywhere on this host"));
    }
}
