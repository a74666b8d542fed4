//! A machine that runs once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest_protocol::disk::{RESULT_BYTES, decode_result, encode};
use guest_protocol::{CommandResult, GuestConfig, serials};

use crate::parts::{Parts, parts};

/// An emulated machine needs a few seconds; a busy processor makes them many.
const WITHIN: Duration = Duration::from_secs(300);

/// The directory of a machine that is kept over its starts.
pub struct Place {
    directory: tempfile::TempDir,
    parts: &'static Parts,
}

/// A running machine.
pub struct Machine<'a> {
    place: &'a Place,
    qemu: Child,
    begin: Instant,
}

/// What a machine left.
pub struct Outcome {
    pub console: String,
    pub result: Option<CommandResult>,
}

impl Outcome {
    /// The command exited with this status.
    pub fn expect(self, code: u8) -> String {
        let result = self.result.as_ref();
        assert_eq!(result, Some(&CommandResult::exited(code)), "{}", self.console);
        self.console
    }
}

/// The configuration of a command.
pub fn command(argv: &[&str]) -> GuestConfig {
    GuestConfig {
        hostname: "ml".to_owned(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        stop_timeout_seconds: 10,
        ..GuestConfig::default()
    }
}

/// The configuration of a script.
pub fn script(text: &str) -> GuestConfig {
    command(&["/bin/sh", "-c", text])
}

impl Place {
    /// Disks for a new machine.
    pub fn new() -> Option<Self> {
        let parts = parts()?;
        let place = Self { directory: tempfile::tempdir().unwrap(), parts };
        place.ext4("upper", 64);
        Some(place)
    }

    /// A new ext4 in a file.
    pub fn ext4(&self, name: &str, mebibytes: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
        let mut make = Command::new("/usr/sbin/mke2fs");
        let made = make.args(["-q", "-t", "ext4"]).arg(&path).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn parts(&self) -> &'static Parts {
        self.parts
    }

    /// Starts the machine.
    pub fn start(&self, config: &GuestConfig, more: &[String]) -> Machine<'_> {
        fs::write(self.path("config"), encode(config).unwrap()).unwrap();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", "q35,memory-backend=ram", "-accel", "tcg", "-cpu", "max", "-m", "256"]);
        qemu.args(["-object", "memory-backend-memfd,id=ram,size=256M,share=on"]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(&self.parts.kernel).arg("-initrd").arg(&self.parts.initrd);
        qemu.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
        qemu.arg("-serial").arg(format!("file:{}", self.path("console").display()));
        qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", self.path("qmp").display()));
        // The order is not that in which the init uses them.
        let mut disks = vec![
            (self.path("upper"), serials::UPPER, false),
            (self.path("config"), serials::CONFIG, false),
            (self.parts.root.clone(), serials::ROOT, true),
        ];
        if config.modules {
            disks.push((self.parts.modules.clone(), serials::MODULES, true));
        }
        for mount in &config.mounts {
            disks.insert(0, (self.path(&mount.serial), mount.serial.as_str(), mount.read_only));
        }
        for (number, (path, serial, read_only)) in disks.iter().enumerate() {
            qemu.args(disk(number, path, serial, *read_only));
        }
        qemu.args(more).stdin(Stdio::null()).stdout(Stdio::null());
        Machine { place: self, qemu: qemu.spawn().unwrap(), begin: Instant::now() }
    }
}

fn disk(number: usize, path: &Path, serial: &str, read_only: bool) -> [String; 4] {
    let read_only = if read_only { "on" } else { "off" };
    let path = path.display();
    [
        "-drive".to_owned(),
        format!("if=none,id=d{number},format=raw,file={path},read-only={read_only}"),
        "-device".to_owned(),
        format!("virtio-blk-pci,drive=d{number},serial={serial}"),
    ]
}

impl Machine<'_> {
    /// What it has written to its console.
    pub fn console(&self) -> String {
        let text = fs::read(self.place.path("console")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until the console has this text.
    pub fn wait_for(&mut self, text: &str) {
        while !self.console().contains(text) {
            let ended = self.qemu.try_wait().unwrap();
            let late = self.begin.elapsed() > WITHIN;
            assert!(ended.is_none() && !late, "no {text:?}: {}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses the power button.
    pub fn press_power(&self) {
        let mut qmp = UnixStream::connect(self.place.path("qmp")).unwrap();
        let mut lines = BufReader::new(qmp.try_clone().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        for command in ["qmp_capabilities", "system_powerdown"] {
            writeln!(qmp, "{{\"execute\":\"{command}\"}}").unwrap();
            lines.read_line(&mut line).unwrap();
        }
    }

    /// Waits until it has switched itself off.
    pub fn end(mut self) -> Outcome {
        while self.qemu.try_wait().unwrap().is_none() {
            assert!(self.begin.elapsed() < WITHIN, "it does not end: {}", self.console());
            std::thread::sleep(Duration::from_millis(10));
        }
        let console = self.console();
        println!("ran {:.1} s\n{console}", self.begin.elapsed().as_secs_f32());
        let mut file = File::open(self.place.path("config")).unwrap();
        let mut record = [0; RESULT_BYTES];
        file.seek(SeekFrom::End(-(RESULT_BYTES as i64))).unwrap();
        file.read_exact(&mut record).unwrap();
        Outcome { console, result: decode_result(&record).unwrap() }
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
