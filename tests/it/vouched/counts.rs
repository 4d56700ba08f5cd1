//! How often what permits a signature may be used: exactly so often, whatever happens in between.

use crate::ledger::{joined, lines};
use sigsh::audit::ledger::file::{Book, Lock};
use sigsh::audit::ledger::line::{Line, hash};
use sigsh::audit::ledger::{Ledger, LedgerError};
use sigsh::warrant::Quota;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

const NAME: &str = "ssh:SHA256:abc:7";
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A ledger of root's, for processes of root's: this one.
struct Bare {
    path: PathBuf,
    state: PathBuf,
}

impl Bare {
    /// With a first line of this age, and further fields.
    fn new(age: Duration, first: &[(&str, &str)]) -> Bare {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = PathBuf::from(format!("/var/lib/sigsh-counts/{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let bare = Bare { path: directory.join("ledger.jsonl"), state: directory.join("state") };
        fs::create_dir_all(&directory).unwrap();
        bare.new_state();
        bare.write(&bare.path, &[line(1, [0; 32], age, &[&[("event", "init")], first].concat())]);
        bare
    }

    fn new_state(&self) {
        let _ = fs::remove_dir_all(&self.state);
        fs::create_dir(&self.state).unwrap();
        fs::set_permissions(&self.state, fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn write(&self, path: &Path, lines: &[Vec<u8>]) {
        let lines = lines.iter().map(Vec::as_slice).collect::<Vec<_>>();
        fs::write(path, joined(&lines)).unwrap();
    }

    /// Appends a record of this age.
    fn append(&self, age: Duration, fields: &[(&str, &str)]) {
        let bytes = fs::read(&self.path).unwrap();
        let all = lines(&bytes);
        let last = Line::parse(all[all.len() - 1]).unwrap();
        let line = line(last.seq + 1, hash(all[all.len() - 1]), age, fields);
        fs::write(&self.path, [&bytes[..], &line, b"\n"].concat()).unwrap();
    }

    /// As `rotate` does; the old file's name.
    fn rotate(&self, age: Duration) -> PathBuf {
        self.append(age, &[("event", "rotate")]);
        let bytes = fs::read(&self.path).unwrap();
        let last = Line::parse(lines(&bytes).pop().unwrap()).unwrap();
        let name = format!("ledger.jsonl-{}-{}", &last.time()[..10], last.seq);
        let old = self.path.with_file_name(&name);
        fs::rename(&self.path, &old).unwrap();
        let fields = [("event", "continue"), ("file", name.as_str())];
        self.write(&self.path, &[line(last.seq + 1, hash(lines(&bytes).pop().unwrap()), age, &fields)]);
        let _ = fs::remove_file(self.state.join("ledger.lock"));
        old
    }

    fn open(&self) -> Ledger {
        Ledger::open(&self.path, &self.state, Some(DAY)).unwrap()
    }

    /// What a session does.
    fn use_up(&self, max: u64, since: Duration) -> Result<(), LedgerError> {
        use_up(&self.open(), max, since)
    }

    fn intents(&self) -> usize {
        fs::read_to_string(&self.path).unwrap().lines().filter(|line| line.contains("\"event\":\"intent\"")).count()
    }
}

fn line(seq: u64, prev: [u8; 32], age: Duration, fields: &[(&str, &str)]) -> Vec<u8> {
    Line::new(seq, prev, SystemTime::now() - age, fields.iter().copied()).unwrap().1
}

fn quota(max: u64, since: Duration) -> Quota {
    Quota { name: NAME.to_owned(), max, since: SystemTime::now() - since }
}

fn use_up(ledger: &Ledger, max: u64, since: Duration) -> Result<(), LedgerError> {
    let mut count = ledger.count(&[quota(max, since)])?;
    ledger.record(&[&[("event", "approval")], INTENT], &mut count).map(drop)
}

const INTENT: &[(&str, &str)] = &[("event", "intent"), ("permits", "mac:other ssh:SHA256:abc:7")];

#[test]
fn as_often_as_it_may_and_no_more() {
    let bare = Bare::new(DAY, &[]);
    for max in [1, 3] {
        let already = bare.intents() as u64;
        for _ in already..max {
            bare.use_up(max, MINUTE).unwrap();
        }
        let before = fs::read(&bare.path).unwrap();
        let refused = bare.use_up(max, MINUTE).unwrap_err();
        let s = if max == 1 { "" } else { "s" };
        let words = format!("what permits this is used up: it was good for {max} signature{s}, made or tried");
        assert_eq!(refused.to_string(), words);
        assert_eq!(fs::read(&bare.path).unwrap(), before);
    }
    // One that does not bear what it is counted by is none.
    let ledger = bare.open();
    let mut count = ledger.count(&[quota(9, MINUTE)]).unwrap();
    assert!(matches!(ledger.record(&[&[("event", "intent"), ("permits", "mac:other")]], &mut count), Err(LedgerError::Long)));
}

/// By one lock, or by two: whoever deletes the state directory while sessions run makes a second one.
#[test]
fn at_once_exactly_one() {
    for locks in [1, 2] {
        for turn in 0..30 {
            let bare = Bare::new(DAY, &[]);
            let state = bare.state.with_file_name("other");
            fs::create_dir(&state).unwrap();
            fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
            let start = Barrier::new(16);
            let outcomes = thread::scope(|scope| {
                let session = |number: usize| {
                    let (start, state) = (&start, if number % locks == 0 { &bare.state } else { &state });
                    let ledger = Ledger::open(&bare.path, state, Some(DAY)).unwrap();
                    scope.spawn(move || {
                        start.wait();
                        use_up(&ledger, 1, MINUTE)
                    })
                };
                let threads = (0..16).map(session).collect::<Vec<_>>();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            });
            let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let why = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            if locks == 1 {
                assert_eq!((good, bare.intents()), (1, 1), "{turn}");
                why.for_each(|error| assert!(matches!(error, LedgerError::UsedUp(1)), "{error}"));
            } else {
                // Who has no lock in common may spoil it for all, but never makes two of one.
                assert!(good <= 1, "{turn}: {outcomes:?}");
                let known =
                    |error: &LedgerError| matches!(error, LedgerError::UsedUp(1) | LedgerError::Crossed | LedgerError::Edited(..));
                why.for_each(|error| assert!(known(error), "{error}"));
            }
        }
    }
}

/// What another one appends between the look at the end and one's own line, by a lock of its own, is seen by the place of that line.
#[test]
fn who_appends_without_the_turn_is_noticed() {
    let bare = Bare::new(DAY, &[]);
    let (book, lock) = (Book::open(&bare.path).unwrap(), Lock::open(&bare.state).unwrap());
    let tail = book.tail(lock.head().as_ref()).unwrap();
    let state = bare.state.clone();
    bare.new_state();
    use_up(&Ledger::open(&bare.path, &state, Some(DAY)).unwrap(), 1, MINUTE).unwrap();
    let crossed = book.append(&tail, INTENT).unwrap_err();
    assert!(matches!(crossed, LedgerError::Crossed), "{crossed}");
    assert!(bare.use_up(1, MINUTE).is_err());
}

#[test]
fn a_deleted_state_directory_resets_nothing() {
    let bare = Bare::new(DAY, &[]);
    let early = bare.open();
    bare.use_up(1, MINUTE).unwrap();
    bare.new_state();
    assert!(matches!(bare.use_up(1, MINUTE), Err(LedgerError::UsedUp(1))));
    // One that had its lock before.
    assert!(matches!(use_up(&early, 1, MINUTE), Err(LedgerError::UsedUp(1))));
    assert_eq!(bare.intents(), 1);
}

#[test]
fn a_torn_line_is_no_use_and_hides_none() {
    let intent = line(7, [7; 32], MINUTE, INTENT);
    for torn in [&intent[..intent.len() - 1], &intent[..intent.len() / 2], b"x", b"\n\n", &[0; 70_000], &[b'{'; 100_000]] {
        let bare = Bare::new(DAY, &[]);
        let tear = || {
            use std::io::Write;
            File::options().append(true).open(&bare.path).unwrap().write_all(torn).unwrap();
        };
        tear();
        bare.use_up(1, MINUTE).unwrap();
        tear();
        assert!(matches!(bare.use_up(1, MINUTE), Err(LedgerError::UsedUp(1))));
        bare.use_up(2, MINUTE).unwrap();
        assert!(matches!(bare.use_up(2, MINUTE), Err(LedgerError::UsedUp(2))));
    }
    // A record whose newline is missing is one.
    let bare = Bare::new(DAY, &[]);
    bare.append(MINUTE, INTENT);
    let bytes = fs::read(&bare.path).unwrap();
    fs::write(&bare.path, bytes.strip_suffix(b"\n").unwrap()).unwrap();
    assert!(matches!(bare.use_up(1, MINUTE), Err(LedgerError::UsedUp(1))));
}

#[test]
fn it_was_used_before_the_ledger_was_rotated() {
    let bare = Bare::new(20 * 60 * MINUTE, &[]);
    bare.append(600 * MINUTE, INTENT);
    let oldest = bare.rotate(500 * MINUTE);
    bare.append(400 * MINUTE, INTENT);
    let newest = bare.rotate(300 * MINUTE);
    let used_up = |max, since| matches!(bare.use_up(max, since * MINUTE), Err(LedgerError::UsedUp(limit)) if limit == max);
    let past = |since| matches!(bare.use_up(2, since * MINUTE), Err(LedgerError::Past));
    assert!(used_up(2, 700) && used_up(1, 450));
    let hide = |path: &Path, body: &dyn Fn()| {
        let hidden = path.with_extension("away");
        fs::rename(path, &hidden).unwrap();
        body();
        fs::rename(&hidden, path).unwrap();
    };
    // One that is gone is missed where it counts, and not where it does not.
    hide(&newest, &|| assert!(past(700) && past(450) && past(301)));
    hide(&oldest, &|| assert!(past(700) && past(501) && used_up(1, 499)));
    // In the moment of a rotation the old file still bears the new one's name.
    hide(&newest, &|| {
        let new = bare.path.with_file_name("ledger.jsonl.new");
        fs::copy(newest.with_extension("away"), &new).unwrap();
        assert!(used_up(2, 700));
        fs::remove_file(&new).unwrap();
    });
    // Nor will another do: its last line is not the one that the next goes on from.
    hide(&newest, &|| {
        fs::copy(&oldest, &newest).unwrap();
        assert!(past(450));
        let bytes = fs::read(newest.with_extension("away")).unwrap();
        let all = lines(&bytes);
        bare.write(&newest, &[all[..all.len() - 1].concat()]);
        assert!(past(450));
        fs::write(&newest, &bytes).unwrap();
        fs::set_permissions(&newest, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(past(450));
    });
    bare.use_up(1, 299 * MINUTE).unwrap();
    assert!(used_up(1, 299) && used_up(3, 700));
}

/// A new host's first build was permitted some minutes ago; a ledger in place of another does not know what that one knew.
#[test]
fn a_ledger_that_is_new() {
    let bare = Bare::new(Duration::ZERO, &[]);
    bare.use_up(1, 5 * MINUTE).unwrap();
    assert!(matches!(bare.use_up(1, 5 * MINUTE), Err(LedgerError::UsedUp(1))));
    let again = Bare::new(3 * MINUTE, &[("reason", "there was another ledger here before")]);
    assert!(matches!(again.use_up(1, 5 * MINUTE), Err(LedgerError::Past)));
    again.use_up(1, 2 * MINUTE).unwrap();
}

#[test]
fn a_clock_that_went_back() {
    let bare = Bare::new(DAY, &[]);
    bare.append(Duration::ZERO, INTENT);
    let ahead = line(3, hash(lines(&fs::read(&bare.path).unwrap())[1]), Duration::ZERO, INTENT);
    let ahead = String::from_utf8(ahead).unwrap();
    let time = humantime::format_rfc3339_nanos(SystemTime::now() + DAY).to_string();
    let now = Line::parse(ahead.as_bytes()).unwrap().time().to_owned();
    let bytes = fs::read(&bare.path).unwrap();
    fs::write(&bare.path, [&bytes[..], ahead.replace(&now, &time).as_bytes(), b"\n"].concat()).unwrap();
    // What was used in the time to come counts, too; and nothing is recorded now.
    assert!(matches!(bare.use_up(2, MINUTE), Err(LedgerError::UsedUp(2))));
    assert!(matches!(bare.use_up(3, MINUTE), Err(LedgerError::Clock { .. })));
}

/// How long it takes to count in a ledger of 100 MB, of the last two hours and of a day.
#[test]
#[ignore = "minutes: just soak"]
fn a_hundred_megabytes() {
    let bare = Bare::new(DAY, &[]);
    let filler = "x".repeat(700);
    let (mut bytes, mut prev, number) = (Vec::new(), [0; 32], 100_000);
    for seq in 1..=number {
        let age = DAY * (number - seq) as u32 / number as u32;
        let fields =
            [("event", if seq == 1 { "init" } else { "intent" }), ("name", filler.as_str()), ("permits", "ssh:SHA256:abc:8")];
        let line = line(seq, prev, age, &fields);
        prev = hash(&line);
        bytes.extend(line);
        bytes.push(b'\n');
    }
    fs::write(&bare.path, &bytes).unwrap();
    for hours in [0, 2, 24] {
        let began = std::time::Instant::now();
        bare.use_up(u64::MAX, hours * 60 * MINUTE).unwrap();
        eprintln!("{} bytes, {hours} h: {:?}", bytes.len(), began.elapsed());
    }
}
