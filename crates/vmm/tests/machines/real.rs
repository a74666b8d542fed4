//! The same with the QEMU that is installed here, if one is.

use std::error::Error;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use host::LinuxHost;
use libtest_mimic::{Completion, Failed, Trial};
use model::{
    BlockFile, BlockUse, DiskBus, DiskContent, DiskFile, DiskFormat, Execution, Exit, Firmware,
    GuestDisk, GuestSlot, Halt, Host, HostBlock, LaunchError, Launcher, MachineDisk,
    MachineOptions, MachineSpec, NetworkCard, NewPart, PartPlace, PartPlug, Presence, Seed,
    SparePorts, Unplugged,
};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use vmm::qemu::Qemu;

use crate::bench::{Bench, launcher, machine};

pub fn all() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("qemu_itself_takes_the_command_line_and_runs_as_a_stranger", || {
            with(&["qemu-system-x86_64", "qemu-img"], runs_as_a_stranger)
        }),
        Trial::ignorable_test("qemu_passt_and_ovmf_make_a_machine_and_end_with_it", || {
            with(&["qemu-system-x86_64", "qemu-img", "passt"], has_firmware_network_and_seed)
        }),
        Trial::ignorable_test("qemu_pauses_and_resumes_a_guest_and_tells_what_it_uses", || {
            with(&["qemu-system-x86_64", "qemu-img"], is_paused_and_resumed)
        }),
        Trial::ignorable_test("qemu_stops_a_guest_whose_disk_is_full_until_it_is_resumed", || {
            with(&["qemu-system-x86_64", "qemu-img"], is_stopped_by_a_full_disk)
        }),
        Trial::ignorable_test("qemu_takes_a_disk_while_it_runs_and_starts_with_it_again", || {
            with(&["qemu-system-x86_64", "qemu-img"], takes_a_disk)
        }),
        Trial::ignorable_test("qemu_has_a_block_device_of_the_host_for_itself", || {
            with(&["qemu-system-x86_64", "losetup"], has_a_block_device)
        }),
    ]
}

/// Runs a trial if these programs are installed.
pub fn with(
    programs: &[&str],
    trial: impl FnOnce() -> Result<Completion, Failed>,
) -> Result<Completion, Failed> {
    let installed = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    if programs.iter().all(installed) {
        return trial();
    }
    let needs = format!("needs {}", programs.join(", "));
    eprintln!("SKIPPED: {needs}");
    Ok(Completion::ignored_with(needs))
}

/// The firmware runs on a disk layer without a system: enough for QEMU to open all files as the machine's user, under
/// its sandbox, with a guest that executes.
fn runs_as_a_stranger() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let base = bench.path().join("base");
    fs::write(&base, vec![0; 1 << 20])?;
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: Some(64 << 20) };
    let spec =
        MachineSpec { disk: Some(disk), slots: Vec::new(), name: "a,b=\"c".into(), ..machine("") };
    bench.qemu.create_files(&spec)?;
    let handle = bench.qemu.launch(&spec)?;
    assert_eq!(bench.qemu.find(spec.id), Presence::Running(handle));
    // Firmware without a system hears no power button.
    let exit = bench.qemu.shut_down(spec.id, Duration::from_millis(100))?.exit;
    assert_eq!(exit, Exit { code: Some(0) });
    bench.qemu.launch(&spec)?;
    bench.qemu.kill(spec.id)?;
    bench.qemu.remove_files(spec.id)?;
    Ok(Completion::Completed)
}

