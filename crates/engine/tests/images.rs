//! Imports: how many there may be, and how one is ended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::File;

use engine::{Engine, Image, ImageLimits, ImageSource, ImageStatus, ImportImage};
use model::{Code, DiskFormat, Refusal};
use support::Rig;

/// A disk that is a hole of this many bytes.
fn hole(rig: &Rig, name: &str, bytes: u64) {
    File::create(rig.dir.path().join(name)).unwrap().set_len(bytes).unwrap();
}

fn import(engine: &Engine, name: &str, disk: &str) -> Result<Image, Refusal> {
    engine.images().import(ImportImage {
        name: name.into(),
        disk: Some((ImageSource::Path(disk.into()), DiskFormat::Raw)),
        ..ImportImage::default()
    })
}

fn until(engine: &Engine, name: &str, status: ImageStatus) -> Image {
    loop {
        let image = engine.images().find(name).unwrap();
        if image.status == status {
            return image;
        }
        assert_ne!(image.status, ImageStatus::Ready, "{image:?}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The files of all images.
fn files(rig: &Rig) -> usize {
    std::fs::read_dir(rig.config().state_dir.join("images")).map_or(0, Iterator::count)
}

#[test]
fn removing_an_image_ends_its_import() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    // Its zeros alone would be hashed for minutes.
    hole(&rig, "large.raw", 255 << 30);
    import(&engine, "large", "large.raw").unwrap();
    until(&engine, "large", ImageStatus::Converting);
    while files(&rig) == 0 {
        std::thread::yield_now();
    }
    engine.images().delete("large").unwrap();
    assert_eq!(files(&rig), 0, "a partial file is left");
    assert_eq!(engine.images().find("large").unwrap_err().code, Code::NotFound);
    // The name is free at once.
    rig.import(&engine, "large");
}

#[test]
fn only_so_many_imports_run_at_once() {
    let mut rig = Rig::new();
    rig.image_limits = ImageLimits { at_once: 2, ..ImageLimits::default() };
    let (engine, _) = rig.open_recovered();
    hole(&rig, "large.raw", 255 << 30);
    for name in ["one", "two"] {
        import(&engine, name, "large.raw").unwrap();
    }
    let refusal = import(&engine, "three", "large.raw").unwrap_err();
    assert_eq!(refusal.code, Code::TooManyRequests);
    assert_eq!(engine.images().find("three").unwrap_err().code, Code::NotFound);
    engine.images().delete("one").unwrap();
    rig.import(&engine, "three");
    engine.images().delete("two").unwrap();
}

#[test]
fn a_refused_import_leaves_its_place_to_others() {
    let mut rig = Rig::new();
    rig.image_limits = ImageLimits { at_once: 1, largest_file: 1 << 20 };
    let (engine, _) = rig.open_recovered();
    hole(&rig, "giant.raw", 8 << 40);
    import(&engine, "giant", "giant.raw").unwrap();
    let failed = until(&engine, "giant", ImageStatus::Failed).error.unwrap();
    assert!(failed.contains("larger than 1 MB"), "{failed}");
    assert_eq!(import(&engine, "../x", "giant.raw").unwrap_err().code, Code::InvalidName);
    rig.import(&engine, "debian");
}
