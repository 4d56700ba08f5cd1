//! Liars in batches: of the files `f0`, `f1`… with their contents.

use super::{Report, die, hang, raw};
use sigsh::channel::{Channel, MAX_MESSAGE};
use sigsh::hash_state::{HashAlgorithm, HashState, Salt, Wanted};
use sigsh::hasher::{Fault, Go, Start};
use sigsh::process::Child;
use sigsh::sys;
use sigsh::token::{self, Answer, Request, Setup};

fn state(wanted: &Wanted, data: &[u8]) -> Vec<u8> {
    let mut state = HashState::begin(wanted);
    state.update(data);
    state.export(<[u8]>::to_vec)
}

fn content(number: usize) -> Vec<u8> {
    format!("content {number}").into_bytes()
}

struct Liar<'a>(&'a Channel);

impl Liar<'_> {
    /// Waits to be asked.
    fn wanted(&self) -> Vec<Wanted> {
        let Ok(Go(wanted)) = self.0.receive() else { sys::exit(0) };
        wanted.into_iter().flatten().collect()
    }

    fn send(&self, report: &Report) {
        if self.0.send(report).is_err() {
            sys::exit(0)
        }
    }

    fn file(&self, name: &[u8], states: Vec<Vec<u8>>) {
        self.send(&Report::Artifact { name: name.to_vec(), states, text: 0 });
    }

    /// The truth about a file, but for its name.
    fn honest(&self, name: &[u8], number: usize) {
        let states = self.wanted().iter().map(|wanted| state(wanted, &content(number))).collect();
        self.file(name, states);
    }
}

pub(crate) fn hasher(channel: &Channel, act: &str) -> ! {
    if act == "never-reads" {
        hang();
    }
    if channel.receive::<Start>().is_err() {
        sys::exit(0)
    }
    let liar = Liar(channel);
    let act = act.strip_suffix("-late").inspect(|_| liar.honest(b"f0", 0)).unwrap_or(act);
    let end = || liar.send(&Report::End);
    let named = |name: &[u8]| {
        liar.honest(name, 1);
        end();
    };
    match act {
        "good" => named(b"f1"),
        "name-longest" => named(&[b'n'; 4000]),
        "name-too-long" => named(&[b'n'; 4001]),
        "name-far-too-long" => named(&[b'n'; 7900]),
        "name-endless" => {
            let states = liar.wanted().iter().map(|wanted| state(wanted, b"")).collect();
            let report = Report::Artifact { name: vec![b'n'; 8000], states, text: 0 };
            let message = postcard::to_allocvec(&report).expect("encoded");
            assert!(message.len() > MAX_MESSAGE);
            raw(channel, &message);
        }
        "name-nul" => named(b"f\0"),
        "name-absolute" => named(b"/etc/f"),
        "name-up" => named(b"../f"),
        "name-up-inside" => named(b"a/../../f"),
        "name-up-at-the-end" => named(b"f/.."),
        "name-empty" => named(b""),
        "name-directory" => named(b"f/"),
        "name-dot" => named(b"."),
        "names-exchanged" => {
            liar.honest(b"f1", 0);
            liar.honest(b"f0", 1);
            end();
        }
        "states-missing" => {
            let states = liar.wanted().iter().skip(1).map(|wanted| state(wanted, b"")).collect();
            liar.file(b"f1", states);
        }
        "states-none" => liar.file(b"f1", Vec::new()),
        "states-too-many" => {
            let states = liar.wanted().iter().cycle().take(16).map(|wanted| state(wanted, b"")).collect();
            liar.file(b"f1", states);
        }
        "states-exchanged" => {
            let states = liar.wanted().iter().rev().map(|wanted| state(wanted, b"data")).collect();
            liar.file(b"f1", states);
        }
        "states-of-two-files" => {
            let states = liar.wanted().iter().enumerate().map(|(at, wanted)| state(wanted, &vec![b'x'; at])).collect();
            liar.file(b"f1", states);
        }
        "states-salted-otherwise" => {
            let salt = Salt::draw().ok();
            let salted = |wanted: &Wanted| Wanted { salt: wanted.salt.and(salt), ..*wanted };
            let states = liar.wanted().iter().map(|wanted| state(&salted(wanted), &content(1))).collect();
            liar.file(b"f1", states);
            end();
        }
        "text" => {
            let states = liar.wanted().iter().map(|wanted| state(wanted, b"text")).collect();
            liar.send(&Report::Artifact { name: b"f1".to_vec(), states, text: 4 });
        }
        "flood" => {
            let one = state(&Wanted::plain(HashAlgorithm::Sha512), b"x");
            (0..200).for_each(|number| liar.file(format!("f{number}").as_bytes(), vec![one.clone()]));
        }
        "end" => end(),
        "end-stays" => {
            end();
            hang();
        }
        "end-twice" => {
            end();
            end();
        }
        "end-then-a-file" => {
            let wanted = liar.wanted();
            end();
            liar.file(b"f1", wanted.iter().map(|wanted| state(wanted, b"x")).collect());
        }
        "end-then-a-fault" => {
            end();
            liar.send(&Report::Fault(Fault::TarCut, b"f1".to_vec()));
        }
        "end-exits-1" => {
            end();
            sys::exit(1)
        }
        "two-in-one-message" => {
            let message = postcard::to_allocvec(&Report::End).expect("encoded");
            raw(channel, &message.repeat(2));
        }
        "nonsense" => raw(channel, &[0xff; 300]),
        "empty-message" => raw(channel, &[]),
        "fault" => liar.send(&Report::Fault(Fault::TarCut, b"f1\n\x1b[2J".to_vec())),
        "fault-stays" => {
            liar.send(&Report::Fault(Fault::TarCut, b"f1".to_vec()));
            hang();
        }
        "leaves" => {}
        "exits-1" => sys::exit(1),
        "dies" => die("kill"),
        "crashes" => die("segv"),
        _ => panic!("no such hasher"),
    }
    sys::exit(0)
}

