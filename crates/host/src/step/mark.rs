//! Marking a function as claimed: an extended attribute of its directory in sysfs, which is visible in every mount and
//! every network namespace (docs/kernel.md). It needs `CAP_SYS_ADMIN` in the initial user namespace, and disappears
//! with the function.

use std::collections::BTreeMap;

use model::{Address, HostError, Mark, Observed};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::function_files::DEVICES;
use crate::function_files::directory;
use crate::problem;
use crate::root::{Dir, Root};

/// The name of the extended attribute.
pub const NAME: &str = "trusted.handover";

/// A path has 4096 bytes at most, and the ids before it 74.
const LONGEST: usize = 8192;

/// The mark of a function.
#[derive(Debug, PartialEq, Eq)]
pub enum MarkState {
    /// No mark.
    Absent,
    /// The mark of a claim.
    Claim(Mark),
    /// A mark that cannot be parsed.
    Unknown(String),
    /// This file system does not support marks, or this process may not use them.
    Unsupported(Errno),
}

/// Whether the function has that claim's mark. Where marks are not supported, the step counts as done.
pub fn observe(root: &Root, address: Address, mark: &Mark) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match state(root, &dir, address)? {
        MarkState::Absent => Observed::Before,
        MarkState::Claim(found) if found.is_same_claim(mark) => Observed::After,
        MarkState::Unsupported(errno) => {
            unsupported(address, errno);
            Observed::After
        }
        other => Observed::Other(other.describe(root, address)),
    })
}

/// Marks a function that has no mark: of two processes that try, one succeeds.
pub fn set(root: &Root, address: Address, mark: &Mark) -> Result<(), HostError> {
    let Some(dir) = directory(root, address)? else { return Err(HostError::Gone { address }) };
    let set = open(&dir).and_then(|file| {
        let text = mark.to_string();
        rustix::fs::fsetxattr(&file, NAME, text.as_bytes(), XattrFlags::CREATE)
    });
    match set {
        Ok(()) => Ok(()),
        Err(errno) if is_unsupported(errno) => {
            unsupported(address, errno);
            Ok(())
        }
        Err(errno) => Err(problem::file(root, format!("set {NAME} of"), &path(address), errno)),
    }
}

/// The marks of those of these functions that have one.
pub fn read(root: &Root, addresses: &[Address]) -> Result<BTreeMap<Address, Mark>, HostError> {
    let mut marks = BTreeMap::new();
    for address in addresses {
        let Some(dir) = directory(root, *address)? else { continue };
        match state(root, &dir, *address)? {
            MarkState::Claim(mark) => drop(marks.insert(*address, mark)),
            // The step that would set the mark reports these.
            MarkState::Absent | MarkState::Unknown(_) | MarkState::Unsupported(_) => {}
        }
    }
    Ok(marks)
}

/// The present mark of a function.
pub fn state(root: &Root, dir: &Dir, address: Address) -> Result<MarkState, HostError> {
    let mut bytes = vec![0; LONGEST];
    let got = open(dir).and_then(|file| rustix::fs::fgetxattr(&file, NAME, &mut bytes[..]));
    match got {
        Ok(length) => {
            bytes.truncate(length);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(text.parse().map_or(MarkState::Unknown(text), MarkState::Claim))
        }
        Err(Errno::NODATA) => Ok(MarkState::Absent),
        Err(Errno::RANGE) => Ok(MarkState::Unknown("a value that is too long".into())),
        Err(errno) if is_unsupported(errno) => Ok(MarkState::Unsupported(errno)),
        Err(errno) => Err(problem::file(root, format!("read {NAME} of"), &path(address), errno)),
    }
}

impl MarkState {
    /// Describes it for error messages, with a remedy.
    pub fn describe(&self, root: &Root, address: Address) -> String {
        match self {
            Self::Claim(mark) => format!("the mark of another Handover ({})", mark.describe()),
            Self::Unknown(text) => format!(
                "an unknown mark {text:?} (remove it: `setfattr -x {NAME} {}`)",
                root.shown(&path(address))
            ),
            Self::Absent | Self::Unsupported(_) => "no mark".into(),
        }
    }
}

