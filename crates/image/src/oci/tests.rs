use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use model::Refusal;

use super::*;
use crate::erofs::Image;
use crate::erofs::tests::budget;
use crate::layers::tests::Tar;
use crate::{Cancel, Store, Tool};

/// A directory with an OCI layout that is being made, and a store.
pub struct Made {
    pub dir: tempfile::TempDir,
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A frame of zstd whose blocks are not compressed, after one that is skipped.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    frame.extend([0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    frame.extend((bytes.len() as u32).to_le_bytes());
    for (number, chunk) in bytes.chunks(60_000).enumerate() {
        let last = (number + 1) * 60_000 >= bytes.len();
        let header = (chunk.len() as u32) << 3 | u32::from(last);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(chunk);
    }
    frame
}

pub fn config(diff_ids: &[String], architecture: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {
            "User": "www:www", "WorkingDir": "/srv", "Env": ["PATH=/bin", "A=b"],
            "Entrypoint": ["/bin/app"], "Cmd": ["-v"], "StopSignal": "SIGINT",
            "Labels": {"one": "two"}, "ExposedPorts": {"80/tcp": {}}
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "test"}]
    }))
    .unwrap()
}

pub fn descriptor(media: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": media, "digest": digest(bytes), "size": bytes.len()})
}

impl Made {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/layout/blobs/sha256")).unwrap();
        Self { dir }
    }

    pub fn store(&self) -> Store {
        let dirs = vec![self.dir.path().join("in")];
        Store::new(self.dir.path().join("images"), dirs, budget(), Tool::default())
    }

    fn layout(&self) -> PathBuf {
        self.dir.path().join("in/layout")
    }

    fn blob(&self, bytes: &[u8]) {
        let name = digest(bytes).replace(':', "/");
        fs::write(self.layout().join("blobs").join(name), bytes).unwrap();
    }

    /// Puts an image in the layout and returns its manifest.
    fn image(&self, layers: &[Vec<u8>], architecture: &str) -> Vec<u8> {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = config(&diff_ids, architecture);
        self.blob(&config);
        let mut described = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let bytes = match number % 3 {
                0 => gzip(layer),
                1 => zstd(layer),
                _ => layer.clone(),
            };
            self.blob(&bytes);
            described.push(descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &bytes));
        }
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": described,
        }))
        .unwrap();
        self.blob(&manifest);
        manifest
    }

    fn index(&self, images: &[(&str, &[u8])]) {
        let manifests: Vec<_> = images
            .iter()
            .map(|(tag, bytes)| {
                let mut one = descriptor("application/vnd.oci.image.manifest.v1+json", bytes);
                one["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
                one
            })
            .collect();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.layout().join("index.json"), index.to_string()).unwrap();
        fs::write(self.layout().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    pub fn pull(&self, source: &str) -> Result<Pulled, ContainerError> {
        let store = self.store();
        let _pulling = store.pulling();
        let source = ContainerSource::parse(source)?;
        let (options, progress) = (PullOptions::default(), Progress::default());
        store.pull(&source, &options, &progress, &|| {}, &Cancel::default()).map_err(|error| {
            let ImageError::Container(error) = error else { panic!("{error}") };
            *error
        })
    }

    fn of_layout(&self) -> String {
        format!("oci:{}", self.layout().display())
    }

    /// Names of files below the store, without those that are complete.
    pub fn unfinished(&self) -> Vec<String> {
        let mut found = Vec::new();
        for dir in ["blobs/sha256", "blobs", "roots"] {
            let Ok(entries) = fs::read_dir(self.dir.path().join("images").join(dir)) else {
                continue;
            };
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            found.extend(names.filter(|name| name.contains("unfinished")));
        }
        found
    }
}

fn two_layers() -> Vec<Vec<u8>> {
    vec![
        Tar::default().file("etc/motd", "hello").file("gone", "x").end(),
        Tar::default().file(".wh.gone", "").file("usr/lib/libcuda.so.550.54.14", "").end(),
        Tar::default()
            .file("usr/lib/modules/6.1.0-9-amd64/vmlinuz", "a kernel")
            .file("usr/lib/modules/6.1.0-9-amd64/modules.dep", "x:")
            .file(
                "usr/lib/modules/6.1.0-9-amd64/updates/dkms/nvidia.ko",
                "\x7fELF\0license=Dual MIT/GPL\0version=550.54.14\0",
            )
            .file("boot/vmlinuz-6.1.0-9-amd64", "a kernel")
            .end(),
    ]
}

#[test]
fn a_layout_becomes_a_root_and_says_what_is_in_it() {
    let made = Made::new();
    let manifest = made.image(&two_layers(), architecture());
    made.index(&[("one", &manifest)]);
    let pulled = made.pull(&made.of_layout()).unwrap();
    assert_eq!(pulled.digest, digest(&manifest));
    assert_eq!(pulled.config.command(), ["/bin/app", "-v"]);
    assert_eq!(pulled.config.user, "www:www");
    assert_eq!(pulled.config.stop_signal.as_deref(), Some("SIGINT"));
    let contents = &pulled.contents;
    assert_eq!(contents.nvidia_libraries.as_deref(), Some("550.54.14"));
    let module = &contents.nvidia_modules[0];
    assert_eq!((module.version.as_deref(), module.open), (Some("550.54.14"), Some(true)));
    let kernel = contents.kernel().unwrap();
    assert!(kernel.has_modules && kernel.version == "6.1.0-9-amd64", "{kernel:?}");
    let (store, to) = (made.store(), made.dir.path().join("kernel"));
    let cancel = Cancel::default();
    store.extract(&pulled.chain, &kernel.path, &to, &cancel).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"a kernel");
    let mut modules = BTreeSet::new();
    store
        .modules(&pulled.chain, &kernel.version, &mut |path, bytes| {
            assert!(!bytes.is_empty());
            modules.insert(path.to_owned());
            Ok(())
        })
        .unwrap();
    assert_eq!(modules.into_iter().collect::<Vec<_>>(), ["modules.dep", "updates/dkms/nvidia.ko"]);
    let root = Image::open(fs::File::open(store.root_path(&pulled.chain).unwrap()).unwrap());
    let root = root.unwrap();
    assert_eq!(root.find(b"/gone").unwrap(), None);
    let motd = root.find(b"/etc/motd").unwrap().unwrap();
    assert_eq!(root.whole(&motd).unwrap(), b"hello");
    assert_eq!(made.unfinished(), Vec::<String>::new());
}

