//! Rules for names and sizes on the wire.

use crate::{Code, Refusal};

/// Checks a device's name: `^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`, at most 128 characters.
///
/// # Errors
/// `invalid_name` with the rule.
pub fn check_device_name(name: &str) -> Result<(), Refusal> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && (2..=128).contains(&name.len()) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidName,
        format!("{name:?} is not a valid device name"),
        "use 2 to 128 letters, digits, '_', '.' and '-', starting with a letter or digit",
    ))
}

/// Checks an instance's name: `^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`, at most 63 characters.
///
/// # Errors
/// `invalid_name` with the rule.
pub fn check_instance_name(name: &str) -> Result<(), Refusal> {
    let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let ends = !name.starts_with('-') && !name.ends_with('-');
    if inner && ends && (1..=63).contains(&name.len()) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidName,
        format!("{name:?} is not a valid instance name"),
        "use up to 63 lower-case letters, digits and '-', with a letter or digit at both ends",
    ))
}

/// Checks an image's name: like a container reference (`debian`, `docker.io/library/nginx:1.27`), at most 255
/// characters. It is a key, never a path.
///
/// # Errors
/// `invalid_name` with the rule.
pub fn check_image_name(name: &str) -> Result<(), Refusal> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-/:@".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.bytes().all(allowed) && name.len() <= 255 && !name.contains("..") {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidName,
        format!("{name:?} is not a valid image name"),
        "use up to 255 letters, digits and _ . - / : @, starting with a letter or digit",
    ))
}

/// Checks a volume's name: 1 to 63 letters, digits, `_`, `.` and `-`, with a letter or digit first.
///
/// # Errors
/// `invalid_name` with the rule.
pub fn check_volume_name(name: &str) -> Result<(), Refusal> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let is_id = name.parse::<uuid::Uuid>().is_ok();
    if first && name.bytes().all(allowed) && name.len() <= 63 && !is_id {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidName,
        format!("{name:?} is not a valid volume name{}", if is_id { ": it is an id" } else { "" }),
        "use up to 63 letters, digits, '_', '.' and '-', with a letter or digit first",
    ))
}

/// Reads a size such as `1GB`, `512MiB`, `2G` or `1073741824`, in bytes. As in hypeman's API and QEMU, `KB`, `MB`,
/// `GB` and `TB` are powers of 1024.
///
/// # Errors
/// `invalid_size` with the rule.
pub fn parse_size(text: &str) -> Result<u64, Refusal> {
    let fail = || {
        Refusal::new(
            Code::InvalidSize,
            format!("{text:?} is not a size"),
            "write a whole number with B, KB, MB, GB or TB, such as 512MB or 4GB (powers of 1024)",
        )
    };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        _ => return Err(fail()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = whole.parse().map_err(|_| fail())?;
    let bytes = whole.checked_mul(1 << shift).ok_or_else(fail)?;
    if fraction.is_empty() {
        return Ok(bytes);
    }
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX));
    let part: u64 = fraction.parse().map_err(|_| fail())?;
    let part = scale.and_then(|scale| part.checked_mul(1 << shift).map(|p| p / scale));
    part.and_then(|part| bytes.checked_add(part)).ok_or_else(fail)
}

/// Formats a size for `parse_size`, in the largest unit without a fraction: `1GB`, `1536MB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
    units
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [("1GB", 1 << 30), ("512MiB", 512 << 20), ("2g", 2 << 30), ("7", 7)] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        assert_eq!(parse_size("1.5 GB").unwrap(), 3 << 29);
        for text in ["", "GB", "-1GB", "1XB", "99999999999999TB", "1.GBB", "1e3"] {
            assert_eq!(parse_size(text).unwrap_err().code, Code::InvalidSize, "{text}");
        }
    }

    #[test]
    fn names() {
        assert!(check_device_name("l4-gpu").is_ok() && check_device_name("a").is_err());
        assert!(check_device_name("../x").is_err());
        assert!(check_instance_name("ml-training").is_ok() && check_instance_name("Ml").is_err());
        assert!(check_instance_name("-a").is_err() && check_instance_name("").is_err());
        assert!(check_image_name("docker.io/library/nginx:1.27").is_ok());
        assert!(check_image_name("../../etc/passwd").is_err());
    }

    proptest! {
        #[test]
        fn a_size_survives_its_text(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
        }

        #[test]
        fn no_size_panics(text in ".{0,24}") {
            let _ = parse_size(&text);
        }
    }
}
