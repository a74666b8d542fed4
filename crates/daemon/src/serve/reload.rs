//! What is read again at SIGHUP: the token for TCP, and the devices file. What cannot be used changes nothing.

use std::path::Path;

use engine::Engine;
use engine::catalog::CatalogError;
use model::Refusal;
use tokio::signal::unix::Signal;
use tracing::{info, warn};

use super::{Options, secret};
use crate::rest::guard::Token;

/// Reads all files again at each SIGHUP.
pub async fn at_hangup(mut hangup: Signal, engine: Engine, options: Options, token: Option<Token>) {
    while hangup.recv().await.is_some() {
        let (engine, options, token) = (engine.clone(), options.clone(), token.clone());
        let read = tokio::task::spawn_blocking(move || all(&engine, &options, token.as_ref()));
        if read.await.is_err() {
            // The daemon is ending.
            return;
        }
    }
}

fn all(engine: &Engine, options: &Options, token: Option<&Token>) {
    if options.token_file.is_none() && options.devices_file.is_none() {
        info!("SIGHUP: there is no token file and no devices file to read again");
    }
    if let (Some(file), Some(token)) = (&options.token_file, token) {
        match secret::read(file) {
            Ok(new) => {
                token.replace(new);
                info!("SIGHUP: the token was read again from {}", file.display());
            }
            Err(Refusal { message, remedy, .. }) => {
                warn!("SIGHUP: the current token stays in use: {message}; {remedy}");
            }
        }
    }
    if let Some(file) = &options.devices_file {
        match devices_file(engine, file) {
            Ok(()) => info!("SIGHUP: the devices file {} was read again", file.display()),
            Err(Refusal { message, remedy, .. }) => {
                warn!("SIGHUP: the devices file as it was stays in use: {message}; {remedy}");
            }
        }
    }
}

/// Reads the devices file; requests can use its names from then on.
pub fn devices_file(engine: &Engine, file: &Path) -> Result<(), Refusal> {
    let refuse = |error: CatalogError| Refusal::from(&error);
    engine.set_catalog(engine::catalog::load(file).map_err(refuse)?);
    Ok(())
}
