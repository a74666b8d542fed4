//! `handover cdi list` and `clean`: the files that Handover wrote.

use std::path::PathBuf;

use convert::cdi::CLAIM;
use daemon::cdi::{File, Folder};
use model::Refusal;
use serde::Serialize;

use crate::door::Door;
use crate::failure::{Done, Failure};
use crate::output;
use crate::table::Table;

/// One of our files.
#[derive(Debug, Serialize)]
struct Listed {
    path: PathBuf,
    names: Vec<String>,
    nodes: Vec<String>,
    /// The nodes that are not on this host: a container would not start.
    missing: Vec<String>,
    /// Why the file cannot be used.
    problem: Option<String>,
}

impl Listed {
    fn of(file: File) -> Self {
        let File { path, spec } = file;
        match spec {
            Ok(spec) => Self {
                names: spec.names().collect(),
                nodes: spec.paths().map(str::to_owned).collect(),
                missing: super::missing(spec.paths()),
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

    fn state(&self) -> String {
        match (&self.problem, self.missing.as_slice()) {
            (Some(problem), _) => problem.clone(),
            (None, []) => "usable".to_owned(),
            (None, [one]) => format!("no {one}"),
            (None, [first, rest @ ..]) => format!("no {first} and {} more", rest.len()),
        }
    }
}

/// Lists them.
pub fn list(door: &Door) -> Done {
    let files = ours(door).map_err(Failure::to("list the specifications"))?;
    let all: Vec<Listed> = files.into_iter().map(Listed::of).collect();
    if door.connection.json() {
        return output::json(&all);
    }
    let mut table = Table::new(&["NAME", "STATE", "FILE"]);
    for one in &all {
        table.row([one.names.join(" "), one.state(), one.path.display().to_string()]);
    }
    output::line(table.render().trim_end())
}

/// Removes those that are of no use, or all.
pub fn clean(door: &Door, all: bool) -> Done {
    let removed = remove(door, all).map_err(Failure::to("remove specifications"))?;
    if door.connection.json() {
        return output::json(&removed);
    }
    removed.iter().try_for_each(|path| output::line(&format!("removed {}", path.display())))
}

fn ours(door: &Door) -> Result<Vec<File>, Refusal> {
    let mut files = Vec::new();
    for folder in super::folders(&door.cdi_dir) {
        files.extend(folder.ours()?);
    }
    Ok(files)
}

fn remove(door: &Door, all: bool) -> Result<Vec<PathBuf>, Refusal> {
    let files = ours(door)?;
    let mut paths: Vec<PathBuf> =
        if all { files.into_iter().map(|file| file.path).collect() } else { useless(door, files)? };
    if all {
        for folder in super::folders(&door.cdi_dir) {
            paths.extend(folder.unfinished()?);
        }
    }
    paths.iter().try_for_each(|path| Folder::remove(path))?;
    Ok(paths)
}

/// The files of claims that are not prepared, and those of devices whose nodes are gone.
fn useless(door: &Door, files: Vec<File>) -> Result<Vec<PathBuf>, Refusal> {
    let is_claim = |file: &File| file.spec.as_ref().is_ok_and(|spec| spec.kind == CLAIM);
    // Only where there is something to ask for: it needs the daemon, or root.
    let claims = if files.iter().any(is_claim) { super::claims(door)? } else { Vec::new() };
    let names: Vec<String> = claims
        .iter()
        .filter_map(daemon::cdi::spec)
        .flat_map(|spec| spec.names().collect::<Vec<_>>())
        .collect();
    let useless = files.into_iter().filter(|file| match &file.spec {
        Ok(spec) if spec.kind == CLAIM => spec.names().any(|name| !names.contains(&name)),
        Ok(spec) => !super::missing(spec.paths()).is_empty(),
        // What cannot be read may be somebody's work: only --all removes it.
        Err(_) => false,
    });
    Ok(useless.map(|file| file.path).collect())
}
