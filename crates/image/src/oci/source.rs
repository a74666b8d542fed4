//! Where an image comes from.

use std::path::PathBuf;

use oci_spec::distribution::Reference;

use super::ContainerError;

/// Where a container image comes from, in the terms of skopeo and podman.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerSource {
    /// `oci:DIR[:TAG]`: a directory with an OCI layout.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The image in it.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: the same in a tar archive.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// The image in it.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:TAG]`: what `docker save` writes.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// The image in it.
        tag: Option<String>,
    },
    /// `containers-storage:NAME`: an image of podman.
    Storage {
        /// Its name.
        name: String,
    },
    /// A reference, or `docker://REFERENCE`: a registry.
    Registry {
        /// The image.
        reference: Reference,
    },
}

impl ContainerSource {
    /// Reads a source.
    ///
    /// # Errors
    /// [`ContainerError::BadSource`], [`ContainerError::BadReference`].
    pub fn parse(text: &str) -> Result<Self, ContainerError> {
        let Some((transport, rest)) = text.split_once(':') else { return Self::registry(text) };
        let bad = |problem: &str| ContainerError::BadSource {
            source_text: text.to_owned(),
            problem: problem.to_owned(),
        };
        // The first colon ends the path, as with skopeo: a tag can have colons.
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned()).filter(|tag| !tag.is_empty())),
            None => (rest, None),
        };
        let is_path = matches!(transport, "oci" | "oci-archive" | "docker-archive");
        if is_path && path.is_empty() {
            return Err(bad("it has no path"));
        }
        match transport {
            "oci" => Ok(Self::Layout { dir: path.into(), tag }),
            "oci-archive" => Ok(Self::OciArchive { file: path.into(), tag }),
            "docker-archive" => Ok(Self::DockerArchive { file: path.into(), tag }),
            // A name that begins with a dash would be an option.
            "containers-storage" if rest.is_empty() || rest.starts_with('-') => {
                Err(bad("it has no name"))
            }
            "containers-storage" => Ok(Self::Storage { name: rest.to_owned() }),
            "docker" => match rest.strip_prefix("//") {
                Some(reference) => Self::registry(reference),
                None => Self::registry(text),
            },
            _ => Self::registry(text),
        }
    }

    fn registry(text: &str) -> Result<Self, ContainerError> {
        reference(text).map(|reference| Self::Registry { reference })
    }
}

/// Reads a reference: `debian` is `docker.io/library/debian:latest`.
///
/// # Errors
/// [`ContainerError::BadReference`].
pub fn reference(text: &str) -> Result<Reference, ContainerError> {
    Reference::try_from(text).map_err(|error| ContainerError::BadReference {
        reference: text.to_owned(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_the_usual_grammar() {
        for (text, whole) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("me/app", "docker.io/me/app:latest"),
            ("docker.io/library/debian:12", "docker.io/library/debian:12"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
        ] {
            assert_eq!(reference(text).unwrap().whole(), whole);
        }
        let digest = format!("localhost:5000/x@sha256:{}", "a".repeat(64));
        assert_eq!(reference(&digest).unwrap().whole(), digest);
        for bad in ["", "Debian", "a b", "x@sha256:12", "-x", "x:", "../x", "https://x/y"] {
            let error = reference(bad).unwrap_err();
            assert!(matches!(error, ContainerError::BadReference { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn sources_have_the_terms_of_skopeo() {
        let layout = ContainerSource::Layout { dir: "/d/x".into(), tag: Some("t".into()) };
        assert_eq!(ContainerSource::parse("oci:/d/x:t").unwrap(), layout);
        let archive = ContainerSource::OciArchive { file: "x.tar".into(), tag: None };
        assert_eq!(ContainerSource::parse("oci-archive:x.tar").unwrap(), archive);
        let tag = Some("debian:12".into());
        let docker = ContainerSource::DockerArchive { file: "x.tar".into(), tag };
        assert_eq!(ContainerSource::parse("docker-archive:x.tar:debian:12").unwrap(), docker);
        let registry = ContainerSource::parse("debian:12").unwrap();
        assert_eq!(ContainerSource::parse("docker://debian:12").unwrap(), registry);
        assert!(ContainerSource::parse("containers-storage:-v").is_err());
        assert!(ContainerSource::parse("oci:").is_err());
    }
}
