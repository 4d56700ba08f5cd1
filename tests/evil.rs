//! sigsh with another hasher or another token process, which lie: for the tests alone.
//!
//! What it does is its own file's name, since arguments are the client's: `evil.hasher-short` and so on, links to one program. The
//! monitor is sigsh's own. The evil bodies stay outside of their own sandbox, so that the monitor alone is judged; where a lie needs a
//! true part, the real process is asked for it.
//!
//! `evil.token-replay` sends what stands in the file `/usr/lib/sigsh-test/replay`.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "evil/batch.rs"]
mod batch;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use serde::Serialize;
use sigsh::channel::{self, Channel, MAX_MESSAGE, after};
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::openpgp::Public;
use sigsh::process::Child;
use sigsh::session::{self, Processes};
use sigsh::token::{Answer, Request, Setup};
use sigsh::{hasher, sys, token};
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Duration;

static MODE: OnceLock<String> = OnceLock::new();

fn mode() -> &'static str {
    MODE.get().expect("set by main")
}

fn main() {
    let name = std::env::args_os().next().and_then(|name| OsString::into_string(name).ok()).expect("a name");
    let (_, mode) = name.rsplit_once('.').expect("evil.MODE");
    MODE.set(mode.to_owned()).expect("set once");
    let evil = Processes { hasher: evil_hasher, token: evil_token };
    session::run(match mode.split('-').next() {
        Some("hasher") => Processes { token: token::run, ..evil },
        Some("token") => Processes { hasher: hasher::run, ..evil },
        _ => panic!("no such mode"),
    })
}

/// The hasher's answer, as it is on the wire.
#[derive(Serialize)]
enum Report {
    Artifact { name: Vec<u8>, states: Vec<Vec<u8>>, text: u64 },
    End,
    Fault(hasher::Fault, Vec<u8>),
}

/// Of one artifact: what is signed, the bytes as they came where that is another, and the length of a text.
fn report(state: Vec<u8>, claimed: Option<Vec<u8>>, text: u64) -> Report {
    Report::Artifact { name: Vec::new(), states: std::iter::once(state).chain(claimed).collect(), text }
}

fn fault(fault: hasher::Fault) -> Report {
    Report::Fault(fault, Vec::new())
}

fn raw(channel: &Channel, bytes: &[u8]) {
    // Of nothing, too: that makes an empty packet.
    unsafe { libc::write(channel.number(), bytes.as_ptr().cast(), bytes.len()) };
}

fn die(signal: &str) -> ! {
    match signal {
        "kill" => drop(kill(getpid(), Signal::SIGKILL)),
        _ => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
    }
    hang()
}

fn hang() -> ! {
    loop {
        pause(Duration::from_secs(60));
    }
}

/// Not by the sleep of the standard library, which the first sandbox kills.
fn pause(time: Duration) {
    let _ = channel::wait([], after(time));
}

fn evil_hasher(channel: Channel, body: BorrowedFd<'_>) {
    let act = mode().strip_prefix("hasher-").expect("a hasher");
    match act {
        "leaves-at-once" => return,
        "exits-1-at-once" => sys::exit(1),
        "dies-at-once-kill" => die("kill"),
        _ => {}
    }
    if let Some(act) = act.strip_prefix("batch-") {
        batch::hasher(&channel, act);
    }
    let Ok(_) = channel.receive::<hasher::Start>() else { return };
    let Ok(hasher::Go(wanted)) = channel.receive() else { return };
    let algorithm = wanted[0].expect("something is wanted").algorithm;
    let mut data = Vec::new();
    std::io::stdin().read_to_end(&mut data).expect("input");
    let state = |algorithm, data: &[u8]| {
        let mut state = HashState::new(algorithm);
        state.update(data);
        state.export(<[u8]>::to_vec)
    };
    let good = state(algorithm, &data);
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let done = |state: Vec<u8>| channel.send(&report(state, None, 0)).expect("sent");
    match act {
        "good" => done(good),
        "silent" => {}
        "dies-before-kill" => die("kill"),
        "dies-before-segv" => die("segv"),
        "dies-after-kill" => {
            done(good);
            die("kill");
        }
        "dies-after-segv" => {
            done(good);
            die("segv");
        }
        "exits-1-after" => {
            done(good);
            sys::exit(1);
        }
        "other-hash" => done(state(HashAlgorithm::Sha256, &data)),
        "short" => done(good[1..].to_vec()),
        "long" => done([&good[..], &[0]].concat()),
        "no-state" => done(Vec::new()),
        "oversized" => raw(&channel, &[0; MAX_MESSAGE + 1]),
        "huge" => raw(&channel, &vec![0; 100_000]),
        "garbage" => raw(&channel, &[0xff; 300]),
        "more-than-a-message" => {
            let message = postcard::to_allocvec(&report(good, None, 0)).expect("encoded");
            raw(&channel, &[&message[..], &[0]].concat());
        }
        "cut-message" => {
            let message = postcard::to_allocvec(&report(good, None, 0)).expect("encoded");
            raw(&channel, &message[..message.len() - 1]);
        }
        "empty-message" => raw(&channel, &[]),
        "empty-message-after" => {
            done(good);
            raw(&channel, &[]);
            hang();
        }
        "twice" => {
            done(good.clone());
            done(good);
        }
        "two-different" => {
            done(good);
            done(state(algorithm, b"something else"));
        }
        "late-second" => {
            done(good.clone());
            pause(Duration::from_millis(300));
            done(good);
            sys::exit(1);
        }
        "stays" => {
            done(good);
            hang();
        }
        "count-max" => done(with(64, &[0xff; 16])),
        "count-wraps" => done(with(71, &[0x02])),
        "count-above-limit" => done(with(67, &[0xff])),
        "rest-of-a-block" => done(with(80, &[128])),
        "tail" => done(with(207, &[1])),
        "unreachable" => done(with(0, &[!good[0]])),
        "more-than-read" => done(state(algorithm, &[&data[..], b"x"].concat())),
        "less-than-read" => done(state(algorithm, &data[1..])),
        "other-data" => done(state(algorithm, &vec![b'x'; data.len()])),
        "nothing" => done(state(algorithm, b"")),
        "fault-idle" => channel.send(&fault(hasher::Fault::Idle)).expect("sent"),
        "fault-overlong" => channel.send(&fault(hasher::Fault::Overlong)).expect("sent"),
        "fault-read" => channel.send(&fault(hasher::Fault::Read(5))).expect("sent"),
        "fault-twice" => {
            channel.send(&fault(hasher::Fault::Idle)).expect("sent");
            done(good);
        }
        _ => lie_about_a_text(act, &channel, body, &data, algorithm),
    }
    sys::exit(0)
}

