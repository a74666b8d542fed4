//! Hashes of passwords, in the one form that every guest understands.

use crate::{Code, Refusal};

/// The length of a hash by SHA-512 in the form of crypt(5).
const HASH: usize = 86;

/// Checks that a text is the hash of a password: SHA-512 in the form of crypt(5), `$6$[rounds=N$]SALT$HASH`. The text is never
/// part of an error: a person may have given the password itself.
///
/// # Errors
/// `invalid_request`.
pub fn check_password_hash(text: &str) -> Result<(), Refusal> {
    let is_of_hash = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
    };
    let is_number = |part: &str| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits && !part.starts_with('0') && (4..=9).contains(&part.len())
    };
    let rest = text.strip_prefix("$6$").unwrap_or_default();
    let rest = match rest.strip_prefix("rounds=").and_then(|rest| rest.split_once('$')) {
        Some((rounds, rest)) if is_number(rounds) => rest,
        Some(_) => "",
        None => rest,
    };
    let is_hash = rest.split_once('$').is_some_and(|(salt, hash)| {
        (1..=16).contains(&salt.len()) && hash.len() == HASH && is_of_hash(salt) && is_of_hash(hash)
    });
    if is_hash {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        "the hash of the password is not one of SHA-512 in the form of crypt(5), which begins with `$6$`",
        "make it with `openssl passwd -6`; on the command line, give the password itself with `--password-file`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha_512_in_the_form_of_crypt_is_a_hash() {
        let hash = "x".repeat(HASH);
        for fine in ["$6$a$", "$6$rounds=5000$abcdefgh./012345$"] {
            check_password_hash(&format!("{fine}{hash}")).unwrap();
        }
        for wrong in [
            "secret".to_owned(),
            String::new(),
            format!("$5$a${hash}"),
            format!("$6$${hash}"),
            format!("$6$a${hash}x"),
            format!("$6$a${hash}\n"),
            format!("$6$rounds=0500$a${hash}"),
            format!("$6$rounds=500$a${hash}"),
            format!("$6$a:b${hash}"),
            format!("$6$abcdefghijklmnopq${hash}"),
        ] {
            let refusal = check_password_hash(&wrong).unwrap_err();
            assert!(wrong.is_empty() || !refusal.message.contains(&wrong), "{refusal}");
        }
    }
}
