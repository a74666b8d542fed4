//! A container image of one file, and instances of it.

use std::path::Path;

use model::HostKernel;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sim::SimGuest;

use super::Daemon;

/// Writes the image as an OCI layout.
fn write_layout(dir: &Path) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(blobs.join(&sum), bytes).unwrap();
        (sum, bytes.len())
    };
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o755);
    layer.append_data(&mut header, "bin/hi", &b"hi\n"[..]).unwrap();
    let (layer, layer_size) = blob(&layer.into_inner().unwrap());
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": { "Cmd": ["/bin/hi"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    });
    let (config, config_size) = blob(config.to_string().as_bytes());
    let kind = |what: &str| format!("application/vnd.oci.image.{what}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind("manifest.v1+json"),
        "config": { "mediaType": kind("config.v1+json"), "digest": format!("sha256:{config}"), "size": config_size },
        "layers": [{ "mediaType": kind("layer.v1.tar"), "digest": format!("sha256:{layer}"), "size": layer_size }],
    });
    let (manifest, size) = blob(manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": kind("manifest.v1+json"), "digest": format!("sha256:{manifest}"), "size": size,
    }]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A static executable without segments.
fn init() -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    elf
}

impl Daemon {
    /// Imports the image as `name`, on a host with a kernel and vsock.
    pub fn import_container(&self, name: &str) {
        let kernel = self.dir.path().join("vmlinuz");
        std::fs::write(&kernel, b"the kernel").unwrap();
        std::fs::write(self.guest_init(), init()).unwrap();
        let version = "6.12.57-test".to_owned();
        self.host.set_kernel(HostKernel { version, kernel: Some(kernel), modules: None });
        self.launcher.set_vsock();
        let layout = self.dir.path().join("layout");
        write_layout(&layout);
        let from = format!("oci:{}", layout.display());
        self.post("/images", &json!({ "name": name, "from": from })).expect(202);
        self.until_ready(name);
    }

    /// Starts an instance of a container image, with this agent in its guest.
    pub fn container(&self, name: &str) -> SimGuest {
        let guest = SimGuest::default();
        let serves = guest.clone();
        self.launcher.set_vsock_guest(move |stream| serves.serve(stream));
        self.import_container("box");
        self.post("/instances", &json!({ "name": name, "image": "box" })).expect(201);
        guest
    }
}
