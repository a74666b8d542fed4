//! Replaces what identifies a machine or a person: serial numbers, hardware addresses, UUIDs, names. A value has the
//! same replacement in the whole recording, and different values have different ones; the key is discarded.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::bytes::{Captures, Regex, RegexBuilder};
use sha2::{Digest, Sha256};

use super::addresses::Addresses;
use crate::archive::{Entries, Entry, Kind};
use crate::detail::Config;

/// `PCI_EXT_CAP_ID_DSN` in include/uapi/linux/pci_regs.h.
const SERIAL_NUMBER: u16 = 0x03;

/// A kind of private value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Private {
    /// A serial number.
    Serial,
    /// A hardware address.
    HardwareAddress,
    /// A UUID of a file system, a partition, a GPU, ...
    Uuid,
    /// A World Wide Name or a similar identifier.
    WorldWideName,
    /// The host's name.
    HostName,
    /// A user name in a path.
    UserName,
    /// An IP address or network.
    NetworkAddress,
}

impl Private {
    /// Its name, singular and plural.
    #[must_use]
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Serial => ("serial number", "serial numbers"),
            Self::HardwareAddress => ("MAC address", "MAC addresses"),
            Self::Uuid => ("UUID", "UUIDs"),
            Self::WorldWideName => ("world wide name", "world wide names"),
            Self::HostName => ("host name", "host names"),
            Self::UserName => ("user name", "user names"),
            Self::NetworkAddress => ("IP address", "IP addresses"),
        }
    }
}

/// Private values by their form, in any file. The names of the groups are their kinds.
const FORMS: &str = r"(?x-u)
    (?P<uuid> \b [0-9a-fA-F]{8} - [0-9a-fA-F]{4} - [0-9a-fA-F]{4} - [0-9a-fA-F]{4} - [0-9a-fA-F]{12} \b )
  | (?P<mac> \b [0-9a-fA-F]{2} (?: : [0-9a-fA-F]{2} ){5,19} \b )
  | \b (?: en | wl | ww ) x (?P<name> [0-9a-f]{12} ) \b
  | (?: UUID= | /by-uuid/ | /by-partuuid/ ) (?P<volume> [^\s,\x22/]+ )
  | (?: \b wwn-0x | \b naa \. | \b eui \. | \b nvme \. [0-9a-f]{4} - | /by-id/ | \b t10 \. ) (?P<wwn> [^\s,/]+ )
  | (?: /home/ | /media/ ) (?P<user> [^/\s,:]+ )
  | (?P<id> \b [0-9a-f]{32} \b )
  | (?P<bare> \b [0-9a-f]{12} \b )
";

/// Files with free text, in which a word can be the host name.
const FREE_TEXT: [&str; 9] = [
    "cmdline",
    "mountinfo",
    "mounts",
    "swaps",
    "dm/name",
    "dm/uuid",
    "cgroup",
    "hostname",
    "domainname",
];

/// Files that contain only a serial number.
const SERIALS: [&str; 6] = [
    "/serial",
    "/product_serial",
    "/board_serial",
    "/chassis_serial",
    "/serial_number",
    "/vpd_pg80",
];

/// Tables of the network with addresses of IPv6.
const TABLES: [&str; 3] = ["/net/ipv6_route", "/net/if_inet6", "/net/tcp6"];

/// The file with the EFI partitions of a Proxmox host.
const VOLUMES: &str = "/proxmox-boot-uuids";

/// The most memory for the search for all serial numbers at once: enough for some hundred thousand drives.
const LARGEST_FORM: usize = 1 << 30;

/// Shorter serial numbers are replaced only in files that contain nothing else: elsewhere they could be anything.
const SHORTEST: usize = 6;

/// Replaces private values.
pub struct Disguise {
    key: [u8; 32],
    forms: Arc<Regex>,
    /// Hardware addresses, as twelve digits.
    addresses: BTreeSet<String>,
    /// Texts that are replaced everywhere, and one expression that matches all of them.
    literals: Arc<BTreeMap<String, String>>,
    literal_form: Option<Arc<Regex>>,
    words: Option<Arc<Regex>>,
    made: BTreeMap<(Private, String), String>,
    used: BTreeSet<String>,
}

