//! How often what permits a signature may be used: exactly so often, whatever happens in between.

use crate::ledger::{Own, joined, lines};
use crate::vouched::approvals::list;
use crate::vouched::permits::Permitted;
use crate::vouched::{after, declare, emergency, guarded_own, new_key, permits};
use crate::world::{Outcome, Session, account, calls, patient, verify};
use sigsh::audit::ledger::file::{Book, Lock};
use sigsh::audit::ledger::line::{Line, hash};
use sigsh::audit::ledger::{Ledger, LedgerError};
use sigsh::audit::{Audit, AuditError, Facts, Field};
use sigsh::warrant::Quota;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

/// A clock that has gone back while a session waits for its turn hides no use.
#[test]
fn what_would_not_be_counted_is_not_used() {
    let bare = Bare::new(DAY, &[]);
    let ledger = bare.open();
    let mut count = ledger.count(&[Quota { since: SystemTime::now() + MINUTE, ..quota(1, MINUTE) }]).unwrap();
    assert!(matches!(ledger.record(&[INTENT], &mut count), Err(LedgerError::Early)));
}

/// No session records two of what is counted; one that did would not get more by it.
#[test]
fn each_intent_of_a_session_is_counted() {
    let bare = Bare::new(DAY, &[]);
    let config = format!("ledger = \"{}\"\nstate = \"{}\"", bare.path.display(), bare.state.display());
    let mut audit = Audit::begin();
    audit.open(Path::new("/run/systemd/journal/socket"));
    audit.ready(&toml::from_str(&config).unwrap(), Some(DAY)).unwrap();
    audit.bears(&[], &[quota(2, MINUTE)]).unwrap();
    audit.learn(Field::PERMITS, NAME);
    let mut intent = || audit.record([].iter(), [Facts::default()].iter());
    let outcomes = [intent(), intent(), intent()];
    assert!(matches!(outcomes, [Ok(()), Ok(()), Err(AuditError::Ledger(LedgerError::UsedUp(2)))]), "{outcomes:?}");
}

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
                    let (start, state) = (&start, if number.is_multiple_of(locks) { &bare.state } else { &state });
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
    assert!(matches!(bare.use_up(1, 2 * MINUTE), Err(LedgerError::UsedUp(1))));
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

pub const DATA: &[u8] = b"artifact";
const USED_UP: &str = "what permits this is used up: it was good for 1 signature, made or tried";

/// A key that signs in an emergency alone, once for each word that erin gives.
struct Once {
    own: Own,
    erin: String,
}

impl Once {
    fn new(fault: &str) -> Once {
        let [alice, erin] = ["ed25519"; 2].map(new_key);
        let (approvers, people) = (list(&[("alice", &alice)]), list(&[("erin", &erin)]));
        let table = format!(
            "approvals = {{ need = 1, approvers = \"{approvers}\" }}\n\
             break-glass = {{ need = 1, approvers = \"{people}\", max-age = \"24h\" }}"
        );
        Once { own: guarded_own(Own::faulty("/run/systemd/journal/socket", fault, &[]), &table), erin }
    }

    /// What asks for one signature: another one for each number.
    fn request(&self, number: i64) -> String {
        format!("{}{}", declare("ed25519", "sha512", DATA), emergency(&self.erin, "ed25519", DATA, &after(600 + number)))
    }

    fn session(&self, request: &str) -> Session {
        Session::new(&self.own.config).client("build1").request(request)
    }

    fn run(&self, request: &str) -> Outcome {
        self.session(request).run(DATA)
    }

    #[track_caller]
    fn signs(&self, request: &str) {
        let outcome = self.run(request);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
        verify("ed25519", &outcome.out, DATA);
    }

    /// Before a byte is read, and without a line in the ledger.
    #[track_caller]
    fn is_used_up(&self, request: &str) {
        fs::write(&self.own.count, "").unwrap();
        let before = self.own.bytes();
        self.run(request).fails(77, USED_UP, "refused", USED_UP);
        assert_eq!((self.own.bytes(), calls(&self.own.count, "C_SignInit")), (before, 0));
    }

