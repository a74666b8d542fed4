//! Debian packages without installation: apt with an isolated state resolves dependencies and downloads packages, and
//! `dpkg -x` unpacks them.
//!
//! apt sees an empty machine (an empty dpkg status file), so that the result is the whole closure and does not depend
//! on the packages of this host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cache::{Cache, Key},
    mirror::Mirror,
    process::run,
    progress,
};

/// The Debian release of L1; newer than Debian 12, whose QEMU lacks features that the lab needs.
const RELEASE: &str = "trixie";
/// The release before, which Handover supports too.
const OLDER: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A set of packages that are resolved and unpacked together.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    /// Its name in progress messages and in the cache.
    pub name: &'static str,
    /// The packages; their dependencies are included, recommendations are not.
    pub wanted: &'static [&'static str],
    /// Prefixes of the packages of the closure to unpack; all if empty.
    pub only: &'static [&'static str],
    /// Where they come from.
    pub from: Debian,
}

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debian {
    /// That of L1, with its backports.
    OfL1,
    /// Debian 12.
    Twelve,
}

impl Debian {
    /// Its name.
    const fn release(self) -> &'static str {
        match self {
            Self::OfL1 => RELEASE,
            Self::Twelve => OLDER,
        }
    }

    /// The suite that apt prefers (`-t`).
    fn suite(self) -> String {
        match self {
            Self::OfL1 => format!("{RELEASE}-backports"),
            Self::Twelve => OLDER.to_owned(),
        }
    }
}

/// One package file of a resolved set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The file's name in the archive, with name, version and architecture of the package.
    pub file: String,
    /// apt's checksum of the file.
    pub hash: String,
}

/// The distribution's packages.
#[derive(Debug)]
pub struct Packages<'a> {
    cache: &'a Cache,
    dir: PathBuf,
}

impl<'a> Packages<'a> {
    /// Prepares the isolated apt state in the cache, without network access.
    pub fn open(cache: &'a Cache) -> Result<Self> {
        let dir = cache.root().join("apt");
        for sub in
            ["lists/partial", "cache/archives/partial", "none/partial", "sources", "empty", "sets"]
        {
            fs::create_dir_all(dir.join(sub))?;
        }
        fs::write(dir.join("status"), "")?;
        Ok(Self { cache, dir })
    }

    /// Discards the chosen versions: the next [`Self::resolve`] queries the mirror again.
    pub fn forget(&self) -> Result<()> {
        let _lock = self.cache.lock("packages")?;
        fs::remove_dir_all(self.dir.join("sets"))?;
        fs::create_dir_all(self.dir.join("sets"))?;
        Ok(())
    }

    /// The packages that were chosen for a set, if it was resolved before.
    pub fn chosen(&self, set: &Set) -> Option<Vec<Package>> {
        let text = fs::read_to_string(self.choice_file(set)).ok()?;
        let packages: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let (hash, file) = line.split_once(' ')?;
                Some(Package { file: file.to_owned(), hash: hash.to_owned() })
            })
            .collect();
        (!packages.is_empty()).then_some(packages)
    }

    /// The packages of a set. The choice is kept until [`Self::forget`], so that a lab does not change unexpectedly.
    pub fn resolve(&self, set: &Set) -> Result<Vec<Package>> {
        if let Some(packages) = self.chosen(set) {
            return Ok(packages);
        }
        let _lock = self.cache.lock("packages")?;
        self.update_once()?;
        // With an empty archive directory apt lists every file, also those that are downloaded already.
        let output = run(self
            .apt()
            .args(["-qq", "-y", "--no-install-recommends", "--print-uris", "-t"])
            .arg(set.from.suite())
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", self.dir.join("none").display()))
            .arg("install")
            .args(set.wanted))
        .with_context(|| format!("apt cannot resolve the packages of the {}", set.name))?;
        let packages = parse_uris(&output);
        ensure!(!packages.is_empty(), "apt resolved nothing for the {}", set.name);
        let text: String = packages.iter().map(|p| format!("{} {}\n", p.hash, p.file)).collect();
        let file = self.choice_file(set);
        let new = file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &file)?;
        Ok(packages)
    }

    /// Downloads what is missing of a set and unpacks it below `root`.
    pub fn unpack(&self, set: &Set, root: &Path) -> Result<()> {
        let packages = self.resolve(set)?;
        self.download(set, &packages)?;
        let archives = self.dir.join("cache/archives");
        let files: Vec<PathBuf> = packages
            .iter()
            .filter(|p| set.only.is_empty() || set.only.iter().any(|only| p.file.starts_with(only)))
            .map(|p| archives.join(&p.file))
            .collect();
        progress::step(
            format_args!("unpacking {} packages of the {}", files.len(), set.name),
            || unpack_all(&files, root),
        )
    }

    /// Adds a set's packages to a key.
    pub fn key(&self, set: &Set, key: Key) -> Result<Key> {
        Ok(self.resolve(set)?.iter().fold(key, |key, p| key.text(&p.file).text(&p.hash)))
    }

    fn download(&self, set: &Set, packages: &[Package]) -> Result<()> {
        let _lock = self.cache.lock("packages")?;
        let archives = self.dir.join("cache/archives");
        if packages.iter().all(|p| archives.join(&p.file).exists()) {
            return Ok(());
        }
        self.update_once()?;
        progress::step(format_args!("downloading the packages of the {}", set.name), || {
            run(self
                .apt()
                .args(["-qq", "-y", "--no-install-recommends", "--download-only", "-t"])
                .arg(set.from.suite())
                .arg("install")
                .args(set.wanted))
        })
        .context("the mirror may have newer versions; run `lab build --refresh`")?;
        match packages.iter().find(|p| !archives.join(&p.file).exists()) {
            Some(gone) => bail!(
                "the mirror no longer has {}; run `lab build --refresh` to use newer versions",
                gone.file
            ),
            None => Ok(()),
        }
    }

    fn choice_file(&self, set: &Set) -> PathBuf {
        let first = Key::new("set").text(set.from.release());
        let key = set.wanted.iter().fold(first, |key, name| key.text(name));
        let hash = self.cache.path(&key);
        let hash = hash.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        self.dir.join("sets").join(format!("{}-{hash}", set.name.replace(' ', "-")))
    }

    /// Downloads the package lists, unless that was done since the last [`Self::forget`], from the same sources.
    fn update_once(&self) -> Result<()> {
        let stamp = self.dir.join("sets/updated");
        let sources = sources()?;
        if fs::read_to_string(&stamp).is_ok_and(|done| done == sources) {
            return Ok(());
        }
        fs::write(self.dir.join("sources/lab.sources"), &sources)?;
        fs::write(self.dir.join("apt.conf"), apt_conf(&self.dir))?;
        progress::step("downloading the package lists", || {
            run(self.apt().args(["-qq", "update"]))
        })?;
        fs::write(stamp, sources)?;
        Ok(())
    }

    fn apt(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("-c").arg(self.dir.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        command
    }
}