impl Disguise {
    /// A disguise for one recording.
    ///
    /// # Errors
    /// Only if the expressions above are invalid.
    pub fn new(key: [u8; 32], host_name: Option<&str>) -> Result<Self, regex::Error> {
        let name = host_name.filter(|name| !name.is_empty() && *name != "localhost");
        let words = |name: &str| {
            // Debian's installer names volume groups after the host, and the device mapper doubles dashes.
            let short = name.split('.').next().unwrap_or(name);
            let forms = [name, short].map(regex::escape);
            let doubled = regex::escape(&short.replace('-', "--"));
            Regex::new(&format!(r"(?-u)\b(?:{}|{}|{doubled})\b", forms[0], forms[1]))
        };
        Ok(Self {
            key,
            forms: Arc::new(Regex::new(FORMS)?),
            addresses: BTreeSet::new(),
            literals: Arc::default(),
            literal_form: None,
            words: name.map(words).transpose()?.map(Arc::new),
            made: BTreeMap::new(),
            used: BTreeSet::new(),
        })
    }

    /// Replaces all private values in a recording; returns the number of different values of each kind.
    ///
    /// # Errors
    /// If there are too many serial numbers for one search.
    pub fn apply(
        mut self,
        entries: Entries,
    ) -> Result<(Entries, BTreeMap<Private, usize>), regex::Error> {
        self.learn(&entries)?;
        let addresses = Addresses::of(&entries)?;
        let mut disguised = Entries::default();
        for (path, entry) in entries.files {
            let kind = match entry.kind {
                Kind::File(Some(content)) => {
                    let content = addresses.replaced(&path, content);
                    Kind::File(Some(self.content(&path, content)))
                }
                Kind::Link(target) => Kind::Link(self.text(target.as_str(), is_free(&path))),
                other => other,
            };
            let path = if is_public(&path) { path } else { self.text(&path, false) };
            disguised.files.insert(path, Entry { kind, ..entry });
        }
        disguised.claimed = entries.claimed.iter().map(|path| self.text(path, true)).collect();
        let mut counts = BTreeMap::new();
        for (private, _) in self.made.keys() {
            *counts.entry(*private).or_default() += 1;
        }
        if addresses.count() > 0 {
            counts.insert(Private::NetworkAddress, addresses.count());
        }
        Ok((disguised, counts))
    }

    /// Collects values that are private because of their file.
    fn learn(&mut self, entries: &Entries) -> Result<(), regex::Error> {
        let mut serials = BTreeSet::new();
        for (path, entry) in &entries.files {
            let Some(content) = entry.content() else { continue };
            if SERIALS.iter().any(|end| path.ends_with(end)) {
                serials
                    .extend(std::str::from_utf8(content).ok().map(|text| text.trim().to_owned()));
            }
            if path.ends_with("/address")
                && let Ok(text) = std::str::from_utf8(content)
            {
                self.addresses.insert(text.trim().replace(':', "").to_ascii_lowercase());
            }
        }
        let mut literals = BTreeMap::new();
        for serial in serials.into_iter().filter(|serial| serial.len() >= SHORTEST) {
            let fake = self.fake(Private::Serial, &serial);
            // World wide names of NVMe drives contain the serial number as hexadecimal digits.
            literals.insert(hex(&serial), hex(&fake));
            literals.insert(serial, fake);
        }
        self.literal_form = any_of(literals.keys())?.map(Arc::new);
        self.literals = Arc::new(literals);
        Ok(())
    }

