//! Formats of values.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::{Found, short};
use crate::quantity::Quantity;

/// The most bytes of cloud-init data in a machine (vmi-create-admitter.go, `cloudInitUserMaxLen`).
const MOST_INLINE: usize = 2048;

/// A format of a string or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Six bytes of a MAC address (pkg/network/link/mac.go).
    Mac,
    /// An RFC 1123 label.
    DnsLabel,
    /// An RFC 1123 subdomain.
    DnsSubdomain,
    /// The name of an interface (pkg/network/admitter/netiface.go).
    InterfaceName,
    /// An IANA service name (apimachinery, `IsValidPortName`).
    PortName,
    /// A PCI address (pkg/util/hardware).
    PciAddress,
    /// An IP address.
    Ip,
    /// An IPv4 address.
    Ipv4,
    /// A disk's serial number (pkg/storage/admitters/disks.go).
    Serial,
    /// A file's absolute path without relative parts (pkg/storage/admitters/disks.go, `ValidatePath`).
    Path,
    /// An absolute path without `..`, as Kubernetes mounts it.
    AbsolutePath,
    /// A positive quantity.
    Quantity,
    /// A power of two.
    PowerOfTwo,
    /// Cloud-init data.
    InlineData,
    /// Cloud-init data in base64.
    InlineBase64,
}

impl Format {
    /// The format of a name in the table.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "mac" => Self::Mac,
            "dns-label" => Self::DnsLabel,
            "dns-subdomain" => Self::DnsSubdomain,
            "interface-name" => Self::InterfaceName,
            "port-name" => Self::PortName,
            "pci-address" => Self::PciAddress,
            "ip" => Self::Ip,
            "ipv4" => Self::Ipv4,
            "serial" => Self::Serial,
            "path" => Self::Path,
            "absolute-path" => Self::AbsolutePath,
            "quantity" => Self::Quantity,
            "power-of-two" => Self::PowerOfTwo,
            "inline-data" => Self::InlineData,
            "inline-base64" => Self::InlineBase64,
            _ => return None,
        })
    }

    /// Checks a value at `path`. An empty string is absent.
    pub fn check(self, path: &str, value: &Value, found: &mut Found) {
        let number = value.as_i64().map(|number| number.to_string());
        let text = number.as_deref().or_else(|| value.as_str()).unwrap_or_default();
        if text.is_empty() || self.fits(text) {
            return;
        }
        let (what, remedy) = self.words();
        let problem = match self {
            Self::InlineData | Self::InlineBase64 => format!("is not {what}"),
            _ => format!("is \"{}\", which is not {what}", short(text)),
        };
        found.add(path, problem, remedy);
    }

    fn fits(self, text: &str) -> bool {
        match self {
            Self::Mac => is_mac(text),
            Self::DnsLabel => is_label(text),
            Self::DnsSubdomain => text.len() <= 253 && text.split('.').all(is_word),
            Self::InterfaceName => {
                text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            }
            Self::PortName => is_port_name(text),
            Self::PciAddress => is_pci_address(text),
            Self::Ip => text.parse::<IpAddr>().is_ok(),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Serial => {
                let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
                text.len() <= 256 && text.bytes().all(letter)
            }
            Self::Path => text.strip_prefix('/').is_some_and(|rest| {
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
            }),
            Self::AbsolutePath => text.starts_with('/') && text.split('/').all(|part| part != ".."),
            Self::Quantity => {
                text.parse::<Quantity>().is_ok_and(|quantity| quantity > Quantity::ZERO)
            }
            Self::PowerOfTwo => text.parse::<u64>().is_ok_and(u64::is_power_of_two),
            Self::InlineData => text.len() <= MOST_INLINE,
            Self::InlineBase64 => base64_length(text).is_some_and(|length| length <= MOST_INLINE),
        }
    }

    /// What the value should be, and how to correct it.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Mac => ("a MAC address", "use six bytes such as 02:00:00:ab:cd:ef"),
            Self::DnsLabel => {
                ("a DNS label", "use lower-case letters, digits and `-`, at most 63 characters")
            }
            Self::DnsSubdomain => (
                "a DNS subdomain",
                "use lower-case letters, digits, `-` and `.`, at most 253 characters",
            ),
            Self::InterfaceName => ("an interface's name", "use letters, digits, `-` and `_`"),
            Self::PortName => (
                "a port's name",
                "use lower-case letters, digits and single `-`, with a letter, at most 15 characters",
            ),
            Self::PciAddress => ("a PCI address", "use an address such as 0000:81:01.0"),
            Self::Ip => ("an IP address", "use an IPv4 or IPv6 address"),
            Self::Ipv4 => ("an IPv4 address", "use an address such as 192.0.2.1"),
            Self::Serial => (
                "a serial number",
                "use letters, digits, `_`, `.`, `+` and `-`, at most 256 characters",
            ),
            Self::Path => ("the absolute path of a file", "use a path such as /disk/image.img"),
            Self::AbsolutePath => {
                ("an absolute path", "use a path such as /srv/images/disk.img, without `..`")
            }
            Self::Quantity => ("a positive quantity", "use a quantity such as 2Mi or 1Gi"),
            Self::PowerOfTwo => ("a power of two", "use a size such as 512 or 4096"),
            Self::InlineData => (
                "at most 2048 bytes long",
                "use a secret (`secretRef`, `networkDataSecretRef`) for longer data",
            ),
            Self::InlineBase64 => (
                "base64 of at most 2048 bytes",
                "encode it with `base64 -w0`; use a secret for longer data",
            ),
        }
    }
}

