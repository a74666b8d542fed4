//! The agent in a guest (qemu-guest-agent): a client for its protocol, and whose turn it is to use it.
//!
//! The guest is trusted with nothing. Each answer is bounded in length and in depth, each wait has a deadline, and what an
//! answer says is only shown.

mod channel;
mod commands;
mod own;
mod sessions;

pub use channel::{AgentError, Channel};
pub use commands::{
    GuestCommand, GuestExit, GuestInterface, exited, interfaces, run, set_password,
};
pub use guest_protocol::message::{
    CopyOut, Entry, EntryKind, ExecRequest, FileInfo, StatRequest, WindowSize,
};
pub use guest_protocol::{CommandResult, ExecEvent, is_absolute_path, is_inner_path};
pub(crate) use own::{OwnClient, OwnProcess, begin, within};
pub(crate) use sessions::{Place, Session, Sessions};
