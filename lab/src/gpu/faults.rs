//! Whether the function answers: after a reset it may need time, or never answer again.
//!
//! While it does not answer, reads return all ones and writes are lost, as for a request that is not completed (PCI
//! Express Base 2.3.2). Linux polls for up to a minute, then gives up. The server itself never sleeps: QEMU, and with
//! it the whole emulated host, waits for each answer.

use super::settings::{Fault, Settings};
use std::time::{Duration, Instant};

/// Whether a function answers, and from when on.
#[derive(Debug)]
pub struct Presence {
    fault: Fault,
    delay: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Present,
    Until(Instant),
    Gone,
}

impl Presence {
    /// The state at power-on: present.
    pub fn new(settings: &Settings) -> Self {
        let slow = match settings.fault {
            Fault::Slow { ms } => ms,
            Fault::None | Fault::DeadAfterReset => 0,
        };
        let delay = Duration::from_millis(settings.flr_delay_ms.max(slow));
        Self { fault: settings.fault, delay, state: State::Present }
    }

    /// Whether the function answers now.
    pub fn answers(&self, now: Instant) -> bool {
        match self.state {
            State::Present => true,
            State::Until(ready) => now >= ready,
            State::Gone => false,
        }
    }

    /// A reset happened at `now`.
    pub fn reset(&mut self, now: Instant) {
        self.state = match (self.fault, now.checked_add(self.delay)) {
            (Fault::DeadAfterReset, _) | (_, None) => State::Gone,
            (Fault::None | Fault::Slow { .. }, Some(ready)) => State::Until(ready),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(fault: Fault, flr_delay_ms: u64) -> Presence {
        Presence::new(&Settings { fault, flr_delay_ms, ..Settings::default() })
    }

    #[test]
    fn a_sound_function_is_back_at_once() {
        let now = Instant::now();
        let mut presence = presence(Fault::None, 0);
        assert!(presence.answers(now));
        presence.reset(now);
        assert!(presence.answers(now));
    }

    #[test]
    fn a_slow_one_is_back_later_each_time() {
        for (fault, delay) in [(Fault::None, 300), (Fault::Slow { ms: 300 }, 100)] {
            let mut presence = presence(fault, delay);
            let mut now = Instant::now();
            assert!(presence.answers(now), "power-on takes no time");
            for _ in 0..2 {
                presence.reset(now);
                assert!(!presence.answers(now + Duration::from_millis(299)));
                now += Duration::from_millis(300);
                assert!(presence.answers(now));
            }
        }
    }

    #[test]
    fn a_dead_one_stays_dead() {
        let now = Instant::now();
        let mut presence = presence(Fault::DeadAfterReset, 0);
        assert!(presence.answers(now));
        presence.reset(now);
        assert!(!presence.answers(now + Duration::from_secs(3600)));
    }

    #[test]
    fn a_delay_without_end_is_death() {
        let now = Instant::now();
        let mut presence = presence(Fault::Slow { ms: u64::MAX }, 0);
        presence.reset(now);
        assert!(!presence.answers(now + Duration::from_secs(3600)));
    }
}
