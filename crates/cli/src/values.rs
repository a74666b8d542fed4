//! Parsers for the values of options. Each error says what is accepted, with an example.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Parses a whole number of the type's range.
pub fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let parsed = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
    parsed.ok_or_else(|| {
        let bits = 8 * u32::try_from(size_of::<T>()).unwrap_or(8);
        let most = u64::MAX.checked_shr(64 - bits.min(64)).unwrap_or(u64::MAX);
        format!("expected a whole number from 0 to {most}, such as 4")
    })
}

/// Parses how many images are imported at the same time.
pub fn imports(text: &str) -> Result<u32, String> {
    within(text, 1..=64, "a whole number", "4")
}

/// Parses a variable of an environment.
pub fn variable(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let pair = pair.ok_or("expected a name and a value, such as LANG=C")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// Parses a number of virtual CPUs.
pub fn vcpus(text: &str) -> Result<u32, String> {
    within(text, 1..=1024, "a whole number", "4")
}

/// Checks a number of GPUs, or the profile of a vGPU.
pub fn gpus(text: &str) -> Result<String, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if text.trim().is_empty() {
        return Err(
            "expected a number of GPUs or the profile of a vGPU, such as 2 or L40S-1Q".into()
        );
    }
    match text.parse::<u32>() {
        Ok(1..=1024) => Ok(text.to_owned()),
        Ok(0) => Err("expected 1 or more GPUs; leave the option out for none".into()),
        _ if is_number => Err("expected a number of GPUs from 1 to 1024, such as 2".into()),
        _ => Ok(text.to_owned()),
    }
}

/// Parses a port.
pub fn port(text: &str) -> Result<u16, String> {
    within(text, 1..=u16::MAX, "a port", "8080")
}

/// Parses a size in whole gigabytes (1024³ bytes).
pub fn gigabytes(text: &str) -> Result<u64, String> {
    const GIB: u64 = 1 << 30;
    match size(text)? {
        bytes if bytes > 0 && bytes.is_multiple_of(GIB) => Ok(bytes / GIB),
        _ => Err("expected whole gigabytes, such as 20GB or 2TB".into()),
    }
}

fn within<T: FromStr + PartialOrd + Display>(
    text: &str,
    range: RangeInclusive<T>,
    what: &str,
    example: &str,
) -> Result<T, String> {
    let parsed = text.parse().ok().filter(|number| range.contains(number));
    parsed.ok_or_else(|| {
        let (from, to) = (range.start(), range.end());
        format!("expected {what} from {from} to {to}, such as {example}")
    })
}

/// Parses an address to listen on.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080; a host name is not \
         accepted"
            .to_owned()
    })
}

/// Parses a device and the file with its ROM.
pub fn rom(text: &str) -> Result<(String, PathBuf), String> {
    let pair = text.split_once('=').filter(|(device, file)| !device.is_empty() && !file.is_empty());
    let pair = pair.ok_or("expected a device and a file, such as 0000:01:00.0=card.rom")?;
    Ok((pair.0.to_owned(), pair.1.into()))
}

/// Parses the protocol of a screen and the address on which it listens.
pub fn display(text: &str) -> Result<(String, Option<String>), String> {
    let Some((protocol, option)) = text.split_once(',') else { return Ok((text.to_owned(), None)) };
    let address = option.strip_prefix("listen=").filter(|address| !address.is_empty());
    let address = address
        .ok_or("expected vnc, spice or an address too, such as vnc,listen=192.168.1.103:5902")?;
    Ok((protocol.to_owned(), Some(address.to_owned())))
}

/// Parses a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    model::parse_duration(text).map_err(|refusal| refusal.remedy)
}

/// Parses a size in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    model::parse_size(text).map_err(|refusal| refusal.remedy)
}

/// Checks a size, and leaves its text for the daemon.
pub fn size_text(text: &str) -> Result<String, String> {
    size(text).map(|_| text.to_owned())
}

/// Parses `90s`, `30m`, `8h`, `2d` to seconds.
pub fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "expected a duration from 1s to 3650d, such as 90s, 30m, 8h or 2d".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text.get(..text.len() - 1).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    count.checked_mul(unit).filter(|all| (1..=10 * 365 * 86_400).contains(all)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_a_person_writes_them() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("8h"), Ok(28_800));
        for wrong in ["", "h", "8", "0s", "-1h", "8w", "99999999999999999999d", "1.5h", "8ｈ"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_value_is_answered_with_what_is_accepted() {
        assert_eq!(number::<u16>("16"), Ok(16));
        assert!(number::<u16>("65536").unwrap_err().contains("0 to 65535"));
        assert!(number::<u32>("-1").unwrap_err().contains("0 to 4294967295"));
        assert!(number::<u64>("x").unwrap_err().contains("0 to 18446744073709551615"));
        assert!(vcpus("0").unwrap_err().contains("1 to 1024"));
        assert_eq!(gpus("L40S-1Q"), Ok("L40S-1Q".to_owned()));
        assert_eq!(gpus("2"), Ok("2".to_owned()));
        assert!(gpus("").unwrap_err().contains("such as 2 or L40S-1Q"));
        assert!(gpus("0").unwrap_err().contains("leave the option out"));
        assert!(gpus("99999999999").unwrap_err().contains("1 to 1024"));
        assert!(imports("65").unwrap_err().contains("1 to 64"));
        assert!(port("0").unwrap_err().contains("8080"));
        assert!(listen_address("localhost:8080").unwrap_err().contains("127.0.0.1:8080"));
        assert!(listen_address("[::1]:8080").is_ok());
        assert_eq!(display("vnc"), Ok(("vnc".into(), None)));
        assert_eq!(display("spice,listen=::1"), Ok(("spice".into(), Some("::1".into()))));
        assert!(display("vnc,port=1").unwrap_err().contains("listen=192.168.1.103:5902"));
        assert!(size("4 apples").unwrap_err().contains("512MB"));
        assert_eq!(size_text("2GiB"), Ok("2GiB".to_owned()));
    }
}
