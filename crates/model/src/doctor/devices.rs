//! Checks of single devices.

use super::{Finding, Patient};
use crate::Address;

/// Every check of devices, or of one.
pub fn all(_patient: Patient<'_>, _only: Option<Address>) -> Vec<Finding> {
    Vec::new()
}
