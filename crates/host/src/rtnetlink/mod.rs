//! rtnetlink(7): the settings of virtual functions, through the interface of their physical function (`ip link set
//! DEV vf N ...`), interfaces of machines, and dumps of the host's interfaces, addresses, routes and rules.

pub mod dump;
pub mod interfaces;
mod vf_info;

use std::io;

use model::VfSettings;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;

/// `RTM_NEWLINK` (include/uapi/linux/rtnetlink.h): the answer to `RTM_GETLINK`.
const NEWLINK: u16 = 16;

/// The attribute with the kernel's error text (`NLMSGERR_ATTR_MSG` in include/uapi/linux/netlink.h).
const WORDS: u16 = 1;

/// The lengths of a netlink header, and of the error number after it.
const HEADER: usize = 16;
const ERROR: usize = 4;

/// The kernel's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The error number.
    pub errno: Errno,
    /// The text from the kernel or the driver, if any.
    pub words: Option<String>,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self { errno, words: None }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Errno::from_io_error(&error).unwrap_or(Errno::IO).into()
    }
}

/// Reads the settings of a virtual function from the interface with this index; `None` if there is no such function.
///
/// # Errors
/// The kernel's error.
pub fn get(interface: u32, vf: u16) -> Result<Option<VfSettings>, Refused> {
    let mut message = LinkMessage::default();
    message.header.index = interface;
    // Without counters: with them, the list of 256 functions does not fit into an attribute's 64 KiB
    // (`rtnl_fill_vfinfo` in net/core/rtnetlink.c).
    let mask = vec![LinkExtentMask::Vf, LinkExtentMask::SkipStats];
    message.attributes.push(LinkAttribute::ExtMask(mask));
    settings(&ask(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST)?, vf)
}

/// The settings of a virtual function in the kernel's answer; `None` if there is no such function.
///
/// # Errors
/// The kernel's error, or `EBADMSG` for an answer that cannot be parsed.
pub fn settings(message: &[u8], vf: u16) -> Result<Option<VfSettings>, Refused> {
    let link = answer(message)?.ok_or(Errno::BADMSG)?;
    vf_info::find(&link, vf).ok_or_else(|| Errno::BADMSG.into())
}

/// Changes the settings of a virtual function. For pairs that are set together (VLAN and priority, both rates), a
/// missing value is taken from `now`.
///
/// # Errors
/// The kernel's error.
pub fn set(
    interface: u32,
    vf: u16,
    settings: &VfSettings,
    now: &VfSettings,
) -> Result<(), Refused> {
    let mut message = LinkMessage::default();
    message.header.index = interface;
    message.attributes.push(vf_info::attribute(vf, settings, now));
    ask(RouteNetlinkMessage::SetLink(message), NLM_F_REQUEST | NLM_F_ACK)
        .and_then(|message| answer(&message))
        .map(drop)
}

/// Sends one message and reads the answer, which is ready when the send returns.
fn ask(message: RouteNetlinkMessage, flags: u16) -> Result<Vec<u8>, Refused> {
    received(&sent(message, flags)?)
}

/// Sends one message, over a socket of its own.
fn sent(message: RouteNetlinkMessage, flags: u16) -> Result<Socket, Refused> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Kernels before 4.12 have no error texts.
    let _ = socket.set_ext_ack(true);
    socket.send(&bytes, 0)?;
    Ok(socket)
}

/// Reads one datagram.
fn received(socket: &Socket) -> Result<Vec<u8>, Refused> {
    let (bytes, sender) = socket.recv_from_full()?;
    // Only an answer from the kernel is valid (netlink(7): its port is 0).
    if sender.port_number() != 0 {
        return Err(Errno::BADMSG.into());
    }
    Ok(bytes)
}

