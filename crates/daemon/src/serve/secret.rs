//! The file with the token.

use std::fs::OpenOptions;
use std::path::Path;

use model::{Code, Refusal};
use own_files::{OwnFile, Unfit, read_open};
use rustix::fs::fstat;

/// The maximum length of the token file.
const LONGEST: u64 = 4096;

/// The minimum length of a token: 12 characters of base64 cannot be guessed over a network.
const SHORTEST: usize = 12;

/// The token is as good as root: members of the group `handover` have the socket and do not need it.
const OTHERS: u32 = 0o077;

/// Reads the token. Refuses a file that is not root's or the daemon's, or that others can read or write.
pub fn read(path: &Path) -> Result<String, Refusal> {
    let shown = path.display();
    let create = format!("create it: (umask 077; head -c 32 /dev/urandom | base64 > {shown})");
    let unreadable = |error: std::io::Error| {
        let remedy = Unfit::of(&error).map_or_else(|| create.clone(), |unfit| unfit.remedy(path));
        refuse(format!("cannot read the token file {shown}: {error}"), remedy)
    };
    let file = OwnFile::at(path).open(OpenOptions::new().read(true)).map_err(unreadable)?;
    let mode = fstat(&file).map_err(|errno| unreadable(errno.into()))?.st_mode & 0o7777;
    if mode & OTHERS != 0 {
        return Err(refuse(
            format!("the token file {shown} is accessible to others (mode {mode:04o})"),
            format!("run `chmod 600 {shown}` and write a new token: the old one may be known"),
        ));
    }
    let bytes = read_open(&file, LONGEST).map_err(unreadable)?;
    let token = str::from_utf8(&bytes).unwrap_or_default().trim();
    if token.len() < SHORTEST || token.contains(char::is_whitespace) || !token.is_ascii() {
        return Err(refuse(
            format!(
                "the token file {shown} has no single-word token of at least {SHORTEST} characters"
            ),
            create,
        ));
    }
    Ok(token.to_owned())
}

fn refuse(reason: String, remedy: String) -> Refusal {
    Refusal::new(Code::InvalidRequest, reason, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

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
        std::fs::write(&path, [0xff; 20]).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_token_file_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "x".repeat(4096)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap().len(), 4096);
        std::fs::write(&path, "x".repeat(4097)).unwrap();
        assert!(read(&path).unwrap_err().message.contains("longer than 4096 bytes"));
    }

    #[test]
    fn a_fifo_a_link_and_another_users_file_hold_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (cwd, fifo) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(cwd, &path, fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(read(&path).unwrap_err().message.contains("a FIFO, not a regular file"));
        let target = folder.path().join("target");
        std::fs::write(&target, "secret-token\n").unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        assert!(read(&path).unwrap_err().message.contains("symbolic link"));
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            chown(&target, Some(12_345), None).unwrap();
            assert!(read(&target).unwrap_err().message.contains("uid 12345"));
        }
    }
}
