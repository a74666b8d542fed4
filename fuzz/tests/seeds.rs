//! Each seed is read once by its target: what was found once stays found.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use fuzz::{TARGETS, seeds};

#[test]
fn every_seed_is_read() {
    for target in TARGETS {
        let all = seeds::of(target).unwrap_or_default();
        assert!(!all.is_empty(), "{} has no seeds", target.name);
        let mut kinds = BTreeSet::new();
        for (name, bytes) in all {
            assert!(bytes.len() <= target.longest, "{}/{name} is too long", target.name);
            println!("{}/{name}", target.name);
            kinds.insert((target.read)(&bytes));
            // A beginning of it, and one with other bytes.
            for at in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let (mut changed, cut) = (bytes.clone(), bytes.get(..at).unwrap_or_default());
                (target.read)(cut);
                changed.iter_mut().skip(at).take(1).for_each(|byte| *byte = !*byte);
                (target.read)(&changed);
            }
        }
        assert!(kinds.len() > 1, "the seeds of {} are all read alike", target.name);
    }
}

#[test]
fn the_seeds_are_small_and_each_belongs_to_a_target() {
    let mut bytes = 0;
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        assert!(fuzz::target(&name).is_some(), "seeds/{name} is of no target");
        let files = fs::read_dir(folder.path()).unwrap();
        bytes += files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    assert!(bytes < 1 << 20, "the seeds have {bytes} bytes");
}