/// A part of a DNS name.
fn is_word(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| letter(b) || b == b'-')
        && text.bytes().next().is_some_and(letter)
        && text.bytes().next_back().is_some_and(letter)
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_word(text)
}

fn is_port_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase();
    text.len() <= 15 && is_word(text) && !text.contains("--") && text.bytes().any(letter)
}

/// Six bytes, in one of the forms that Go's `net.ParseMAC` reads.
fn is_mac(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let forms = [(':', 6, 2), ('-', 6, 2), ('.', 3, 4)];
    forms.iter().any(|(mark, count, length)| {
        text.split(*mark).count() == *count && text.split(*mark).all(|part| hex(part, *length))
    })
}

/// Domain, bus, device and function.
fn is_pci_address(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 12
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b':',
            10 => *byte == b'.',
            11 => (b'0'..=b'7').contains(byte),
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The number of bytes that base64 with padding stands for. As in Go, line ends in it are ignored.
fn base64_length(text: &str) -> Option<usize> {
    let bytes: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let padding = bytes.iter().rev().take_while(|b| **b == b'=').count();
    let (digits, _) = bytes.split_at_checked(bytes.len() - padding)?;
    let digit = |b: &u8| b.is_ascii_alphanumeric() || b"+/".contains(b);
    let whole = bytes.len().is_multiple_of(4) && padding <= 2 && digits.iter().all(digit);
    (bytes.len() / 4 * 3).checked_sub(padding).filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_kubevirt_accepts_them() {
        let good = [
            (Format::Mac, "02:00:00:Ab:cd:ef"),
            (Format::Mac, "02-00-00-ab-cd-ef"),
            (Format::Mac, "0200.00ab.cdef"),
            (Format::DnsLabel, "disk-0"),
            (Format::InterfaceName, "Net_1-a"),
            (Format::PortName, "http-alt"),
            (Format::PciAddress, "0000:81:0a.7"),
            (Format::Ip, "fd00::1"),
            (Format::Serial, "A_b.+-9"),
            (Format::Path, "/disk/a.img"),
            (Format::AbsolutePath, "/srv//a"),
            (Format::Quantity, "2Mi"),
            (Format::PowerOfTwo, "4096"),
            (Format::InlineBase64, "YQ=="),
            (Format::InlineBase64, "YWJj\nYWJj"),
        ];
        for (format, text) in good {
            assert!(format.fits(text), "{format:?} {text}");
        }
    }

    #[test]
    fn others_are_refused() {
        let bad = [
            (Format::Mac, "02:00:00:ab:cd"),
            (Format::Mac, "02:00:00:ab:cd:ef:00:11"),
            (Format::Mac, "02:00:00:ab:cd:eg"),
            (Format::DnsLabel, "Disk_0"),
            (Format::DnsLabel, "-a"),
            (Format::InterfaceName, "net.1"),
            (Format::PortName, "8080"),
            (Format::PortName, "a-very-long-port-name"),
            (Format::PciAddress, "81:00.0"),
            (Format::PciAddress, "0000:81:00.8"),
            (Format::Ip, "localhost"),
            (Format::Ipv4, "fd00::1"),
            (Format::Serial, "a b"),
            (Format::Path, "disk.img"),
            (Format::Path, "/"),
            (Format::Path, "/a/../b"),
            (Format::AbsolutePath, "disk.img"),
            (Format::AbsolutePath, "/srv/../etc"),
            (Format::Quantity, "0"),
            (Format::Quantity, "large"),
            (Format::PowerOfTwo, "1000"),
            (Format::InlineBase64, "YQ="),
            (Format::InlineBase64, "Y===="),
            (Format::InlineBase64, "a b="),
        ];
        for (format, text) in bad {
            assert!(!format.fits(text), "{format:?} {text}");
        }
        assert!(!Format::InlineData.fits(&"a".repeat(2049)));
    }
}
