//! Refusals: a stable code, what failed and why, and what to do.

use serde::{Deserialize, Serialize};

use crate::{AddressError, GrpcStatus};

/// An error that is returned to the caller. Changes made for the request were rolled back, unless the message says that
/// the rollback failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What failed, and why.
    pub message: String,
    /// What to do: a command, if there is one.
    pub remedy: String,
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into() }
    }
}

impl From<AddressError> for Refusal {
    fn from(error: AddressError) -> Self {
        Self::new(Code::InvalidPciAddress, error.reason(), error.way_out())
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $status:literal, $exit:literal, $grpc:ident;)*) => {
        /// The stable codes of public errors, the same in all interfaces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[doc = $doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its meaning, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii(),)* }
            }

            /// Its HTTP status.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Its exit status on the command line.
            #[must_use]
            pub const fn exit_status(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }

            /// Its gRPC status.
            #[must_use]
            pub const fn grpc_status(self) -> GrpcStatus {
                match self { $(Self::$name => GrpcStatus::$grpc,)* }
            }
        }
    };
}

codes! {
    /// The request is invalid: malformed JSON, a missing or unknown field.
    InvalidRequest = "invalid_request", 400, 2, InvalidArgument;
    /// A name is invalid.
    InvalidName = "invalid_name", 400, 2, InvalidArgument;
    /// A PCI address is invalid.
    InvalidPciAddress = "invalid_pci_address", 400, 2, InvalidArgument;
    /// A size is invalid.
    InvalidSize = "invalid_size", 400, 2, InvalidArgument;
    /// An image is not accepted: wrong format, a backing file, not below a configured directory.
    InvalidImage = "invalid_image", 400, 2, InvalidArgument;
    /// A devices file cannot be used: it is unreadable or invalid.
    InvalidCatalog = "invalid_catalog", 400, 2, InvalidArgument;
    /// The token is missing, unreadable or wrong.
    Unauthorized = "unauthorized", 401, 4, Unauthenticated;
    /// This user may not open the daemon's socket or the state directory, or the request came from a web page or with an
    /// unknown host name.
    Forbidden = "forbidden", 403, 4, PermissionDenied;
    /// No such registered device, instance, image or claim.
    NotFound = "not_found", 404, 3, NotFound;
    /// No PCI function at that address, or no block device of that name.
    DeviceNotFound = "device_not_found", 404, 3, NotFound;
    /// The name or device is already registered.
    Conflict = "conflict", 409, 5, AlreadyExists;
    /// An instance with that name already exists.
    NameConflict = "name_conflict", 409, 5, AlreadyExists;
    /// An image or file of that name already exists.
    AlreadyExists = "already_exists", 409, 5, AlreadyExists;
    /// Something uses the device.
    InUse = "in_use", 409, 6, FailedPrecondition;
    /// A port of the host that should lead to a guest is taken, or may not be listened on.
    PortInUse = "port_in_use", 409, 6, FailedPrecondition;
    /// A bridge or an interface of the host, which a guest's network card needs, does not exist or cannot be used.
    NetworkUnavailable = "network_unavailable", 409, 7, FailedPrecondition;
    /// The state of the instance, the device or the host does not allow this.
    InvalidState = "invalid_state", 409, 6, FailedPrecondition;
    /// The agent in the guest does not answer: it is not installed, or the guest does not run it yet.
    AgentSilent = "agent_silent", 409, 6, FailedPrecondition;
    /// The agent in the guest stopped answering when it had been asked to run a command, which may have run or still run.
    AgentLost = "agent_lost", 409, 6, FailedPrecondition;
    /// The agent in the guest refused: the guest does not allow the command, or there is no such program, process or user.
    AgentRefused = "agent_refused", 409, 6, FailedPrecondition;
    /// The guest does not let go of a device that it was asked for. It can still do so: the device is given back then, or when
    /// its machine ends.
    GuestKeepsDevice = "guest_keeps_device", 409, 6, FailedPrecondition;
    /// The function can never be handed over: it is a bridge or part of the host. Or the block device cannot be a disk of a
    /// machine.
    NotAssignable = "not_assignable", 409, 7, FailedPrecondition;
    /// The kernel has no active IOMMU, it does not remap interrupts, or the function is in no IOMMU group.
    NoIommu = "no_iommu", 409, 7, FailedPrecondition;
    /// VFIO is not available in this kernel.
    VfioMissing = "vfio_missing", 409, 7, FailedPrecondition;
    /// The VMM is not installed or not usable.
    HypervisorMissing = "hypervisor_missing", 409, 7, FailedPrecondition;
    /// The image is not ready.
    ImageNotReady = "image_not_ready", 409, 6, FailedPrecondition;
    /// The registry of a container image refuses access: the image does not exist, or it needs other credentials.
    RegistryRefused = "registry_refused", 409, 4, PermissionDenied;
    /// The registry of a container image cannot be reached, stalls, or does not answer as a registry.
    RegistryUnavailable = "registry_unavailable", 502, 13, Unavailable;
    /// The host does not have enough of a resource.
    InsufficientResources = "insufficient_resources", 409, 8, ResourceExhausted;
    /// Too many requests of this kind are running; a later one can succeed.
    TooManyRequests = "too_many_requests", 429, 8, ResourceExhausted;
    /// The device at that address is not the registered one.
    FingerprintChanged = "fingerprint_changed", 409, 6, FailedPrecondition;
    /// The device missed a deadline or failed its check, and needs manual attention.
    DeviceWedged = "device_wedged", 409, 9, FailedPrecondition;
    /// A step on the host failed; changes rolled back.
    StepFailed = "step_failed", 500, 9, Internal;
    /// A step on the host failed, and a rollback failed too: see the message.
    UndoFailed = "undo_failed", 500, 9, Internal;
    /// The machine could not be started.
    LaunchFailed = "launch_failed", 500, 9, Internal;
    /// Handover's state cannot be used: another process has locked it, the disk is full, it is damaged, or a newer
    /// version wrote it.
    StateUnusable = "state_unusable", 503, 12, Unavailable;
    /// Another Handover process has this host's state open.
    StateLocked = "state_locked", 503, 12, Unavailable;
    /// The daemon is starting: it recovers interrupted operations before it changes anything else.
    Starting = "starting", 503, 13, Unavailable;
    /// The daemon does not answer.
    DaemonUnreachable = "daemon_unreachable", 503, 13, Unavailable;
    /// Part of a compatible interface that Handover does not implement.
    NotImplemented = "not_implemented", 501, 14, Unimplemented;
    /// Unexpected error; see the daemon's log.
    Internal = "internal", 500, 1, Internal;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_text_everywhere() {
        for code in Code::ALL {
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(json, format!("{:?}", code.as_str()));
        }
    }
}