/// Parses an answer: the message with the link, or `None` for an acknowledgement.
fn answer(bytes: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    let message = NetlinkBuffer::new_checked(bytes).map_err(|_| Errno::BADMSG)?;
    let payload = message.payload();
    match message.message_type() {
        NEWLINK => Ok(Some(payload.to_vec())),
        NLMSG_ERROR => match error(payload, message.flags()) {
            Some(refused) => Err(refused),
            None => Ok(None),
        },
        _ => Err(Errno::BADMSG.into()),
    }
}

/// Parses an error message; `None` if its number is 0, an acknowledgement. After the number comes our message, or only
/// its header if it is capped, and then the kernel's text (`netlink_ack` in net/netlink/af_netlink.c).
fn error(payload: &[u8], flags: u16) -> Option<Refused> {
    let number = payload.get(..ERROR).and_then(|bytes| bytes.try_into().ok());
    let errno = match number.map(i32::from_ne_bytes) {
        Some(0) => return None,
        // `MAX_ERRNO` in include/linux/err.h.
        Some(number @ -4095..0) => Errno::from_raw_os_error(-number),
        _ => Errno::BADMSG,
    };
    let words = (flags & NLM_F_ACK_TLVS != 0).then(|| words(payload, flags)).flatten();
    Some(Refused { errno, words })
}

fn words(payload: &[u8], flags: u16) -> Option<String> {
    let ours = payload.get(ERROR..)?;
    let length = if flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        let length = u32::from_ne_bytes(ours.get(..4)?.try_into().ok()?);
        usize::try_from(length).ok()?.checked_next_multiple_of(4)?
    };
    let attributes = NlasIterator::new(ours.get(length..)?);
    let found = attributes.filter_map(Result::ok).find(|attribute| attribute.kind() == WORDS)?;
    let text = String::from_utf8_lossy(found.value()).trim_end_matches('\0').to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An attribute, padded to four bytes.
    pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn an_error_has_the_kernels_text_if_any() {
        let refusal = |flags, rest: &[u8]| {
            let payload = [&(-95_i32).to_ne_bytes(), rest].concat();
            answer(&message(NLMSG_ERROR, flags, &payload)).unwrap_err()
        };
        let ours = message(19, 0, &[7; 18]);
        let words = attribute(WORDS, b"VF 9 does not exist\0");
        let told = Some("VF 9 does not exist".to_owned());
        let errno = Errno::OPNOTSUPP;
        assert_eq!(refusal(0, &ours), Refused { errno, words: None });
        let header = &ours[..HEADER];
        let capped = [header, &words].concat();
        assert_eq!(
            refusal(NLM_F_CAPPED | NLM_F_ACK_TLVS, &capped),
            Refused { errno, words: told.clone() }
        );
        let whole = [&ours, &[0, 0][..], &words].concat();
        assert_eq!(refusal(NLM_F_ACK_TLVS, &whole), Refused { errno, words: told });
        assert_eq!(answer(&message(NLMSG_ERROR, 0, &[0; 4])), Ok(None));
        assert_eq!(answer(&message(NLMSG_ERROR, 0, &[])), Err(Errno::BADMSG.into()));
        assert_eq!(answer(&message(NEWLINK, 0, b"link")), Ok(Some(b"link".to_vec())));
        assert_eq!(answer(&[]), Err(Errno::BADMSG.into()));
    }

    #[test]
    fn the_running_kernel_answers() {
        // Interface 1 is lo (`LOOPBACK_IFINDEX` in include/net/flow.h), which has no virtual functions.
        match get(1, 0) {
            Ok(settings) => {
                assert_eq!(settings, None);
                assert_eq!(get(0x7fff_ffff, 0).unwrap_err().errno, Errno::NODEV);
            }
            Err(refused) => {
                eprintln!("SKIPPED: no netlink in this sandbox: {refused:?}");
                assert_ne!(refused.errno, Errno::BADMSG);
            }
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(kind in 0u16..20, flags: u16, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(&payload);
            let _ = answer(&message(kind, flags, &payload));
        }
    }
}
