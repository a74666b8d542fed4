//! What `modprobe.d` says: `blacklist` and `options`. Its commands (`install`, `remove`) are not run.

use std::collections::{BTreeMap, BTreeSet};

use crate::normal;

/// Modules that no device loads by itself, and parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    blacklist: BTreeSet<String>,
    options: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// Adds a file's lines.
    pub fn read(&mut self, text: &str) {
        // A line goes on after a backslash.
        let text = text.replace("\\\n", " ");
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match (words.next().as_deref(), words.next()) {
                (Some("blacklist"), Some(module)) => {
                    self.blacklist.insert(normal(&module));
                }
                (Some("options"), Some(module)) => {
                    self.options.entry(normal(&module)).or_default().extend(words);
                }
                _ => {}
            }
        }
    }

    /// Whether a device may not load it.
    #[must_use]
    pub fn is_blacklisted(&self, module: &str) -> bool {
        self.blacklist.contains(&normal(module))
    }

    /// Its parameters, as the kernel takes them.
    #[must_use]
    pub fn options(&self, module: &str) -> String {
        self.options.get(&normal(module)).map(|words| words.join(" ")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_modprobe_d_are_read() {
        let mut settings = Settings::default();
        settings.read("# nouveau\nblacklist nouveau\nblacklist\ninstall x /bin/false\n");
        settings.read("options nvidia-drm modeset=1 \\\n  fbdev=1\noptions nvidia_drm a=2\n");
        assert!(settings.is_blacklisted("nouveau") && !settings.is_blacklisted("x"));
        assert_eq!(settings.options("nvidia_drm"), "modeset=1 fbdev=1 a=2");
        assert_eq!(settings.options("nouveau"), "");
    }
}
