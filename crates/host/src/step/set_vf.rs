//! The settings of a virtual function, which its physical function keeps.

use model::{Address, HostError, Observed, VfSettings};
use rustix::io::Errno;

use crate::function_files::{DEVICES, directory};
use crate::problem;
use crate::root::Root;
use crate::rtnetlink::{self, Refused};

/// Compares the present settings with those before and after. It asks the physical function's driver.
pub fn observe(
    root: &Root,
    address: Address,
    parent: Address,
    index: u16,
    from: &VfSettings,
    to: &VfSettings,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    let now = read(root, parent, index)?;
    Ok(compare(&now, from, to))
}

/// The kernel applies the settings one by one: some may still be as before while others are as after.
fn compare(now: &VfSettings, from: &VfSettings, to: &VfSettings) -> Observed {
    if to.holds_in(now) {
        return Observed::After;
    }
    let either = VfSettings {
        mac: between(now.mac, from.mac, to.mac),
        vlan: between(now.vlan, from.vlan, to.vlan),
        qos: between(now.qos, from.qos, to.qos),
        trust: between(now.trust, from.trust, to.trust),
        spoof_check: between(now.spoof_check, from.spoof_check, to.spoof_check),
        min_rate: between(now.min_rate, from.min_rate, to.min_rate),
        max_rate: between(now.max_rate, from.max_rate, to.max_rate),
    };
    let changed = now.only(to);
    if either.only(to) == changed { Observed::Before } else { Observed::Other(changed.to_string()) }
}

/// The present value, if it is as before or as after, or not to be changed.
fn between<T: PartialEq + Copy>(now: Option<T>, from: Option<T>, to: Option<T>) -> Option<T> {
    now.filter(|_| to.is_none() || now == from || now == to)
}

/// Reads the settings of a virtual function.
pub fn read(root: &Root, parent: Address, index: u16) -> Result<VfSettings, HostError> {
    let interface = interface(root, parent)?;
    match rtnetlink::get(interface.index, index) {
        Ok(Some(settings)) => Ok(settings),
        Ok(None) => {
            let reason = format!(
                "the driver reports no virtual function {index}: it does not exist, or it belongs to another interface"
            );
            let action = format!("query virtual function {index} of");
            Err(problem::because(root, action, &interface.path, Errno::NODEV, reason))
        }
        Err(refused) => Err(failed(root, &interface, index, "query", refused)),
    }
}

/// Changes the settings of a virtual function.
pub fn set(root: &Root, parent: Address, index: u16, to: &VfSettings) -> Result<(), HostError> {
    let now = read(root, parent, index)?;
    let interface = interface(root, parent)?;
    rtnetlink::set(interface.index, index, to, &now)
        .map_err(|refused| failed(root, &interface, index, &format!("set {to} for"), refused))
}

fn failed(
    root: &Root,
    interface: &Interface,
    index: u16,
    action: &str,
    refused: Refused,
) -> HostError {
    let Refused { errno, words } = refused;
    let reason = match (words, errno) {
        (Some(words), errno) => format!("{}: {words}", problem::words(errno)),
        (None, Errno::OPNOTSUPP) => {
            format!("{}: the driver does not support this", problem::words(errno))
        }
        (None, errno) => format!("{}: the driver refused; see `dmesg`", problem::words(errno)),
    };
    let action = format!("{action} virtual function {index} of");
    problem::because(root, action, &interface.path, errno, reason)
}

/// A network interface of a physical function.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    index: u32,
    path: String,
}

/// The present interface of a physical function. Its index identifies it: its name can change at any time.
fn interface(root: &Root, parent: Address) -> Result<Interface, HostError> {
    let net = format!("{DEVICES}/{parent}/net");
    let names = match root.names(&net) {
        Ok(names) => names,
        Err(Errno::NOENT) => Vec::new(),
        Err(errno) => return Err(problem::file(root, "list", &net, errno)),
    };
    let number = |name: &str, file: &str| {
        root.attribute(&format!("{net}/{name}/{file}")).ok()?.parse::<u32>().ok()
    };
    let own = names.iter().filter(|name| !is_representor(root, &net, name));
    // The ports of a function with several are numbered.
    let first = own.min_by_key(|name| number(name, "dev_port").unwrap_or_default());
    let Some(name) = first else {
        let reason = "the physical function has no network interface here: its driver is not bound, or the \
                      interface is in another network namespace";
        return Err(problem::because(root, "find an interface in", &net, Errno::NODEV, reason));
    };
    let path = format!("{net}/{name}");
    if !root.is_host() {
        let reason = format!("{} is not the running system", root.path().display());
        return Err(problem::because(root, "query", &path, Errno::NOSYS, reason));
    }
    match number(name, "ifindex") {
        Some(index) => Ok(Interface { index, path }),
        None => {
            let reason = "the interface is gone";
            Err(problem::because(root, "read the index of", &path, Errno::NODEV, reason))
        }
    }
}

/// Whether an interface is the representor of a virtual function in `switchdev` mode, such as `pf0vf3`
/// (Documentation/networking/switchdev.rst).
fn is_representor(root: &Root, net: &str, name: &str) -> bool {
    let port = root.attribute(&format!("{net}/{name}/phys_port_name")).unwrap_or_default();
    port.contains("vf") || port.contains("sf")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PF: &str = "0000:01:00.0";

    #[test]
    fn some_of_the_settings_made_is_not_all() {
        let mac = |text: &str| Some(text.parse().unwrap());
        let from = VfSettings {
            mac: mac("00:00:00:00:00:00"),
            trust: Some(false),
            ..VfSettings::default()
        };
        let to = VfSettings {
            mac: mac("52:54:00:00:00:01"),
            trust: Some(true),
            ..VfSettings::default()
        };
        let half = VfSettings { trust: Some(false), ..to.clone() };
        assert_eq!(compare(&from, &from, &to), Observed::Before);
        assert_eq!(compare(&half, &from, &to), Observed::Before);
        assert_eq!(compare(&to, &from, &to), Observed::After);
        let other = VfSettings { mac: mac("52:54:00:00:00:02"), vlan: Some(7), ..to.clone() };
        let found = "mac 52:54:00:00:00:02 trust on".into();
        assert_eq!(compare(&other, &from, &to), Observed::Other(found));
    }

    #[test]
    fn a_priority_that_was_not_requested_is_not_compared() {
        let to = VfSettings { vlan: Some(100), ..VfSettings::default() };
        let from = VfSettings { vlan: Some(0), qos: Some(0), ..VfSettings::default() };
        let now = VfSettings { vlan: Some(100), qos: Some(3), ..VfSettings::default() };
        assert_eq!(compare(&now, &from, &to), Observed::After);
        assert_eq!(compare(&from, &from, &to), Observed::Before);
    }

    #[test]
    fn the_interface_of_the_card_itself_is_asked() {
        let place = tempfile::tempdir().unwrap();
        let net = place.path().join(DEVICES).join(PF).join("net");
        let root = Root::open(place.path()).unwrap();
        let error = interface(&root, PF.parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("has no network interface here"), "{error}");
        for (name, port, number) in
            [("enp1s0r0", "pf0vf0", "0"), ("enp1s0", "p0", "0"), ("enp1s0d1", "p1", "1")]
        {
            std::fs::create_dir_all(net.join(name)).unwrap();
            std::fs::write(net.join(name).join("phys_port_name"), port).unwrap();
            std::fs::write(net.join(name).join("dev_port"), number).unwrap();
        }
        let error = interface(&root, PF.parse().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("/net/enp1s0: ") && error.contains("not the running system"),
            "{error}"
        );
    }
}