/// The firmware has no system that could let go of the disk, so it is asked in vain.
fn takes_a_disk() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let path = bench.path().join("data");
    fs::write(&path, vec![0; 1 << 20])?;
    let spare = SparePorts { count: 3, devices: Vec::new() };
    let spec = MachineSpec { slots: Vec::new(), spare, ..machine("plug") };
    bench.qemu.create_files(&spec)?;
    bench.qemu.launch(&spec)?;
    let port = bench.qemu.free_port(spec.id, &GuestSlot::place([]), &[0])?;
    assert_eq!(port, 1);
    let disk = GuestDisk {
        content: DiskContent::Volume(uuid::Uuid::from_u128(5)),
        bus: DiskBus::Virtio,
        serial: "data".into(),
        read_only: false,
        mount_path: None,
        port: Some(port),
    };
    let file = DiskFile { disk: disk.clone(), path, format: DiskFormat::Raw, block: None };
    let plug = PartPlug { id: spec.id, port, part: NewPart::Disk(file.clone()) };
    bench.qemu.plug_part(&plug)?;
    assert_eq!(bench.qemu.plugged_parts(spec.id)?, Some(vec![plug.place()]));
    assert_eq!(bench.qemu.free_port(spec.id, &GuestSlot::place([]), &[0])?, 2);
    let again = bench.qemu.plug_part(&plug).unwrap_err();
    assert!(matches!(again, LaunchError::Plug { .. }), "{again}");
    let asked = bench.qemu.unplug_part(spec.id, plug.place(), Duration::from_millis(200))?;
    assert!(matches!(asked, Unplugged::Kept(_)), "{asked:?}");
    // What it does not have is out, and the file of a missing port is no error.
    let other = PartPlace { port: 2, ..plug.place() };
    assert_eq!(bench.qemu.unplug_part(spec.id, other, Duration::ZERO)?, Unplugged::Out);
    bench.qemu.kill(spec.id)?;
    let options = MachineOptions { disks: vec![disk], ..MachineOptions::default() };
    let next = MachineSpec { disks: vec![file], options, ..spec.clone() };
    bench.qemu.launch(&next)?;
    assert_eq!(bench.qemu.plugged_parts(spec.id)?, Some(vec![plug.place()]));
    bench.qemu.kill(spec.id)?;
    bench.qemu.remove_files(spec.id)?;
    Ok(Completion::Completed)
}

/// OVMF runs until its shell or menu, with a network card, a seed and a disk without a system.
fn has_firmware_network_and_seed() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let base = bench.path().join("base");
    fs::write(&base, vec![0; 1 << 20])?;
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: Some(64 << 20) };
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let forwards = vec![format!("{port}:22").parse()?];
    let mut options = MachineOptions {
        firmware: Firmware::Uefi,
        cards: vec![NetworkCard {
            mac: "52:54:00:12:34:56".parse()?,
            link: model::CardLink::User,
            forwards,
            port: None,
        }],
        seed: Some(Seed { user_data: "#cloud-config\n".into(), ..Seed::default() }),
        ..MachineOptions::default()
    };
    if let Err(error) = bench.qemu.check(&options) {
        eprintln!("SKIPPED, the part with a network: {error}");
        options.cards.clear();
    }
    if let Err(error) = bench.qemu.check(&options) {
        eprintln!("SKIPPED: {error}");
        return Ok(Completion::ignored_with(error.to_string()));
    }
    let has_network = options.has_user_network();
    let spec = MachineSpec { disk: Some(disk), options, ..machine("firmware") };
    bench.qemu.create_files(&spec)?;
    let dir = bench.path().join("state/machines").join(spec.id.to_string());
    let (nvram, seed) = (dir.join("nvram.fd"), dir.join("seed.iso"));
    assert_eq!(fs::metadata(&seed)?.mode() & 0o777, 0o400, "the seed has a private key");
    let template = fs::read(&nvram)?;
    bench.qemu.launch(&spec)?;
    let is_taken = TcpListener::bind(("127.0.0.1", port)).is_err();
    assert_eq!(is_taken, has_network, "passt listens on the port");
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read(&nvram)? == template {
        assert!(Instant::now() < until, "OVMF has not written a variable");
        std::thread::sleep(Duration::from_millis(100));
    }
    bench.qemu.kill(spec.id)?;
    // Until then it goes on writing.
    let kept = fs::read(&nvram)?;
    let until = Instant::now() + Duration::from_secs(10);
    while TcpListener::bind(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "passt outlives its machine");
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.qemu.create_files(&spec)?;
    assert_eq!(fs::read(&nvram)?, kept, "a start keeps the variables");
    bench.qemu.launch(&spec)?;
    bench.qemu.kill(spec.id)?;
    bench.qemu.remove_files(spec.id)?;
    assert!(!dir.exists());
    Ok(Completion::Completed)
}

