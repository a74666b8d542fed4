//! What gives a GPU to the host's desktop or console at boot: the X server's configuration, and nouveau.

use super::{Case, Finding, Severity, about, listed};
use crate::doctor::remedy::{self, move_aside};
use crate::doctor::{Remedy, X11File};
use crate::{Function, Kind};

const NVIDIA: u16 = 0x10de;
const AMD: u16 = 0x1002;
const INTEL: u16 = 0x8086;

/// Files of the X server's configuration that give it the GPU, by its driver or by its address.
pub fn x11_configuration(case: &Case<'_>) -> Vec<Finding> {
    let Some(gpu) = own_gpu(case) else { return Vec::new() };
    let files = case.patient.platform.x11.iter().filter(|file| names(file, gpu));
    let files: Vec<&X11File> = files.collect();
    if files.is_empty() {
        return Vec::new();
    }
    let held = case.patient.holders.iter().any(|holder| {
        holder.address == gpu.address
            && crate::doctor::purpose(holder.name()) == Some(crate::doctor::Purpose::Display)
    });
    let severity = if held { Severity::Warning } else { Severity::Note };
    let said = files.iter().map(|file| match file.drivers.is_empty() {
        true => format!("{} names the card", file.path),
        false => format!("{} names {}", file.path, listed(&file.drivers)),
    });
    let read = listed(said);
    let meaning = "the X server takes the GPU whenever it starts, and then holds it; while a machine has the GPU, it may \
                   not start at all";
    let finding = about(gpu.address, "x11-config", severity, read, meaning);
    vec![Finding { remedy: Some(without(case, gpu, &files)), ..finding }]
}

/// Whether the file gives this card to the X server. A file with addresses means only these cards.
fn names(file: &X11File, gpu: &Function) -> bool {
    if !file.cards.is_empty() {
        return file.cards.contains(&gpu.address);
    }
    let drivers: &[&str] = match gpu.vendor.0 {
        NVIDIA => &["nvidia", "nouveau"],
        AMD => &["amdgpu", "radeon"],
        INTEL => &["intel", "i915", "xe"],
        _ => &[],
    };
    let base = |driver: &String| driver.split('-').next().map(str::to_owned).unwrap_or_default();
    file.drivers.iter().any(|driver| drivers.contains(&base(driver).as_str()))
}

/// Moves the files aside, unless they are also for another card, or are the whole configuration.
fn without(case: &Case<'_>, gpu: &Function, files: &[&X11File]) -> Remedy {
    let paths = listed(files.iter().map(|file| &file.path));
    let other = of_vendor(case, gpu).next();
    let others = files.iter().flat_map(|file| &file.cards).any(|card| *card != gpu.address);
    if others || other.is_some() && files.iter().any(|file| file.cards.is_empty()) {
        return Remedy::words(format!(
            "the file is also for another card of this host: give that card its own section with a BusID, and remove \
             this one, in {paths}"
        ));
    }
    if files.iter().any(|file| file.path.ends_with("/xorg.conf")) {
        return Remedy::words(format!(
            "remove the sections that name the card or its driver in {paths}"
        ));
    }
    move_aside(case.patient.platform, files.iter().map(|file| file.path.as_str()))
}

/// nouveau on the only NVIDIA card: it never has to take the card.
pub fn nouveau(case: &Case<'_>) -> Vec<Finding> {
    let Some(gpu) = own_gpu(case) else { return Vec::new() };
    if gpu.driver.as_deref() != Some("nouveau") || of_vendor(case, gpu).next().is_some() {
        return Vec::new();
    }
    let platform = case.patient.platform;
    let read = format!("{} is on nouveau, and is this host's only NVIDIA GPU", gpu.address);
    let meaning = "nouveau draws the console and the desktop on it, and can crash when it is unbound; it takes no card at \
                   all if its module option modeset is 0";
    let set = platform.listed("nouveau.modeset").last().is_some_and(|one| one.word == "0");
    let remedy = if set {
        Remedy::words(
            "nouveau.modeset=0 is on the kernel's command line, but has no effect: put the GPU on the boot list",
        )
    } else {
        remedy::kernel_option(platform, "nouveau.modeset=0")
    };
    let finding = about(gpu.address, "nouveau", Severity::Note, read, meaning);
    vec![Finding { remedy: Some(remedy), ..finding }]
}

fn own_gpu<'a>(case: &Case<'a>) -> Option<&'a Function> {
    case.taken()
        .find(|function| function.kind() == Kind::Gpu && function.physical_function.is_none())
}

/// The host's other GPUs of the same vendor.
fn of_vendor<'a>(case: &Case<'a>, gpu: &'a Function) -> impl Iterator<Item = &'a Function> {
    let taken: Vec<_> = case.taken().map(|function| function.address).collect();
    case.patient.inventory.functions.values().filter(move |other| {
        other.kind() == Kind::Gpu
            && other.vendor == gpu.vendor
            && other.physical_function.is_none()
            && !taken.contains(&other.address)
    })
}