/// What a hasher can say besides where it also says which bytes came, and writes a text down.
fn lie_about_a_text(act: &str, channel: &Channel, body: BorrowedFd<'_>, data: &[u8], algorithm: HashAlgorithm) {
    const MAX_BODY: u64 = 2 * (16 << 20) + 2;
    let state = |data: &[u8]| {
        let mut state = HashState::new(algorithm);
        state.update(data);
        state.export(<[u8]>::to_vec)
    };
    let (good, size) = (state(data), data.len() as u64);
    let text = [data, b"\n"].concat();
    let write = |bytes: &[u8]| assert_eq!(nix::unistd::write(body, bytes), Ok(bytes.len()));
    let done = |signed: &[u8], claimed: Option<&[u8]>, length: u64| {
        channel.send(&report(state(signed), claimed.map(state), length)).expect("sent");
    };
    match act {
        "text-good" => {
            write(&text);
            done(data, Some(data), size + 1);
        }
        "text-grown" => {
            let grow = MAX_BODY as i64 + 1;
            assert_eq!(nix::unistd::ftruncate(body, grow), Err(Errno::EPERM));
            assert_eq!(nix::unistd::ftruncate(body, 1), Err(Errno::EPERM));
            assert_eq!(write_at(body, b"beyond", grow), Err(Errno::EPERM));
            write(&text);
            done(data, Some(data), size + 1);
        }
        "text-unwritten" => done(data, Some(data), 2 * size + 2),
        "text-other" => {
            write(&vec![b'x'; text.len()]);
            done(data, Some(data), size + 1);
        }
        "text-unclaimed" => done(data, None, size + 1),
        "text-shorter" => done(data, Some(data), size - 1),
        "text-longer" => done(data, Some(data), 2 * size + 3),
        "text-beyond-the-file" => done(data, Some(data), MAX_BODY + 1),
        "text-endless" => done(data, Some(data), u64::MAX),
        "text-hashes-more" => done(&[&data.repeat(2)[..], b"x"].concat(), Some(data), size + 1),
        "text-hashes-far-more" => done(&vec![0; MAX_BODY as usize], Some(data), size + 1),
        "text-claims-more" => done(data, Some(&vec![0; MAX_BODY as usize / 2]), size + 1),
        "text-claims-nothing" => done(data, Some(b""), 1),
        "text-claims-nonsense" => channel.send(&report(good.clone(), Some(good[1..].to_vec()), size + 1)).expect("sent"),
        "binary-claims" => done(data, Some(data), 0),
        "binary-has-a-text" => done(data, None, size),
        "salt-missing" => done(data, Some(data), 0),
        "salt-too-long" => done(&[&[0; 33], data].concat(), Some(data), 0),
        "salt-other" => done(&[&[0; 32], data].concat(), Some(data), 0),
        "fault-carriage-return" => channel.send(&fault(hasher::Fault::CarriageReturn)).expect("sent"),
        "fault-body" => channel.send(&fault(hasher::Fault::Body(5))).expect("sent"),
        _ => panic!("no such hasher"),
    }
}

