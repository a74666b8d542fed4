//! Images from registries, by the protocol of OCI (distribution-spec) over HTTP.
//!
//! The crate `oci-client` is not used: it reads manifests of any length into memory, and panics on a token that is no header
//! (0.18.0, `pull_manifest_raw` and `apply_auth`). A registry is untrusted: all that is read of it is bounded, in time too.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use oci_spec::distribution::Reference;

use super::blobs::{Blobs, NewBlob, Wanted};
use super::local::verify;
use super::manifest::{self, Manifest, Parts};
use super::registries::Transport;
use super::registry_client::{Client, Failure};
use super::{ContainerError, Progress, PullOptions, Resolved, registries};
use crate::layers::digest;
use crate::{Cancel, ImageError};

/// How many layers are fetched at the same time.
const AT_ONCE: usize = 3;

/// How often a blob is asked for again after hardly anything more was received.
const TRIES: u32 = 3;

/// How many bytes more are worth another try.
const WORTH: u64 = 1 << 20;

/// How often it is checked whether the work was cancelled.
const TICK: Duration = Duration::from_millis(100);

/// Finds an image in its registry, and stores all of its blobs.
pub fn fetch(
    reference: &Reference,
    options: &PullOptions,
    blobs: &Blobs,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Resolved, ImageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ImageError::io("start", "the client", error))?;
    let places = registries::places(reference, options)?;
    let from_any = async {
        let mut failures = Vec::new();
        let mut answers = false;
        for place in &places {
            // One that answers by TLS is not asked without it.
            if place.transport == Transport::Plain && answers {
                continue;
            }
            progress.restart();
            let client = Client::new(place, options)?;
            let pull = Pull { client, reference, blobs, progress };
            match pull.all().await {
                // Another place may do better.
                Err(ImageError::Container(error)) => {
                    answers = !matches!(
                        *error,
                        ContainerError::Unreachable { .. } | ContainerError::Stalled { .. }
                    );
                    failures.push(*error);
                }
                ended => return ended,
            }
        }
        let only = if failures.len() == 1 { failures.pop() } else { None };
        Err(only.unwrap_or(ContainerError::Nowhere { failures }).into())
    };
    runtime.block_on(async {
        tokio::select! {
            pulled = from_any => pulled,
            () = cancelled(cancel) => Err(ImageError::Cancelled),
        }
    })
}

async fn cancelled(cancel: &Cancel) {
    while !cancel.is_set() {
        tokio::time::sleep(TICK).await;
    }
}

struct Pull<'a> {
    client: Client,
    reference: &'a Reference,
    blobs: &'a Blobs,
    progress: &'a Progress,
}

impl Pull<'_> {
    async fn all(&self) -> Result<Resolved, ImageError> {
        let architecture = manifest::architecture();
        let (bytes, parts) = self.manifest(architecture).await?;
        let config = self.config(&parts).await?;
        let resolved = Resolved::new(self.blobs, bytes, config, parts, architecture)?;
        // A layer can be in an image twice.
        let layers: BTreeMap<_, _> =
            resolved.parts.layers.iter().map(|layer| (&layer.digest, layer)).collect();
        self.progress.expect(manifest::total(layers.values().copied()));
        futures_util::stream::iter(layers.into_values().map(|layer| self.layer(layer)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(resolved)
    }

    /// The manifest for this platform.
    async fn manifest(&self, architecture: &str) -> Result<(Vec<u8>, Parts), ImageError> {
        let tag = self.reference.tag().unwrap_or("latest");
        let first = self.reference.digest().unwrap_or(tag);
        let place = self.client.registry();
        let bytes = self.client.manifest(first).await?;
        if let Some(expected) = self.reference.digest() {
            super::blobs::hex(expected)?;
            let wanted = Wanted { digest: expected.to_owned(), size: bytes.len() as u64 };
            verify(&bytes, &wanted, place)?;
        }
        match manifest::manifest(&bytes)? {
            Manifest::Image(parts) => Ok((bytes, parts)),
            Manifest::Index(index) => {
                let wanted = manifest::wanted(manifest::choose(&index, architecture)?)?;
                let bytes = self.client.manifest(&wanted.digest).await?;
                verify(&bytes, &wanted, place)?;
                match manifest::manifest(&bytes)? {
                    Manifest::Image(parts) => Ok((bytes, parts)),
                    Manifest::Index(_) => Err(manifest::refused(
                        "index",
                        "it has an index in place of an image".to_owned(),
                    )
                    .into()),
                }
            }
        }
    }

    async fn config(&self, parts: &Parts) -> Result<Vec<u8>, ImageError> {
        let wanted = &parts.config;
        if let Some(bytes) = self.blobs.read(&wanted.digest, manifest::MOST_BYTES)?
            && digest(&bytes) == wanted.digest
        {
            return Ok(bytes);
        }
        let response = self.client.blob(&wanted.digest, 0).await?;
        let bytes = self.client.small(response).await?;
        verify(&bytes, wanted, self.client.registry())?;
        Ok(bytes)
    }

    async fn layer(&self, wanted: &Wanted) -> Result<(), ImageError> {
        if self.blobs.has(&wanted.digest, wanted.size)? {
            self.progress.add(wanted.size);
            return Ok(());
        }
        let mut blob = self.blobs.begin(wanted.size)?;
        let mut tries = 0;
        while blob.length() < wanted.size {
            let before = blob.length();
            let failed = match self.part(wanted, &mut blob).await {
                Ok(()) => None,
                Err(Failure::Cut(error)) => Some(error),
                Err(Failure::Final(error)) => return Err(error),
            };
            tries = if blob.length() >= before.saturating_add(WORTH) { 0 } else { tries + 1 };
            if tries >= TRIES && blob.length() < wanted.size {
                let expected = wanted.digest.clone();
                let place = self.client.registry().to_owned();
                return Err(failed.unwrap_or(ContainerError::WrongSize { place, expected }).into());
            }
        }
        self.blobs.finish(blob, wanted, self.client.registry())
    }

    /// Receives the rest of a blob, up to the next cut.
    async fn part(&self, wanted: &Wanted, blob: &mut NewBlob) -> Result<(), Failure> {
        let at = blob.length();
        let response = self.client.blob(&wanted.digest, at).await?;
        if at > 0 && response.status() != reqwest::StatusCode::PARTIAL_CONTENT {
            blob.restart()?;
        }
        let place = self.client.registry();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| Failure::Cut(self.client.explain(&error)))?;
            blob.append(&chunk, place)?;
            self.progress.add(chunk.len() as u64);
        }
        Ok(())
    }
}
