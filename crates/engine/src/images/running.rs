//! The imports that are running in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use image::Cancel;
use image::oci::Progress;
use uuid::Uuid;

use crate::lock::lock;

/// The running imports, by the id of their image.
#[derive(Default)]
pub struct Running {
    imports: Mutex<BTreeMap<Uuid, Begun>>,
    ended: Condvar,
}

/// A running import, as others see it.
struct Begun {
    cancel: Cancel,
    /// The image that it reads.
    reads: Option<Uuid>,
    /// What is made.
    what: What,
    /// How far it is.
    progress: Arc<Progress>,
}

/// What is made from an image.
#[derive(Clone, Debug)]
pub enum What {
    /// The image of this name.
    Image(String),
    /// The volume of this name.
    Volume(String),
}

/// A running import; it has ended when this is dropped.
pub struct Import {
    id: Uuid,
    cancel: Cancel,
    progress: Arc<Progress>,
    running: Arc<Running>,
}

impl Running {
    /// Begins to make what has this id, which may read an image.
    pub fn begin(self: &Arc<Self>, id: Uuid, what: What, reads: Option<Uuid>) -> Import {
        let cancel = Cancel::default();
        let progress = Arc::<Progress>::default();
        let begun = Begun { cancel: cancel.clone(), reads, what, progress: progress.clone() };
        lock(&self.imports).insert(id, begun);
        Import { id, cancel, progress, running: self.clone() }
    }

    /// Asks the import of an image to end, if it is running.
    pub fn cancel(&self, id: Uuid) {
        if let Some(begun) = lock(&self.imports).get(&id) {
            begun.cancel.set();
        }
    }

    /// How far an import is.
    pub fn progress(&self, id: Uuid) -> Option<Arc<Progress>> {
        lock(&self.imports).get(&id).map(|begun| begun.progress.clone())
    }

    /// What is made from this image.
    pub fn reader(&self, id: Uuid) -> Option<What> {
        let imports = lock(&self.imports);
        imports.values().find(|begun| begun.reads == Some(id)).map(|begun| begun.what.clone())
    }

    /// Waits until no import of this image is running; returns whether that is so.
    pub fn wait(&self, id: Uuid, patience: Duration) -> bool {
        let imports = lock(&self.imports);
        let waited =
            self.ended.wait_timeout_while(imports, patience, |imports| imports.contains_key(&id));
        !waited.unwrap_or_else(PoisonError::into_inner).0.contains_key(&id)
    }
}

impl Import {
    /// How far it is.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    pub const fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        lock(&self.running.imports).remove(&self.id);
        self.running.ended.notify_all();
    }
}
