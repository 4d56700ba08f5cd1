//! The generic cell rate algorithm (ITU-T I.371): a bucket of `burst` drops that fills by one drop an interval, kept as a single
//! moment: when it would be full. In whole nanoseconds; 128 bits hold any product here.

use crate::config::values::Rate;
use std::time::Duration;

/// A rate and its burst.
#[derive(Clone, Copy)]
pub struct Gcra {
    /// Nanoseconds in which a drop falls. Rounded up: never more than the rate.
    interval: u128,
    /// Nanoseconds in which an empty bucket fills.
    window: u128,
}

/// What becomes of a request for drops.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// When the bucket will be full.
    pub full: u128,
    /// `None`: granted. Else in what time it would be, if nobody else takes one.
    pub wait: Option<Duration>,
}

impl Gcra {
    /// `burst` drops at once, and `rate` in the long run.
    pub fn new(rate: Rate, burst: u64) -> Gcra {
        let interval = rate.period().as_nanos().div_ceil(rate.number.max(1).into());
        Gcra { interval, window: interval.saturating_mul(burst.max(1).into()) }
    }

    /// Takes so many drops at once, no more than the burst, at `now` out of a bucket that will be full at `full`. A moment beyond all that this rate can bring about,
    /// from a lower rate or a file that was meddled with, is an empty bucket.
    pub fn take(self, drops: u64, full: u128, now: u128) -> Decision {
        let full = self.sane(full, now);
        let next = full.saturating_add(self.interval.saturating_mul(drops.into()));
        match next.saturating_sub(now.saturating_add(self.window)) {
            0 => Decision { full: next, wait: None },
            wait => Decision { full, wait: Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))) },
        }
    }

    /// The bucket with so many drops more.
    pub fn give_back(self, drops: u64, full: u128) -> u128 {
        full.saturating_sub(self.interval.saturating_mul(drops.into()))
    }

    /// How many drops there are at `now`.
    pub fn left(self, full: u128, now: u128) -> u64 {
        let room = self.window.saturating_sub(self.sane(full, now).saturating_sub(now));
        u64::try_from(room / self.interval.max(1)).unwrap_or(u64::MAX)
    }

    fn sane(self, full: u128, now: u128) -> u128 {
        full.clamp(now, now.saturating_add(self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u128 = 1_000_000_000;
    const BOOT: u128 = 12_345 * SECOND;

    fn gcra(rate: &str, burst: u64) -> Gcra {
        Gcra::new(Rate::try_from(rate.to_owned()).unwrap(), burst)
    }

    /// Takes as many as there are; tells their number, the bucket, and the time to wait for the next.
    fn drain(gcra: Gcra, mut full: u128, now: u128) -> (u64, u128, Duration) {
        let mut taken = 0;
        loop {
            let left = gcra.left(full, now);
            let decision = gcra.take(1, full, now);
            full = decision.full;
            assert_eq!(left == 0, decision.wait.is_some());
            match decision.wait {
                None => taken += 1,
                Some(wait) => return (taken, full, wait),
            }
        }
    }

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        for (rate, burst, interval) in [
            ("600/h", 600, 6 * SECOND),
            ("600/h", 1, 6 * SECOND),
            ("1/s", 10, SECOND),
            ("1/d", 3, 86_400 * SECOND),
            ("7/s", 7, 142_857_143),
            ("1000000/s", 1, 1000),
        ] {
            let gcra = gcra(rate, burst);
            let (taken, full, wait) = drain(gcra, 0, BOOT);
            assert_eq!((taken, wait.as_nanos()), (burst, interval), "{rate}");
            // One nanosecond less than the time told is not enough, and the time told is.
            assert_eq!(gcra.take(1, full, BOOT + interval - 1).wait, Some(Duration::from_nanos(1)));
            let (taken, full, wait) = drain(gcra, full, BOOT + interval);
            assert_eq!((taken, wait.as_nanos()), (1, interval));
            // After half a bucket's time, half a bucket.
            let later = BOOT + interval + interval * u128::from(burst / 2);
            assert_eq!((drain(gcra, full, later).0, gcra.left(full, later)), (burst / 2, burst / 2));
            // After a long time the bucket is full, and not fuller.
            assert_eq!(drain(gcra, full, 1000 * BOOT * u128::from(burst)).0, burst);
        }
    }

    #[test]
    fn never_more_than_the_rate_whenever_they_come() {
        let gcra = gcra("60/m", 5);
        let (mut full, mut granted, mut now) = (0, 0u128, BOOT);
        for step in 0..100_000u128 {
            now += step * 7919 % (SECOND / 2);
            let decision = gcra.take(1, full, now);
            full = decision.full;
            granted += u128::from(decision.wait.is_none());
            assert!(granted <= 5 + (now - BOOT) / SECOND);
        }
        assert!(granted >= (now - BOOT) / SECOND);
    }

    #[test]
    fn another_rate_begins_sanely() {
        // Emptied by one a day; now it is ten a second: empty, and filled again within a second.
        let (_, full, _) = drain(gcra("1/d", 100), 0, BOOT);
        let fast = gcra("10/s", 10);
        let decision = fast.take(1, full, BOOT);
        assert_eq!(decision, Decision { full: BOOT + SECOND, wait: Some(Duration::from_millis(100)) });
        assert_eq!(drain(fast, decision.full, BOOT + SECOND).0, 10);
    }

    #[test]
    fn several_at_once_are_all_or_none() {
        let gcra = gcra("1/s", 10);
        let four = gcra.take(4, 0, BOOT);
        assert_eq!((four.wait, gcra.left(four.full, BOOT)), (None, 6));
        // One is missing: it comes in a second, and until then nothing is taken.
        let refused = gcra.take(7, four.full, BOOT);
        assert_eq!(refused, Decision { full: four.full, wait: Some(Duration::from_secs(1)) });
        assert_eq!(gcra.take(7, four.full, BOOT + SECOND).wait, None);
        assert_eq!(gcra.left(gcra.give_back(4, four.full), BOOT), 10);
    }

    #[test]
    fn nothing_overflows() {
        let largest = gcra("1/d", 1_000_000);
        for (full, now) in [(0, 0), (u128::MAX, 0), (u128::MAX, u128::MAX), (0, u128::MAX), (u128::MAX, BOOT)] {
            for gcra in [largest, gcra("1000000/s", 1), gcra("1000000/s", 1_000_000)] {
                assert!(gcra.left(full, now) <= 1_000_000 && gcra.take(1, full, now).full >= now);
            }
        }
        assert_eq!(drain(gcra("1000000/s", 1_000_000), 0, BOOT).0, 1_000_000);
    }
}
