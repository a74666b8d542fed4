//! The power button: the kernel reports it as a key, and leaves what to do to us.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::time::Timespec;

/// `struct input_event` on 64-bit kernels: the time (16 bytes), the type, the code, the value.
const EVENT_BYTES: usize = 24;
/// `EV_KEY` and `KEY_POWER` of `linux/input-event-codes.h`.
const KEY: u16 = 1;
const POWER: u16 = 116;

/// Keys of the machine: one of them is the power button.
pub struct Keys(File);

impl Keys {
    /// Opens all input devices.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/dev/input").into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("event"))
            .filter_map(|entry| {
                let flags = OFlags::NONBLOCK.bits().cast_signed();
                OpenOptions::new().read(true).custom_flags(flags).open(entry.path()).ok()
            })
            .map(Self)
            .collect()
    }

    /// What happened since the last call.
    pub fn news(&mut self) -> News {
        let mut pressed = false;
        let mut event = [0; EVENT_BYTES];
        loop {
            match self.0.read_exact(&mut event) {
                Ok(()) => pressed |= is_power(&event),
                Err(error) => {
                    let gone = error.kind() != io::ErrorKind::WouldBlock || self.hung_up();
                    return News { pressed, gone };
                }
            }
        }
    }

    fn hung_up(&self) -> bool {
        let mut one = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = poll(&mut one, Some(&now));
        let [one] = one.map(|one| one.revents());
        one.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
    }
}

/// What a device had to say.
pub struct News {
    /// The power button was pressed.
    pub pressed: bool,
    /// The device was unplugged: its descriptor is ready for ever, and must not be polled.
    pub gone: bool,
}

impl AsFd for Keys {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_power(event: &[u8; EVENT_BYTES]) -> bool {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    let (kind, code) = (u16::from_ne_bytes([t0, t1]), u16::from_ne_bytes([c0, c1]));
    kind == KEY && code == POWER && i32::from_ne_bytes([v0, v1, v2, v3]) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_unplugged_is_gone() {
        use std::io::Write;
        let (device, mut plug) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&device, OFlags::NONBLOCK).unwrap();
        let mut keys = Keys(File::from(std::os::fd::OwnedFd::from(device)));
        let news = keys.news();
        assert!(!news.pressed && !news.gone);
        let mut event = [0; EVENT_BYTES];
        event[16..].copy_from_slice(&[1, 0, 116, 0, 1, 0, 0, 0]);
        plug.write_all(&event).unwrap();
        let news = keys.news();
        assert!(news.pressed && !news.gone);
        drop(plug);
        assert!(keys.news().gone);
    }

    #[test]
    fn only_pressing_the_power_button_counts() {
        let mut event = [0xff; EVENT_BYTES];
        event[16..].copy_from_slice(&[1, 0, 116, 0, 1, 0, 0, 0]);
        assert!(is_power(&event));
        for (at, value) in [(16, 2), (18, 30), (20, 0), (20, 2)] {
            let mut other = event;
            other[at] = value;
            assert!(!is_power(&other), "{other:?}");
        }
    }
}
