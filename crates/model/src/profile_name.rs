//! Names of vGPU profiles, with and without the vendor's.

/// The name without the vendor's: requests accept both.
#[must_use]
pub fn own_name(name: &str) -> &str {
    name.rsplit(' ').next().unwrap_or(name)
}

/// Whether a request for `profile` means the one with this name: `NVIDIA L40S-1Q`, or without the vendor's.
#[must_use]
pub fn is_named(name: &str, profile: &str) -> bool {
    !profile.is_empty()
        && (name.eq_ignore_ascii_case(profile) || own_name(name).eq_ignore_ascii_case(profile))
}
