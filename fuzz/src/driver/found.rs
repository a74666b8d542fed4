//! What both processes know of a failing input.

/// The exit status of the target's process after a hang.
pub const HUNG: i32 = 3;

/// The name of the file of an input.
pub fn name_of(input: &[u8]) -> String {
    let mut digest = sha1_smol::Sha1::new();
    digest.update(input);
    let digest = digest.digest().to_string();
    format!("found-{}", digest.get(..12).unwrap_or_default())
}