    fn content(&mut self, path: &str, content: Vec<u8>) -> Vec<u8> {
        if path.ends_with("/config") && path.starts_with("sys/") {
            return self.configuration(content);
        }
        if SERIALS.iter().any(|end| path.ends_with(end)) {
            let text = String::from_utf8_lossy(&content).into_owned();
            let serial = text.trim();
            return text.replace(serial, &self.fake(Private::Serial, serial)).into_bytes();
        }
        if TABLES.iter().any(|end| path.ends_with(end)) {
            return self.table(&String::from_utf8_lossy(&content)).into_bytes();
        }
        if path.ends_with(VOLUMES) {
            return self.volumes(&String::from_utf8_lossy(&content)).into_bytes();
        }
        self.bytes(content, is_free(path))
    }

    /// Replaces the UUIDs in lines such as `1A2B-3C4D grub`: short UUIDs of FAT, which have no distinctive form.
    fn volumes(&mut self, text: &str) -> String {
        let mut disguised = String::new();
        for line in text.lines() {
            let (uuid, rest) = line.split_at(line.find(char::is_whitespace).unwrap_or(line.len()));
            disguised += &self.fake(Private::Uuid, uuid);
            disguised.push_str(rest);
            disguised.push('\n');
        }
        disguised
    }

    /// Replaces private values in a table with addresses of IPv6, which have the form of other values.
    fn table(&mut self, text: &str) -> String {
        let is_address = |field: &str| {
            field.get(..32).is_some_and(|start| start.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        let mut disguised = String::new();
        for part in text.split_inclusive(char::is_whitespace) {
            let part = if is_address(part) { part.to_owned() } else { self.text(part, false) };
            disguised.push_str(&part);
        }
        disguised
    }

    fn text(&mut self, text: &str, free: bool) -> String {
        let bytes = self.bytes(text.as_bytes().to_vec(), free);
        String::from_utf8(bytes).unwrap_or_default()
    }

    fn bytes(&mut self, mut bytes: Vec<u8>, free: bool) -> Vec<u8> {
        if let Some(form) = &self.literal_form {
            let fake = |found: &Captures<'_>| {
                let fake = self.literals.get(&matched(found, 0));
                fake.map(|fake| fake.as_bytes().to_vec()).unwrap_or_default()
            };
            bytes = changed(form.replace_all(&bytes, fake)).unwrap_or(bytes);
        }
        let forms = Arc::clone(&self.forms);
        let disguised = forms.replace_all(&bytes, |found: &Captures<'_>| self.form(found));
        bytes = changed(disguised).unwrap_or(bytes);
        if let Some(words) = self.words.clone().filter(|_| free) {
            let name = |found: &Captures<'_>| self.fake(Private::HostName, &matched(found, 0));
            bytes = words.replace_all(&bytes, name).into_owned();
        }
        bytes
    }

    /// The replacement of a value that was found by its form.
    fn form(&mut self, found: &Captures<'_>) -> Vec<u8> {
        let whole = matched(found, 0);
        let kinds = [
            ("uuid", Private::Uuid),
            ("mac", Private::HardwareAddress),
            ("name", Private::HardwareAddress),
            ("volume", Private::Uuid),
            ("wwn", Private::WorldWideName),
            ("user", Private::UserName),
            ("id", Private::Uuid),
            ("bare", Private::HardwareAddress),
        ];
        let hit = kinds.into_iter().find_map(|(name, private)| {
            let part = found.name(name)?;
            Some((name, private, String::from_utf8_lossy(part.as_bytes()).into_owned()))
        });
        let Some((name, private, part)) = hit else { return whole.into_bytes() };
        let fake = match name {
            "mac" if part.len() == 17 => {
                let plain = self.fake(private, &part.replace(':', "").to_ascii_lowercase());
                let pairs: Vec<&str> =
                    (0..6).filter_map(|pair| plain.get(pair * 2..pair * 2 + 2)).collect();
                pairs.join(":")
            }
            "bare" if !self.addresses.contains(&part) => return whole.into_bytes(),
            _ => self.fake(private, &part),
        };
        let keep = whole.len().saturating_sub(part.len());
        [whole.get(..keep).unwrap_or_default(), &fake].concat().into_bytes()
    }

    /// Replaces the device serial number in configuration space (PCI Express Base Specification, 7.9.3).
    fn configuration(&mut self, mut config: Vec<u8>) -> Vec<u8> {
        let at = Config::new(&config).extended_capability(SERIAL_NUMBER);
        if let Some(number) = at.and_then(|at| config.get_mut(at + 4..at + 12)) {
            let plain = hex_of(number);
            let fake = self.fake(Private::Serial, &plain);
            for (index, byte) in number.iter_mut().enumerate() {
                let pair = fake.get(index * 2..index * 2 + 2).unwrap_or("00");
                *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
            }
        }
        config
    }

    /// The replacement of a value: letters for letters, digits for digits; always the same for the same value.
    fn fake(&mut self, private: Private, value: &str) -> String {
        // All zeros and all ones mean "none".
        let none = |digit: char| value.chars().all(|c| c == digit || !c.is_ascii_alphanumeric());
        if value.is_empty() || none('0') || none('f') || none('F') {
            return value.to_owned();
        }
        let known = (private, value.to_owned());
        if let Some(fake) = self.made.get(&known) {
            return fake.clone();
        }
        let hexadecimal =
            value.chars().all(|c| c.is_ascii_hexdigit() || !c.is_ascii_alphanumeric());
        let mut fake = value.to_owned();
        // Retried if another value has this replacement already, or it equals the value.
        for attempt in 0..64u8 {
            fake = self.draw(private, value, hexadecimal, attempt);
            if fake != value && !self.used.contains(&fake) {
                break;
            }
        }
        self.used.insert(fake.clone());
        self.made.insert(known, fake.clone());
        fake
    }

    fn draw(&self, private: Private, value: &str, hexadecimal: bool, attempt: u8) -> String {
        let block = |index: usize| {
            let digest =
                Sha256::new().chain_update(self.key).chain_update([private as u8, attempt]);
            let index = u64::try_from(index).unwrap_or(u64::MAX).to_le_bytes();
            digest.chain_update(index).chain_update(value).finalize()
        };
        let pick = |random: u8, from: &[u8]| {
            from.get(usize::from(random) % from.len().max(1)).copied().map_or('x', char::from)
        };
        let mut random = (0..).flat_map(|index| block(index).to_vec());
        let replace = |c: char| {
            let random = random.next().unwrap_or_default();
            match c {
                'a'..='f' if hexadecimal => pick(random, b"abcdef"),
                'A'..='F' if hexadecimal => pick(random, b"ABCDEF"),
                '0'..='9' => pick(random, b"0123456789"),
                'a'..='z' => pick(random, b"abcdefghijklmnopqrstuvwxyz"),
                'A'..='Z' => pick(random, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
                c if c.is_alphanumeric() => 'x',
                other => other,
            }
        };
        value.chars().map(replace).collect()
    }
}

/// Whether a path has no private values: the names of EFI variables end with well-known UUIDs.
fn is_public(path: &str) -> bool {
    path.starts_with("sys/firmware/efi/")
}

fn is_free(path: &str) -> bool {
    FREE_TEXT.iter().any(|end| path.ends_with(end))
        || path.starts_with("etc/")
        || path.starts_with("boot/")
}

fn matched(found: &Captures<'_>, group: usize) -> String {
    let bytes = found.get(group).map(|found| found.as_bytes()).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// The changed bytes; `None` if nothing was replaced, as in most files.
fn changed(bytes: Cow<'_, [u8]>) -> Option<Vec<u8>> {
    match bytes {
        Cow::Owned(changed) => Some(changed),
        Cow::Borrowed(_) => None,
    }
}

fn hex(text: &str) -> String {
    hex_of(text.as_bytes())
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One expression for all these texts, longer ones before their own prefixes; `None` without texts.
fn any_of<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Option<Regex>, regex::Error> {
    let mut texts: Vec<&String> = texts.collect();
    texts.sort_by_key(|text| Reverse(text.len()));
    if texts.is_empty() {
        return Ok(None);
    }
    let escaped: Vec<String> = texts.into_iter().map(|text| regex::escape(text)).collect();
    let form = format!("(?-u){}", escaped.join("|"));
    RegexBuilder::new(&form).size_limit(LARGEST_FORM).build().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disguised(files: &[(&str, &str)]) -> (BTreeMap<String, String>, BTreeMap<Private, usize>) {
        let mut entries = Entries::default();
        for (path, text) in files {
            let kind = Kind::File(Some(text.as_bytes().to_vec()));
            entries.files.insert((*path).to_owned(), Entry { kind, ..Entry::default() });
        }
        let (entries, counts) =
            Disguise::new([7; 32], Some("my-host")).unwrap().apply(entries).unwrap();
        let text = |entry: &Entry| String::from_utf8(entry.content().unwrap().to_vec()).unwrap();
        (entries.files.iter().map(|(path, entry)| (path.clone(), text(entry))).collect(), counts)
    }

    #[test]
    fn each_kind_is_replaced_and_keeps_its_form() {
        let private = [
            ("x/wwid", "eui.0025385b21404321"),
            ("x/wwid", "naa.5002538e40a1b2c3"),
            ("proc/cmdline", "root=/dev/disk/by-id/nvme-Samsung_SSD_S4EWNX0R123456"),
            ("proc/cmdline", "root=UUID=1A2B-3C4D"),
            ("proc/cmdline", "root=/dev/mapper/my--host-root"),
            ("proc/cmdline", "init=/home/alice/init"),
            ("x/serial", "S4EWNX0R123456"),
            ("etc/kernel/proxmox-boot-uuids", "1A2B-3C4D grub\n"),
            ("boot/id", "c0ffee00c0ffee11c0ffee22c0ffee33"),
        ];
        for (path, text) in private {
            let (files, counts) = disguised(&[(path, text)]);
            assert_ne!(files[path], text);
            assert_eq!(files[path].len(), text.len(), "{}", files[path]);
            assert_eq!(counts.values().sum::<usize>(), 1, "{text}");
        }
    }

    #[test]
    fn other_values_are_kept() {
        let public = [
            ("proc/iomem", "380000000000-3800ffffffff : 0000:01:00.0\n"),
            ("x/address", "00:00:00:00:00:00\n"),
            ("proc/net/ipv6_route", "00000000000000000000000000000000 00 eth0\n"),
            ("x/resource", "0x00000000fe000000 0x00000000feffffff 0x0000000000040200\n"),
            ("sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "x"),
            ("x/uevent", "PCI_SLOT_NAME=0000:01:00.0\nmy-host\n"),
        ];
        for (path, text) in public {
            let (files, counts) = disguised(&[(path, text)]);
            assert_eq!(files.get(path).map(String::as_str), Some(text), "{path}");
            assert_eq!(counts, BTreeMap::new());
        }
    }

    #[test]
    fn an_address_is_the_same_in_all_its_forms() {
        let (files, counts) = disguised(&[
            ("sys/class/net/enx525400aabb01/address", "52:54:00:AA:BB:01\n"),
            ("x/other", "525400aabb01 525400aabb02"),
        ]);
        let (path, address) = files.iter().next().unwrap();
        let plain = address.trim().replace(':', "");
        assert_ne!(plain, "525400aabb01");
        assert_eq!(*path, format!("sys/class/net/enx{plain}/address"));
        assert_eq!(files["x/other"], format!("{plain} 525400aabb02"));
        assert_eq!(counts, BTreeMap::from([(Private::HardwareAddress, 1)]));
    }

    #[test]
    fn the_serial_number_of_a_drive_is_replaced_in_its_world_wide_name() {
        let name = format!("nvme.1af4-{}-51454d55-00000001", hex("S4EWNX0R"));
        let (files, _) = disguised(&[("x/serial", "S4EWNX0R\n"), ("x/wwid", &name)]);
        assert!(!files["x/wwid"].contains(&hex("S4EWNX0R")));
        assert!(files["x/wwid"].starts_with("nvme.1af4-"));
    }
}
