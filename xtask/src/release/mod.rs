//! A release: the version and its section of the changelog, then the archive that people download.

pub mod archive;
pub mod changelog;
pub mod version;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The root of the working tree.
fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Sets the version of the workspace, and turns the changelog's section `Unreleased` into that of the version.
///
/// # Errors
/// If the version is not newer, nothing is unreleased, or a file cannot be read or written.
pub fn prepare(wanted: &str, date: &str) -> Result<()> {
    let manifest = tree().join("Cargo.toml");
    let log = tree().join("CHANGELOG.md");
    let (before, changes) = (read(&manifest)?, read(&log)?);
    let closed = changelog::close(&changes, wanted, date)?;
    let set = version::set(&before, wanted)?;
    write(&log, &closed)?;
    write(&manifest, &set)?;
    println!("Version {wanted}. Next, with a check after each:");
    println!("- `cargo check --workspace`, so that Cargo.lock follows");
    println!(
        "- `HANDOVER_WRITE_STATE=$PWD/crates/engine/tests/states/{wanted}.db cargo test -p engine --test older_state \
         state_of_this_version`, and a line in `README.md` there"
    );
    println!("- `make test`");
    println!(
        "- `git add crates/engine/tests/states && git commit -am 'release: {wanted}' && git tag -s v{wanted} -m 'Handover {wanted}'`"
    );
    println!("- `make release && cargo xtask release-archive`, in a clean checkout of the tag");
    Ok(())
}

/// Builds the archive of the workspace's version below `folder`, with a file of checksums.
///
/// # Errors
/// If the changelog has no section of this version, or a file cannot be read or written.
pub fn archive(handover: &Path, folder: &Path) -> Result<()> {
    let version = version::of(&read(&tree().join("Cargo.toml"))?)?;
    let notes = changelog::section(&read(&tree().join("CHANGELOG.md"))?, &version)
        .with_context(|| format!("CHANGELOG.md has no section {version}: run release first"))?;
    let shown = archive::shown_version(handover)?;
    ensure!(
        shown == format!("handover {version}"),
        "{} is {shown:?} and not version {version}: run make release",
        handover.display()
    );
    let archive = archive::build(&tree(), handover, folder, &version)?;
    let sums = archive::checksums(folder, &[&archive])?;
    let notes_file = folder.join(format!("handover-{version}.md"));
    write(&notes_file, &notes)?;
    println!("{}\n{}\n{}", archive.display(), sums.display(), notes_file.display());
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