#[test]
fn an_archive_gives_the_same_image() {
    let made = Made::new();
    let manifest = made.image(&two_layers(), architecture());
    made.index(&[("docker.io/library/x:1", &manifest)]);
    let from_layout = made.pull(&made.of_layout()).unwrap();
    let path = made.dir.path().join("in/image.tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
    builder.append_dir_all(".", made.layout()).unwrap();
    builder.finish().unwrap();
    let source = format!("oci-archive:{}", path.display());
    assert_eq!(made.pull(&source).unwrap(), from_layout);
    assert_eq!(made.pull(&format!("{source}:docker.io/library/x:1")).unwrap(), from_layout);
    let error = made.pull(&format!("{source}:y")).unwrap_err();
    assert!(matches!(error, ContainerError::UnknownTag { .. }), "{error}");
}

#[test]
fn an_archive_of_docker_is_read_with_its_links() {
    let made = Made::new();
    let layers = two_layers();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = String::from_utf8(config(&diff_ids, architecture())).unwrap();
    let list = serde_json::json!([{
        "Config": "c.json", "RepoTags": ["debian:12"],
        "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]
    }]);
    let text = |layer: &[u8]| String::from_utf8_lossy(layer).into_owned();
    let archive = Tar::default()
        .file("real/layer.tar", &text(&layers[0]))
        .symlink("a/layer.tar", "../real/layer.tar")
        .file("b/layer.tar", &text(&layers[1]))
        .file("c/layer.tar", &text(&layers[2]))
        .file("c.json", &config)
        .file("manifest.json", &list.to_string())
        .end();
    let path = made.dir.path().join("in/docker.tar");
    fs::write(&path, &archive).unwrap();
    let source = format!("docker-archive:{}", path.display());
    let pulled = made.pull(&source).unwrap();
    assert_eq!(pulled.chain, chain(diff_ids.iter().map(String::as_str)));
    assert_eq!(made.pull(&format!("{source}:docker.io/library/debian:12")).unwrap(), pulled);
    fs::write(&path, gzip(&archive)).unwrap();
    let error = made.pull(&source).unwrap_err().to_string();
    assert!(error.contains("gunzip"), "{error}");
}

#[test]
fn an_index_is_chosen_from_by_platform() {
    let made = Made::new();
    let layers = vec![Tar::default().file("a", "1").end()];
    let ours = made.image(&layers, architecture());
    let other = made.image(&layers, "s390x");
    let mut described = [descriptor("x", &other), descriptor("x", &ours)];
    for (one, architecture) in described.iter_mut().zip(["s390x", architecture()]) {
        one["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
    }
    let inner = serde_json::json!({"schemaVersion": 2, "manifests": described}).to_string();
    made.blob(inner.as_bytes());
    made.index(&[("one", inner.as_bytes()), ("s390x", &other)]);
    assert_eq!(made.pull(&format!("{}:one", made.of_layout())).unwrap().digest, digest(&ours));
    let error = made.pull(&format!("{}:s390x", made.of_layout())).unwrap_err();
    assert!(matches!(error, ContainerError::WrongPlatform { .. }), "{error}");
    let error = made.pull(&made.of_layout()).unwrap_err();
    assert!(matches!(error, ContainerError::Ambiguous { .. }), "{error}");
}

#[test]
fn wrong_blobs_leave_nothing() {
    let made = Made::new();
    let layers = two_layers();
    let manifest = made.image(&layers, architecture());
    made.index(&[("one", &manifest)]);
    let first = gzip(&layers[0]);
    let path = made.layout().join("blobs").join(digest(&first).replace(':', "/"));
    let mut wrong = first.clone();
    wrong[20] ^= 1;
    fs::write(&path, &wrong).unwrap();
    let error = made.pull(&made.of_layout()).unwrap_err();
    assert!(matches!(error, ContainerError::WrongDigest { .. }), "{error}");
    fs::write(&path, &first[1..]).unwrap();
    let error = made.pull(&made.of_layout()).unwrap_err();
    assert!(matches!(error, ContainerError::WrongSize { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    let error = made.pull(&made.of_layout()).unwrap_err();
    assert!(matches!(error, ContainerError::BadPlace { .. }), "{error}");
    assert_eq!(made.unfinished(), Vec::<String>::new());
    // Every error has a code and a remedy.
    let refusal = Refusal::from(error);
    assert!(!refusal.remedy.is_empty());
}

#[test]
fn a_layout_elsewhere_is_not_read() {
    let made = Made::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let store = made.store();
    let source = ContainerSource::Layout { dir: elsewhere.path().into(), tag: None };
    fs::write(elsewhere.path().join("index.json"), "{}").unwrap();
    let (options, progress) = (PullOptions::default(), Progress::default());
    let error = store.pull(&source, &options, &progress, &|| {}, &Cancel::default());
    assert!(matches!(error.unwrap_err(), ImageError::Outside { .. }));
}

#[test]
fn layers_are_shared_and_swept_when_no_image_needs_them() {
    let made = Made::new();
    let base = two_layers();
    let mut more = base.clone();
    more.push(Tar::default().file("more", "1").end());
    let (one, two) = (made.image(&base, architecture()), made.image(&more, architecture()));
    made.index(&[("one", &one), ("two", &two)]);
    let one = made.pull(&format!("{}:one", made.of_layout())).unwrap();
    let two = made.pull(&format!("{}:two", made.of_layout())).unwrap();
    let store = made.store();
    let blobs = || fs::read_dir(made.dir.path().join("images/blobs/sha256")).unwrap().count();
    // Two manifests, two configurations, four layers.
    assert_eq!(blobs(), 8);
    let needed =
        |pulled: &Pulled| Needed { digest: pulled.digest.clone(), chain: pulled.chain.clone() };
    fs::write(made.dir.path().join("images/blobs/sha256/unfinished-x"), "half").unwrap();
    let pulling = store.pulling();
    store.sweep_containers(&[needed(&one)]).unwrap();
    assert_eq!(blobs(), 9, "nothing is swept while a pull runs");
    drop(pulling);
    let freed = store.sweep_containers(&[needed(&one)]).unwrap();
    assert!(freed > 0);
    assert_eq!(blobs(), 5);
    let exists = |pulled: &Pulled| store.root_path(&pulled.chain).unwrap().exists();
    assert!(exists(&one) && !exists(&two));
    store.sweep_containers(&[]).unwrap();
    assert_eq!(blobs(), 0);
    assert!(!exists(&one));
}

#[test]
fn a_pull_that_is_cancelled_leaves_nothing() {
    let made = Made::new();
    let manifest = made.image(&two_layers(), architecture());
    made.index(&[("one", &manifest)]);
    let source = ContainerSource::parse(&made.of_layout()).unwrap();
    let (cancel, options, progress) =
        (Cancel::default(), PullOptions::default(), Progress::default());
    let pulled = made.store().pull(&source, &options, &progress, &|| cancel.set(), &cancel);
    assert!(matches!(pulled, Err(ImageError::Cancelled)));
    assert_eq!(made.unfinished(), Vec::<String>::new());
    assert!(fs::read_dir(made.dir.path().join("images/roots")).unwrap().next().is_none());
}

#[test]
fn broken_manifests_say_what_is_wrong() {
    for (bytes, word) in [
        (r"<html>", "expected value"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
        (r#"{"schemaVersion":2}"#, "neither"),
        (
            r#"{"schemaVersion":2,"layers":[],"config":{"mediaType":"x","digest":"md5:00","size":1}}"#,
            "digest",
        ),
        (
            r#"{"schemaVersion":2,"layers":[],"config":{"mediaType":"x","digest":"sha256:../x","size":1}}"#,
            "Invalid encoded value",
        ),
    ] {
        let error = manifest::manifest(bytes.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{bytes}: {error}");
    }
}

fn architecture() -> &'static str {
    manifest::architecture()
}
