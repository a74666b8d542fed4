//! What draws on a card, and what is connected by USB, on a fake host.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;

use fake::Fake;
use host::LinuxHost;
use model::{Address, FirmwareFramebuffer, Host, HostDisplay};

const CARD: &str = "0000:01:00.0";
const OTHER: &str = "0000:02:00.0";

fn display(fake: &Fake) -> HostDisplay {
    let card: Address = CARD.parse().unwrap();
    LinuxHost::reader(fake.root()).unwrap().display(&[card]).unwrap()
}

/// A card with a driver, a framebuffer and a console on it.
fn card(fake: &Fake, driver: &str) {
    fake.function(CARD, "10de:2204", "030000").group(1).driver(driver);
    fake.link(
        &format!("sys/bus/pci/drivers/{driver}/module"),
        &format!("../../../../module/{driver}"),
    );
    fake.link("sys/class/drm/card0", &format!("../../devices/pci0000:00/{CARD}/drm/card0"));
    fake.link("sys/class/graphics/fb0", &format!("../../devices/pci0000:00/{CARD}/graphics/fb0"));
    fake.file("sys/class/vtconsole/vtcon0/name", "(S) dummy device\n");
    fake.file("sys/class/vtconsole/vtcon0/bind", "0\n");
    fake.file("sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n");
    fake.file("sys/class/vtconsole/vtcon1/bind", "1\n");
}

#[test]
fn the_display_manager_is_what_its_alias_stands_for() {
    let fake = Fake::new();
    card(&fake, "amdgpu");
    assert_eq!(display(&fake).manager, None);
    fake.link("etc/systemd/system/display-manager.service", "/lib/systemd/system/gdm3.service");
    fake.link("usr/lib/systemd/system/gdm3.service", "gdm.service");
    fake.file("usr/lib/systemd/system/gdm.service", "[Service]\n");
    let stopped = display(&fake);
    assert_eq!((stopped.manager.as_deref(), stopped.manager_runs), (Some("gdm.service"), false));
    fake.file("sys/fs/cgroup/system.slice/gdm.service/cgroup.procs", "7\n");
    assert!(display(&fake).manager_runs);
}

#[test]
fn consoles_are_on_the_card_if_no_other_framebuffer_is_there() {
    let fake = Fake::new();
    card(&fake, "amdgpu");
    assert_eq!(display(&fake).consoles, [1]);
    assert!(!display(&fake).has_other_card);
    let other = format!("../../devices/pci0000:00/{OTHER}/graphics/fb1");
    fake.link("sys/class/graphics/fb1", &other);
    assert_eq!(display(&fake).consoles, [0; 0], "the kernel draws them on the other one");
    // A kernel without CONFIG_FB_DEVICE.
    let hidden = Fake::new();
    card(&hidden, "bochs");
    std::fs::remove_file(hidden.path("sys/class/graphics/fb0")).unwrap();
    assert_eq!(display(&hidden).consoles, [1]);
    let other = format!("../../devices/pci0000:00/{OTHER}/drm/card1");
    hidden.link("sys/class/drm/card1", &other);
    assert_eq!(display(&hidden).consoles, [0; 0]);
    assert!(display(&hidden).has_other_card);
}

#[test]
fn a_framebuffer_of_the_firmware_is_found_by_its_memory_or_its_place() {
    let fake = Fake::new();
    fake.function(CARD, "10de:2204", "030000")
        .group(1)
        .with("resource", "0x00000000d0000000 0x00000000dfffffff 0x000000000014220c\n");
    let platform = "sys/bus/platform/devices/simple-framebuffer.0";
    fake.file("sys/devices/platform/simple-framebuffer.0/uevent", "");
    fake.link(platform, "../../../devices/platform/simple-framebuffer.0");
    fake.link(
        "sys/devices/platform/simple-framebuffer.0/driver",
        "../../../bus/platform/drivers/simple-framebuffer",
    );
    fake.file("sys/bus/platform/drivers/simple-framebuffer/bind", "");
    fake.file("proc/iomem", "e0000000-e02fffff : simplefb\n");
    assert_eq!(display(&fake).framebuffers, []);
    fake.file("proc/iomem", "d0000000-d02fffff : BOOTFB\n");
    let (device, driver) = ("simple-framebuffer.0".to_owned(), "simple-framebuffer".to_owned());
    assert_eq!(display(&fake).framebuffers, [FirmwareFramebuffer { device, driver }]);
}

#[test]
fn modules_on_nvidias_driver_are_unloaded_by_their_users() {
    let fake = Fake::new();
    card(&fake, "nvidia");
    for (module, users) in [
        ("nvidia", &["nvidia_uvm", "nvidia_modeset", "nvidia_drm"][..]),
        ("nvidia_modeset", &["nvidia_drm"]),
    ] {
        for user in users {
            fake.file(&format!("sys/module/{module}/holders/{user}/x"), "");
        }
    }
    assert_eq!(display(&fake).modules, ["nvidia_drm", "nvidia_modeset", "nvidia_uvm"]);
    // Another card stays with the driver.
    fake.function(OTHER, "10de:2204", "030000").group(2).driver("nvidia");
    fake.link(&format!("sys/bus/pci/drivers/nvidia/{OTHER}"), "../../../../devices/x");
    assert_eq!(display(&fake).modules, [""; 0]);
}

fn usb(fake: &Fake, name: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        fake.file(&format!("sys/bus/usb/devices/{name}/{file}"), format!("{text}\n"));
    }
}

#[test]
fn usb_devices_are_found_with_what_they_are() {
    let fake = Fake::new();
    let ids = |number| [("busnum", "1"), ("devnum", number), ("bDeviceClass", "00")];
    usb(&fake, "usb1", &ids("1"));
    usb(&fake, "1-1", &ids("4"));
    let keyboard = [
        ("idVendor", "046d"),
        ("idProduct", "c31c"),
        ("manufacturer", "Logitech"),
        ("product", "USB Keyboard"),
    ];
    usb(&fake, "1-1", &keyboard);
    usb(&fake, "1-1:1.0", &[("bInterfaceClass", "03"), ("bInterfaceProtocol", "01")]);
    usb(
        &fake,
        "1-2",
        &[
            ("idVendor", "05e3"),
            ("idProduct", "0608"),
            ("busnum", "1"),
            ("devnum", "2"),
            ("bDeviceClass", "09"),
        ],
    );
    let found = LinuxHost::reader(fake.root()).unwrap().usb_devices();
    let shown: Vec<String> = found.iter().map(model::UsbDevice::shown).collect();
    assert_eq!(shown, ["Logitech USB Keyboard (046d:c31c at 1.1)", "USB device 05e3:0608 at 1.2"]);
    assert!(found[0].is_keyboard && !found[0].is_mouse && !found[0].is_hub);
    assert_eq!(found[0].node(), "/dev/bus/usb/001/004");
    assert!(found[1].is_hub);
}
