//! Where a copy goes, by the rules of `docker cp`: into a directory that is there under its own name, else with the name that was given.

use std::ffi::OsString;
use std::path::Path;

use api::PathInfo;
use model::Refusal;

use super::Place;
use crate::refusals::invalid;

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its own name; empty for the root directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether only what is in the directory is copied: the path ends with `/.`.
    pub only_contents: bool,
}

impl Source {
    /// What the path of a source says of it.
    #[must_use]
    pub fn of(path: &str, is_dir: bool) -> Self {
        let own = path.trim_end_matches('/');
        let only_contents = own == "." || own.ends_with("/.");
        let name = own.trim_end_matches("/.").rsplit('/').next().unwrap_or_default();
        let name = if matches!(name, "." | "..") { "" } else { name };
        Self { name: name.to_owned(), is_dir, only_contents: only_contents && is_dir }
    }

    /// Whether it goes below a directory under its own name.
    fn has_name(&self) -> bool {
        !self.only_contents && !self.name.is_empty()
    }
}

/// The path in the guest to which a source of this host is copied, and whether the guest has that directory already, so that
/// its permissions stay.
///
/// # Errors
/// `invalid_request`: a directory cannot become a file, or the directory is missing.
pub fn into_guest(
    source: &Source,
    path: &str,
    there: &PathInfo,
) -> Result<(String, bool), Refusal> {
    if let Some(error) = &there.error {
        return Err(invalid(
            format!("the guest cannot look at {path:?}: {error}"),
            "use another path",
        ));
    }
    if there.is_dir {
        return Ok(match source.has_name() {
            true => (format!("{}/{}", path.trim_end_matches('/'), source.name), false),
            false => (path.to_owned(), true),
        });
    }
    refuse(source, path, there.exists, "the guest")?;
    Ok((path.to_owned(), false))
}

/// The place on this host to which a source in the guest is copied.
///
/// # Errors
/// As [`into_guest`].
pub fn from_guest(source: &Source, path: &Path) -> Result<Place, Refusal> {
    if path.is_dir() {
        return Ok(match source.has_name() {
            true => Place::Below { dir: path.to_owned(), name: OsString::from(&source.name) },
            false => Place::Into(path.to_owned()),
        });
    }
    let shown = path.to_string_lossy();
    // A copy takes the place of what is there: of a file only.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return Err(invalid(
            format!("{shown:?} is a device, pipe or socket"),
            "give the path of a file; `-` is standard output, as a tar archive",
        ));
    }
    refuse(source, &shown, path.exists(), "this host")?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let dir = parent.unwrap_or_else(|| Path::new(".")).to_owned();
    match path.file_name() {
        Some(name) => Ok(Place::Below { dir, name: name.to_owned() }),
        None => Err(invalid(format!("{shown:?} is no name for a file"), "give the copy a name")),
    }
}

fn refuse(source: &Source, path: &str, exists: bool, side: &str) -> Result<(), Refusal> {
    if source.is_dir && exists {
        return Err(invalid(
            format!("a directory cannot be copied to {path:?}, which is a file"),
            "give the path of a directory, or one where nothing is",
        ));
    }
    if !source.is_dir && !exists && path.ends_with('/') {
        return Err(invalid(
            format!("{side} has no directory {path:?}"),
            "make it, or write the path without `/` at its end",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(is_dir: bool, is_file: bool) -> PathInfo {
        PathInfo { exists: is_dir || is_file, is_dir, is_file, ..PathInfo::default() }
    }

    #[test]
    fn a_source_is_named_by_its_path() {
        for (path, name, contents) in [
            ("/a/b", "b", false),
            ("a/b/", "b", false),
            ("a/b/.", "b", true),
            ("/", "", false),
            (".", "", true),
            ("..", "", false),
            ("/.", "", true),
        ] {
            let source = Source::of(path, true);
            assert_eq!((source.name.as_str(), source.only_contents), (name, contents), "{path}");
        }
        assert!(!Source::of("a/.", false).only_contents);
    }

    #[test]
    fn a_copy_goes_where_docker_puts_it() {
        let (file, dir) = (Source::of("/x/f", false), Source::of("/x/d", true));
        let contents = Source::of("/x/d/.", true);
        let (no, is_dir, is_file) = (there(false, false), there(true, false), there(false, true));
        let to = |source, path, there| into_guest(source, path, there).ok();
        let at = |path: &str, stays| Some((path.to_owned(), stays));
        assert_eq!(to(&file, "/a", &no), at("/a", false));
        assert_eq!(to(&file, "/a/", &no), None);
        assert_eq!(to(&file, "/a", &is_file), at("/a", false));
        assert_eq!(to(&file, "/a/", &is_dir), at("/a/f", false));
        assert_eq!(to(&dir, "/a", &no), at("/a", false));
        assert_eq!(to(&dir, "/a", &is_file), None);
        assert_eq!(to(&dir, "/", &is_dir), at("/d", false));
        assert_eq!(to(&contents, "/a", &is_dir), at("/a", true));
        let here = tempfile::tempdir().unwrap();
        let missing = here.path().join("new");
        let place = |name: &str| Place::Below { dir: here.path().into(), name: name.into() };
        assert_eq!(from_guest(&dir, here.path()).unwrap(), place("d"));
        assert_eq!(from_guest(&contents, here.path()).unwrap(), Place::Into(here.path().into()));
        assert_eq!(from_guest(&file, &missing).unwrap(), place("new"));
        assert!(from_guest(&file, &here.path().join("new/")).is_err());
        assert!(from_guest(&file, Path::new("/dev/null")).is_err(), "it would be replaced");
    }
}
