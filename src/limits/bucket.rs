//! A bucket that sessions share: one line of fixed length in the state directory, changed by one session at a time.

use super::LimitError;
use super::gcra::Gcra;
use crate::config::values::Rate;
use crate::state::{self, State};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// How long others are waited for. They need microseconds each, unless one of them is frozen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names this boot of the machine (random(4)): the clock below begins anew with each.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Stands for it in a root without /proc: it may be any boot. What was taken before this one counts then, for no longer than a bucket takes to fill.
const NO_BOOT_ID: &str = "------------------------------------";

/// Bytes of the line: boot id, the moment when the bucket is full, how many were refused since the last that was not.
const LINE: usize = 36 + 1 + 39 + 1 + 20 + 1;

/// What becomes of a wish for drops.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is granted.
    Granted {
        /// How many were refused since the last one that was granted.
        refused: u64,
    },
    /// Not now.
    Refused {
        /// In what time it would be granted.
        wait: Duration,
    },
}

/// The bucket.
pub struct Bucket {
    file: File,
    name: String,
    gcra: Gcra,
    boot: String,
}

#[derive(Clone, Copy)]
struct Record {
    full: u128,
    refused: u64,
}

impl Bucket {
    /// Opens it, and makes it at first: full.
    ///
    /// # Errors
    /// [`LimitError::State`], [`LimitError::Io`].
    pub fn open(state: &State, name: &str, rate: Rate, burst: u64) -> Result<Bucket, LimitError> {
        let file = state.file(name).map_err(|error| LimitError::State(name.to_owned(), error))?;
        let boot = match openat(AT_FDCWD, BOOT_ID, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(source) => {
                let mut boot = [0; 36];
                File::from(source).read_exact(&mut boot).map_err(|error| LimitError::Io(BOOT_ID.to_owned(), error))?;
                String::from_utf8_lossy(&boot).into_owned()
            }
            Err(Errno::ENOENT) => NO_BOOT_ID.to_owned(),
            Err(error) => return Err(LimitError::Io(BOOT_ID.to_owned(), error.into())),
        };
        Ok(Bucket { file, name: name.to_owned(), gcra: Gcra::new(rate, burst), boot })
    }

    /// Takes so many drops, or none. Uses nothing but the open file: it works inside a sandbox, too.
    ///
    /// # Errors
    /// Any [`LimitError`] but the refusals.
    pub fn take(&self, drops: u64) -> Result<Taken, LimitError> {
        let _turn = state::turn(&self.file, PATIENCE).map_err(|error| LimitError::State(self.name.clone(), error))?;
        let stored = self.read()?;
        let Record { full, refused } = stored.unwrap_or(Record { full: u128::MAX, refused: 0 });
        let decision = self.gcra.take(drops, full, self.now()?);
        let refused_now = if stored.is_some() && decision.wait.is_some() { refused.saturating_add(1) } else { 0 };
        self.write(Record { full: decision.full, refused: refused_now })?;
        match (stored, decision.wait) {
            // Fail closed, once: from now on there is a count again.
            (None, _) => Err(LimitError::Garbage(self.name.clone())),
            (_, None) => Ok(Taken::Granted { refused }),
            (_, Some(wait)) => Ok(Taken::Refused { wait }),
        }
    }

    /// Puts so many drops back.
    ///
    /// # Errors
    /// Any [`LimitError`] but the refusals.
    pub fn give_back(&self, drops: u64) -> Result<(), LimitError> {
        let _turn = state::turn(&self.file, PATIENCE).map_err(|error| LimitError::State(self.name.clone(), error))?;
        match self.read()? {
            Some(record) => self.write(Record { full: self.gcra.give_back(drops, record.full), ..record }),
            None => Ok(()),
        }
    }

    /// How many drops there are now.
    ///
    /// # Errors
    /// Any [`LimitError`] but the refusals.
    pub fn left(&self) -> Result<u64, LimitError> {
        let _turn = state::turn(&self.file, PATIENCE).map_err(|error| LimitError::State(self.name.clone(), error))?;
        let (stored, now) = (self.read()?, self.now()?);
        Ok(stored.map_or(0, |record| self.gcra.left(record.full, now)))
    }

    /// Nanoseconds since the machine was booted, time asleep included. Nobody sets this clock.
    fn now(&self) -> Result<u128, LimitError> {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(|error| self.failed(error.into()))?;
        Ok(Duration::from(time).as_nanos())
    }

    /// `None` when it is not what [`Bucket::write`] writes.
    fn read(&self) -> Result<Option<Record>, LimitError> {
        // What stands behind the line is not looked at: it is never cut off either.
        let mut line = [0; LINE];
        let length = self.file.read_at(&mut line, 0).map_err(|error| self.failed(error))?;
        let line = line.get(..length).unwrap_or_default();
        if line.is_empty() {
            return Ok(Some(Record { full: 0, refused: 0 }));
        }
        let other = |boot: &str| boot != self.boot && ![boot, &*self.boot].contains(&NO_BOOT_ID);
        Ok(parse(line).map(|(boot, record)| Record { full: if other(boot) { 0 } else { record.full }, ..record }))
    }