/// A boot sector that writes 32 KiB to its disk again and again, each time behind the last one, by the BIOS (int 13h,
/// extended write). Its code, and the packet that says what to write.
const WRITER: [u8; 44] = [
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0xbe, 0x1c, 0x7c, // mov si, packet
    0xb8, 0x00, 0x43, // again: mov ax, 4300h
    0xcd, 0x13, // int 13h; dl is the disk that the BIOS booted
    0x66, 0x81, 0x44, 0x08, 0x40, 0, 0, 0, // add dword [si + 8], 64
    0xeb, 0xf1, // jmp again
    0, 0, 0, 0, 0,
    0, // packet: its size, the number of sectors, the address 1000:0000, the first sector
    0x10, 0, 0x40, 0, 0, 0, 0, 0x10, 0x80, 0, 0, 0, 0, 0, 0, 0,
];

/// A machine that boots the writer.
fn writer(bench: &Bench) -> MachineSpec {
    let base = bench.path().join("base");
    let mut image = vec![0; 1 << 20];
    image[..WRITER.len()].copy_from_slice(&WRITER);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&base, image).unwrap();
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: Some(1 << 30) };
    MachineSpec { disk: Some(disk), ..machine("writer") }
}

fn written(bench: &Bench, spec: &MachineSpec) -> u64 {
    bench.qemu.usage(spec.id).unwrap().disks.unwrap().written
}

