//! What is said on the WebSockets for commands and copies in the guests of container images, and what a path there is. The
//! shapes are those of hypeman's API; what is added to them is named there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ErrorBody;

/// The first message of a client that wants to run a command, as text. Unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecStart {
    /// The program and its arguments; `/bin/sh` if there are none. No shell reads them.
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Added to the environment of the guest's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// The working directory; that of the guest's command if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Seconds after which the command is killed; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Seconds to wait for the agent in a guest that still boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_agent: Option<i64>,
    /// Lines of the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u32>,
    /// Characters in a line of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cols: Option<u32>,
    /// Addition: the user, as `USER[:GROUP]`; that of the guest's command if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Addition: each message of output begins with a byte, [`STDOUT`] or [`STDERR`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub separate: bool,
}

/// The first byte of a message of standard output, if the outputs are separate.
pub const STDOUT: u8 = 1;
/// The same for standard error.
pub const STDERR: u8 = 2;

/// What a client says of a running command, as text. Text that is none is input, as are all bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecControl {
    /// The terminal has another size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<TerminalSize>,
    /// Addition: the input ends.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub end_input: bool,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u32,
    /// Characters in a line.
    pub cols: u32,
}

/// The last message to a client, as text: the command has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// Its exit status: 128 and the signal's number if a signal ended it, 124 if it took too long, 127 or 126 if it did not start.
    #[serde(rename = "exitCode")]
    pub exit_code: i32,
    /// Addition: whether it was killed because it took too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// Addition: why it did not start, or how it ended is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// The direction of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyDirection {
    /// Into the guest.
    To,
    /// Out of the guest.
    From,
}

/// The first message of a client that copies, as text. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// The direction.
    pub direction: CopyDirection,
    /// The path in the guest.
    pub guest_path: String,
    /// Into the guest: whether a directory is made, and no file written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_dir: bool,
    /// Into the guest: the permissions; 0644 and 0755 if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Into the guest: the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Into the guest: the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Out of the guest: whether a link at the path is followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow_links: bool,
    /// Addition: paths of headers are below `guest_path`, which itself is empty; and a copy into the guest has a header for each
    /// file, directory and link, as one out of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tree: bool,
}

/// What is said during a copy, as text. A file's contents are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum CopyMessage {
    /// A file, directory or link begins.
    Header(CopyHeader),
    /// It ends; a client ends the whole copy.
    End {
        /// Whether it was the last one.
        #[serde(default)]
        r#final: bool,
    },
    /// The copy failed.
    Error(ErrorBody),
    /// A copy into the guest has ended.
    Result {
        /// Whether all is there.
        success: bool,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The bytes of all files.
        #[serde(default)]
        bytes_written: u64,
    },
}

/// A file, directory or link of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CopyHeader {
    /// Its path: the last component of the copied path and what is below; see also [`CopyRequest::tree`].
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a symbolic link.
    pub is_symlink: bool,
    /// The link's target.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub link_target: String,
    /// The size of a file out of the guest. A file into the guest may have any other.
    pub size: u64,
    /// The time of its last change, in seconds since 1970.
    pub mtime: i64,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What a path in the guest is. The guest can claim anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PathInfo {
    /// Whether something is there.
    pub exists: bool,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Whether it is a symbolic link.
    pub is_symlink: bool,
    /// The link's target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub link_target: Option<String>,
    /// Its permissions.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The time of its last change, in seconds since 1970.
    pub mtime: i64,
    /// Why the guest could not look there; `exists` is false then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_hypemans_shapes() {
        let text = |value: &CopyMessage| serde_json::to_string(value).unwrap();
        let end = CopyMessage::End { r#final: true };
        assert_eq!(text(&end), r#"{"type":"end","final":true}"#);
        assert_eq!(
            serde_json::from_str::<CopyMessage>(r#"{"type":"end"}"#).unwrap(),
            CopyMessage::End { r#final: false }
        );
        let header = CopyMessage::Header(CopyHeader { path: "a".into(), ..CopyHeader::default() });
        assert!(
            text(&header).starts_with(r#"{"type":"header","path":"a","mode":0,"is_dir":false"#)
        );
        let end = ExecEnd { exit_code: 3, ..ExecEnd::default() };
        assert_eq!(serde_json::to_string(&end).unwrap(), r#"{"exitCode":3}"#);
        let asked = r#"{"direction":"to","guest_path":"/a","is_dir":true,"mode":493,"uid":0,"gid":0,"src_basename":"x"}"#;
        let asked: CopyRequest = serde_json::from_str(asked).unwrap();
        assert_eq!((asked.direction, asked.mode), (CopyDirection::To, Some(0o755)));
    }

    #[test]
    fn only_what_is_known_is_control() {
        let read = |text: &str| serde_json::from_str::<ExecControl>(text).ok();
        let size = TerminalSize { rows: 3, cols: 4 };
        let resize = ExecControl { resize: Some(size), end_input: false };
        assert_eq!(read(r#"{"resize":{"rows":3,"cols":4}}"#), Some(resize));
        assert_eq!(read("ls"), None);
        assert_eq!(read(r#"{"a":1}"#), None);
    }
}