    /// In one piece: a session that is killed has written it or has not. It need not survive a crash of the machine.
    fn write(&self, record: Record) -> Result<(), LimitError> {
        self.file.write_all_at(line(&self.boot, record).as_bytes(), 0).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> LimitError {
        LimitError::Io(self.name.clone(), error)
    }
}

fn line(boot: &str, record: Record) -> String {
    format!("{boot:36} {:039} {:020}\n", record.full, record.refused)
}

/// How many were refused since the last that was not, by a bucket's file.
pub fn refused(line: &[u8]) -> Option<u64> {
    parse(line.get(..LINE)?).map(|(_, record)| record.refused)
}

fn parse(text: &[u8]) -> Option<(&str, Record)> {
    let text = str::from_utf8(text).ok()?;
    let mut words = text.trim_end_matches('\n').split(' ');
    let boot = words.next()?;
    let record = Record { full: words.next()?.parse().ok()?, refused: words.next()?.parse().ok()? };
    (text.len() == LINE && line(boot, record) == text).then_some((boot, record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn bucket(name: &str, rate: &str, burst: u64) -> (PathBuf, Bucket) {
        let path = std::env::temp_dir().join(format!("sigsh-{name}-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let rate = Rate::try_from(rate.to_owned()).unwrap();
        (path, Bucket { file, name: name.to_owned(), gcra: Gcra::new(rate, burst), boot: "b".repeat(36) })
    }

    fn granted(bucket: &Bucket) -> Option<u64> {
        match bucket.take(1).unwrap() {
            Taken::Granted { refused } => Some(refused),
            Taken::Refused { .. } => None,
        }
    }

    #[test]
    fn what_was_refused_is_counted_and_told_once() {
        let (path, bucket) = bucket("counted", "1/d", 2);
        assert_eq!([(); 5].map(|()| granted(&bucket)), [Some(0), Some(0), None, None, None]);
        assert_eq!((bucket.left().unwrap(), fs::read(&path).unwrap().len()), (0, LINE));
        // The machine was booted again: the clock is another, what was refused is still not told.
        let bucket = Bucket { boot: "c".repeat(36), ..bucket };
        assert_eq!(bucket.left().unwrap(), 2);
        assert_eq!([(); 3].map(|()| granted(&bucket)), [Some(3), Some(0), None]);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn where_nobody_knows_the_boot_a_bucket_does_not_fill_by_it() {
        let (path, bucket) = bucket("no-boot-id", "1/d", 3);
        let [known, unknown, other] = ["b".repeat(36), NO_BOOT_ID.to_owned(), "c".repeat(36)];
        assert_eq!(granted(&bucket), Some(0));
        let bucket = Bucket { boot: unknown, ..bucket };
        assert_eq!((bucket.left().unwrap(), granted(&bucket)), (2, Some(0)));
        let bucket = Bucket { boot: known, ..bucket };
        assert_eq!((bucket.left().unwrap(), granted(&bucket)), (1, Some(0)));
        assert_eq!(Bucket { boot: other, ..bucket }.left().unwrap(), 3);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn many_at_once_get_exactly_what_there_is() {
        let path = bucket("at-once", "1/d", 1500).0;
        // A bucket for each, as sessions have: the lock is that of the open file.
        let take = || {
            let bucket = bucket("at-once", "1/d", 1500).1;
            (0..1000).filter(|_| granted(&bucket).is_some()).count()
        };
        let taken = std::thread::scope(|scope| {
            let threads = (0..4).map(|_| scope.spawn(take)).collect::<Vec<_>>();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 1500);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_not_a_count_is_an_empty_bucket_that_fills() {
        let (path, bucket) = bucket("garbage", "1000/s", 1);
        assert_eq!(granted(&bucket), Some(0));
        let good = fs::read_to_string(&path).unwrap();
        let far = good.replace(good.split(' ').nth(1).unwrap(), &"9".repeat(39));
        for garbage in ["x".to_owned(), good.replace('\n', " "), good[1..].to_owned(), far, "\0".repeat(LINE), "9".repeat(10_000)] {
            fs::write(&path, &garbage).unwrap();
            assert_eq!(bucket.left().unwrap(), 0);
            assert!(matches!(bucket.take(1), Err(LimitError::Garbage(_))), "{garbage}");
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(granted(&bucket), Some(0), "{garbage}");
        }
        // A moment that this rate cannot bring about is no further away than an empty bucket.
        fs::write(&path, line(&bucket.boot, Record { full: u128::MAX / 10, refused: u64::MAX })).unwrap();
        assert!(matches!(bucket.take(1).unwrap(), Taken::Refused { wait } if wait <= Duration::from_millis(1)));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(granted(&bucket), Some(u64::MAX));
        fs::remove_file(path).unwrap();
    }
}
