//! swtpm: emulates a TPM 2.0 for one machine (swtpm(8)). It runs as the machine's user, is connected to the VMM by a socket
//! pair, and ends when the VMM does. Its state is a directory of the machine.

use std::path::{Path, PathBuf};

use model::LaunchError;

use super::order::{FD, Helper, Loopback};
use super::programs::on_path;

/// The program.
const PROGRAM: &str = "swtpm";

/// The program on PATH.
pub fn usable() -> Result<PathBuf, LaunchError> {
    found(on_path(PROGRAM))
}

fn found(program: Option<PathBuf>) -> Result<PathBuf, LaunchError> {
    program.ok_or_else(|| LaunchError::Unavailable {
        reason: "the machine cannot have a TPM: swtpm is not installed".into(),
        remedy: "apt install swtpm".into(),
    })
}

/// swtpm with its state in this directory, which it can write. `vmm_args` connect the VMM to the other end of the socket
/// pair: the control channel, over which the VMM passes another one for the TPM's commands.
pub fn helper(
    program: PathBuf,
    state: &Path,
    vmm_args: Vec<String>,
) -> Result<Helper, LaunchError> {
    // A comma begins another option, and swtpm knows no way of quoting it (options.c, `option_value_add`).
    let dir =
        state.to_str().filter(|dir| !dir.contains(',')).ok_or_else(|| LaunchError::Start {
            reason: format!(
                "swtpm cannot use the directory {}: its options allow no comma, and only UTF-8",
                state.display()
            ),
        })?;
    let args = [
        "socket".to_owned(),
        "--tpm2".into(),
        "--tpmstate".into(),
        format!("dir={dir},mode=0600"),
        "--ctrl".into(),
        format!("type=unixio,clientfd={FD}"),
        "--terminate".into(),
        "--daemon".into(),
    ];
    Ok(Helper { program, args: args.into(), vmm_args, loopback: Loopback::Open })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_the_state_and_an_inherited_socket() {
        let state = Path::new("/var/lib/handover/machines/1/tpm");
        let helper = helper("/usr/bin/swtpm".into(), state, Vec::new()).unwrap();
        assert_eq!(
            helper.args.join(" "),
            "socket --tpm2 --tpmstate dir=/var/lib/handover/machines/1/tpm,mode=0600 --ctrl type=unixio,clientfd={fd} \
             --terminate --daemon"
        );
    }

    #[test]
    fn a_path_that_would_begin_another_option_is_refused() {
        let error = helper("swtpm".into(), Path::new("/srv/a,mode=0666"), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no comma"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let Err(LaunchError::Unavailable { reason, remedy }) = found(None) else { panic!() };
        assert!(reason.contains("swtpm is not installed"), "{reason}");
        assert_eq!(remedy, "apt install swtpm");
    }
}
