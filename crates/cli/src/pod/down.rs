//! `handover pod --down`: releases what was claimed for a pod.

use std::path::PathBuf;

use service::pods;

use super::devices::Printed;
use super::{files, say};
use crate::backend::Backend;
use crate::failure::{Done, Failure};

/// Releases the claims of a pod's name, or of the machines in a file.
pub fn release(backend: &Backend, what: &str) -> Done {
    let file = PathBuf::from(what);
    let names = if file.is_file() {
        let (machines, _) = pods::apart(files::read(Some(&file), false)?);
        let name = |document: &convert::input::Document| {
            let namespace = document.namespace().to_owned();
            (namespace, document.name().to_owned())
        };
        machines.iter().map(name).collect()
    } else {
        let (namespace, name) = what.split_once('/').unwrap_or(("default", what));
        // The pod's name is accepted for its machine's.
        let name = name.strip_prefix("virt-launcher-").unwrap_or(name);
        vec![(namespace.to_owned(), name.to_owned())]
    };
    for (namespace, name) in names {
        let owner = pods::owner(&namespace, &name);
        pods::release(&owner, backend, &Printed)
            .map_err(Failure::to(format!("release the claims of {owner}")))?;
        say(&format!("released the claims of {owner}"));
    }
    Ok(())
}
