//! A script of the doctor that was stopped.

use super::super::remedy::{PENDING, rebuild_all};
use super::super::{Finding, Patient};
use super::warning;

/// What a script edited shows no longer that it has no effect yet: its note does.
pub fn script(patient: Patient<'_>) -> Vec<Finding> {
    if !patient.platform.rebuild_pending {
        return Vec::new();
    }
    let read = format!(
        "{PENDING} exists: a script of `handover doctor --fix-script` stopped before its end"
    );
    let meaning = "it may have edited files of the boot loader or of the initial ramdisk, which have no effect until these are \
                   rebuilt";
    vec![warning(read, meaning).with_remedy(rebuild_all(patient.platform))]
}