/// The real token process, and an evil one between it and the monitor.
pub(crate) fn token(channel: &Channel, setup: Setup<'_>, act: &str) -> ! {
    let keys = setup.keys.len();
    let real = Child::fork(c"sigsh-token", &[], |channel| token::run(channel, setup)).expect("forked");
    let tell = |answer: &Answer| {
        if channel.send(answer).is_err() {
            sys::exit(0)
        }
    };
    let asked = || channel.receive::<Request>().unwrap_or_else(|_| sys::exit(0));
    let answer = || real.channel().receive::<Answer>().unwrap_or_else(|_| sys::exit(0));
    let sign = |request: &Request| {
        let Request::Sign(key, scheme, data) = request else { sys::exit(0) };
        let key = if act == "other-key" { 1 - key } else { *key };
        let _ = real.channel().send(&Request::Sign(key, *scheme, data.clone()));
        answer()
    };
    tell(&answer());
    let _ = real.channel().send(&asked());
    for _ in 0..keys {
        let open = answer();
        if act != "open-once" {
            tell(&open);
        }
        if act == "open-twice" {
            tell(&open);
        }
    }
    if act == "open-once" {
        tell(&Answer::Open(None));
        hang();
    }
    if act == "unasked" {
        tell(&Answer::Signed(vec![7; 64]));
    }
    for number in 1.. {
        let request = asked();
        let signature = match act {
            "exchanged" if number == 3 => {
                let other = asked();
                let (one, other) = (sign(&request), sign(&other));
                tell(&other);
                one
            }
            _ => sign(&request),
        };
        match (act, number) {
            ("hangs", 5) => hang(),
            ("dies", 5) => die("kill"),
            ("leaves", 5) => sys::exit(0),
            ("loaded", 5) => tell(&Answer::Loaded),
            ("nonsense", 5) => raw(channel, &[0xff; 40]),
            ("twice", 5) => tell(&signature),
            _ => {}
        }
        tell(&signature);
        match (act, number) {
            // Nothing is asked of it now.
            ("dies-idle", 1) => die("segv"),
            ("leaves-idle", 1) => sys::exit(0),
            ("speaks-idle", 1) => tell(&signature),
            ("nonsense-idle", 1) => raw(channel, &[0xff; 40]),
            _ => {}
        }
    }
    sys::exit(0)
}