    fn intents(&self) -> usize {
        let files = self.own.files();
        let text = files.iter().map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()).collect::<String>();
        text.lines().filter(|line| line.contains("\"event\":\"intent\"")).count()
    }

    /// As a reboot would, had it been in `/run`.
    fn new_state(&self) {
        let state = self.own.lock.parent().unwrap();
        fs::rename(state, state.with_extension("old")).unwrap();
        fs::create_dir(state).unwrap();
        chown(state, Some(account().0), Some(account().1)).unwrap();
        fs::set_permissions(state, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// As [`finish_child`], without a look at the journal.
fn quiet(mut child: Child) -> (Option<i32>, Vec<u8>, String) {
    // Who is refused does not read.
    let _ = child.stdin.take().unwrap().write_all(DATA);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// So many sessions of a build whose permit is good for one: one signature.
fn at_once(number: usize) {
    let Permitted { own, request, .. } = permits::by_ssh(1);
    let session = || Session::new(&own.config).client("build1").request(&request).start();
    let outcomes = thread::scope(|scope| {
        let threads = (0..number).map(|_| scope.spawn(|| quiet(session()))).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let (signed, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(code, ..)| *code == Some(0));
    assert_eq!((signed.len(), calls(&own.count, "C_SignInit")), (1, 1));
    verify("ed25519", &signed[0].1, DATA);
    for (code, out, err) in refused {
        assert_eq!((code, out.len(), err), (Some(77), 0, format!("sigsh: error: {USED_UP}\n")));
    }
    assert_eq!(own.verify(&["--approvals"]).code, Some(0));
}

#[test]
fn sixty_sessions_at_once_make_one_signature() {
    at_once(60);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn a_thousand_sessions_at_once_make_one_signature() {
    at_once(1000);
}

#[test]
fn whatever_happens_between_two_sessions() {
    let once = Once::new("");
    type Event = fn(&Once);
    let events: [Event; 5] = [
        |_| {},
        Once::new_state,
        |once| assert_eq!(once.own.admin(&["ledger", "rotate"]).code, Some(0)),
        |once| once.own.append(b"{\"client\":\"bu"),
        |once| {
            (0..2).for_each(|_| assert_eq!(once.own.admin(&["ledger", "rotate"]).code, Some(0)));
            let state = once.own.lock.parent().unwrap();
            fs::remove_dir_all(state.with_extension("old")).unwrap();
            once.new_state();
        },
    ];
    for (number, event) in events.into_iter().enumerate() {
        let request = once.request(number as i64);
        once.signs(&request);
        event(&once);
        once.is_used_up(&request);
    }
    assert_eq!(once.intents(), 5);
    assert_eq!(once.own.verify(&["--approvals"]).said("error: "), [""; 0]);

    // A file of the ledger that is not there, and a ledger that knows nothing of the one before it.
    let reason = "the ledger does not reach back as far as what permits this: the file that it goes on from is not beside it, or it was \
                  made anew in place of another";
    let fails = |once: &Once| once.run(&once.request(9)).fails(78, "sigsh is not set up properly on this host", "refused", reason);
    let archive = once.own.files().swap_remove(0);
    let chattr = |file: &Path| assert!(Command::new("chattr").arg("-a").arg(file).status().unwrap().success());
    chattr(&archive);
    fs::rename(&archive, once.own.directory.join("away")).unwrap();
    fails(&once);
    fs::rename(once.own.directory.join("away"), &archive).unwrap();
    once.signs(&once.request(9));
    for file in once.own.files() {
        chattr(&file);
        fs::rename(&file, once.own.directory.join(file.file_name().unwrap())).unwrap();
    }
    once.own.init();
    assert_eq!(once.own.lines()[0].field("reason"), "there was another ledger here before");
    fails(&once);
}

#[test]
fn a_clock_that_goes_back_signs_nothing() {
    let once = Once::new("");
    let request = once.request(0);
    once.signs(&request);
    let bytes = once.own.bytes();
    let last = lines(&bytes).len() as u64;
    let ahead =
        Line::new(last + 1, hash(lines(&bytes).pop().unwrap()), SystemTime::now() + MINUTE, [("event", "intent")]).unwrap().1;
    once.own.append(&joined(&[&ahead]));
    let outcome = once.run(&once.request(1));
    outcome.fails(74, "the ledger cannot record this, so nothing is signed", "failed", "the clock says ");
    once.run(&request).fails(77, USED_UP, "refused", USED_UP);
}

/// A session waits for the token, and its lock is gone with the state directory when another one comes: two locks at once.
#[test]
fn two_sessions_with_two_locks() {
    let once = Once::new("wait-sign");
    let request = once.request(0);
    let child = once.session(&request).start();
    let mut first = child;
    first.stdin.take().unwrap().write_all(DATA).unwrap();
    patient(|| calls(&once.own.count, "C_Sign") == 1);
    once.new_state();
    let outcome = once.run(&request);
    outcome.fails(77, USED_UP, "refused", USED_UP);
    fs::remove_file(once.own.count.with_file_name("target")).unwrap();
    let output = first.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(0), "".into()));
    verify("ed25519", &output.stdout, DATA);
    assert_eq!(once.intents(), 1);
}

/// Kills a session before each of these calls; whatever it had done, another one makes no second signature.
fn killed(calls: &[&str], step: usize) {
    let once = Once::new("");
    let (mut kills, mut number) = (0, 0);
    for call in calls {
        for when in (1..100).step_by(step) {
            number += 1;
            let request = once.request(number);
            let session = once.session(&request).command;
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", &format!("--inject={call}:signal=SIGKILL:when={when}")]);
            strace.arg(session.get_program()).args(session.get_args());
            strace.env_clear().envs(session.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let before = once.intents();
            let first = quiet(strace.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
            let tried = once.intents() - before;
            let second = quiet(once.session(&request).start());
            let signatures = usize::from(!first.1.is_empty()) + usize::from(!second.1.is_empty());
            assert!(signatures <= 1 && once.intents() - before == 1, "{call} {when}: {first:?} {second:?}");
            // Once it was tried nobody tries it again, be it that nothing came out.
            assert_eq!(second.0, Some(if tried == 1 { 77 } else { 0 }), "{call} {when}: {first:?} {second:?}");
            if first.0 == Some(0) {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 4 * calls.len() / step, "{kills}");
    assert_eq!(once.own.verify(&["--approvals"]).code, Some(0));
}

#[test]
fn killed_at_any_point_it_is_used_once() {
    killed(&["write", "fdatasync", "flock"], 3);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn killed_at_every_point_it_is_used_once() {
    killed(&["flock", "lseek", "pread64", "write", "fdatasync", "pwrite64", "ppoll", "wait4"], 1);
}

/// So many lines of about 1 kB that name another permit, after this one, the last of them `ages[1]` old and the first `ages[0]`.
fn filler(after: &[u8], number: u32, ages: [Duration; 2]) -> Vec<u8> {
    let (mut all, mut prev, seq) = (Vec::new(), hash(after), Line::parse(after).unwrap().seq);
    let name = "x".repeat(700);
    for at in 1..=number {
        let age = ages[1] + (ages[0] - ages[1]) * (number - at) / number;
        let fields = [("event", "intent"), ("name", name.as_str()), ("permits", "ssh:SHA256:abc:8")];
        let line = line(seq + u64::from(at), prev, age, &fields);
        prev = hash(&line);
        all.extend(line);
        all.push(b'\n');
    }
    all
}

/// What was used up before 100 MB of others is used up, and another is not. Says how long that takes.
#[test]
#[ignore = "takes minutes: just soak"]
fn a_session_beside_a_hundred_megabytes() {
    let once = Once::new("");
    let time = |what: &str, session: &dyn Fn()| {
        let began = std::time::Instant::now();
        session();
        let _ = writeln!(std::io::stderr(), "{what}: {:?}", began.elapsed());
    };
    let requests = [0, 1, 2].map(|number| once.request(number));
    time("no lines", &|| once.signs(&requests[0]));
    let bytes = once.own.bytes();
    let more = filler(lines(&bytes).pop().unwrap(), 100_000, [Duration::ZERO; 2]);
    once.own.rewrite(&[bytes, more].concat());
    fs::remove_file(&once.own.lock).unwrap();
    time("without a head", &|| once.signs(&requests[1]));
    time("all of it within the last 24 hours", &|| once.signs(&requests[2]));
    requests.iter().for_each(|request| once.is_used_up(request));
}

/// The same of the counting alone: what was used before is counted as far back as it must be, and no further.
#[test]
#[ignore = "minutes: just soak"]
fn a_hundred_megabytes() {
    let bare = Bare::new(DAY, &[]);
    bare.append(DAY - MINUTE, INTENT);
    let bytes = fs::read(&bare.path).unwrap();
    let more = filler(lines(&bytes).pop().unwrap(), 100_000, [DAY - MINUTE, Duration::ZERO]);
    fs::write(&bare.path, [bytes, more].concat()).unwrap();
    for (hours, max, good) in [(24, 1, false), (2, 1, true), (24, 2, false), (24, 3, true), (0, 1, true)] {
        let began = std::time::Instant::now();
        let outcome = bare.use_up(max, hours * 60 * MINUTE);
        let _ = writeln!(std::io::stderr(), "{hours} h: {:?}", began.elapsed());
        assert!(outcome.is_ok() == good && (good || matches!(outcome, Err(LedgerError::UsedUp(_)))), "{hours} h: {outcome:?}");
    }
}
