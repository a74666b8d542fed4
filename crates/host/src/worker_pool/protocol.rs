//! What the daemon and a worker say to each other: one JSON value in one message.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::PathBuf;

use model::{
    Address, AsFound, Checked, Holder, HostError, LinkBaseline, Observed, Step, VfSettings,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::detail::{Question, Reading};

/// The largest message; below the kernel's default for a socket's buffer (`net.core.wmem_default`, 208 KiB).
pub const LIMIT: usize = 64 << 10;

/// A job, and the host it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The host's root directory.
    pub root: PathBuf,
    /// Where the lock files are.
    pub locks: PathBuf,
    /// What to do.
    pub job: Job,
}

/// What a worker can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Nothing, to see that it works and how long it takes.
    Nothing,
    /// Make a change.
    Perform(Step),
    /// Look how far a change is.
    Observe(Step),
    /// Read what must be put back later.
    Recall(Address),
    /// Look for who uses these functions.
    FindHolders(Vec<Address>),
    /// Read the detail of these functions.
    ReadDetail(Vec<Question>),
    /// See how a function does.
    Check {
        /// The function.
        address: Address,
        /// Its link while it was well.
        link: Option<LinkBaseline>,
    },
    /// Ask a physical function what it was told of a virtual one.
    ReadVf {
        /// The physical function.
        parent: Address,
        /// The number of the virtual one.
        index: u16,
    },
}

impl Job {
    /// The job in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Nothing => "do nothing".into(),
            Self::Perform(step) => step.describe(),
            Self::Observe(step) => format!("see whether to {}", step.describe()),
            Self::Recall(address) => format!("record how {address} was found"),
            Self::FindHolders(addresses) => {
                format!("look for who uses {}", listed(addresses.iter().copied()))
            }
            Self::ReadDetail(questions) => {
                let addresses = questions.iter().map(|question| question.address);
                format!("read the detail of {}", listed(addresses))
            }
            Self::Check { address, .. } => format!("see how {address} does"),
            Self::ReadVf { parent, index } => {
                format!("ask {parent} for its virtual function {index}")
            }
        }
    }
}

/// As many as a person reads.
fn listed(addresses: impl Iterator<Item = Address>) -> String {
    const MOST: usize = 8;
    let names: Vec<String> = addresses.map(|address| address.to_string()).collect();
    match names.split_at_checked(MOST) {
        Some((first, others)) if !others.is_empty() => {
            format!("{} and {} more", first.join(", "), others.len())
        }
        _ => names.join(", "),
    }
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nothing was done, or the change was made.
    Done,
    /// How far a change is.
    Observed(Observed),
    /// What must be put back later.
    Found(AsFound),
    /// Who uses the functions.
    Holders(Vec<Holder>),
    /// Their detail.
    Detail(Vec<Reading>),
    /// How the function does.
    Checked(Checked),
    /// What the physical function was told.
    Vf(VfSettings),
}

/// How a job ended.
pub type Outcome = Result<Answer, HostError>;

/// A message that arrived.
pub struct Message {
    bytes: Vec<u8>,
    /// The lock that came with it.
    pub lock: Option<OwnedFd>,
}

impl Message {
    /// Reads the value in it.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.bytes).map_err(|error| error.to_string())
    }
}

/// Sends a value, and with it a lock.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    value: &T,
    lock: Option<&OwnedFd>,
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(value).map_err(|_| Errno::INVAL)?;
    if bytes.len() > LIMIT {
        return Err(Errno::MSGSIZE);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = lock.into_iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// Receives a message; `None` when the other side is gone.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Option<Message>, Errno> {
    let mut bytes = vec![0; LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    let lock = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    bytes.truncate(received.bytes);
    Ok(Some(Message { bytes, lock }))
}
