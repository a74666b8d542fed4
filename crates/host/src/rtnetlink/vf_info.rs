//! The list of virtual functions in a link's message: `IFLA_VFINFO_LIST` (include/uapi/linux/if_link.h).
//!
//! Only the needed attributes are parsed: a link's message has dozens of others, and newer kernels have formats that a
//! complete parser would refuse.

use model::{Mac, VfSettings};
use netlink_packet_core::NlasIterator;
use netlink_packet_route::link::{
    LinkAttribute, LinkVfInfo, VfInfo, VfInfoMac, VfInfoRate, VfInfoSpoofCheck, VfInfoTrust,
    VfInfoVlan,
};

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;

const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_VLAN: u16 = 2;
const IFLA_VF_SPOOFCHK: u16 = 4;
const IFLA_VF_RATE: u16 = 6;
const IFLA_VF_TRUST: u16 = 9;

/// Finds a virtual function in a link's message. `None` if the message cannot be parsed, `Some(None)` if the function
/// is not in it.
pub fn find(link: &[u8], vf: u16) -> Option<Option<VfSettings>> {
    for attribute in NlasIterator::new(link.get(LINK_HEADER..)?) {
        let attribute = attribute.ok()?;
        if attribute.kind() != IFLA_VFINFO_LIST {
            continue;
        }
        for entry in NlasIterator::new(attribute.value()) {
            let entry = entry.ok()?;
            if entry.kind() != IFLA_VF_INFO {
                continue;
            }
            let (number, settings) = read(entry.value())?;
            if number == u32::from(vf) {
                return Some(Some(settings));
            }
        }
    }
    Some(None)
}

/// Parses one function of the list. Every attribute begins with the function's number.
fn read(info: &[u8]) -> Option<(u32, VfSettings)> {
    let mut settings = VfSettings::default();
    let mut number = None;
    for attribute in NlasIterator::new(info) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        let word = |index: usize| {
            let at = index * 4;
            Some(u32::from_ne_bytes(value.get(at..at + 4)?.try_into().ok()?))
        };
        match attribute.kind() {
            IFLA_VF_MAC => {
                settings.mac = Some(Mac(value.get(4..10)?.try_into().ok()?));
                number = word(0);
            }
            IFLA_VF_VLAN => {
                settings.vlan = u16::try_from(word(1)?).ok();
                settings.qos = u8::try_from(word(2)?).ok();
                number = word(0);
            }
            IFLA_VF_RATE => {
                settings.min_rate = Some(word(1)?);
                settings.max_rate = Some(word(2)?);
            }
            IFLA_VF_SPOOFCHK => settings.spoof_check = switch(word(1)?),
            IFLA_VF_TRUST => settings.trust = switch(word(1)?),
            _ => {}
        }
    }
    Some((number?, settings))
}

/// Parses a switch; -1 is the kernel's value for a driver that does not report it.
const fn switch(value: u32) -> Option<bool> {
    match value {
        u32::MAX => None,
        value => Some(value != 0),
    }
}