/// Waits until the guest has written more than so many bytes.
fn writes_more(bench: &Bench, spec: &MachineSpec, than: u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while written(bench, spec) <= than {
        assert!(Instant::now() < until, "the guest does not write");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_paused_and_resumed() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let spec = writer(&bench);
    bench.qemu.create_files(&spec)?;
    bench.qemu.launch(&spec)?;
    assert_eq!(bench.qemu.execution(spec.id)?, Execution::Running);
    writes_more(&bench, &spec, 0);
    for _ in 0..2 {
        assert_eq!(bench.qemu.pause(spec.id)?, Execution::Paused);
    }
    let before = bench.qemu.usage(spec.id)?;
    assert!(before.disks.is_some_and(|disks| disks.read >= 512), "{before:?}");
    assert!(before.resident > 1 << 20 && before.address_space > spec.memory, "{before:?}");
    std::thread::sleep(Duration::from_millis(200));
    let after = bench.qemu.usage(spec.id)?;
    assert_eq!(after.disks, before.disks, "a paused guest writes nothing");
    assert!(after.cpu > Duration::ZERO, "{after:?}");
    let next_daemon = launcher(bench.path(), Qemu::new(None, &host::KernelFilter));
    assert_eq!(next_daemon.execution(spec.id)?, Execution::Paused);
    for _ in 0..2 {
        assert_eq!(bench.qemu.resume(spec.id)?, Execution::Running);
    }
    writes_more(&bench, &spec, before.disks.unwrap_or_default().written);
    bench.qemu.pause(spec.id)?;
    // The writer hears no power button.
    let exit = bench.qemu.shut_down(spec.id, Duration::from_millis(100))?.exit;
    assert_eq!(exit, Exit { code: Some(0) });
    bench.qemu.remove_files(spec.id)?;
    Ok(Completion::Completed)
}

/// A loop device; detached when dropped.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &std::path::Path) -> Option<Self> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(made.stdout).ok()?;
        made.status.success().then(|| Self(name.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// A guest boots from a block device and writes to it. While its machine runs, no one else opens the device exclusively.
fn has_a_block_device() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let file = bench.path().join("disk");
    // The writer writes zeros.
    let mut image = vec![0xaa; 64 << 20];
    image[..WRITER.len()].copy_from_slice(&WRITER);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&file, &image)?;
    let Some(device) = Loop::over(&file) else {
        eprintln!("SKIPPED: cannot make a loop device");
        return Ok(Completion::ignored_with("needs loop devices"));
    };
    let names = bench.path().join("by-id");
    fs::create_dir(&names)?;
    std::os::unix::fs::symlink(&device.0, names.join("data"))?;
    let host = LinuxHost::reader("/".as_ref())?;
    let found = host.block_device(std::slice::from_ref(&names), "data")?;
    assert_eq!((found.size, found.disk), (64 << 20, None), "{found:?}");
    let used = host.block_use(&found)?;
    assert_eq!(used, BlockUse { is_blank: false, ..BlockUse::default() });
    let named = found.identity.name.clone().unwrap_or_default();
    assert!(named.ends_with("/disk") && found.backing.is_some(), "{found:?}");
    let content =
        DiskContent::Block(HostBlock { path: found.path.clone(), ..HostBlock::default() });
    let disk = GuestDisk {
        content,
        bus: DiskBus::Virtio,
        serial: "data".into(),
        read_only: false,
        mount_path: None,
        port: None,
    };
    let block = Some(BlockFile { number: found.number, sector: found.sector });
    let path = found.path.clone();
    let disks = vec![DiskFile { disk, path, format: DiskFormat::Raw, block }];
    let spec = MachineSpec { disks, ..machine("block") };
    bench.qemu.create_files(&spec)?;
    bench.qemu.launch(&spec)?;
    writes_more(&bench, &spec, 0);
    let used = host.block_use(&found)?;
    assert!(used.users[0].contains("is held by"), "{used:?}");
    let second = MachineSpec { id: uuid::Uuid::from_u128(77), ..spec.clone() };
    bench.qemu.create_files(&second)?;
    let refused = bench.qemu.launch(&second).unwrap_err().to_string();
    assert!(refused.contains("is in use by this host or another machine"), "{refused}");
    bench.qemu.remove_files(second.id)?;
    bench.qemu.kill(spec.id)?;
    assert!(host.block_use(&found)?.users.is_empty(), "free again");
    let mut other = spec.clone();
    other.disks[0].block = Some(BlockFile { number: (7, 255), sector: 512 });
    let refused = bench.qemu.launch(&other).unwrap_err().to_string();
    assert!(refused.contains("is another device now"), "{refused}");
    bench.qemu.remove_files(spec.id)?;
    let data = fs::read(&file)?;
    assert!(data != image, "the guest wrote to the device");
    a_file_system_on_it_is_found(&bench, &host, &found)?;
    Ok(Completion::Completed)
}

/// A file system on the device is data, and in use while it is mounted.
fn a_file_system_on_it_is_found(
    bench: &Bench,
    host: &LinuxHost,
    found: &model::BlockDevice,
) -> Result<(), Failed> {
    let mounted = format!("{} is mounted at", found.name);
    if Command::new("mke2fs").args(["-q", "-F"]).arg(&found.path).status()?.success() {
        assert_eq!(host.block_use(found)?.data, ["an ext2, ext3 or ext4 file system"]);
        let at = bench.path().join("mnt");
        fs::create_dir(&at)?;
        if mount(&found.path, &at, "ext4", MountFlags::empty(), None::<&std::ffi::CStr>).is_ok() {
            let used = host.block_use(found);
            unmount(&at, UnmountFlags::DETACH)?;
            assert!(used?.users[0].starts_with(&mounted));
        }
    }
    Ok(())
}

/// A file system of 256 MiB, mounted for the machines' files; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(&path)?;
        let options = c"size=256m,mode=711";
        mount("none", &path, "tmpfs", MountFlags::empty(), options)?;
        Ok(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn is_stopped_by_a_full_disk() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let _disk = match SmallDisk::at(bench.path().join("state")) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("SKIPPED: cannot mount a small file system: {error}");
            return Ok(Completion::ignored_with("needs to mount"));
        }
    };
    let filler = bench.path().join("state/filler");
    // What it leaves is soon full; what is free without it is not, while a resumed guest is observed.
    fallocate(File::create(&filler)?, FallocateFlags::empty(), 0, 253 << 20)?;
    let spec = writer(&bench);
    bench.qemu.create_files(&spec)?;
    bench.qemu.launch(&spec)?;
    let full = Execution::Halted(Halt::DiskFull);
    let until = Instant::now() + Duration::from_secs(60);
    while bench.qemu.execution(spec.id)? != full {
        assert!(Instant::now() < until, "the guest was not stopped");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(bench.qemu.pause(spec.id)?, full, "it is stopped already");
    assert_eq!(bench.qemu.resume(spec.id)?, full, "there is still no space");
    let before = written(&bench, &spec);
    fs::remove_file(&filler)?;
    assert_eq!(bench.qemu.resume(spec.id)?, Execution::Running);
    writes_more(&bench, &spec, before);
    let exit = bench.qemu.shut_down(spec.id, Duration::from_millis(100))?.exit;
    assert_eq!(exit, Exit { code: Some(0) });
    bench.qemu.remove_files(spec.id)?;
    Ok(Completion::Completed)
}
