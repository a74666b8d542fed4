//! CDI specs that Handover wrote: lists them, checks whether they are usable, and removes stale ones.

use std::path::{Path, PathBuf};

use convert::cdi::CLAIM;
use model::Refusal;
use serde::Serialize;

use super::folder::{File, Folder, STATIC, USUAL};
use super::spec::spec;

/// A spec file of Handover.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its path.
    pub path: PathBuf,
    /// The CDI names of its devices.
    pub names: Vec<String>,
    /// The device nodes that it adds to a container.
    pub nodes: Vec<String>,
    /// The nodes that do not exist on this host: a container would not start.
    pub missing: Vec<String>,
    /// Why the file is unusable.
    pub problem: Option<String>,
}

impl Listed {
    fn of(file: File) -> Self {
        let File { path, spec } = file;
        match spec {
            Ok(spec) => Self {
                names: spec.names().collect(),
                nodes: spec.paths().map(str::to_owned).collect(),
                missing: missing(spec.paths()),
                problem: None,
                path,
            },
            Err(problem) => Self {
                path,
                names: Vec::new(),
                nodes: Vec::new(),
                missing: Vec::new(),
                problem: Some(problem),
            },
        }
    }

    /// `usable`, or why it is not.
    #[must_use]
    pub fn state(&self) -> String {
        match (&self.problem, self.missing.as_slice()) {
            (Some(problem), _) => problem.clone(),
            (None, []) => "usable".to_owned(),
            (None, [one]) => format!("no {one}"),
            (None, [first, rest @ ..]) => format!("no {first} and {} more", rest.len()),
        }
    }
}

/// Handover's spec files: in the default directories, or in another directory.
///
/// # Errors
/// A directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Listed>, Refusal> {
    Ok(ours(dir)?.into_iter().map(Listed::of).collect())
}

/// The CDI names in Handover's spec files.
///
/// # Errors
/// A directory cannot be read.
pub fn names(dir: &Path) -> Result<Vec<String>, Refusal> {
    let specs = ours(dir)?.into_iter().filter_map(|file| file.spec.ok());
    Ok(specs.flat_map(|spec| spec.names().collect::<Vec<_>>()).collect())
}

/// Removes stale spec files, or all, and returns their paths. `claims` is called only if there are specs of claims: it
/// needs the daemon, or root.
///
/// # Errors
/// The claims or a directory cannot be read, or a file cannot be removed.
pub fn clean(
    dir: &Path,
    all: bool,
    claims: impl FnOnce() -> Result<Vec<api::Claim>, Refusal>,
) -> Result<Vec<PathBuf>, Refusal> {
    let files = ours(dir)?;
    let mut paths: Vec<PathBuf> = if all {
        files.into_iter().map(|file| file.path).collect()
    } else {
        useless(files, claims)?
    };
    if all {
        for folder in folders(dir) {
            paths.extend(folder.unfinished()?);
        }
    }
    paths.iter().try_for_each(|path| Folder::remove(path))?;
    Ok(paths)
}

/// The paths that do not exist on this host.
pub fn missing<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    paths.filter(|path| !Path::new(path).exists()).map(str::to_owned).collect()
}

/// The directories to search: the default ones, or the one of an option.
fn folders(dir: &Path) -> Vec<Folder> {
    let mut all: Vec<Folder> = Folder::from_option(dir).into_iter().collect();
    if dir == Path::new(USUAL) {
        all.push(Folder::new(STATIC));
    }
    all
}

fn ours(dir: &Path) -> Result<Vec<File>, Refusal> {
    let mut files = Vec::new();
    for folder in folders(dir) {
        files.extend(folder.ours()?);
    }
    Ok(files)
}

/// The specs of claims that are not prepared, and of devices whose nodes are gone.
fn useless(
    files: Vec<File>,
    claims: impl FnOnce() -> Result<Vec<api::Claim>, Refusal>,
) -> Result<Vec<PathBuf>, Refusal> {
    let is_claim = |file: &File| file.spec.as_ref().is_ok_and(|spec| spec.kind == CLAIM);
    let claims = if files.iter().any(is_claim) { claims()? } else { Vec::new() };
    let names: Vec<String> =
        claims.iter().filter_map(spec).flat_map(|spec| spec.names().collect::<Vec<_>>()).collect();
    let useless = files.into_iter().filter(|file| match &file.spec {
        Ok(spec) if spec.kind == CLAIM => spec.names().any(|name| !names.contains(&name)),
        Ok(spec) => !missing(spec.paths()).is_empty(),
        // An unreadable file may be another tool's: only --all removes it.
        Err(_) => false,
    });
    Ok(useless.map(|file| file.path).collect())
}
