//! BPF maps, as needed for a lock: create, list, name, read and write one value.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{NAME, bpf, invalid, number, padded};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_GET_NEXT_ID: libc::c_int = 12;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

const LPM_TRIE: u32 = 11;
/// `BPF_F_NO_PREALLOC`, required for a trie.
const NO_PREALLOC: u32 = 1 << 0;
/// `BPF_F_RDONLY`.
const READ_ONLY: u32 = 1 << 3;

/// The only key: `struct bpf_lpm_trie_key` with one byte and a prefix of 8 bits.
const KEY: [u8; 5] = {
    let [a, b, c, d] = 8_u32.to_ne_bytes();
    [a, b, c, d, 0]
};

/// One more than needed: a full trie also refuses to replace a value (kernel/bpf/lpm_trie.c before 6.13:
/// `trie_update_elem` counts before the lookup).
const ENTRIES: u32 = 2;

/// The longest value that is read from a map of another process.
const LONGEST: u32 = 64 << 10;

#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; NAME],
}

#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ById {
    /// The id to start after, or to open.
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
struct AskInfo {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; NAME],
}

/// An open BPF map. It exists while a process has it open; the kernel sets `O_CLOEXEC`.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl Map {
    /// Creates a map for one value of this size: a trie (`BPF_MAP_TYPE_LPM_TRIE`).
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a name that is too long or has invalid characters.
    pub fn create(name: &str, value_size: u32) -> io::Result<Self> {
        let mut create = Create {
            kind: LPM_TRIE,
            key_size: KEY.len() as u32,
            value_size,
            max_entries: ENTRIES,
            flags: NO_PREALLOC,
            inner_map: 0,
            numa_node: 0,
            name: padded(name)?,
        };
        // SAFETY: the attributes contain no pointer.
        let fd = unsafe { bpf(MAP_CREATE, &mut create) }?;
        // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Opens the map with this id, for reading.
    ///
    /// # Errors
    /// The kernel's; `ENOENT` if it no longer exists.
    pub fn open(id: u32) -> io::Result<Self> {
        let mut by_id = ById { id, next: 0, flags: READ_ONLY };
        // SAFETY: the attributes contain no pointer.
        let fd = unsafe { bpf(MAP_GET_FD_BY_ID, &mut by_id) }?;
        // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Its id, unique in this kernel.
    ///
    /// # Errors
    /// The kernel's.
    pub fn id(&self) -> io::Result<u32> {
        self.info().map(|info| info.id)
    }

    /// Whether [`create`](Self::create) created it with this name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_named(&self, name: &str) -> io::Result<bool> {
        let info = self.info()?;
        Ok(info.is_ours() && info.name == padded(name)?)
    }

    /// Replaces the value atomically: a reader sees the old or the new one.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` if the value does not have the map's size.
    pub fn write(&self, value: &[u8]) -> io::Result<()> {
        let info = self.info()?;
        if !info.is_ours() || info.value_size as usize != value.len() {
            return Err(invalid());
        }
        let mut element = self.element(value.as_ptr() as u64);
        // SAFETY: the kernel reads `key_size` bytes of the key and `value_size` bytes of the value, which are their
        // lengths, as just checked; a map's sizes never change. Both outlive the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut element) }.map(drop)
    }

    /// The value; `None` if none has been written.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` if the map has another type.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let info = self.info()?;
        if !info.is_ours() {
            return Err(invalid());
        }
        let mut value = vec![0_u8; info.value_size as usize];
        let mut element = self.element(value.as_mut_ptr() as u64);
        // SAFETY: the kernel reads `key_size` bytes of the key and writes `value_size` bytes to the value, which are
        // their lengths; a map's sizes never change. Both outlive the call, and nothing else uses the value.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut element) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn element(&self, value: u64) -> Element {
        Element { map: number(&self.0), unused: 0, key: KEY.as_ptr() as u64, value, flags: 0 }
    }

    fn info(&self) -> io::Result<Info> {
        let mut info = Info::default();
        let length = size_of_val(&info) as u32;
        let mut ask =
            AskInfo { fd: number(&self.0), length, info: std::ptr::from_mut(&mut info) as u64 };
        // SAFETY: the kernel writes at most `length` bytes to `info`, which has that size, contains plain numbers, and
        // outlives the call.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut ask) }?;
        Ok(info)
    }
}

impl Info {
    /// Whether the map has the type and key size that this module creates, so that its value can be read into a buffer
    /// of `value_size` bytes.
    const fn is_ours(&self) -> bool {
        self.kind == LPM_TRIE && self.key_size == KEY.len() as u32 && self.value_size <= LONGEST
    }
}

/// The id of the first map after this one; `None` after the last.
///
/// # Errors
/// The kernel's: `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace.
pub fn next_map(after: u32) -> io::Result<Option<u32>> {
    let mut by_id = ById { id: after, next: 0, flags: 0 };
    // SAFETY: the attributes contain no pointer.
    match unsafe { bpf(MAP_GET_NEXT_ID, &mut by_id) } {
        Ok(_) => Ok(Some(by_id.next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
