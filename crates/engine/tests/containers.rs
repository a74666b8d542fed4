//! Container images: pulled, used, removed, and swept after a crash.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;

use engine::{ContainerSource, Engine, Image, ImageStatus, PullImage, PullOptions};
use model::{Code, Refusal};
use sha2::{Digest as _, Sha256};
use support::Rig;

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob(dir: &Path, bytes: &[u8]) -> serde_json::Value {
    let digest = digest(bytes);
    let name = digest.replace(':', "/");
    std::fs::write(dir.join("blobs").join(name), bytes).unwrap();
    serde_json::json!({"mediaType": "x", "digest": digest, "size": bytes.len()})
}

/// Writes a layout with an image of one layer, for each of these texts.
fn layout(rig: &Rig, name: &str, texts: &[&str]) -> ContainerSource {
    let dir = rig.dir.path().join(name);
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for text in texts {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "etc/text", text.as_bytes()).unwrap();
        let layer = builder.into_inner().unwrap();
        diff_ids.push(digest(&layer));
        layers.push(blob(&dir, &layer));
    }
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["/bin/app"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(&dir, config.to_string().as_bytes());
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = blob(&dir, manifest.to_string().as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    ContainerSource::Layout { dir: name.into(), tag: None }
}

fn pull(engine: &Engine, name: &str, source: ContainerSource) -> Result<Image, Refusal> {
    engine.images().pull(PullImage {
        name: name.into(),
        source,
        options: PullOptions::default(),
        tags: std::collections::BTreeMap::new(),
    })
}

fn ended(engine: &Engine, name: &str) -> Image {
    loop {
        let image = engine.images().find(name).unwrap();
        if matches!(image.status, ImageStatus::Ready | ImageStatus::Failed) {
            return image;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// How many blobs and roots there are.
fn files(rig: &Rig) -> (usize, usize) {
    let images = rig.config().state_dir.join("images");
    let count = |dir: &str| std::fs::read_dir(images.join(dir)).map_or(0, Iterator::count);
    (count("blobs/sha256"), count("roots"))
}

#[test]
fn a_container_image_is_pulled_and_found_by_any_form_of_its_name() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let pending = pull(&engine, "app:1", layout(&rig, "one", &["1"])).unwrap();
    assert_eq!(pending.status, ImageStatus::Pending);
    let image = ended(&engine, "app:1");
    assert_eq!(image.status, ImageStatus::Ready, "{:?}", image.error);
    let container = image.container.unwrap();
    assert_eq!(container.config.cmd, ["/bin/app"]);
    let same = engine.images().find("docker.io/library/app:1").unwrap();
    assert_eq!(same.name, "app:1");
    let refused = pull(&engine, "app:1", layout(&rig, "one", &["1"])).unwrap_err();
    assert_eq!(refused.code, Code::AlreadyExists);
    // It survives the daemon.
    let engine = rig.open_again(engine);
    engine.recover().unwrap();
    assert_eq!(engine.images().find("app:1").unwrap().container.unwrap(), container);
    assert_eq!(files(&rig), (3, 1));
}

#[test]
fn what_no_image_needs_is_removed() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    pull(&engine, "one", layout(&rig, "one", &["1"])).unwrap();
    ended(&engine, "one");
    pull(&engine, "two", layout(&rig, "two", &["1", "2"])).unwrap();
    ended(&engine, "two");
    // Two manifests, two configurations, two layers of which one is shared.
    assert_eq!(files(&rig), (6, 2));
    engine.images().delete("two").unwrap();
    assert_eq!(files(&rig), (3, 1));
    let images = rig.config().state_dir.join("images");
    std::fs::write(images.join("blobs/sha256/unfinished-x"), "half").unwrap();
    std::fs::write(images.join("roots/unfinished-x"), "half").unwrap();
    let engine = rig.open_again(engine);
    engine.recover().unwrap();
    assert_eq!(files(&rig), (3, 1), "a start removes what a crash left");
    let pruned = engine.images().prune().unwrap();
    assert_eq!(pruned.names, ["one"]);
    assert!(pruned.freed > 0);
    assert_eq!(files(&rig), (0, 0));
    assert_eq!(engine.images().find("one").unwrap_err().code, Code::NotFound);
}

#[test]
fn a_pull_that_fails_says_why_and_leaves_nothing() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let absent = ContainerSource::Layout { dir: "absent".into(), tag: None };
    pull(&engine, "absent", absent).unwrap();
    let image = ended(&engine, "absent");
    assert_eq!(image.status, ImageStatus::Failed);
    assert!(image.error.unwrap().contains("index.json"));
    assert_eq!(image.error_code, Some(Code::InvalidImage));
    assert_eq!(files(&rig), (0, 0));
    // A failed name can be used again.
    pull(&engine, "absent", layout(&rig, "one", &["1"])).unwrap();
    assert_eq!(ended(&engine, "absent").status, ImageStatus::Ready);
}

#[test]
fn a_disk_is_not_made_from_a_container_image() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    pull(&engine, "one", layout(&rig, "one", &["1"])).unwrap();
    ended(&engine, "one");
    let refused = engine.images().resize("one", 1 << 30, false).unwrap_err();
    assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
}
