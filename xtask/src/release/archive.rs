//! The archive of a release: the executable, its manual pages and completions, the unit, the licences.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

/// Files of the tree that the archive includes.
const ALONG: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// The version that an executable prints.
///
/// # Errors
/// If it cannot be run.
pub fn shown_version(handover: &Path) -> Result<String> {
    output(Command::new(handover).arg("--version")).map(|text| text.trim().to_owned())
}

/// Builds `handover-VERSION-linux-ARCH.tar.gz` below `folder`, and returns its path. The output is reproducible.
///
/// # Errors
/// If a file cannot be read or written.
pub fn build(tree: &Path, handover: &Path, folder: &Path, version: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let name = format!("handover-{version}-linux-{}", std::env::consts::ARCH);
    let path = folder.join(format!("{name}.tar.gz"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::best()));
    add(&mut archive, &format!("{name}/bin/handover"), handover, 0o755)?;
    for file in ALONG {
        add(&mut archive, &format!("{name}/{file}"), &tree.join(file), 0o644)?;
    }
    for file in sorted(&tree.join("packaging"))? {
        add(&mut archive, &format!("{name}/packaging/{}", name_of(&file)), &file, 0o644)?;
    }
    let made = tempfile::tempdir()?;
    output(Command::new(handover).arg("man").arg(made.path()))?;
    for file in sorted(made.path())? {
        add(&mut archive, &format!("{name}/share/man/man1/{}", name_of(&file)), &file, 0o644)?;
    }
    for shell in SHELLS {
        let text = output(Command::new(handover).args(["completions", shell]))?;
        append(
            &mut archive,
            &format!("{name}/share/completions/handover.{shell}"),
            text.as_bytes(),
            0o644,
        )?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(path)
}

/// Writes `SHA256SUMS` beside the files, in the form that `sha256sum --check` reads; returns its path.
///
/// # Errors
/// If a file cannot be read or written.
pub fn checksums(folder: &Path, files: &[&Path]) -> Result<PathBuf> {
    let mut text = String::new();
    for file in files {
        let sum = Sha256::digest(std::fs::read(file)?);
        let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{hex}  {}\n", name_of(file)));
    }
    let path = folder.join("SHA256SUMS");
    std::fs::write(&path, text)?;
    Ok(path)
}

type Archive = tar::Builder<GzEncoder<File>>;

fn add(archive: &mut Archive, path: &str, file: &Path, mode: u32) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    append(archive, path, &bytes, mode)
}

fn append(archive: &mut Archive, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(bytes.len())?);
    header.set_mode(mode);
    Ok(archive.append_data(&mut header, path, bytes)?)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<Result<Vec<PathBuf>>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
