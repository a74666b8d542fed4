//! The TPM: QEMU passes the guest's commands to swtpm, over an inherited socket (docs/specs/tpm.rst in QEMU's source).

use serde_json::json;

use super::Ports;
use crate::process::FD;

/// The id of the TPM.
pub const TPM: &str = "tpm";

const EMULATOR: &str = "emulator";

/// The guest's interface to the TPM: the command response buffer, which Windows 11 and OVMF use.
pub fn tpm(ports: &mut Ports) {
    ports.device(json!({"driver": "tpm-crb", "id": TPM, "tpmdev": EMULATOR}));
}

/// The arguments that connect the TPM to swtpm, with [`FD`] for the descriptor.
pub fn backend() -> Vec<String> {
    vec![
        "-chardev".into(),
        format!("socket,id=swtpm,fd={FD}"),
        "-tpmdev".into(),
        format!("emulator,id={EMULATOR},chardev=swtpm"),
    ]
}
