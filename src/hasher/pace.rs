//! How fast bytes must come: never a pause of `idle`, and from the first byte on a least throughput, or somebody sends a byte
//! every 29 seconds and keeps a session for ever.

use super::Fault;
use std::time::{Duration, Instant};

const SECOND: u128 = 1_000_000_000;

/// Until when the next byte must come. Each byte earns the time that it may take, but nobody saves up more than `idle`.
pub(super) struct Pace {
    idle: Duration,
    /// Bytes a second.
    throughput: u64,
    deadline: Instant,
    begun: bool,
    /// What the division below has left: of a nanosecond, in parts of `throughput`.
    rest: u128,
}

impl Pace {
    pub(super) fn new(idle: Duration, throughput: u64, now: Instant) -> Pace {
        Pace { idle, throughput: throughput.max(1), deadline: later(now, idle), begun: false, rest: 0 }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Nobody was waiting for bytes for so long.
    pub(super) fn pause(&mut self, time: Duration) {
        self.deadline = later(self.deadline, time);
    }

    /// Bytes have come.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) {
        let longest = later(now, self.idle);
        // A producer may need its time before its first byte.
        if !std::mem::replace(&mut self.begun, true) {
            self.deadline = longest;
            return;
        }
        let earned = (bytes as u128).saturating_mul(SECOND).saturating_add(self.rest);
        self.rest = earned % u128::from(self.throughput);
        let earned = Duration::from_nanos(u64::try_from(earned / u128::from(self.throughput)).unwrap_or(u64::MAX));
        self.deadline = later(self.deadline, earned).min(longest);
    }

    /// The deadline has passed, and `last` is when something came.
    pub(super) fn fault(&self, last: Instant) -> Fault {
        if self.deadline >= later(last, self.idle) { Fault::Idle } else { Fault::Slow }
    }
}

fn later(moment: Instant, time: Duration) -> Instant {
    moment.checked_add(time).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);
    const KIB: u64 = 1024;

    /// Sends pieces of `bytes` with pauses between them; tells when it ended, after how many of them, and why.
    fn send(throughput: u64, pieces: impl IntoIterator<Item = (Duration, usize)>) -> (Duration, usize, Option<Fault>) {
        let start = Instant::now();
        let (mut pace, mut now, mut last) = (Pace::new(IDLE, throughput, start), start, start);
        let mut sent = 0;
        for (pause, bytes) in pieces {
            now += pause;
            if now >= pace.deadline() {
                return (pace.deadline() - start, sent, Some(pace.fault(last)));
            }
            pace.received(bytes, now);
            (last, sent) = (now, sent + 1);
        }
        (now - start, sent, None)
    }

    #[test]
    fn a_trickle_ends_and_a_burst_does_not() {
        let seconds = Duration::from_secs;
        let every = |pause: u64, bytes: usize| std::iter::repeat_n((seconds(pause), bytes), 100_000);
        let (idle, slow) = (Some(Fault::Idle), Some(Fault::Slow));
        // Nothing at all; a first byte that comes late; one that comes too late.
        assert_eq!(send(KIB, [(seconds(31), 1)]), (IDLE, 0, idle));
        assert_eq!(send(KIB, [(seconds(29), 1), (seconds(31), 1)]), (seconds(59), 1, idle));
        // A byte every 29 seconds, every second, every ten milliseconds.
        let (end, sent, why) = send(KIB, every(29, 1));
        assert_eq!((end.as_secs(), sent, why), (59, 2, slow));
        let (end, _, why) = send(KIB, every(1, 1));
        assert_eq!((end.as_secs(), why), (31, slow));
        // Half of what is demanded lasts for twice the time, a little less than it for long, exactly it for ever.
        assert_eq!(send(KIB, every(1, 512)).0.as_secs(), 60);
        assert_eq!(send(KIB, every(1, 1023)).2, slow);
        assert_eq!(send(KIB, every(1, 1024)).2, None);
        // Pauses shorter than idle hurt nobody who sends much between them, and no merit lasts longer than idle.
        assert_eq!(send(KIB, every(29, 1 << 20)).2, None);
        assert_eq!(send(KIB, [(seconds(1), 1 << 20), (seconds(1), 1 << 20), (seconds(31), 1)]), (seconds(32), 2, idle));
    }

    #[test]
    fn arithmetic_is_exact_and_does_not_overflow() {
        // Three bytes a second, a byte every third of a second: a nanosecond is lost nowhere.
        let third = Duration::from_nanos(333_333_333);
        assert_eq!(send(3, std::iter::repeat_n((third, 1), 100_000)).2, None);
        let start = Instant::now();
        for (idle, throughput, bytes) in [
            (Duration::MAX, u64::MAX, usize::MAX),
            (Duration::MAX, 1, usize::MAX),
            (Duration::ZERO, 0, 0),
            (IDLE, u64::MAX, 1),
            (IDLE, 1, usize::MAX),
        ] {
            let mut pace = Pace::new(idle, throughput, start);
            for _ in 0..3 {
                pace.received(bytes, start);
                assert!(pace.deadline() >= start && pace.deadline() <= later(start, idle));
            }
        }
    }
}
