//! What Handover's own state says of the devices that a reading command shows.

use std::path::{Path, PathBuf};

use clap::Args;
use model::OwnState;

use crate::output;
use crate::source::Source;
use crate::this_host::STATE_DIR;

/// The option of reading commands that show claims.
#[derive(Debug, Args)]
pub struct OwnStateDir {
    /// Directory of Handover's journal, for showing whose a device is
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
}

impl OwnStateDir {
    /// The claims and the health of devices; empty for a recording, and with a note if they cannot be read.
    pub fn read(&self, source: &Source) -> OwnState {
        let usual = self.state_dir == Path::new(STATE_DIR);
        // Without root a note about users was printed already.
        if usual && (!source.is_this_host() || source.hides_users()) {
            return OwnState::default();
        }
        engine::own_state(&self.state_dir).unwrap_or_else(|refusal| {
            output::note(&format!(
                "note: claims are not shown: {}; {}",
                refusal.message, refusal.remedy
            ));
            OwnState::default()
        })
    }
}
