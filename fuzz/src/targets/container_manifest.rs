//! Manifests, indexes and configurations of container images.

use image::oci::manifest::{Manifest, configuration, index, manifest};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "container_manifest",
    reads: "the manifest, index or configuration of a container image",
    read,
    words: &[
        "\"schemaVersion\":2",
        "\"schemaVersion\":1",
        "\"layers\":[]",
        "\"manifests\":[]",
        "\"config\":",
        "\"digest\":\"sha256:",
        "\"size\":-1",
        "\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}",
        "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}",
        "\"Env\":null",
        "sha256:../../etc/passwd",
        "md5:00",
    ],
    longest: 1 << 14,
};

fn read(bytes: &[u8]) -> Kind {
    let found = manifest(bytes);
    if let Ok(Manifest::Image(parts)) = &found {
        for blob in parts.layers.iter().chain([&parts.config]) {
            // It becomes the name of a file.
            let hex = blob.digest.strip_prefix("sha256:").unwrap_or_default();
            assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
    let first = Kind::of_result(&found.map(|_| "a manifest"));
    let config = configuration(bytes, 0, "amd64").map(|_| "a configuration");
    first.with(Kind::of_result(&index(bytes).map(|_| "an index"))).with(Kind::of_result(&config))
}
