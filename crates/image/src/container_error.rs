//! Why a container image cannot be had.

use model::{Code, Refusal, shown};

use crate::layer_problem::LayerProblem;

/// Why a container image cannot be imported or pulled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// The reference of an image is not one.
    #[error("{reference:?} is no reference of an image: {problem}")]
    BadReference {
        /// What was given.
        reference: String,
        /// The problem.
        problem: String,
    },
    /// The source of an image is not one.
    #[error("{source_text:?} is no source of images: {problem}")]
    BadSource {
        /// What was given.
        source_text: String,
        /// The problem.
        problem: String,
    },
    /// The source has no image of this name.
    #[error("{place} has no image {name}")]
    UnknownName {
        /// The registry, directory or archive.
        place: String,
        /// The name.
        name: String,
    },
    /// The source has no image of this tag or digest.
    #[error("{place} has no tag or digest {tag:?} of the image{}", listed(known))]
    UnknownTag {
        /// The registry, directory or archive.
        place: String,
        /// The tag.
        tag: String,
        /// Tags that it has.
        known: Vec<String>,
    },
    /// Several images and none was named.
    #[error("{place} has several images: {}", known.join(", "))]
    Ambiguous {
        /// The directory or archive.
        place: String,
        /// Tags that it has.
        known: Vec<String>,
    },
    /// The registry refuses these credentials, or asks for some.
    #[error("the registry {registry} refuses access to {name}")]
    NoAccess {
        /// The registry.
        registry: String,
        /// The image.
        name: String,
    },
    /// The host's administrator allows no images of this name.
    #[error("registries.conf blocks the image {name}")]
    Blocked {
        /// The image.
        name: String,
    },
    /// The rules for registries cannot be understood.
    #[error("{path} cannot be used: {problem}")]
    BadRegistries {
        /// The file.
        path: String,
        /// The problem.
        problem: String,
    },
    /// No place has it.
    #[error("{}", said(failures))]
    Nowhere {
        /// Why not, for each place in the order in which they were asked; at least one.
        failures: Vec<ContainerError>,
    },
    /// No answer, or no more data, for some time.
    #[error("the registry {registry} sent nothing for {seconds} s")]
    Stalled {
        /// The registry.
        registry: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It cannot be reached.
    #[error("cannot reach the registry {registry}: {problem}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// The problem.
        problem: String,
    },
    /// It answers, but not as a registry.
    #[error("{registry} does not answer as a registry: {problem}")]
    NoRegistry {
        /// What was asked.
        registry: String,
        /// The problem.
        problem: String,
    },
    /// The registry asks to wait.
    #[error("the registry {registry} allows no more requests for now")]
    TooManyRequests {
        /// The registry.
        registry: String,
    },
    /// A blob is another one than its digest says.
    #[error("{place} sent a wrong blob: its digest is {found}, not {expected}")]
    WrongDigest {
        /// The registry, directory or archive.
        place: String,
        /// The digest of what was read.
        found: String,
        /// The digest that was asked for.
        expected: String,
    },
    /// A blob has another size than the manifest says.
    #[error("{place} sent a blob of another size than the manifest says: {expected}")]
    WrongSize {
        /// The registry, directory or archive.
        place: String,
        /// The digest of the blob.
        expected: String,
    },
    /// A digest that is not a SHA-256.
    #[error("the digest {digest:?} is of a kind that is not supported")]
    UnknownDigest {
        /// The digest.
        digest: String,
    },
    /// No image for this host's processor.
    #[error("the image is for {}, not for {wanted}", found.join(", "))]
    WrongPlatform {
        /// The platform of this host.
        wanted: String,
        /// The platforms that there are.
        found: Vec<String>,
    },
    /// The manifest or the configuration is broken or too large.
    #[error("the {what} of the image is not acceptable: {problem}")]
    BadManifest {
        /// `manifest`, `index` or `configuration`.
        what: &'static str,
        /// The problem.
        problem: String,
    },
    /// A layer is not acceptable.
    #[error("cannot accept the layer {}: {problem}", shown::short(digest, 19))]
    Layer {
        /// Its digest.
        digest: String,
        /// The problem.
        problem: LayerProblem,
    },
    /// A layout or archive is broken.
    #[error("{place} is no {kind}: {problem}")]
    BadPlace {
        /// The directory or archive.
        place: String,
        /// `OCI layout`, ...
        kind: &'static str,
        /// The problem.
        problem: String,
    },
    /// The program podman is missing or failed.
    #[error("podman cannot give the image {name}: {problem}")]
    Podman {
        /// The image.
        name: String,
        /// The problem.
        problem: String,
    },
    /// The image has no such file.
    #[error("the image has no file {path}")]
    NoFile {
        /// The path.
        path: String,
    },
}

