//! How much of anything a client gets: signatures, sessions, turns at a token, time, records. And that nothing hangs.

use crate::world::{
    CONFIG, Outcome, Session, account, account_file, as_account, calls, changed, faulty, field, finish, finish_child, patient,
    records, succeed, verify, world,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

const NOT_SET_UP: &str = "sigsh is not set up properly on this host";

/// Whatever hangs here would hang for longer.
const BOUND: Duration = Duration::from_secs(60);

/// A fresh state directory, and the change of a configuration that names it. The ledger's lock is in another one: there is none here.
fn state() -> (PathBuf, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let path = format!("/var/lib/sigsh/limits{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    fs::create_dir(&path).unwrap();
    let (uid, gid) = account();
    chown(&path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    let change = format!("[audit]\nledger = false\nstate = \"{path}\"\n");
    (path.into(), change)
}

/// The client `limited` gets these lines.
const LIMITED: &str = "keys = [\"ed25519\"]\n[client.careful]";

fn with(lines: &str) -> String {
    format!("keys = [\"ed25519\"]\n{lines}\n[client.careful]")
}

fn limited(config: &Path, request: &str) -> Session {
    Session::new(config).client("limited").request(request)
}

fn sign(config: &Path) -> Outcome {
    limited(config, "sign").run(b"artifact")
}

#[track_caller]
fn hint(outcome: &Outcome) -> &str {
    outcome.err.lines().nth(1).unwrap_or_else(|| panic!("{outcome:?}")).strip_prefix("sigsh: hint: ").unwrap()
}

/// Runs so many sessions at once; all of them have started before the first gets a byte.
fn at_once(config: &Path, request: &str, number: usize) -> Vec<Outcome> {
    let sessions = (0..number).map(|_| limited(config, request).start()).collect::<Vec<_>>();
    thread::scope(|scope| {
        let threads = sessions.into_iter().map(|child| scope.spawn(move || finish_child(child, b"artifact"))).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn codes(outcomes: &[Outcome], code: i32) -> usize {
    outcomes.iter().filter(|outcome| outcome.code == Some(code)).count()
}

/// A session that has read `sent`, and waits for more.
fn waiting(config: &Path, sent: &[u8]) -> Child {
    let mut child = limited(config, "sign").start();
    child.stdin.as_mut().unwrap().write_all(sent).unwrap();
    patient(|| child_of(child.id(), "sigsh-token").is_some());
    child
}

fn child_of(pid: u32, name: &str) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let is = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    children.split_whitespace().find(is).map(|pid| Pid::from_raw(pid.parse().unwrap()))
}

#[test]
fn the_rate_and_the_time_to_wait_are_exact() {
    world();
    let (directory, audit) = state();
    let config = changed(&[(LIMITED, &with("rate = \"20/m\"\nburst = 2")), ("[audit]\n", &audit)]);
    let began = Instant::now();
    for _ in 0..2 {
        verify("ed25519", sign(&config).signature(), b"artifact");
    }
    let refused = sign(&config);
    // On an idle machine the bucket gets its next drop three seconds after the first was taken.
    refused.fails(75, "too many signatures", "refused", "the rate of 20/m with burst 2 is used up for ");
    let seconds: u64 = hint(&refused).strip_prefix("try again in ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds) && began.elapsed().as_secs() + seconds <= 3 + 1, "{refused:?}");
    assert_eq!(hint(&refused), format!("try again in {seconds} second{}", if seconds == 1 { "" } else { "s" }));
    let [record] = &refused.records[..] else { panic!("{refused:#?}") };
    assert_eq!(
        (field(record, "SIGSH_CLIENT"), field(record, "SIGSH_KEY"), field(record, "SIGSH_CODE")),
        ("limited", "ed25519", "75")
    );
    sleep(Duration::from_secs(seconds));
    sign(&config).signature();
    // Others have counts of their own.
    Session::new(&config).client("build1").request("sign ed25519").run(b"artifact").signature();
    assert!(directory.join("rate.limited").exists() && !directory.join("rate.build1").exists());
}

#[test]
fn whatever_is_granted_counts_and_nothing_else() {
    world();
    let idle = ("idle = \"10s\"", "idle = \"1s\"");
    for (number, (request, input, code)) in
        [("sign --size 9", &b"artifact"[..], 65), ("sign", b"", 65), ("sign", b"artifact", 0)].into_iter().enumerate()
    {
        let config = changed(&[(LIMITED, &with("rate = \"1/d\"")), ("[audit]\n", &state().1), idle]);
        // None of these takes one.
        limited(&config, "sign rsa2048").run(b"").fails(77, "key not permitted", "refused", "key not permitted");
        assert_eq!(limited(&config, "rm").run(b"").code, Some(64));
        assert_eq!(limited(&config, "certificate").run(b"").code, Some(0));
        assert_eq!(limited(&config, "help").run(b"").code, Some(0));
        assert_eq!(limited(&config, request).run(input).code, Some(code), "{number}");
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"unread").unwrap();
        drop(writer);
        // Refused before a byte is read; and the policy speaks before the rate.
        let mut command = limited(&config, "sign").command;
        let output = command.stdin(reader.try_clone().unwrap()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(75), 0));
        assert!(output.stderr.starts_with(b"sigsh: error: too many signatures\nsigsh: hint: try again in 86"), "{output:?}");
        let mut unread = String::new();
        std::io::Read::read_to_string(&mut reader, &mut unread).unwrap();
        assert_eq!(unread, "unread");
        limited(&config, "sign rsa2048").run(b"").fails(77, "key not permitted", "refused", "key not permitted");
    }
}

/// A host that cannot sign takes nothing from its clients for that; what a client has spoilt, it has spent.
#[test]
fn what_this_host_could_not_make_is_given_back() {
    world();
    let (_, audit) = state();
    let rate = (LIMITED, with("rate = \"1/d\"\nburst = 2"));
    let with_uri = |uri: &str| changed(&[(rate.0, rate.1.as_str()), ("[audit]\n", &audit), ("pkcs11:token=release", uri)]);
    let (good, absent) = (with_uri("pkcs11:token=release"), with_uri("pkcs11:token=absent"));
    let missing = changed(&[(rate.0, &rate.1), ("[audit]\n", &audit), ("/etc/sigsh/ed25519.pgp", "/etc/sigsh/absent.pgp")]);
    for _ in 0..3 {
        assert_eq!(sign(&missing).code, Some(78));
    }
    assert_eq!(told_left(&good), 2);
    // Here an intent was recorded: who can tell what the token has done?
    assert_eq!(sign(&absent).code, Some(69));
    assert_eq!(told_left(&good), 1);
    assert_eq!(limited(&good, "sign --size 9").run(b"artifact").code, Some(65));
    assert_eq!((told_left(&good), sign(&good).code), (0, Some(75)));
}

/// `burst` of them sign, whoever comes first, and the count survives sessions that are killed.
fn exactly(burst: usize, number: usize, killed: usize) {
    world();
    let (directory, audit) = state();
    let rate = with(&format!("rate = \"1/d\"\nburst = {}", burst + killed));
    // A thousand of them take their time on a small machine.
    let slow = [("idle = \"10s\"", "idle = \"5m\""), ("timeout = \"20s\"", "timeout = \"5m\"")];
    let config = changed(&[&[(LIMITED, rate.as_str()), ("[audit]\n", &audit)][..], &slow].concat());
    // These are killed when they have taken theirs.
    for _ in 0..killed {
        let mut child = waiting(&config, b"");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let outcomes = at_once(&config, "sign", number);
    assert_eq!((codes(&outcomes, 0), codes(&outcomes, 75)), (burst, number - burst));
    for outcome in &outcomes {
        match outcome.code {
            Some(0) => verify("ed25519", outcome.signature(), b"artifact"),
            _ => outcome.fails(75, "too many signatures", "refused", "is used up"),
        }
    }
    let count = fs::read_to_string(directory.join("rate.limited")).unwrap();
    let words = count.split_whitespace().collect::<Vec<_>>();
    assert_eq!((count.len(), words[0].len(), words[2].parse()), (98, 36, Ok(number - burst)), "{count}");
}

#[test]
fn many_sessions_get_exactly_their_burst() {
    exactly(30, 100, 5);
}

#[test]
#[ignore = "takes minutes: just soak"]
fn a_thousand_sessions_get_exactly_their_burst() {
    exactly(100, 1000, 20);
}

#[test]
fn a_session_killed_at_any_time_leaves_a_count() {
    world();
    let (directory, audit) = state();
    let config = changed(&[(LIMITED, &with("rate = \"1/d\"\nburst = 120")), ("[audit]\n", &audit)]);
    for round in 0..100 {
        let mut child = limited(&config, "sign").start();
        sleep(Duration::from_micros(round * 100));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let count = fs::read(directory.join("rate.limited")).unwrap();
    assert!([0, 98].contains(&count.len()), "{count:?}");
    let left = told_left(&config);
    assert!((20..=120).contains(&left), "{left}");
    let outcomes = at_once(&config, "sign", left + 10);
    assert_eq!((codes(&outcomes, 0), codes(&outcomes, 75)), (left, 10));
}

/// How many signatures `limited` has left, as sigsh-admin tells.
fn told_left(config: &Path) -> usize {
    let told = check(config, "limited");
    let line = told.lines().find(|line| line.ends_with(" left now")).unwrap_or_else(|| panic!("{told}"));
    line.split("; ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn check(config: &Path, client: &str) -> String {
    let output = Command::new("sigsh-admin").args(["check", "--client", client, "--config"]).arg(config).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_count_that_is_none_is_an_empty_one() {
    world();
    let (directory, audit) = state();
    let config = changed(&[(LIMITED, &with("rate = \"1/s\"\nburst = 3")), ("[audit]\n", &audit)]);
    let count = directory.join("rate.limited");
    account_file(count.to_str().unwrap(), b"what is this\n");
    sign(&config).fails(78, NOT_SET_UP, "refused", "rate.limited: it did not hold a count");
    sleep(Duration::from_millis(1100));
    sign(&config).signature();
    // Of another boot, be it of a later moment than this one: nothing was taken since.
    let text = fs::read_to_string(&count).unwrap();
    let boot = text.split(' ').next().unwrap();
    let other = text.replace(boot, "00000000-0000-0000-0000-000000000000").replacen(" 000", " 199", 1);
    account_file(count.to_str().unwrap(), other.as_bytes());
    for _ in 0..3 {
        sign(&config).signature();
    }
}

#[test]
fn a_state_directory_that_is_broken() {
    world();
    for (file, make, reason) in [
        ("rate.limited", "mkdir", "rate.limited"),
        ("sessions.limited", "mkdir", "sessions.limited"),
        ("rate.limited", "mkfifo", "rate.limited: "),
        ("rate.limited", "ln -s /etc/passwd", "rate.limited"),
        (".", "chmod 755", "readable by others (mode 755)"),
        (".", "rm -r", "cannot open"),
        (".", "chown root", "belongs to user 0"),
    ] {
        let (directory, audit) = state();
        let config = changed(&[(LIMITED, &with("rate = \"9/s\"")), ("[audit]\n", &audit)]);
        let path = if file == "." { directory.clone() } else { directory.join(file) };
        let shell = format!("{make} {}", path.display());
        let mut command = if file == "." { Command::new("sh") } else { as_account("sh") };
        succeed(command.args(["-c", &shell]));
        let outcome = sign(&config);
        outcome.fails(78, NOT_SET_UP, "refused", reason);
        assert!(outcome.took < BOUND && outcome.records.len() == 1, "{shell}: {outcome:#?}");
    }
}

/// The clock counts from the boot of the machine, asleep or not; here it is moved by a time namespace.
#[test]
fn a_day_later_by_the_boot_clock() {
    world();
    let config = changed(&[(LIMITED, &with("rate = \"1/d\"\nburst = 2")), ("[audit]\n", &state().1)]);
    let later = |seconds: i64| {
        let command = limited(&config, "sign").command;
        let mut unshare = Command::new("unshare");
        unshare.args(["--time", "--fork", "--boottime", &seconds.to_string()]).arg(command.get_program()).args(command.get_args());
        unshare.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let outcome = finish(unshare, b"artifact");
        let hint = outcome.err.lines().nth(1).unwrap_or_default().to_owned();
        (outcome.code, hint)
    };
    const DAY: i64 = 24 * 3600;
    let signed = (Some(0), String::new());
    assert_eq!([later(10), later(10)], [signed.clone(), signed.clone()]);
    let (code, hint) = later(10 + DAY / 2);
    let seconds: i64 = hint.strip_prefix("sigsh: hint: try again in ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(code == Some(75) && (DAY / 2 - 100..=DAY / 2).contains(&seconds), "{hint}");
    assert_eq!(later(10 + DAY).0, Some(0));
    assert_eq!(later(10 + DAY).0, Some(75));
    // Before it was: the count is not of this boot, whatever the boot id says. It is an empty one, and no further away.
    let (code, hint) = later(10 - 60);
    assert!(code == Some(75) && hint == format!("sigsh: hint: try again in {DAY} seconds"), "{hint}");
    assert_eq!(later(10 - 60 + DAY).0, Some(0));
}

#[test]
fn so_many_sessions_at_once() {
    world();
    let config = changed(&[("sessions = 4096", "sessions = 3"), ("[audit]\n", &state().1)]);
    let mut open = (0..3).map(|_| waiting(&config, b"arti")).collect::<Vec<_>>();
    let refused = sign(&config);
    refused.fails(75, "too many sessions at once", "refused", "as many sessions of this client run as may: 3");
    assert_eq!(hint(&refused), "try again when one of them has ended");
    assert_eq!(limited(&config, "certificate").run(b"").code, Some(75));
    Session::new(&config).client("build1").request("sign ed25519").run(b"artifact").signature();
    // However one ends, it makes room, be its children frozen.
    let mut killed = open.pop().unwrap();
    kill(child_of(killed.id(), "sigsh-token").unwrap(), Signal::SIGSTOP).unwrap();
    kill(child_of(killed.id(), "sigsh-hasher").unwrap(), Signal::SIGSTOP).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    sign(&config).signature();
    let outcome = finish_child(open.pop().unwrap(), b"fact");
    verify("ed25519", outcome.signature(), b"artifact");
    drop(open.pop().unwrap().stdin.take());
}

#[test]
fn sessions_are_refused_before_the_rate_counts() {
    world();
    let config =
        changed(&[("sessions = 4096", "sessions = 1"), (LIMITED, &with("rate = \"1/d\"\nburst = 2")), ("[audit]\n", &state().1)]);
    let open = waiting(&config, b"arti");
    sign(&config).fails(75, "too many sessions at once", "refused", "as many sessions of this client run as may: 1");
    finish_child(open, b"fact").signature();
    sign(&config).signature();
    sign(&config).fails(75, "too many signatures", "refused", "used up");
}

/// A token of one session, as most smartcards are.
fn card(fault: &str, sessions: &str, more: &[(&str, &str)]) -> (PathBuf, PathBuf) {
    let (_, audit) = state();
    let timeout = format!("timeout = \"20s\"\n{sessions}");
    let mut changes = vec![("timeout = \"20s\"\n", timeout.as_str()), ("[audit]\n", &audit)];
    changes.extend(more);
    faulty(fault, &changes)
}

#[test]
fn a_card_of_one_session_serves_all_in_turn() {
    world();
    let (config, count) = card("one-session", "sessions = 1\n", &[]);
    let outcomes = at_once(&config, "sign", 64);
    for outcome in &outcomes {
        verify("ed25519", outcome.signature(), b"artifact");
    }
    assert_eq!((calls(&count, "REFUSED"), calls(&count, "C_Login"), calls(&count, "C_SignInit")), (0, 64, 64));
    // The module does refuse, and sessions do meet, where there are no turns.
    let (config, count) = card("one-session", "", &[]);
    let outcomes = at_once(&config, "sign", 64);
    let refused = calls(&count, "REFUSED");
    assert!(refused > 0);
    assert_eq!((codes(&outcomes, 0), codes(&outcomes, 75)), (64 - refused, refused));
    let busy = outcomes.iter().find(|outcome| outcome.code == Some(75)).unwrap();
    busy.fails(75, "the token is busy", "refused", "C_OpenSession returned CKR_SESSION_COUNT: it bears no more sessions");
}

#[test]
fn two_at_once_and_the_third_waits() {
    world();
    let (config, count) = card("wait-sign", "sessions = 2\n", &[]);
    let children = (0..3).map(|_| limited(&config, "sign").start()).collect::<Vec<_>>();
    thread::scope(|scope| {
        let threads = children.into_iter().map(|child| scope.spawn(|| finish_child(child, b"artifact"))).collect::<Vec<_>>();
        patient(|| calls(&count, "C_SignInit") == 2 && calls(&count, "C_Initialize") == 3);
        sleep(Duration::from_millis(500));
        assert_eq!(calls(&count, "C_OpenSession"), 2);
        fs::remove_file(count.with_file_name("target")).unwrap();
        for thread in threads {
            thread.join().unwrap().signature();
        }
    });
}

/// A session that has the token, and signs when the target is removed.
fn holder(config: &Path, count: &Path) -> Child {
    let mut child = limited(config, "sign").start();
    child.stdin.take().unwrap().write_all(b"artifact").unwrap();
    patient(|| calls(count, "C_SignInit") == 1);
    child
}

fn ended(child: Child) -> (Option<i32>, Vec<u8>) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), output.stdout)
}

#[test]
fn who_waits_too_long_for_the_token() {
    world();
    let (config, count) = card("wait-sign", "sessions = 1\nqueue = \"1s\"\n", &[]);
    let first = holder(&config, &count);
    let late = sign(&config);
    late.fails(75, "the token is busy", "refused", "the sessions that the token bears were taken for 1s");
    assert_eq!((hint(&late), late.records.len(), calls(&count, "C_OpenSession")), ("try again later", 1, 1));
    // An upload holds no turn: the one that began before gets its signature after the holder's.
    fs::remove_file(count.with_file_name("target")).unwrap();
    let (code, signature) = ended(first);
    assert_eq!(code, Some(0));
    verify("ed25519", &signature, b"artifact");
    let slow = waiting(&config, b"arti");
    sign(&config).signature();
    finish_child(slow, b"fact").signature();
}

#[test]
fn a_client_that_goes_while_it_waits_for_the_token() {
    world();
    let (config, count) = card("wait-sign", "sessions = 1\nqueue = \"5m\"\n", &[]);
    let first = holder(&config, &count);
    let mut gone = limited(&config, "sign").start();
    let pid = gone.id();
    gone.stdin.take().unwrap().write_all(b"artifact").unwrap();
    patient(|| calls(&count, "C_Initialize") == 2);
    sleep(Duration::from_millis(200));
    drop(gone.stdout.take());
    assert_eq!(gone.wait().unwrap().code(), Some(65));
    let records = records(&format!("_PID={pid}"));
    let [record] = &records[..] else { panic!("{records:#?}") };
    assert_eq!(field(record, "SIGSH_REASON"), "the reader of standard output is gone");
    assert_eq!(calls(&count, "C_OpenSession"), 1);
    // The token process dies while its session waits: nobody waits for nothing.
    let mut widow = limited(&config, "sign").start();
    widow.stdin.take().unwrap().write_all(b"artifact").unwrap();
    patient(|| calls(&count, "C_Initialize") == 3);
    kill(child_of(widow.id(), "sigsh-token").unwrap(), Signal::SIGKILL).unwrap();
    assert_eq!(ended(widow).0, Some(69));
    fs::remove_file(count.with_file_name("target")).unwrap();
    assert_eq!(ended(first).0, Some(0));
}

#[test]
fn a_holder_that_is_killed_or_hangs_makes_room() {
    world();
    let (config, count) = card("wait-sign", "sessions = 1\n", &[]);
    let mut first = holder(&config, &count);
    // Frozen, the token process cannot even notice that it should die by itself.
    kill(child_of(first.id(), "sigsh-token").unwrap(), Signal::SIGSTOP).unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    fs::remove_file(count.with_file_name("target")).unwrap();
    sign(&config).signature();

    let (config, count) = card("hang-sign", "sessions = 1\n", &[("timeout = \"20s\"", "timeout = \"1s\"")]);
    let outcomes = at_once(&config, "sign", 3);
    assert_eq!((codes(&outcomes, 69), calls(&count, "C_SignInit")), (3, 3));
    assert!(outcomes.iter().all(|outcome| outcome.took < BOUND));
}

/// Who does not take its signature keeps nobody from the token.
#[test]
fn a_client_that_does_not_read_holds_no_turn() {
    world();
    let (config, count) = card("", "sessions = 1\nqueue = \"10s\"\n", &[]);
    let (_reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[0; 65536]).unwrap();
    let mut command = limited(&config, "sign").command;
    let mut stuffed = command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    stuffed.stdin.take().unwrap().write_all(b"artifact").unwrap();
    patient(|| calls(&count, "C_Finalize") == 1);
    sign(&config).signature();
    assert!(stuffed.try_wait().unwrap().is_none());
    stuffed.kill().unwrap();
    stuffed.wait().unwrap();
}

#[test]
fn sigsh_admin_waits_for_its_turn_too() {
    world();
    let (config, count) = card("wait-sign", "sessions = 1\n", &[]);
    let first = holder(&config, &count);
    let impatient = config.with_extension("impatient.toml");
    fs::write(&impatient, fs::read_to_string(&config).unwrap().replace("timeout = \"20s\"", "timeout = \"1s\"")).unwrap();
    let check = || {
        let output = Command::new("sigsh-admin").args(["check", "--config"]).arg(&impatient).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let busy = check();
    assert!(busy.contains("error: key 'ed25519': other sessions kept the token's login busy\n"), "{busy}");
    assert_eq!(calls(&count, "C_OpenSession"), 1);
    fs::remove_file(count.with_file_name("target")).unwrap();
    ended(first);
    let free = check();
    assert!(free.contains("ok: key 'ed25519' signs; "), "{free}");
}

/// Sends pieces of so many bytes, with pauses before each.
fn send(config: &Path, pieces: &[(f64, usize)]) -> Outcome {
    let mut child = limited(config, "sign").start();
    let mut stdin = child.stdin.take().unwrap();
    let pieces = pieces.to_vec();
    let (done, finished) = std::sync::mpsc::channel();
    let sender = thread::spawn(move || {
        for (pause, bytes) in pieces {
            sleep(Duration::from_secs_f64(pause));
            if stdin.write_all(&vec![b'x'; bytes]).is_err() {
                break;
            }
        }
        // Kept open when it was too slow: the end of the input would be one.
        let _ = finished.recv_timeout(Duration::from_millis(1));
    });
    let outcome = finish_without_input(child);
    let _ = done.send(());
    sender.join().unwrap();
    outcome
}

fn finish_without_input(child: Child) -> Outcome {
    let (pid, began) = (child.id(), Instant::now());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Outcome { code: output.status.code(), out: output.stdout, err, records: records(&format!("_PID={pid}")), took: began.elapsed() }
}

#[test]
fn a_trickle_ends_and_a_burst_does_not() {
    world();
    let config = changed(&[("idle = \"10s\"", "idle = \"3s\"")]);
    let slow = send(&config, &[(0.5, 1); 100]);
    slow.fails(65, "the input comes too slowly", "failed", "the input cannot be hashed: it comes too slowly");
    assert_eq!((hint(&slow), slow.records.len()), ("send it faster, or ask for a lower throughput limit", 1));
    assert!((3..9).contains(&slow.took.as_secs()), "{slow:?}");
    let stopped = send(&config, &[(0.0, 1 << 20), (30.0, 1)]);
    stopped.fails(65, "the input stopped coming", "failed", "it stopped coming");
    // Pauses shorter than idle, but longer than all of them together.
    let sent = send(&config, &[(1.5, 1 << 20), (1.5, 1 << 20), (1.5, 4096), (1.5, 1)]);
    verify("ed25519", sent.signature(), &vec![b'x'; (2 << 20) + 4097]);
    // Another demand.
    let config = changed(&[("idle = \"10s\"", "idle = \"3s\"\nthroughput = \"1B\"")]);
    let sent = send(&config, &[(0.9, 1); 8]);
    verify("ed25519", sent.signature(), b"xxxxxxxx");
    let config = changed(&[("idle = \"10s\"", "idle = \"2s\"\nthroughput = \"1GiB\"")]);
    assert_eq!(send(&config, &[(0.2, 100_000); 100]).code, Some(65));
}

/// All records of a client, or of nobody, since this moment, by their peer.
fn recorded(peer: &str) -> Vec<serde_json::Value> {
    records(&format!("SIGSH_PEER={peer}"))
}

fn from_peer(mut session: Session, port: u16) -> Session {
    session.command.env("SSH_CONNECTION", format!("192.0.2.9 {port} 192.0.2.2 22"));
    session
}

#[test]
fn refusals_are_recorded_up_to_a_rate_and_the_rest_is_counted() {
    world();
    let (directory, audit) = state();
    let config = changed(&[("refusals = \"1000000/s\"", "refusals = \"3/d\""), ("[audit]\n", &audit)]);
    let strangers = || Session::new(&config).client("stranger");
    for (client, port, line, code) in [("limited", 5001, "key not permitted", 77), ("stranger", 5002, "you are not identified", 77)]
    {
        let session = || from_peer(Session::new(&config).client(client).request("sign rsa2048"), port);
        let all = (0..10).map(|_| session().run(b"")).collect::<Vec<_>>();
        // The answers are the same, recorded or not.
        for outcome in &all {
            outcome.fails_quietly(code, line);
            assert_eq!(outcome.err, all[0].err);
        }
        let records = recorded(&format!("192.0.2.9:{port}"));
        assert_eq!(records.len(), 3, "{client}: {records:#?}");
        assert!(records.iter().all(|record| record.get("SIGSH_SUPPRESSED").is_none()));
        let told = check(&config, "limited");
        let left_out =
            |line: &str| line.starts_with("warning: refusals") && line.ends_with(": 7 refusals or failures have no record");
        assert!(told.lines().any(left_out), "{told}");
        // As if the machine had been booted again.
        let is_its = |name: &str| if client == "limited" { name == "refusals.limited" } else { name.starts_with("refusals-") };
        let mut files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|path| is_its(path.file_name().unwrap().to_str().unwrap())).unwrap();
        let count = fs::read_to_string(&file).unwrap();
        let again = count.replace(count.split(' ').next().unwrap(), &"0".repeat(36));
        account_file(file.to_str().unwrap(), again.as_bytes());
        session().run(b"");
        session().run(b"");
        let records = recorded(&format!("192.0.2.9:{port}"));
        let told = records.iter().map(|record| field(record, "SIGSH_SUPPRESSED")).collect::<Vec<_>>();
        assert_eq!(told, ["", "", "", "7", ""], "{client}");
    }
    // All whose key is not known share one count; what was refused for its form is of nobody, too.
    for _ in 0..2 {
        for session in [strangers().request("\x07"), Session::new(&config).request("sign")] {
            from_peer(session, 5003).run(b"");
        }
    }
    assert_eq!(recorded("192.0.2.9:5003").len(), 3);
    // Who keeps a whole crowd's count used up hides nobody else.
    assert_eq!(from_peer(Session::new(&config).client("careful").request("sign"), 5004).run(b"").records.len(), 1);
}

#[test]
fn failures_in_the_sandbox_count_and_what_follows_an_intent_is_always_recorded() {
    world();
    let changes = [("refusals = \"1000000/s\"", "refusals = \"2/d\""), ("timeout = \"20s\"", "timeout = \"1s\"")];
    let (config, _) = card("fail-sign", "", &changes);
    for recorded in [1, 1, 0, 0] {
        let outcome = limited(&config, "sign --size 9").run(b"artifact");
        assert_eq!((outcome.code, outcome.records.len()), (Some(65), recorded), "{outcome:#?}");
    }
    for _ in 0..3 {
        let outcome = sign(&config);
        let events = outcome.records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
        assert_eq!((outcome.code, events), (Some(69), vec!["intent", "failed"]));
    }
    // Successes are no refusals.
    let (config, _) = card("", "", &changes);
    for _ in 0..4 {
        sign(&config).signature();
    }
}

#[test]
fn a_count_of_refusals_that_is_broken_hides_nothing() {
    world();
    let (directory, audit) = state();
    let config = changed(&[("refusals = \"1000000/s\"", "refusals = \"1/d\""), ("[audit]\n", &audit)]);
    let refused = || limited(&config, "sign rsa2048").run(b"").records.len();
    account_file(directory.join("refusals.limited").to_str().unwrap(), b"garbage");
    assert_eq!([refused(), refused()], [1, 0]);
    fs::remove_file(directory.join("refusals.limited")).unwrap();
    fs::create_dir(directory.join("refusals.limited")).unwrap();
    assert_eq!([refused(), refused(), refused()], [1, 1, 1]);
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!([refused(), refused()], [1, 1]);
}

/// Holds the lock of a file of the account's, as a frozen session would.
fn freeze(file: &Path) -> Child {
    let mut command = as_account("flock");
    let child = command.arg("-o").arg(file).args(["sleep", "1000"]).spawn().unwrap();
    patient(|| fs::read_to_string("/proc/locks").unwrap().contains("FLOCK  ADVISORY  WRITE") && file.exists() && is_locked(file));
    child
}

fn is_locked(file: &Path) -> bool {
    !as_account("flock").args(["-n"]).arg(file).arg("true").status().unwrap().success()
}

#[test]
fn a_count_that_a_frozen_session_keeps() {
    world();
    let (directory, audit) = state();
    let config = changed(&[(LIMITED, &with("rate = \"9/s\"")), ("[audit]\n", &audit)]);
    sign(&config).signature();
    let mut lock = freeze(&directory.join("rate.limited"));
    let outcome = sign(&config);
    outcome.fails(75, "this host is busy", "refused", "rate.limited: other sessions kept it locked");
    assert!(outcome.took < BOUND && hint(&outcome) == "try again later");
    lock.kill().unwrap();
    lock.wait().unwrap();
    // That of the refusals keeps no record back.
    patient(|| !is_locked(&directory.join("rate.limited")));
    let mut lock = freeze(&directory.join("refusals.limited"));
    let outcome = limited(&config, "sign rsa2048").run(b"");
    outcome.fails(77, "key not permitted", "refused", "key not permitted");
    assert!(outcome.took < BOUND);
    lock.kill().unwrap();
    lock.wait().unwrap();
}

#[test]
fn frozen_processes_are_ended() {
    world();
    let config = changed(&[("idle = \"10s\"", "idle = \"1s\"\ntotal = \"3s\"")]);
    let frozen = |config: &Path, name: &str, more: &[u8]| {
        let child = waiting(config, b"arti");
        kill(child_of(child.id(), name).unwrap(), Signal::SIGSTOP).unwrap();
        let outcome = finish_child(child, more);
        assert!(outcome.took < BOUND, "{outcome:?}");
        outcome
    };
    frozen(&config, "sigsh-hasher", b"fact").fails(65, "the input took longer than a session may", "failed", "total time is over");
    let config = changed(&[("timeout = \"20s\"", "timeout = \"1s\"")]);
    frozen(&config, "sigsh-token", b"fact").fails(69, "the token did not answer in time", "failed", "did not answer");
    // The login of all waits for a frozen one, for as long as a login may take.
    let (config, count) = card("wait-sign", "", &[("timeout = \"20s\"", "timeout = \"1s\"")]);
    let name = fs::read_to_string(&config).unwrap();
    let token = name.split("[token.").nth(1).unwrap().split(']').next().unwrap();
    let state = name.split("state = \"").nth(1).unwrap().split('"').next().unwrap();
    let marker = Path::new(state).join(format!("pin.{token}"));
    account_file(marker.to_str().unwrap(), b"");
    let mut lock = freeze(&marker);
    let outcome = sign(&config);
    outcome.fails(75, "the token is busy", "refused", "kept the token's login busy");
    assert!(outcome.took < BOUND && calls(&count, "C_OpenSession") == 0);
    lock.kill().unwrap();
    lock.wait().unwrap();
}

#[test]
fn a_standard_error_that_nobody_reads() {
    world();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[0; 65536]).unwrap();
    let mut command = Session::new(CONFIG).client("limited").request("sign rsa2048").command;
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    drop(command);
    assert_eq!(child.wait().unwrap().code(), Some(77));
    assert!(began.elapsed() < BOUND);
    assert_eq!(records(&format!("_PID={}", child.id())).len(), 1);
}

#[test]
fn check_tells_a_client_s_limits() {
    world();
    let (directory, audit) = state();
    let config =
        changed(&[(LIMITED, &with("rate = \"3/d\"\nburst = 2")), ("sessions = 4096", "sessions = 7"), ("[audit]\n", &audit)]);
    let check = |client| check(&config, client);
    for left in [2, 1, 0] {
        let told = check("limited");
        assert!(told.contains("ok: client 'limited': at most 7 sessions at once\n"), "{told}");
        assert!(told.contains(&format!("ok: client 'limited': 3/d signatures, at most 2 at once; {left} left now\n")), "{told}");
        sign(&config);
    }
    assert!(check("build1").contains("ok: client 'build1': as many signatures as it asks for\n"));
    // The account's own file, also where root asks first.
    fs::remove_file(directory.join("rate.limited")).unwrap();
    check("limited");
    sign(&config).signature();
    fs::remove_file(directory.join("rate.limited")).unwrap();
    fs::create_dir(directory.join("rate.limited")).unwrap();
    let told = check("limited");
    assert!(
        told.contains("error: client 'limited': nobody can tell how many signatures are left: rate.limited: cannot open"),
        "{told}"
    );
}