/// The attribute that changes the settings of one virtual function. The kernel applies the settings one by one, in its
/// own order (`do_setvfinfo` in net/core/rtnetlink.c): after an error the earlier ones are in effect.
pub fn attribute(vf: u16, settings: &VfSettings, now: &VfSettings) -> LinkAttribute {
    let number = u32::from(vf);
    let mut list = Vec::new();
    if let Some(Mac(mac)) = settings.mac {
        list.push(VfInfo::Mac(VfInfoMac::new(number, &mac)));
    }
    if settings.vlan.is_some() || settings.qos.is_some() {
        let vlan = settings.vlan.or(now.vlan).unwrap_or_default();
        let qos = settings.qos.or(now.qos).unwrap_or_default();
        list.push(VfInfo::Vlan(VfInfoVlan::new(number, vlan.into(), qos.into())));
    }
    if settings.min_rate.is_some() || settings.max_rate.is_some() {
        let least = settings.min_rate.or(now.min_rate).unwrap_or_default();
        let most = settings.max_rate.or(now.max_rate).unwrap_or_default();
        list.push(VfInfo::Rate(VfInfoRate::new(number, least, most)));
    }
    if let Some(on) = settings.spoof_check {
        list.push(VfInfo::SpoofCheck(VfInfoSpoofCheck::new(number, on)));
    }
    if let Some(on) = settings.trust {
        list.push(VfInfo::Trust(VfInfoTrust::new(number, on)));
    }
    LinkAttribute::VfInfoList(vec![LinkVfInfo(list)])
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use proptest::prelude::*;

    use super::super::tests::attribute as nla;
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn mac(vf: u32, mac: [u8; 6]) -> Vec<u8> {
        let mut value = words(&[vf]);
        value.extend(mac);
        value.resize(36, 0);
        nla(IFLA_VF_MAC, &value)
    }

    /// A function in the format of `rtnl_fill_vfinfo`.
    fn entry(vf: u32, last: u8, trust: u32) -> Vec<u8> {
        let info = [
            mac(vf, [0x52, 0x54, 0, 0, 0, last]),
            nla(13, &[0xff; 32]),
            nla(IFLA_VF_VLAN, &words(&[vf, 100, 3])),
            nla(IFLA_VF_RATE, &words(&[vf, 10, 1000])),
            nla(3, &words(&[vf, 1000])),
            nla(IFLA_VF_SPOOFCHK, &words(&[vf, 1])),
            nla(5, &words(&[vf, 0])),
            nla(7, &words(&[vf, u32::MAX])),
            nla(IFLA_VF_TRUST, &words(&[vf, trust])),
        ];
        nla(IFLA_VF_INFO, &info.concat())
    }

    fn link(entries: &[Vec<u8>]) -> Vec<u8> {
        let list = nla(IFLA_VFINFO_LIST | 0x8000, &entries.concat());
        [&[0; LINK_HEADER][..], &nla(3, b"enp1s0\0"), &list, &nla(999, b"of a newer kernel")]
            .concat()
    }

    #[test]
    fn a_function_is_found_in_the_list() {
        let link = link(&[entry(0, 1, 0), entry(1, 2, 1), entry(2, 3, u32::MAX)]);
        let told = |vf| find(&link, vf).unwrap().map(|settings| settings.to_string());
        let all = "vlan 100 qos 3 trust on spoofchk on min_tx_rate 10 max_tx_rate 1000";
        assert_eq!(told(1), Some(format!("mac 52:54:00:00:00:02 {all}")));
        // A driver that does not report it.
        assert_eq!(find(&link, 2).unwrap().unwrap().trust, None);
        assert_eq!(told(3), None);
        assert_eq!(find(&[0; LINK_HEADER], 0), Some(None));
        assert_eq!(find(&[], 0), None);
    }

    #[test]
    fn set_values_are_written_as_the_kernel_reads_them() {
        let wanted = VfSettings {
            mac: Some("52:54:00:00:00:01".parse().unwrap()),
            vlan: Some(100),
            trust: Some(true),
            spoof_check: Some(false),
            max_rate: Some(1000),
            ..VfSettings::default()
        };
        // The other value of a pair keeps its present value.
        let now = VfSettings { qos: Some(3), min_rate: Some(10), ..VfSettings::default() };
        let attribute = attribute(7, &wanted, &now);
        let mut bytes = vec![0; attribute.buffer_len()];
        attribute.emit(&mut bytes);
        let info = [
            mac(7, [0x52, 0x54, 0, 0, 0, 1]),
            nla(IFLA_VF_VLAN, &words(&[7, 100, 3])),
            nla(IFLA_VF_RATE, &words(&[7, 10, 1000])),
            nla(IFLA_VF_SPOOFCHK, &words(&[7, 0])),
            nla(IFLA_VF_TRUST, &words(&[7, 1])),
        ];
        let list = nla(IFLA_VFINFO_LIST, &nla(IFLA_VF_INFO, &info.concat()));
        // The flag for nesting is optional (`NLA_F_NESTED`).
        bytes[3] &= 0x3f;
        assert_eq!(bytes, list);
        let link = [&[0; LINK_HEADER][..], &bytes].concat();
        let read = find(&link, 7).unwrap().unwrap();
        assert!(wanted.holds_in(&read) && read.qos == Some(3) && read.min_rate == Some(10));
    }

    #[test]
    fn unset_values_are_not_written() {
        let wanted = VfSettings { trust: Some(false), ..VfSettings::default() };
        let LinkAttribute::VfInfoList(list) = attribute(0, &wanted, &wanted) else { panic!() };
        assert_eq!(list, [LinkVfInfo(vec![VfInfo::Trust(VfInfoTrust::new(0, false))])]);
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = find(&bytes, 0);
            let _ = find(&link(&[nla(IFLA_VF_INFO, &bytes), bytes.clone()]), 0);
        }

        #[test]
        fn no_attribute_panics(kind in 0u16..14, value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = find(&link(&[nla(IFLA_VF_INFO, &nla(kind, &value))]), 0);
        }
    }
}
