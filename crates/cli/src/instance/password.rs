//! Passwords of guests' users. Only their hashes leave this process: no request, log or file of the daemon has a password.

use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use api::SetPassword as Request;
use api::client::segment;
use clap::Args;
use model::{Code, Refusal};
use sha_crypt::{CryptError, Sha512Params, sha512_crypt_b64};
use uuid::Uuid;

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output;

/// The longest password, in bytes.
const LONGEST: usize = 256;

/// How often the hash is repeated: the more, the longer guessing takes.
const ROUNDS: usize = 50_000;

/// Set the password of a user of the guest, which must run qemu-guest-agent
#[derive(Debug, Args)]
#[command(after_help = "\
The password is asked for, or read from a file. Only its hash is sent.")]
pub struct SetPassword {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// User of the guest
    #[arg(short = 'l', long, default_value = "root")]
    user: String,
    /// File with the new password in its first line, - for standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl SetPassword {
    pub fn run(self, connection: &Connection) -> Done {
        let what = format!("set the password of {} in {}", self.user, self.instance);
        let path = format!("/instances/{}/password", segment(&self.instance));
        let set = || {
            let password_hash = match &self.password_file {
                Some(file) => of_file(file)?,
                None => asked()?,
            };
            let request = Request { user: self.user.clone(), password_hash };
            connection.talk(async |client| client.post_quietly(&path, Some(&request)).await)
        };
        set().map_err(Failure::to(what))?;
        output::changed(
            connection,
            &format!("Set the password of {} in {}.", self.user, self.instance),
        )
    }
}

/// The hash of the password in the first line of a file.
pub fn of_file(path: &Path) -> Result<String, Refusal> {
    hash(&first_line(path)?)
}

/// The password in the first line of a file.
pub fn first_line(path: &Path) -> Result<String, Refusal> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let most = LONGEST as u64 + 2;
        if path.as_os_str() == "-" {
            std::io::stdin().lock().take(most).read_to_end(&mut bytes)?;
        } else {
            std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    };
    let bytes = read().map_err(|error| {
        refused(format!("cannot read the password in {}: {error}", path.display()))
    })?;
    let line = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let password = std::str::from_utf8(line).map_err(|_| refused("the password is not UTF-8"))?;
    Ok(password.to_owned())
}

/// The hash of a password that is asked for twice.
pub fn asked() -> Result<String, Refusal> {
    if !std::io::stdin().is_terminal() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "there is no terminal to ask for the password",
            "give it in a file: `--password-file FILE`, - for standard input",
        ));
    }
    let ask = |question: &str| {
        rpassword::prompt_password(question)
            .map_err(|error| refused(format!("cannot read the password: {error}")))
    };
    let password = ask("New password: ")?;
    if ask("The same again: ")? != password {
        return Err(refused("the two passwords differ"));
    }
    hash(&password)
}

/// The hash of a password, with a new salt.
fn hash(password: &str) -> Result<String, Refusal> {
    if password.is_empty() {
        return Err(refused("the password is empty"));
    }
    if password.len() > LONGEST {
        return Err(refused(format!("the password has more than {LONGEST} bytes")));
    }
    if password.chars().any(char::is_control) {
        return Err(refused("the password has control characters"));
    }
    // 64 characters for 6 bits of each byte.
    const CHARACTERS: &[u8; 64] =
        b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let random = Uuid::new_v4();
    let salt: String = random
        .as_bytes()
        .iter()
        .filter_map(|byte| CHARACTERS.get(usize::from(byte & 63)))
        .map(|&byte| char::from(byte))
        .collect();
    let hash = crypt(password, &salt, ROUNDS)
        .map_err(|error| refused(format!("cannot hash the password: {error:?}")))?;
    Ok(format!("$6$rounds={ROUNDS}${salt}${hash}"))
}

/// The last part of a hash in the form of crypt(5).
fn crypt(password: &str, salt: &str, rounds: usize) -> Result<String, CryptError> {
    let params = Sha512Params::new(rounds)?;
    sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &params)
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(
        Code::InvalidRequest,
        message,
        "give a password of 1 to 256 bytes in the first line of a file, or without `--password-file` at the question",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> Result<String, Refusal> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        of_file(file.path())
    }

    #[test]
    fn the_first_line_of_a_file_is_the_password() {
        for text in [&b"secret"[..], b"secret\n", b"secret\r\nanother\n"] {
            let hash = file(text).unwrap();
            model::check_password_hash(&hash).unwrap();
            let mut parts = hash.rsplit('$');
            let (own, salt) = (parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(own, crypt("secret", salt, ROUNDS).unwrap());
        }
        // As `openssl passwd -6 -salt abcdefgh secret` prints it.
        let known = "ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.";
        assert_eq!(crypt("secret", "abcdefgh", 5000).unwrap(), known);
        assert_ne!(file(b"secret").unwrap(), file(b"secret").unwrap(), "each has its own salt");
    }

    #[test]
    fn what_is_no_password_is_not_part_of_the_error() {
        let long = "x".repeat(LONGEST + 1);
        for wrong in [&b""[..], b"\nsecret", b"sec\x1bret", b"sec\xffret", long.as_bytes()] {
            let refusal = file(wrong).unwrap_err();
            assert!(
                !refusal.message.contains("sec") && !refusal.message.contains("xx"),
                "{refusal}"
            );
        }
        assert!(of_file(Path::new("/nowhere")).unwrap_err().message.contains("/nowhere"));
    }
}