/// Opens a directory for reading its attributes, which the `O_PATH` descriptor in [`Dir`] does not allow.
pub fn open(dir: &Dir) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir.handle()?, ".", flags, Mode::empty())
}

/// Whether marks are not supported here: a file system without them, a read-only one, or a process without the right.
pub const fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::ROFS | Errno::NOSYS)
}

/// The path of a function's directory.
pub fn path(address: Address) -> String {
    format!("{DEVICES}/{address}")
}

fn unsupported(address: Address, errno: Errno) {
    tracing::warn!(
        "cannot mark {address} as claimed ({}): a Handover with another state directory cannot see the claim",
        problem::words(errno)
    );
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::step::unmark;

    const NIC: &str = "0000:03:00.0";

    /// A fake host with one function, with its link on the bus.
    fn fake() -> (tempfile::TempDir, Root) {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join(DEVICES)).unwrap();
        std::fs::create_dir_all(place.path().join("sys/devices/pci0000:00").join(NIC)).unwrap();
        let link = place.path().join(DEVICES).join(NIC);
        std::os::unix::fs::symlink(format!("../../../devices/pci0000:00/{NIC}"), link).unwrap();
        let root = Root::open(place.path()).unwrap();
        (place, root)
    }

    fn mark(claim: u128) -> Mark {
        let state_dir = "/var/lib/handover".into();
        Mark { store: Uuid::from_u128(1), claim: Uuid::from_u128(claim), state_dir }
    }

    #[test]
    fn a_mark_is_set_once_read_and_removed() {
        let (_place, root) = fake();
        let address: Address = NIC.parse().unwrap();
        let dir = directory(&root, address).unwrap().unwrap();
        let tried = open(&dir)
            .and_then(|file| rustix::fs::fsetxattr(&file, NAME, b"x", XattrFlags::CREATE));
        if let Err(errno) = tried {
            assert!(is_unsupported(errno), "{errno}");
            // Without support nothing is done, and nothing fails.
            set(&root, address, &mark(2)).unwrap();
            assert_eq!(unmark::observe(&root, address, &mark(2)), Ok(Observed::After));
            eprintln!("SKIPPED: {NAME} cannot be set here: {errno}");
            return;
        }
        let odd = observe(&root, address, &mark(2)).unwrap();
        assert!(matches!(&odd, Observed::Other(found) if found.contains("setfattr")), "{odd:?}");
        assert_eq!(read(&root, &[address]), Ok(BTreeMap::new()));
        unmark::remove(&root, address).unwrap();

        assert_eq!(observe(&root, address, &mark(2)), Ok(Observed::Before));
        set(&root, address, &mark(2)).unwrap();
        assert_eq!(observe(&root, address, &mark(2)), Ok(Observed::After));
        assert_eq!(read(&root, &[address]), Ok(BTreeMap::from([(address, mark(2))])));
        assert_eq!(unmark::observe(&root, address, &mark(2)), Ok(Observed::Before));

        let other = observe(&root, address, &mark(3)).unwrap();
        let names = |found: &String| {
            found.contains("/var/lib/handover") && found.contains(&mark(2).claim.to_string())
        };
        assert!(matches!(&other, Observed::Other(found) if names(found)), "{other:?}");
        assert!(matches!(unmark::observe(&root, address, &mark(3)), Ok(Observed::Other(_))));
        assert!(set(&root, address, &mark(3)).is_err(), "another's mark is replaced");
        assert_eq!(read(&root, &[address]), Ok(BTreeMap::from([(address, mark(2))])));

        unmark::remove(&root, address).unwrap();
        unmark::remove(&root, address).unwrap();
        assert_eq!(observe(&root, address, &mark(2)), Ok(Observed::Before));
    }

    #[test]
    fn a_function_that_is_gone_has_no_mark() {
        let (place, root) = fake();
        let address: Address = NIC.parse().unwrap();
        std::fs::remove_file(place.path().join(DEVICES).join(NIC)).unwrap();
        assert_eq!(observe(&root, address, &mark(2)), Ok(Observed::Absent));
        assert_eq!(unmark::observe(&root, address, &mark(2)), Ok(Observed::Absent));
        assert_eq!(set(&root, address, &mark(2)), Err(HostError::Gone { address }));
        assert_eq!(read(&root, &[address]), Ok(BTreeMap::new()));
    }
}
