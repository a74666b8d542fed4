//! Instances whose root is a container image, on the simulated host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use engine::{
    CreateInstance, DiskWish, ImageSource, ImageStatus, ImportImage, InstanceState, PullImage,
    WantedContent,
};
use guest_protocol::{CommandResult, GuestConfig, disk};
use image::oci::{ContainerSource, PullOptions};
use model::{Code, ContainerBoot, ContainerRun, HostKernel};
use sha2::{Digest, Sha256};
use support::Rig;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes an image of one file as an OCI layout, with this configuration.
fn write_layout(dir: &Path, config: &str) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let sum = hex(bytes);
        std::fs::write(blobs.join(&sum), bytes).unwrap();
        (sum, bytes.len())
    };
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o755);
    layer.append_data(&mut header, "bin/hi", &b"hi\n"[..]).unwrap();
    let (layer, layer_size) = blob(&layer.into_inner().unwrap());
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}"#,
        if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
    );
    let (config, config_size) = blob(config.as_bytes());
    let kind = "application/vnd.oci.image";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json","digest":"sha256:{config}","size":{config_size}}},
        "layers":[{{"mediaType":"{kind}.layer.v1.tar","digest":"sha256:{layer}","size":{layer_size}}}]}}"#
    );
    let (manifest, size) = blob(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json","digest":"sha256:{manifest}","size":{size}}}]}}"#
    );
    std::fs::write(dir.join("index.json"), index).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A static executable without segments, of this release of Handover.
fn init(release: u8) -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18] = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    elf.push(release);
    elf
}

