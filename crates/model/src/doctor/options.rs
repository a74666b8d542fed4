//! Options on the kernel's command line that are lists: `amd_iommu=fullflush,off`.

use super::Platform;

/// One word of a list on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The whole option: `amd_iommu=fullflush,off`.
    pub option: &'a str,
    /// The word: `off`.
    pub word: &'a str,
}

impl Platform {
    /// Every word in the lists of an option, in the order in which the kernel reads them. The kernel treats `-` and `_` in
    /// an option's name alike (`parameqn` in kernel/params.c).
    pub fn listed<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Listed<'a>> {
        self.cmdline_words()
            .filter_map(move |option| {
                let (own, list) = option.split_once('=')?;
                let same = own.replace('-', "_") == name.replace('-', "_");
                same.then(|| list.split(',').map(move |word| Listed { option, word }))
            })
            .flatten()
    }
}

impl Listed<'_> {
    /// The option without its words of this kind; `None` if no word is left.
    #[must_use]
    pub fn without(&self, is: impl Fn(&str) -> bool) -> Option<String> {
        let (name, list) = self.option.split_once('=')?;
        let rest: Vec<&str> =
            list.split(',').filter(|word| !is(word) && !word.is_empty()).collect();
        (!rest.is_empty()).then(|| format!("{name}={}", rest.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_word_by_word() {
        let cmdline = Some("quiet iommu=pt,off amd-iommu=fullflush,off x=off -- iommu=on".into());
        let platform = Platform { cmdline, ..Platform::default() };
        let words = |name| platform.listed(name).map(|one| one.word).collect::<Vec<_>>();
        assert_eq!(words("iommu"), ["pt", "off"]);
        assert_eq!(words("amd_iommu"), ["fullflush", "off"]);
        assert!(words("intel_iommu").is_empty());
        let off = platform.listed("iommu").last().unwrap();
        assert_eq!(off.without(|word| word == "off").as_deref(), Some("iommu=pt"));
        assert_eq!(Listed { option: "iommu=off", word: "off" }.without(|word| word == "off"), None);
    }
}
