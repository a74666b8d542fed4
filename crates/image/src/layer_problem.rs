//! What is wrong with a layer.

use std::io;

use model::shown as safe;

/// Why a layer of an image is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerProblem {
    /// Not a tar archive.
    #[error("it is no tar archive")]
    NoArchive,
    /// It ends in the middle.
    #[error("it ends in the middle of an entry")]
    Truncated,
    /// A bomb: tar pads an archive with some kilobytes.
    #[error("more than 1 GB follows its last entry")]
    TooMuchAfter,
    /// It cannot be read or decompressed.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// A header that describes the next entry is too long.
    #[error("a header in it is too long")]
    HeaderTooLong,
    /// A broken PAX record.
    #[error("it has a PAX record that is broken")]
    BadRecord,
    /// A sparse file whose map is broken, or in a form that is not read.
    #[error("it has a sparse file whose map is broken or of an unknown form")]
    BadSparse,
    /// A path that is too long.
    #[error("the path {path} is longer than Linux allows")]
    PathTooLong {
        /// The beginning of the path.
        path: String,
    },
    /// A path that leads out of the image.
    #[error("the path {path} leads out of the image")]
    Outside {
        /// The path.
        path: String,
    },
    /// An id that no user or group can have.
    #[error("{id} is no id of a user or a group")]
    UnknownOwner {
        /// The id.
        id: u64,
    },
    /// An entry of an unknown type.
    #[error("{path} is an entry of the unknown type {kind}")]
    UnknownKind {
        /// Its path.
        path: String,
        /// Its type.
        kind: u8,
    },
    /// A hard link without its file.
    #[error("the hard link {path} leads to {target}, which is no file of the image")]
    BadLink {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// A symbolic link without a target, or with one that is too long.
    #[error("the target of the symbolic link {path} is empty or too long")]
    BadSymlink {
        /// The link.
        path: String,
    },
    /// Links between directories that lead in a circle.
    #[error("the directory of {path} is reached through too many links")]
    TooManyLinks {
        /// The path.
        path: String,
    },
    /// The root of the image is not a directory.
    #[error("it replaces the root directory by something else")]
    RootReplaced,
    /// Extended attributes that are too large.
    #[error("the extended attributes of {path} are too large")]
    XattrsTooLarge {
        /// The file.
        path: String,
    },
    /// A device number that Linux cannot have.
    #[error("the device number of {path} is too large")]
    BadDevice {
        /// The device node.
        path: String,
    },
    /// More files than the limit.
    #[error("the image has more than {most} files and directories")]
    TooManyFiles {
        /// The limit.
        most: usize,
    },
    /// More bytes of names than the limit.
    #[error("the names, links and attributes in the image have more than {}", safe::bytes(*most))]
    TooManyNames {
        /// The limit in bytes.
        most: u64,
    },
    /// More data than the limit.
    #[error("the unpacked image has more than {}", safe::bytes(*most))]
    TooLarge {
        /// The limit in bytes.
        most: u64,
    },
    /// The unpacked layer is another one than the image's configuration says.
    #[error("its content has the digest {found}, but the image's configuration says {expected}")]
    WrongContent {
        /// The digest of its content.
        found: String,
        /// What the configuration says.
        expected: String,
    },
}

impl LayerProblem {
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn unreadable(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Truncated;
        }
        Self::Unreadable(safe::escaped(&error.to_string()).into_owned())
    }

    pub(crate) fn path_too_long(path: &[u8]) -> Self {
        Self::PathTooLong { path: shown(path) }
    }
}

/// A path for a message: quoted, without control characters, not too long.
pub fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
