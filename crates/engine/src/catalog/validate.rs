//! Checks every value of a parsed devices file, collects all mistakes, and builds the catalog.

use std::collections::BTreeMap;

use model::catalog::{Catalog, ClassOrDevice, Line, Pattern};
use model::{Address, Class, Id, Mistakes};
use serde_saphyr::{Location, Spanned};

use super::mistake::Marks;
use super::raw::{Device, File, Text, Vendor};

const VENDOR_ID: &str =
    "write the four hexadecimal digits that sysfs shows in `vendor`, such as \"0x10de\"";
const DEVICE_ID: &str = "write the four digits of sysfs' `device`, such as \"0x20b0\", or the six of its `class`, such as \"0x030200\"";
const SUBSYSTEM_ID: &str = "write four hexadecimal digits, such as \"0x1450\"";
const NAME: &str = "write a name of letters, digits, `.`, `-` and `_`";

/// The catalog of a file. Mistakes are added to `mistakes`, and the wrong entries left out.
pub fn catalog(file: File, mistakes: &mut Mistakes) -> Catalog {
    let mut catalog = Catalog::default();
    let Some(vendors) = file.vendors else {
        mistakes.mark(
            Location::UNKNOWN,
            "the file has no `vendors`",
            "begin with `vendors:` and a list; docs/catalog.md has an example",
        );
        return catalog;
    };
    let mut ids: BTreeMap<Id, u64> = BTreeMap::new();
    for Spanned { value, referenced, .. } in vendors {
        vendor(value, referenced, &mut ids, &mut catalog.lines, mistakes);
    }
    catalog
}

fn vendor(
    vendor: Vendor,
    at: Location,
    ids: &mut BTreeMap<Id, u64>,
    lines: &mut Vec<Line>,
    mistakes: &mut Mistakes,
) {
    let id = required(vendor.id.as_ref(), at, "vendor", "id", VENDOR_ID, mistakes)
        .and_then(|text| hex_id(text, "vendor id", VENDOR_ID, mistakes));
    if let (Some(id), Some(text)) = (id, &vendor.id) {
        let first = *ids.entry(id).or_insert(text.referenced.line());
        if first != text.referenced.line() {
            let problem = format!("vendor {id} is also on line {first}");
            mistakes.mark(text.referenced, problem, "put all its devices under one vendor");
        }
    }
    let vendor_name = name(vendor.name.as_ref(), at, "vendor", "name", mistakes);
    let Some(devices) = vendor.devices else {
        mistakes.mark(
            at,
            "the vendor has no `devices`",
            "add a list of its devices, or `devices: []`",
        );
        return;
    };
    let mut named: BTreeMap<String, Line> = BTreeMap::new();
    for Spanned { value, referenced, .. } in devices {
        let found = device(&value, referenced, mistakes);
        let (Some((number, kind, name, pattern)), Some(id), Some(vendor_name)) =
            (found, id, &vendor_name)
        else {
            continue;
        };
        let line =
            Line { number, vendor: id, vendor_name: vendor_name.clone(), name, kind, pattern };
        if let Some(first) = named.get(&line.name) {
            if !may_share_name(first, &line) {
                let at = value.name.as_ref().map_or(referenced, |text| text.referenced);
                let problem =
                    format!("the device on line {} is also named `{}`", first.number, line.name);
                mistakes.mark(at, problem, "give each device of a vendor its own name");
            }
        } else {
            named.insert(line.name.clone(), line.clone());
        }
        lines.push(line);
    }
}

/// Variants of one device that differ by subsystem or revision may be one resource, as in ironcore's newer files.
fn may_share_name(first: &Line, second: &Line) -> bool {
    first.kind == second.kind
        && first.pattern.tells_variants()
        && second.pattern.tells_variants()
        && first.pattern != second.pattern
}

type Parts = (u32, String, String, Pattern);