/// A host with a kernel, the guest's init, and a container image `box` of this configuration.
fn rig(config: &str) -> (Rig, engine::Engine) {
    let rig = Rig::new();
    std::fs::write(rig.dir.path().join("handover-guest"), init(0)).unwrap();
    let kernel = rig.dir.path().join("vmlinuz");
    std::fs::write(&kernel, b"the kernel").unwrap();
    let version = "6.12.57-test".to_owned();
    rig.host.set_kernel(HostKernel { version, kernel: Some(kernel), modules: None });
    let layout = rig.dir.path().join("layout");
    write_layout(&layout, config);
    let engine = rig.open();
    let request = PullImage {
        name: "box".into(),
        source: ContainerSource::Layout { dir: layout, tag: None },
        options: PullOptions::default(),
        tags: BTreeMap::new(),
    };
    engine.images().pull(request).unwrap();
    loop {
        let image = engine.images().find("box").unwrap();
        match image.status {
            ImageStatus::Ready => return (rig, engine),
            ImageStatus::Failed => panic!("{:?}", image.error),
            _ => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
}

const CONFIG: &str = r#"{"User":"worker","WorkingDir":"/srv","Env":["PATH=/bin","COLOUR=blue"],"Entrypoint":["/bin/hi"],"Cmd":["one"],"StopSignal":"SIGINT"}"#;

fn wanted() -> CreateInstance {
    CreateInstance { name: "ml".into(), image: Some("box".into()), ..CreateInstance::default() }
}

/// What the guest's init is told.
fn told(rig: &Rig, instance: &engine::Instance) -> (GuestConfig, ContainerBoot) {
    let boot = rig.launcher.launched(instance.id).unwrap().container.unwrap();
    let header = boot.config.first_chunk().unwrap();
    let length = disk::config_length(header).unwrap();
    let config = disk::decode_config(&boot.config[disk::HEADER_BYTES..][..length]).unwrap();
    (config, boot)
}

#[test]
fn the_command_is_the_images_unless_another_is_asked_for() {
    let (rig, engine) = rig(CONFIG);
    let plain = engine.instances().create(wanted()).unwrap();
    let (config, boot) = told(&rig, &plain);
    assert_eq!(config.argv, ["/bin/hi", "one"]);
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("worker", "/srv"));
    assert_eq!(
        (config.env.join(" ").as_str(), config.hostname.as_str()),
        ("PATH=/bin COLOUR=blue", "ml")
    );
    assert_eq!(config.stop_signal, "SIGINT");
    assert!(config.agent.is_none() && boot.vsock.is_none(), "this host has no vsock");
    let spec = rig.launcher.launched(plain.id).unwrap();
    assert!(spec.kernel.unwrap().initrd.is_some() && spec.disk.is_none());
    assert_eq!(spec.disks[0].disk.serial, ContainerBoot::UPPER);
    assert_eq!(plain.options.booted.as_deref(), Some("this host's, 6.12.57-test"));

    rig.launcher.set_vsock();
    let container = ContainerRun {
        entrypoint: Some(vec!["/bin/other".into()]),
        env: [("COLOUR".to_owned(), "red".to_owned())].into(),
        user: Some("0".into()),
        ..ContainerRun::default()
    };
    let other = CreateInstance { name: "other".into(), container, ..wanted() };
    let other = engine.instances().create(other).unwrap();
    let (config, boot) = told(&rig, &other);
    assert_eq!(config.argv, ["/bin/other"], "an entry point leaves the image's command out");
    assert_eq!(config.env, ["PATH=/bin", "COLOUR=red"]);
    assert_eq!((config.user.as_str(), boot.vsock), ("0", Some(other.uid)));
    let roots: Vec<_> = [&plain, &other].map(|one| told(&rig, one).1.root).into();
    assert_eq!(roots[0], roots[1], "one file system for both");
}

#[test]
fn its_end_is_that_of_its_command() {
    let (rig, engine) = rig(CONFIG);
    let end = |record: Vec<u8>| {
        let instance = engine.instances().create(wanted()).unwrap();
        rig.launcher.end_command(instance.id, record);
        let ended = loop {
            let now = engine.instances().find("ml").unwrap();
            if now.state == InstanceState::Shutdown {
                break now;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        engine.instances().delete("ml").unwrap();
        (ended.exit_code, ended.state_error)
    };
    let record = |result: &CommandResult| disk::encode_result(result).unwrap();
    assert_eq!(end(record(&CommandResult::exited(3))), (Some(3), None));
    assert_eq!(end(record(&CommandResult::signaled(9))), (Some(137), None));
    let missing = CommandResult {
        exit_code: Some(127),
        error: Some("/bin/no: not found".into()),
        ..CommandResult::default()
    };
    assert_eq!(end(record(&missing)), (Some(127), Some("/bin/no: not found".into())));
    for wrong in [vec![0; 4096], vec![0xff; 4096], b"short".to_vec()] {
        let (code, why) = end(wrong);
        assert!(code.is_none() && why.unwrap().contains("is not known"));
    }
}

#[test]
fn its_layer_is_a_volume_that_goes_with_it() {
    let (rig, engine) = rig(CONFIG);
    let with = CreateInstance { overlay_size: Some(64 << 20), ..wanted() };
    engine.instances().create(with).unwrap();
    let (layer, _) = engine.volumes().find("ml/root").unwrap();
    assert_eq!(layer.size, 64 << 20);
    let file = rig.config().state_dir.join(format!("volumes/{}/disk", layer.id));
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[1080..1082], [0x53, 0xef], "the magic number of ext4");
    engine.instances().stop("ml").unwrap();
    let kept = engine.instances().detach("ml", "ml/root").unwrap_err();
    assert!(kept.message.contains("writable layer"), "{kept:?}");
    engine.instances().start("ml").unwrap();
    engine.instances().delete("ml").unwrap();
    assert!(engine.volumes().find("ml/root").is_err() && !file.exists());
}

#[test]
fn an_empty_volume_that_is_mounted_gets_a_file_system() {
    let (rig, engine) = rig(CONFIG);
    let disk = DiskWish {
        mount_path: Some("/data".into()),
        content: WantedContent::New(engine::NewVolume {
            size: 16 << 20,
            format: model::DiskFormat::Raw,
            allocate: false,
        }),
        bus: None,
        serial: None,
        read_only: false,
    };
    let with = CreateInstance { disks: vec![disk], ..wanted() };
    let created = engine.instances().create(with).unwrap();
    let (config, _) = told(&rig, &created);
    assert_eq!(
        (config.mounts[0].path.as_str(), config.mounts[0].serial.as_str()),
        ("/data", "disk1")
    );
    let spec = rig.launcher.launched(created.id).unwrap();
    let bytes = std::fs::read(&spec.disks[1].path).unwrap();
    assert_eq!(bytes[1080..1082], [0x53, 0xef]);
}

#[test]
fn what_a_container_image_cannot_have_is_refused() {
    let (rig, engine) = rig("{}");
    let refused = |request: CreateInstance, words: &str| {
        let refusal = engine.instances().create(request).unwrap_err();
        assert!(refusal.message.contains(words), "{refusal:?}");
        assert_eq!(refusal.code, Code::InvalidState);
    };
    refused(wanted(), "has no command");
    let run = ContainerRun { cmd: Some(vec!["/bin/hi".into()]), ..ContainerRun::default() };
    let with = || CreateInstance { container: run.clone(), ..wanted() };
    refused(CreateInstance { firmware: Some(model::Firmware::Uefi), ..with() }, "UEFI boots disks");
    rig.import(&engine, "debian");
    refused(CreateInstance { image: Some("debian".into()), ..with() }, "is for container images");
    assert!(engine.images().delete("box").is_ok(), "nothing uses it");
    rig.assert_untouched("all were refused");
}

#[test]
fn a_stopped_one_can_run_another_command() {
    let (rig, engine) = rig(CONFIG);
    engine.instances().create(wanted()).unwrap();
    let run = ContainerRun { cmd: Some(vec!["two".into()]), ..ContainerRun::default() };
    let running = engine.instances().start_with("ml", Some(run.clone())).unwrap_err();
    assert_eq!(running.code, Code::InvalidState);
    engine.instances().stop("ml").unwrap();
    let started = engine.instances().start_with("ml", Some(run)).unwrap();
    assert_eq!(told(&rig, &started).0.argv, ["/bin/hi", "two"]);
    let refusal = engine.images().delete("box").unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
}

/// Waits until a pull is no longer under way; its status, if it is there.
fn pulled(engine: &engine::Engine, name: &str) -> Option<ImageStatus> {
    loop {
        match engine.images().find(name) {
            Err(_) => return None,
            Ok(image) if image.status == ImageStatus::Failed => return Some(image.status),
            Ok(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
}

#[test]
fn an_image_that_is_pulled_again_takes_the_name_over() {
    let (rig, engine) = rig(CONFIG);
    let layout = rig.dir.path().join("layout");
    let again = |dir: &Path| {
        let request = PullImage {
            name: "box".into(),
            source: ContainerSource::Layout { dir: dir.into(), tag: None },
            options: PullOptions::default(),
            tags: BTreeMap::new(),
        };
        let pull = engine.images().pull_again(request).unwrap();
        assert!(pull.name.starts_with("box@pull-"), "{}", pull.name);
        (pulled(&engine, &pull.name), pull.name)
    };
    let names = || -> Vec<String> {
        engine.images().all(&BTreeMap::new()).unwrap().into_iter().map(|image| image.name).collect()
    };
    let first = engine.images().find("box").unwrap();
    assert_eq!(again(&layout).0, None, "it succeeds");
    assert_eq!(engine.images().find("box").unwrap(), first, "the same image stays as it is");
    // One that fails changes nothing.
    let (status, failed) = again(Path::new("/no/such"));
    assert_eq!(status, Some(ImageStatus::Failed));
    engine.images().delete(&failed).unwrap();
    assert_eq!(engine.images().find("box").unwrap(), first);
    // Another image: a machine of the earlier one keeps that.
    let machine = engine.instances().create(wanted()).unwrap();
    let root = told(&rig, &machine).1.root;
    write_layout(&layout, r#"{"Cmd":["/bin/hi","two"]}"#);
    again(&layout);
    let second = engine.images().find("box").unwrap();
    assert_ne!(second.digest, first.digest);
    let aside = engine.instances().find("ml").unwrap().image;
    assert_eq!(aside, format!("box@{}", &first.digest[..19]));
    assert_eq!(names().len(), 2);
    engine.instances().stop("ml").unwrap();
    engine.instances().start("ml").unwrap();
    assert_eq!(told(&rig, &machine).1.root, root);
    // Without a machine, the earlier one is removed.
    write_layout(&layout, r#"{"Cmd":["/bin/hi","three"]}"#);
    again(&layout);
    assert_eq!(names().len(), 2);
}

#[test]
fn a_pull_that_cannot_take_its_name_has_failed_and_leaves_nothing() {
    let (rig, engine) = rig(CONFIG);
    let first = engine.images().find("box").unwrap();
    let layout = rig.dir.path().join("layout");
    write_layout(&layout, r#"{"Cmd":["/bin/hi","two"]}"#);
    let again = |name: &str| PullImage {
        name: name.into(),
        source: ContainerSource::Layout { dir: layout.clone(), tag: None },
        options: PullOptions::default(),
        tags: BTreeMap::new(),
    };
    rig.sqlite()
        .execute_batch(
            "CREATE TRIGGER no_names BEFORE UPDATE OF name ON images WHEN NEW.name = 'box'
             BEGIN SELECT RAISE(ABORT, 'no names today'); END",
        )
        .unwrap();
    let pull = engine.images().pull_again(again("box")).unwrap();
    assert_eq!(pulled(&engine, &pull.name), Some(ImageStatus::Failed));
    let failed = engine.images().find(&pull.name).unwrap();
    let why = failed.error.unwrap();
    assert!(why.contains("no names today"), "{why}");
    assert_eq!(engine.images().find("box").unwrap(), first);
    // The next daemon removes the failed pull.
    drop(engine);
    let (engine, _) = rig.open_recovered();
    assert_eq!(engine.images().find(&pull.name).unwrap_err().code, Code::NotFound);
    assert_eq!(engine.images().find("box").unwrap(), first);
    // The longest name.
    let longest = "x".repeat(255);
    engine.images().pull(again(&longest)).unwrap();
    while engine.images().find(&longest).unwrap().status != ImageStatus::Ready {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let pull = engine.images().pull_again(again(&longest)).unwrap();
    assert_eq!(pulled(&engine, &pull.name), None, "it succeeds");
}

#[test]
fn a_guest_gets_the_time_after_a_pause_and_says_that_it_is_ready() {
    let (rig, engine) = rig(CONFIG);
    rig.launcher.set_vsock();
    let machine = engine.instances().create(wanted()).unwrap();
    assert_eq!(engine.instances().agent_ready(&machine), Some(false), "nothing listens");
    let guest = sim::SimGuest::default();
    let serves = guest.clone();
    rig.launcher.set_vsock_guest(move |stream| serves.serve(stream));
    assert_eq!(engine.instances().agent_ready(&machine), Some(true));
    let paused = engine.instances().pause("ml").unwrap();
    assert_eq!(engine.instances().agent_ready(&paused), None);
    engine.instances().resume("ml").unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    while guest.clocks().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(u128::from(guest.clocks()[0]).abs_diff(now) < 60_000_000_000);
}

#[test]
fn an_image_is_not_removed_while_a_machine_has_its_kernel() {
    let (rig, engine) = rig(CONFIG);
    let mut kernel = vec![0; 0x1000];
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    std::fs::write(rig.dir.path().join("own"), kernel).unwrap();
    let request = ImportImage {
        name: "own".into(),
        disk: None,
        kernel: Some(ImageSource::Path(rig.dir.path().join("own"))),
        initrd: None,
        cmdline: None,
        tags: BTreeMap::new(),
    };
    engine.images().import(request).unwrap();
    while engine.images().find("own").unwrap().status != ImageStatus::Ready {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let container = ContainerRun { kernel: Some("own".into()), ..ContainerRun::default() };
    engine.instances().create(CreateInstance { container, ..wanted() }).unwrap();
    let refusal = engine.images().delete("own").unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(refusal.remedy.contains("instance rm ml"), "{refusal:?}");
    engine.instances().delete("ml").unwrap();
    engine.images().delete("own").unwrap();
}

/// The kernels that are there.
fn kernels(rig: &Rig) -> usize {
    std::fs::read_dir(rig.config().state_dir.join("images/kernels")).unwrap().count()
}

#[test]
fn a_kernel_goes_when_it_was_replaced_and_no_machine_uses_it() {
    let (rig, engine) = rig(CONFIG);
    let running = engine.instances().create(wanted()).unwrap();
    let other = CreateInstance { name: "other".into(), ..wanted() };
    engine.instances().create(other).unwrap();
    assert_eq!(kernels(&rig), 1, "machines share it");
    // Handover is upgraded: one machine starts again, the other one runs on.
    std::fs::write(rig.dir.path().join("handover-guest"), init(1)).unwrap();
    engine.instances().stop("other").unwrap();
    engine.instances().start("other").unwrap();
    assert_eq!(kernels(&rig), 2);
    engine.instances().delete(&running.id.to_string()).unwrap();
    engine.images().prune().unwrap();
    assert_eq!(kernels(&rig), 1);
    engine.instances().delete("other").unwrap();
    assert_eq!(kernels(&rig), 1, "the next machine needs it");
    engine.images().prune().unwrap();
    assert_eq!(kernels(&rig), 0);
}

#[test]
fn an_init_that_is_not_static_is_refused() {
    let (rig, engine) = rig(CONFIG);
    // It has a loader, as what `cargo build` makes of the guest.
    std::fs::copy("/bin/true", rig.dir.path().join("handover-guest")).unwrap();
    let refusal = engine.instances().create(wanted()).unwrap_err();
    assert_eq!(refusal.code, Code::HypervisorMissing);
    assert!(refusal.message.contains("is not static"), "{refusal}");
    assert!(refusal.remedy.contains("make install"), "{refusal}");
}
