//! The file with the token.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use model::{Code, Refusal};

/// The maximum length of the token file.
const LONGEST: u64 = 4096;

/// The minimum length of a token: 12 characters of base64 cannot be guessed over a network.
const SHORTEST: usize = 12;

/// Reads the token. Refuses a file that others can read or write.
pub fn read(path: &Path) -> Result<String, Refusal> {
    let refuse =
        |reason: String, remedy: String| Refusal::new(Code::InvalidRequest, reason, remedy);
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        refuse(
            format!("cannot read the token file {shown}: {error}"),
            format!("create it: (umask 077; head -c 32 /dev/urandom | base64 > {shown})"),
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refuse(
            format!(
                "the token file {shown} is accessible to others (mode {:04o})",
                metadata.mode() & 0o7777
            ),
            format!("run `chmod 600 {shown}` and write a new token: the old one may be known"),
        ));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    if token.len() < SHORTEST || token.contains(char::is_whitespace) || !token.is_ascii() {
        return Err(refuse(
            format!(
                "the token file {shown} has no single-word token of at least {SHORTEST} characters"
            ),
            format!("create one: (umask 077; head -c 32 /dev/urandom | base64 > {shown})"),
        ));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_private_file_holds_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(read(&path).unwrap_err().remedy.contains("umask 077"));
        std::fs::write(&path, "secret-token\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        mode(0o640).unwrap();
        assert!(read(&path).unwrap_err().message.contains("0640"));
        mode(0o600).unwrap();
        assert_eq!(read(&path).unwrap(), "secret-token");
        std::fs::write(&path, "two words here").unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, "short\n").unwrap();
        assert!(read(&path).is_err());
    }
}