/// The sources of packages, for apt.
fn sources() -> Result<String> {
    let mirror = Mirror::of_machine(Path::new("/etc/apt"))?;
    ensure!(
        Path::new(KEYRING).exists(),
        "cannot verify packages: {KEYRING} is missing; install debian-archive-keyring"
    );
    let paragraph = |uri: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n\n"
        )
    };
    let suites = format!("{RELEASE} {RELEASE}-updates {RELEASE}-backports {OLDER}");
    let mut text = paragraph(&mirror.main, &suites);
    match &mirror.security {
        Some(uri) => text += &paragraph(uri, &format!("{RELEASE}-security")),
        None => progress::note(
            "no security archive is configured on this machine; continuing without it",
        ),
    }
    Ok(text)
}

/// The machine's apt settings (such as a proxy) apply, except those that would make apt read or change this machine:
/// hooks, sources, preferences, installed packages.
fn apt_conf(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::CNF;
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{dir}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{dir}/empty";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::State::extended_states "{dir}/extended_states";
Dir::Cache "{dir}/cache";
Dir::Cache::archives "{dir}/cache/archives";
Dir::Log "{dir}";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
APT::Default-Release "";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "1";
"#
    )
}

/// Parses lines of `--print-uris`: `'URI' FILE SIZE HASH`.
fn parse_uris(text: &str) -> Vec<Package> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix('\'')?.split_whitespace().skip(1);
            let file = words.next()?.to_owned();
            let hash = words.nth(1).unwrap_or("-").to_owned();
            Some(Package { file, hash })
        })
        .collect()
}

/// Unpacks two packages at a time: `dpkg -x` decompresses in one thread.
fn unpack_all(files: &[PathBuf], root: &Path) -> Result<()> {
    // The links of merged /usr must exist first, or the first package with a file in /lib creates a directory.
    for dir in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
        fs::create_dir_all(root.join(dir))?;
        let link = root.join(dir.trim_start_matches("usr/"));
        if !link.exists() {
            std::os::unix::fs::symlink(dir, &link)?;
        }
    }
    let unpack = |half: &[PathBuf]| -> Result<()> {
        half.iter()
            .try_for_each(|file| run(Command::new("dpkg").arg("-x").arg(file).arg(root)).map(drop))
    };
    let (left, right) = files.split_at(files.len() / 2);
    thread::scope(|scope| {
        let other = scope.spawn(|| unpack(right));
        unpack(left)?;
        other.join().map_err(|_| anyhow::anyhow!("unpacking panicked"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_print_uris() {
        let text = "'http://m.example/pool/b.deb' b_1%3a2_amd64.deb 1234 SHA256:ff\nReading...\n";
        assert_eq!(
            parse_uris(text),
            [Package { file: "b_1%3a2_amd64.deb".into(), hash: "SHA256:ff".into() }]
        );
    }
}
