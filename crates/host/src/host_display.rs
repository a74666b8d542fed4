//! What draws on a card: the display manager, virtual consoles, framebuffers of the firmware, and modules on the card's
//! driver.

use std::collections::BTreeSet;

use model::doctor::Framebuffer;
use model::{Address, FirmwareFramebuffer, HostDisplay, UserPlace};

use crate::function_files::DEVICES;
use crate::holders::unit_and_user;
use crate::inventory::{self, Catalogs};
use crate::platform;
use crate::root::Root;

const CONSOLES: &str = "sys/class/vtconsole";
const FRAMEBUFFERS: &str = "sys/class/graphics";
const CARDS: &str = "sys/class/drm";
const PLATFORM: &str = "sys/bus/platform/devices";

/// The names of the platform devices that `sysfb` and the boot loaders make (drivers/firmware/sysfb*.c).
const FIRMWARE: [&str; 3] = ["simple-framebuffer.", "efi-framebuffer.", "vesa-framebuffer."];

/// Where systemd finds units, in the order of its own search (systemd.unit(5)).
const UNITS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// The most links from a unit's alias to its file.
const HOPS: usize = 4;

/// The most modules on a driver.
const MODULES: usize = 64;

/// Reads what draws on these functions of one card.
pub fn read(root: &Root, addresses: &[Address]) -> HostDisplay {
    let own = root.text("proc/self/cgroup").ok();
    let own = own.as_deref().and_then(unit_and_user);
    let framebuffers = firmware_framebuffers(root, addresses);
    let manager = manager(root);
    HostDisplay {
        manager_runs: manager.as_ref().is_some_and(|unit| runs(root, unit)),
        manager,
        has_other_card: has_other_card(root, addresses),
        consoles: consoles(root, addresses, &framebuffers),
        modules: modules(root, addresses),
        framebuffers,
        own: own.as_deref().map_or(UserPlace::Other, UserPlace::parse),
    }
}

/// The unit that `display-manager.service` stands for.
fn manager(root: &Root) -> Option<String> {
    let mut name = "display-manager.service".to_owned();
    for _ in 0..HOPS {
        let link = UNITS.iter().find_map(|dir| {
            let path = format!("{dir}/{name}");
            match root.link_name(&path) {
                Ok(target) => Some(Some(target)),
                Err(_) if root.exists(&path) => Some(None),
                Err(_) => None,
            }
        });
        match link {
            Some(Some(target)) if target != name => name = target,
            Some(_) => break,
            None => return None,
        }
    }
    name.ends_with(".service").then_some(name)
}

/// Whether a service runs: its control group exists as long as it has processes.
fn runs(root: &Root, unit: &str) -> bool {
    let hierarchies = ["", "systemd/", "unified/"];
    hierarchies.iter().any(|top| root.exists(&format!("sys/fs/cgroup/{top}system.slice/{unit}")))
}

