//! Getting a container image again, whose name may mean another one by now.
//!
//! The pull has a name of its own until it is complete, so that the image can be used meanwhile, and stays if the pull fails. Then it
//! takes over the name. Machines of the earlier image keep that, under its name with its digest.

use model::{Code, Refusal};
use uuid::Uuid;

use super::Images;
use crate::lock::lock;
use crate::store::{Durability, StoredImage, StoredInstance};
use crate::{Image, ImageStatus, PullImage};

/// Between a name and the id of its pull.
const PULL: &str = "@pull-";
/// The longest name of an image, in characters.
const LONGEST: usize = 255;
/// How much of a digest is in the name of an earlier image, with its algorithm.
const DIGEST: usize = "sha256:".len() + 12;

impl Images {
    /// Gets a container image again in the background. Returns the pull, whose name disappears when it has succeeded.
    ///
    /// # Errors
    /// `invalid_request` for the name of another image; those of [`pull`](Self::pull).
    pub fn pull_again(&self, request: PullImage) -> Result<Image, Refusal> {
        let name = request.name.clone();
        let Some(there) = self.store.read(|from| StoredImage::by_name(from, &name))? else {
            return self.pull(request);
        };
        if there.image.container.is_none() {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("{name:?} was imported as a disk, and cannot be pulled"),
                "leave `pull` out, or use another name",
            ));
        }
        if there.image.status != ImageStatus::Ready {
            // Its pull runs, or has failed: then it is replaced.
            return match there.image.status {
                ImageStatus::Failed => self.pull(request),
                _ => Ok(there.image),
            };
        }
        let own = with_suffix(&name, &format!("{PULL}{}", Uuid::new_v4().simple()));
        self.pull_then(PullImage { name: own, ..request }, move |images, id| {
            if let Err(refusal) = images.take_over(id, &name) {
                tracing::error!(image = name, "a pulled image cannot take its name: {refusal}");
                images.fail(id, &refusal);
            }
        })
    }

    /// Whether the pull of this image runs in this process.
    ///
    /// # Errors
    /// `not_found`.
    pub fn is_pulling(&self, name: &str) -> Result<bool, Refusal> {
        Ok(self.progress(name)?.is_some())
    }

    /// Records that a pulled image cannot be used.
    fn fail(&self, id: Uuid, refusal: &Refusal) {
        let failed = self.store.write(Durability::Power, |tx| {
            let all = StoredImage::all(tx)?;
            let Some(mut stored) = all.into_iter().find(|stored| stored.id == id) else {
                return Ok(());
            };
            stored.image.status = ImageStatus::Failed;
            stored.image.error = Some(format!("{}; {}", refusal.message, refusal.remedy));
            stored.image.error_code = Some(refusal.code);
            stored.update(tx)
        });
        if let Err(error) = failed {
            // Who waits for the pull sees that it no longer runs.
            tracing::error!("the end of a pull cannot be recorded: {error}");
        }
    }

    /// Deletes the records of pulls that an earlier daemon began with [`pull_again`](Self::pull_again) and did not complete.
    pub(super) fn forget_pulls_again(&self) -> Result<(), Refusal> {
        let instances = self.store.read(StoredInstance::all)?;
        self.store.write(Durability::Power, |tx| {
            for stored in StoredImage::all(tx)? {
                let is_used = instances.iter().any(|row| row.uses_image(stored.id));
                if is_pull_again(&stored) && !is_used {
                    StoredImage::delete(tx, stored.id)?;
                }
            }
            Ok(())
        })
    }

    /// Gives a pulled image its name. If that is the very image, nothing changes.
    fn take_over(&self, id: Uuid, name: &str) -> Result<(), Refusal> {
        let _allocation = lock(&self.journal.allocation);
        let all = self.store.read(StoredImage::all)?;
        let Some(new) = all.iter().find(|stored| stored.id == id) else { return Ok(()) };
        if new.image.status != ImageStatus::Ready {
            return Ok(());
        }
        let old = all.iter().find(|stored| stored.image.name == name);
        // It was removed meanwhile, and a disk imported under its name.
        if old.is_some_and(|old| old.image.container.is_none()) {
            return Ok(());
        }
        let instances = self.store.read(StoredInstance::all)?;
        self.store.write(Durability::Power, |tx| {
            match old {
                Some(old) if old.image.digest == new.image.digest => {
                    return StoredImage::delete(tx, id);
                }
                Some(old) if instances.iter().any(|row| row.uses_image(old.id)) => {
                    let digest: String = old.image.digest.chars().take(DIGEST).collect();
                    let aside = with_suffix(name, &format!("@{digest}"));
                    let is_free = all.iter().all(|stored| stored.image.name != aside);
                    let unique = with_suffix(name, &format!("@{digest}-{}", old.id.simple()));
                    StoredImage::rename(tx, old.id, if is_free { &aside } else { &unique })?;
                }
                Some(old) => StoredImage::delete(tx, old.id)?,
                None => {}
            }
            StoredImage::rename(tx, id, name)
        })
    }
}

/// A name with this suffix, shortened to what a name may have.
fn with_suffix(name: &str, suffix: &str) -> String {
    let kept: String = name.chars().take(LONGEST.saturating_sub(suffix.len())).collect();
    kept + suffix
}

fn is_pull_again(stored: &StoredImage) -> bool {
    let id = stored.image.name.rsplit_once(PULL).map(|(_, id)| id);
    stored.image.container.is_some()
        && id.is_some_and(|id| id.len() == 32 && id.parse::<Uuid>().is_ok())
}
