//! What is done through the agent in a guest: commands, passwords.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A command to run in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program, and its arguments. No shell reads them.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::Word>, min_items = 1, max_items = 1024))]
    pub command: Vec<String>,
    /// Its environment. Without it, the environment is that of the guest's agent; with it, these variables and a usual `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Environment>))]
    pub env: Option<BTreeMap<String, String>>,
    /// Its standard input, in base64; empty by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Base64>))]
    pub input: Option<String>,
    /// How long to wait for its end; `60s` by default. After that it goes on in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Pause>))]
    pub timeout: Option<String>,
}

/// How a command in the guest ended. The guest can claim anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecResult {
    /// Its number in the guest; absent for a container image, whose agent ends the command if it has not ended in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub pid: Option<i64>,
    /// Its exit status; `null` if a signal ended it, or it has not ended.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub signal: Option<i32>,
    /// Whether it has not ended in time. It goes on, except in the guest of a container image, and what it writes is not known.
    pub timed_out: bool,
    /// What it wrote to standard output, in base64; 16 MiB at most.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Base64))]
    pub stdout: String,
    /// What it wrote to standard error, in base64; 16 MiB at most.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Base64))]
    pub stderr: String,
    /// Whether it wrote more to standard output than is kept.
    pub stdout_truncated: bool,
    /// Whether it wrote more to standard error than is kept.
    pub stderr_truncated: bool,
}

/// A password of a user of the guest. It is sent as a hash only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The user's name in the guest.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::UserName))]
    pub user: String,
    /// The hash of the new password: SHA-512 in the form of crypt(5), as `openssl passwd -6` prints it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PasswordHash))]
    pub password_hash: String,
}