/// The cards of the host that have a node for drawing, as paths in sysfs.
fn cards(root: &Root) -> Vec<String> {
    let names = root.names(CARDS).unwrap_or_default();
    let is_card = |name: &&String| {
        let number = name.strip_prefix("card").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let links = names.iter().filter(is_card);
    links.filter_map(|card| root.link(&format!("{CARDS}/{card}")).ok()).collect()
}

/// Whether a card besides these functions has a node for drawing.
fn has_other_card(root: &Root, addresses: &[Address]) -> bool {
    cards(root).iter().any(|card| card.contains("/pci") && !is_below(card, addresses))
}

/// Whether these functions have a node for drawing.
fn draws(root: &Root, addresses: &[Address]) -> bool {
    cards(root).iter().any(|card| is_below(card, addresses))
}

/// Whether a path in sysfs is below one of these functions.
fn is_below(path: &str, addresses: &[Address]) -> bool {
    addresses.iter().any(|address| path.contains(&format!("/{address}/")))
}

/// The consoles that are drawn on the card. The kernel draws them on another framebuffer by itself if there is one
/// (`fbcon_fb_unbind` in drivers/video/fbdev/core/fbcon.c).
fn consoles(root: &Root, addresses: &[Address], firmware: &[FirmwareFramebuffer]) -> Vec<u32> {
    let names = root.names(FRAMEBUFFERS).unwrap_or_default();
    let links = names.iter().filter(|name| {
        name.strip_prefix("fb")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    let (ours, others): (Vec<String>, Vec<String>) = links
        .filter_map(|name| root.link(&format!("{FRAMEBUFFERS}/{name}")).ok())
        .partition(|link| {
            is_below(link, addresses)
                || firmware.iter().any(|one| link.contains(&format!("/{}/", one.device)))
        });
    // Without CONFIG_FB_DEVICE no framebuffer is shown: then the consoles are on the only card that draws.
    let is_hidden = ours.is_empty() && others.is_empty();
    let is_ours = match is_hidden {
        true => draws(root, addresses) && !has_other_card(root, addresses),
        false => others.is_empty(),
    };
    if !is_ours {
        return Vec::new();
    }
    let names = root.names(CONSOLES).unwrap_or_default();
    let mut consoles: Vec<u32> = names
        .iter()
        .filter(|name| {
            let text = |file: &str| root.text(&format!("{CONSOLES}/{name}/{file}"));
            text("name").is_ok_and(|text| text.contains("frame buffer device"))
                && text("bind").is_ok_and(|text| text == "1")
        })
        .filter_map(|name| name.strip_prefix("vtcon")?.parse().ok())
        .collect();
    consoles.sort_unstable();
    consoles
}

/// The framebuffers of the firmware with a driver that are in the card's memory: below its function (since Linux 6.9), or
/// with memory in one of its BARs.
fn firmware_framebuffers(root: &Root, addresses: &[Address]) -> Vec<FirmwareFramebuffer> {
    let names = root.names(PLATFORM).unwrap_or_default();
    let mut found = Vec::new();
    let bound = names.into_iter().filter(|name| FIRMWARE.iter().any(|one| name.starts_with(one)));
    for device in bound {
        let path = format!("{PLATFORM}/{device}");
        let Ok(driver) = root.link_name(&format!("{path}/driver")) else { continue };
        let link = root.link(&path).unwrap_or_default();
        if is_below(&link, addresses) || is_on_bar(root, addresses) {
            found.push(FirmwareFramebuffer { device, driver });
        }
    }
    found.sort_by(|a, b| a.device.cmp(&b.device));
    found
}

/// Whether `/proc/iomem` shows a framebuffer of the firmware in a BAR of these functions.
fn is_on_bar(root: &Root, addresses: &[Address]) -> bool {
    let shown: Vec<Framebuffer> = platform::console(root).framebuffers;
    let inventory = inventory::read_some(root, &Catalogs::default(), addresses);
    let bars = inventory.functions.values().flat_map(|function| &function.bars);
    bars.filter(|bar| !bar.io && bar.start != 0 && bar.size != 0).any(|bar| {
        let end = bar.start.saturating_add(bar.size - 1);
        shown.iter().any(|one| one.start <= end && one.end >= bar.start)
    })
}

/// The modules that use the driver of the card, those first that no other uses. NVIDIA's driver lets go of a card only without
/// them; other drivers take their users along. None if another device stays with the driver: it needs them.
fn modules(root: &Root, addresses: &[Address]) -> Vec<String> {
    let mut found = Vec::new();
    for address in addresses {
        let function = format!("{DEVICES}/{address}");
        if !root.text(&format!("{function}/class")).is_ok_and(|class| class.starts_with("0x03")) {
            continue;
        }
        let Ok(driver) = root.link_name(&format!("{function}/driver")) else { continue };
        let driver = format!("sys/bus/pci/drivers/{driver}");
        let Ok(module) = root.link_name(&format!("{driver}/module")) else { continue };
        let bound = root.names(&driver).unwrap_or_default();
        let others = bound.iter().filter_map(|name| name.parse::<Address>().ok());
        let stays = others.into_iter().any(|other| !addresses.contains(&other));
        if !module.starts_with("nvidia") || stays {
            continue;
        }
        users_of(root, &module, &mut BTreeSet::new(), &mut found);
    }
    found
}

/// Adds the modules that use a module, each after those that use it.
fn users_of(root: &Root, module: &str, seen: &mut BTreeSet<String>, found: &mut Vec<String>) {
    let mut users = root.names(&format!("sys/module/{module}/holders")).unwrap_or_default();
    users.sort();
    for user in users {
        if seen.len() < MODULES && seen.insert(user.clone()) {
            users_of(root, &user, seen, found);
            found.push(user);
        }
    }
}
