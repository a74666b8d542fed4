//! The memory of instances.

use model::{HugePagesUse, Refusal};

use crate::refusals::invalid;

/// The use of huge pages that the field `hugepages` asks for.
pub fn huge_pages(word: &str) -> Result<HugePagesUse, Refusal> {
    let known = HugePagesUse::ALL.into_iter().find(|one| one.as_str() == word);
    known.ok_or_else(|| {
        let words = HugePagesUse::ALL.map(HugePagesUse::as_str).join(", ");
        invalid(format!("unknown use of huge pages {word:?}"), format!("use one of {words}"))
    })
}

/// The word for it; `None` if there is none.
pub fn shown(used: HugePagesUse) -> Option<String> {
    (used != HugePagesUse::Never).then(|| used.as_str().to_owned())
}
