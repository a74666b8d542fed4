//! The environment of a command, as podman makes it.

/// Where programs are searched if the image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image's variables, with `PATH`, `HOME`, `HOSTNAME` and, on a terminal, `TERM` where it has none. A later one
/// replaces an earlier one of the same name; the order is that of the first.
pub fn environment(given: &[String], home: &str, hostname: &str, terminal: bool) -> Vec<String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str, replace: bool| match variables
        .iter_mut()
        .find(|(known, _)| known == name)
    {
        Some((_, old)) if replace => value.clone_into(old),
        Some(_) => {}
        None => variables.push((name.to_owned(), value.to_owned())),
    };
    for variable in given {
        // A variable without a value is one of the host's environment, which has no place here.
        if let Some((name, value)) = variable.split_once('=') {
            set(name, value, true);
        }
    }
    set("PATH", DEFAULT_PATH, false);
    if terminal {
        set("TERM", "xterm", false);
    }
    set("HOSTNAME", hostname, false);
    set("HOME", home, false);
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The value of a variable.
pub fn value<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().find_map(|variable| {
        variable.split_once('=').filter(|(known, _)| *known == name).map(|(_, value)| value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &[&str], terminal: bool) -> Vec<String> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        environment(&given, "/home/a", "ml", terminal)
    }

    #[test]
    fn what_is_missing_is_added() {
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(made(&[], false), [path.as_str(), "HOSTNAME=ml", "HOME=/home/a"]);
        assert_eq!(
            made(&["HOME=/x", "PATH=/y", "A=1", "HOST", "A=2=3", "TERM=vt100"], true),
            ["HOME=/x", "PATH=/y", "A=2=3", "TERM=vt100", "HOSTNAME=ml"]
        );
        assert!(made(&[], true).contains(&"TERM=xterm".to_owned()));
        assert_eq!(value(&made(&["A="], false), "A"), Some(""));
    }
}