/// What there is, if that is known.
fn listed(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) }
}

/// All of it, as one sentence.
fn said(failures: &[ContainerError]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl ContainerError {
    fn code(&self) -> Code {
        match self {
            Self::Nowhere { failures } => failures.last().map_or(Code::NotFound, Self::code),
            Self::BadReference { .. } => Code::InvalidName,
            Self::BadSource { .. } | Self::Ambiguous { .. } => Code::InvalidRequest,
            Self::UnknownName { .. }
            | Self::UnknownTag { .. }
            | Self::Podman { .. }
            | Self::NoFile { .. } => Code::NotFound,
            Self::NoAccess { .. } | Self::Blocked { .. } => Code::RegistryRefused,
            Self::Stalled { .. }
            | Self::Unreachable { .. }
            | Self::NoRegistry { .. }
            | Self::BadRegistries { .. }
            | Self::TooManyRequests { .. } => Code::RegistryUnavailable,
            Self::WrongPlatform { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::UnknownDigest { .. }
            | Self::BadManifest { .. }
            | Self::Layer { .. }
            | Self::BadPlace { .. } => Code::InvalidImage,
        }
    }

    fn remedy(&self) -> String {
        let remedy = match self {
            Self::Nowhere { failures } => {
                return failures.last().map(Self::remedy).unwrap_or_default();
            }
            Self::Blocked { .. } => "use another image, or ask who administers this host",
            Self::BadRegistries { .. } => {
                "correct it; `man containers-registries.conf` has its form"
            }
            Self::NoAccess { registry, .. } => {
                return format!(
                    "check the name; log in with `podman login {registry}` or give `--username`"
                );
            }
            Self::BadReference { .. } => {
                "use a form like `debian:12`, `docker.io/library/debian:12` or `localhost:5000/name@sha256:HEX`"
            }
            Self::BadSource { .. } => {
                "use `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]`, `containers-storage:NAME`, or a reference"
            }
            Self::UnknownName { .. } | Self::UnknownTag { .. } => "check the name and the tag",
            Self::Ambiguous { .. } => "name one of them behind a colon",
            Self::Stalled { .. } | Self::Unreachable { .. } => {
                "check the name and the network; then retry: what is complete is not fetched again"
            }
            Self::NoRegistry { .. } => {
                "check the registry's name, and whether a proxy answers in its place"
            }
            Self::TooManyRequests { .. } => "retry later, or log in to have a higher limit",
            Self::WrongPlatform { .. } => "use an image that is made for this host's processor",
            Self::WrongDigest { .. } | Self::WrongSize { .. } => {
                "retry; if it happens again, the source is damaged or not to be trusted"
            }
            Self::Podman { .. } => "check `podman images`, and that podman is installed",
            Self::NoFile { .. } => "check the path in the image",
            Self::UnknownDigest { .. }
            | Self::BadManifest { .. }
            | Self::Layer { .. }
            | Self::BadPlace { .. } => "make the image again, or use another one",
        };
        remedy.to_owned()
    }
}

impl From<ContainerError> for Refusal {
    fn from(error: ContainerError) -> Self {
        Self::new(error.code(), error.to_string(), error.remedy())
    }
}