/// The token process's stages: what it says by itself, and then at each request.
fn evil_token(channel: Channel, setup: Setup<'_>) {
    let act = mode().strip_prefix("token-").expect("a token process");
    if let Some(act) = act.strip_prefix("batch-") {
        batch::token(&channel, setup, act);
    }
    if let Some(act) = act.strip_prefix("real-") {
        return between(&channel, setup, act);
    }
    let tell = |answer: Answer| channel.send(&answer).expect("sent");
    let at = |stage: &str| {
        let Some(what) = act.strip_prefix("at-").and_then(|act| act.strip_prefix(stage)?.strip_prefix('-')) else { return };
        match what {
            "leave" => sys::exit(0),
            "exit-1" => sys::exit(1),
            "kill" | "segv" => die(what),
            "hang" => hang(),
            "nonsense" => raw(&channel, &[0xff; 40]),
            "empty" => raw(&channel, &[]),
            "oversized" => raw(&channel, &[0; MAX_MESSAGE + 1]),
            "huge" => raw(&channel, &vec![0; 100_000]),
            "trailing" => raw(&channel, &[1, 0]),
            "vouched" => tell(Answer::Vouched(true)),
            "loaded" => tell(Answer::Loaded),
            "open" => tell(Answer::Open(None)),
            "signed" => tell(Answer::Signed(vec![7; 64])),
            // Answer::Failed(Fault::Module(…)), with a text that no honest process makes.
            "fault" => raw(
                &channel,
                &postcard::to_allocvec(&(4u8, 3u8, "\x1b[2Jx\nSIGSH_EVENT=signed\nSIGSH_CLIENT=other")).expect("bytes"),
            ),
            _ => panic!("no such act"),
        }
        hang();
    };
    if setup.mac_file.is_some() {
        let Ok(Request::Vouch(_)) = channel.receive() else { return };
        at("vouch");
        tell(Answer::Vouched(true));
    }
    at("load");
    tell(Answer::Loaded);
    at("loaded");
    let Ok(Request::Open) = channel.receive() else { return };
    at("open");
    tell(match act {
        "other-key-rsa" => Answer::Open(Some(Public::Rsa { n: vec![0xc1; 512], e: vec![1, 0, 1] })),
        "other-key-ec" => Answer::Open(Some(Public::Ec { params: b"\x06\x03\x2b\x65\x70".to_vec(), point: vec![9; 32] })),
        _ => Answer::Open(None),
    });
    at("opened");
    let Ok(Request::Sign(_, _, data)) = channel.receive() else { return };
    at("sign");
    match act {
        "empty-signature" => tell(Answer::Signed(Vec::new())),
        "short-signature" => tell(Answer::Signed(vec![7; 63])),
        "long-signature" => tell(Answer::Signed(vec![7; 65])),
        "zero-signature" => tell(Answer::Signed(vec![0; 64])),
        "digest-as-signature" => tell(Answer::Signed(data)),
        "replay" => tell(Answer::Signed(std::fs::read("/usr/lib/sigsh-test/replay").expect("a signature"))),
        _ => panic!("no such token process"),
    }
    hang();
}

/// The real process, and an evil one between it and the monitor.
fn between(channel: &Channel, setup: Setup<'_>, act: &str) {
    let real = Child::fork(c"sigsh-token", &[], |channel| token::run(channel, setup)).expect("forked");
    let tell = |answer: Answer| channel.send(&answer).expect("sent");
    let answer = || real.channel().receive::<Answer>().expect("an answer");
    tell(answer());
    real.channel().send(&channel.receive::<Request>().expect("a request")).expect("sent");
    tell(answer());
    let Ok(Request::Sign(key, scheme, mut data)) = channel.receive() else { return };
    if act == "other-digest" {
        data[0] ^= 1;
    }
    real.channel().send(&Request::Sign(key, scheme, data)).expect("sent");
    let signature = answer();
    match act {
        "good" | "stays" | "other-digest" => tell(signature),
        "chatty" => {
            let Answer::Signed(bytes) = signature else { panic!("no signature") };
            tell(Answer::Signed(bytes.clone()));
            tell(Answer::Signed(bytes));
            raw(channel, &[0xff; 40]);
        }
        "dies" => {
            tell(signature);
            die("segv");
        }
        "flipped" => {
            let Answer::Signed(mut bytes) = signature else { panic!("no signature") };
            bytes[40] ^= 1;
            tell(Answer::Signed(bytes));
        }
        _ => panic!("no such token process"),
    }
    if act == "good" {
        let _ = channel.receive::<Request>();
        return;
    }
    hang();
}

fn write_at(file: BorrowedFd<'_>, bytes: &[u8], at: i64) -> Result<usize, Errno> {
    let written = unsafe { libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), at) };
    Errno::result(written).map(isize::unsigned_abs)
}
