//! The protocol between the daemon and a worker: one JSON value per message.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::PathBuf;

use model::{
    Address, AsFound, BlockDevice, BlockUse, Checked, FabricSets, GpuModes, Holder, HostError,
    LinkBaseline, Observed, Step, VfSettings,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::detail::{DetailRequest, Reading};

/// The largest message; below the kernel's default for a socket's buffer (`net.core.wmem_default`, 208 KiB).
pub const LIMIT: usize = 64 << 10;

/// A job, and its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The host's root directory.
    pub root: PathBuf,
    /// The directory of the lock files.
    pub locks: PathBuf,
    /// The job.
    pub job: Job,
}

/// A job for a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Nothing, to test the worker and measure the overhead.
    Nothing,
    /// Perform a step.
    Perform(Step),
    /// Observe a step.
    Observe(Step),
    /// Read the state of a function that must be restored later.
    Recall(Address),
    /// Find the users of these functions.
    FindHolders(Vec<Address>),
    /// Read the detail of these functions.
    ReadDetail(Vec<DetailRequest>),
    /// Check the health of a function.
    Check {
        /// The function.
        address: Address,
        /// Its link while it was healthy.
        link: Option<LinkBaseline>,
    },
    /// Read the settings of a virtual function from its physical function.
    ReadVf {
        /// The physical function.
        parent: Address,
        /// The number of the virtual one.
        index: u16,
    },
    /// Ask NVIDIA's driver for the modes of a GPU.
    ReadModes(Address),
    /// Ask Fabric Manager for its sets of GPUs.
    ReadFabric,
    /// Find the users of a block device, and what is on it.
    ExamineBlock(BlockDevice),
}

impl Job {
    /// The job in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Nothing => "do nothing".into(),
            Self::Perform(step) => step.describe(),
            Self::Observe(step) => format!("check whether to {}", step.describe()),
            Self::Recall(address) => format!("record the state of {address}"),
            Self::FindHolders(addresses) => {
                format!("find the users of {}", listed(addresses.iter().copied()))
            }
            Self::ReadDetail(requests) => {
                let addresses = requests.iter().map(|request| request.address);
                format!("read the detail of {}", listed(addresses))
            }
            Self::Check { address, .. } => format!("check {address}"),
            Self::ReadVf { parent, index } => {
                format!("read the settings of virtual function {index} of {parent}")
            }
            Self::ReadModes(address) => format!("read the modes of {address}"),
            Self::ReadFabric => "ask Fabric Manager for its sets of GPUs".into(),
            Self::ExamineBlock(device) => format!("examine {}", device.path.display()),
        }
    }
}

/// The first few addresses, and the number of the others.
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

/// A worker's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The step was performed, or there was nothing to do.
    Done,
    /// The observation of a step.
    Observed(Observed),
    /// The state that must be restored later.
    Found(AsFound),
    /// The users of the functions.
    Holders(Vec<Holder>),
    /// The detail of the functions.
    Detail(Vec<Reading>),
    /// The health of the function.
    Checked(Checked),
    /// The settings of the virtual function.
    Vf(VfSettings),
    /// The modes of the GPU.
    Modes(GpuModes),
    /// The sets of GPUs, if there are any.
    Fabric(Option<FabricSets>),
    /// The use of the block device.
    Block(BlockUse),
}

/// The result of a job.
pub type Outcome = Result<Answer, HostError>;

/// A received message.
pub struct Message {
    bytes: Vec<u8>,
    /// The lock that came with it.
    pub lock: Option<OwnedFd>,
}

impl Message {
    /// Parses the value in it.
    ///
    /// # Errors
    /// If it is another value.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, String> {
        parse(&self.bytes)
    }
}

/// Parses the value in a message.
///
/// # Errors
/// If it is another value.
pub fn parse<T: DeserializeOwned>(message: &[u8]) -> Result<T, String> {
    serde_json::from_slice(message).map_err(|error| error.to_string())
}

/// Sends a value, together with a lock.
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

/// Receives a message; `None` if the other side has closed the socket.
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