fn device(device: &Device, at: Location, mistakes: &mut Mistakes) -> Option<Parts> {
    let id = required(device.id.as_ref(), at, "device", "id", DEVICE_ID, mistakes)
        .and_then(|text| device_id(text, mistakes));
    let name_ = name(device.name.as_ref(), at, "device", "name", mistakes);
    let kind = name(device.r#type.as_ref(), at, "device", "type", mistakes);
    let pattern = id.map(|id| pattern(id, device, mistakes));
    let number = device.id.as_ref().map_or(at, |text| text.referenced).line();
    Some((u32::try_from(number).unwrap_or(u32::MAX), kind?, name_?, pattern?))
}

fn pattern(id: ClassOrDevice, device: &Device, mistakes: &mut Mistakes) -> Pattern {
    let mut part = |text: Option<&Text>, what| {
        text.and_then(|text| hex_id(text, what, SUBSYSTEM_ID, mistakes))
    };
    let mut subsystem_vendor = part(device.subsystem_vendor.as_ref(), "subsystem vendor id");
    let mut subsystem_device = part(device.subsystem_device.as_ref(), "subsystem id");
    if let Some(text) = &device.subsystem {
        if device.subsystem_vendor.is_some() || device.subsystem_device.is_some() {
            mistakes.mark(
                text.referenced,
                "`subsystem` repeats `subsystemVendor` and `subsystemDevice`",
                "use one of the two forms",
            );
        } else if let Some((vendor, device)) = subsystem(&text.value) {
            (subsystem_vendor, subsystem_device) = (Some(vendor), Some(device));
        } else {
            let problem = format!("{:?} is not a subsystem", cut(&text.value));
            mistakes.mark(text.referenced, problem, "write vendor and id, such as \"10de:1450\"");
        }
    }
    let revision = device.revision.as_ref().and_then(|text| {
        let value = hex(&text.value, 1, 2).and_then(|value| u8::try_from(value).ok());
        if value.is_none() {
            let problem = format!("{:?} is not a revision", cut(&text.value));
            mistakes.mark(
                text.referenced,
                problem,
                "write two hexadecimal digits, such as \"0xa1\"",
            );
        }
        value
    });
    let addresses = addresses(device.addresses.as_deref(), mistakes);
    let exclude = self::addresses(device.exclude.as_deref(), mistakes);
    Pattern { id, subsystem_vendor, subsystem_device, revision, addresses, exclude }
}

fn addresses(texts: Option<&[Text]>, mistakes: &mut Mistakes) -> Vec<Address> {
    let mut addresses = Vec::new();
    for text in texts.unwrap_or_default() {
        match text.value.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => {
                let problem = format!("{:?} is not a PCI address", cut(&text.value));
                mistakes.mark(text.referenced, problem, "write it like \"0000:a2:00.0\"");
            }
        }
    }
    addresses
}

fn required<'a>(
    text: Option<&'a Text>,
    at: Location,
    whose: &str,
    key: &str,
    remedy: &str,
    mistakes: &mut Mistakes,
) -> Option<&'a Text> {
    if text.is_none() {
        mistakes.mark(at, format!("the {whose} has no `{key}`"), remedy);
    }
    text
}

/// A part of a resource's name. Refuses characters that make the name ambiguous or control a terminal.
fn name(
    text: Option<&Text>,
    at: Location,
    whose: &str,
    key: &str,
    mistakes: &mut Mistakes,
) -> Option<String> {
    let text = required(text, at, whose, key, NAME, mistakes)?;
    let bad = |letter: char| letter == '/' || letter.is_whitespace() || letter.is_control();
    let problem = if text.value.is_empty() {
        format!("the {whose}'s `{key}` is empty")
    } else if text.value.contains(bad) {
        format!("{:?} cannot be part of a resource's name", cut(&text.value))
    } else {
        return Some(text.value.clone());
    };
    mistakes.mark(text.referenced, problem, NAME);
    None
}

fn device_id(text: &Text, mistakes: &mut Mistakes) -> Option<ClassOrDevice> {
    let device = || hex(&text.value, 4, 4).and_then(|value| u16::try_from(value).ok());
    let class = hex(&text.value, 6, 6).map(|value| ClassOrDevice::Class(Class(value)));
    let id = class.or_else(|| Some(ClassOrDevice::Device(Id(device()?))));
    if id.is_none() {
        let problem = format!("{:?} is neither a device id nor a class code", cut(&text.value));
        mistakes.mark(text.referenced, problem, DEVICE_ID);
    }
    id
}

fn hex_id(text: &Text, what: &str, remedy: &str, mistakes: &mut Mistakes) -> Option<Id> {
    let id = hex(&text.value, 4, 4).and_then(|value| u16::try_from(value).ok()).map(Id);
    if id.is_none() {
        mistakes.mark(text.referenced, format!("{:?} is not a {what}", cut(&text.value)), remedy);
    }
    id
}

fn subsystem(text: &str) -> Option<(Id, Id)> {
    let (vendor, device) = text.split_once(':')?;
    let id = |text| hex(text, 4, 4).and_then(|value| u16::try_from(value).ok()).map(Id);
    Some((id(vendor)?, id(device)?))
}

/// Hexadecimal digits in either case, with or without `0x`.
fn hex(text: &str, least: usize, most: usize) -> Option<u32> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let right = (least..=most).contains(&digits.len());
    let right = right && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    right.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// The first 40 characters of a wrong value, for messages.
fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}
