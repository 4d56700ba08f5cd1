//! How long a signature takes on each kind of token: cold, in a whole session, and in a batch; against the bare token in the same run.
//! Run by `just bench`, as root inside `tests/inside.sh`. `SIGSH_BENCH_TOKENS="tpm kryoptic"` measures these alone. What takes long to build
//! must be there already, as after `just tokens`.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

mod measure;

#[path = "../tests/it"]
mod it {
    pub mod audit;
    pub mod batch;
    pub mod ledger;
    pub mod sandbox;
    pub mod token;
    pub mod tokens;
    pub mod trixie;
    pub mod world;
}

use it::{audit, batch, ledger, sandbox, token, tokens, trixie, world};
use measure::{median, ms, ratio, run, turns};
use sigsh::config::uri::{KeyUri, TokenUri};
use sigsh::token::cryptoki::Cryptoki;
use sigsh::token::key::{self, Private};
use sigsh::token::module::Module;
use sigsh::token::server::Server;
use std::any::Any;
use std::env::{self, var};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokens::{Key, Lab, card, kryoptic, p11kit, prepares, softhsm, tpm};
use world::{HOME, PIN, as_account, secret, world};

const TURNS: usize = 30;
const FILES: usize = 200;

/// The lab of a kind of token, with what keeps it running; `None` where this machine cannot have it.
type Make = fn() -> Option<(Lab, Box<dyn Any>)>;

const KINDS: [(&str, Make); 5] = [
    ("softhsm", || Some((worldly("bench", softhsm::table("release")), Box::new(())))),
    ("p11-kit", || {
        let (daemon, table) = p11kit::server();
        Some((worldly("bench-p11-kit", table), Box::new(daemon)))
    }),
    ("tpm", || {
        built("tpm")?;
        let tpm = tpm::Tpm::new();
        Some((tpm::ready(&tpm, "bench-tpm"), Box::new(tpm)))
    }),
    ("card", || {
        built("card")?;
        let (readers, lab) = card::Readers::with("ed25519");
        Some((lab, Box::new(readers)))
    }),
    ("kryoptic", || {
        built("kryoptic")?;
        let keys = ["rsa2048", "nistp256", "ed25519"].map(Key::named).into_iter().chain([kryoptic::modern("mldsa65-ed25519")]);
        let (lab, _) = kryoptic::prepared("bench-kryoptic", keys.collect());
        Some((lab, Box::new(())))
    }),
];

fn main() {
    // `cargo test --benches` and editors run this, too: measure only when asked.
    if !env::args().any(|argument| argument == "--bench") {
        return;
    }
    // The bare token runs in a process of its own, so that it is as cold as the others.
    if var("SIGSH_BARE_COUNT").is_ok() {
        return println!("{}", bare());
    }
    world();
    let data = format!("{HOME}/1k");
    fs::write(&data, vec![7; 1024]).unwrap();
    let archive = format!("{HOME}/{FILES}.tar");
    let files = (0..FILES).map(|number| batch::entry(format!("{number}").as_bytes(), &[number as u8; 1024]));
    fs::write(&archive, files.chain([batch::END.to_vec()]).collect::<Vec<_>>().concat()).unwrap();
    println!(
        "\n1 KiB on each token, on the server's side: milliseconds for a signature, in brackets the ratio to the column before; medians"
    );
    println!("\n| token | key | C_Sign | of {FILES} in a batch | process with one C_Sign | session |\n|---|---|---|---|---|---|");
    let only = var("SIGSH_BENCH_TOKENS").unwrap_or_default();
    for (name, make) in KINDS.into_iter().filter(|(name, _)| only.is_empty() || only.split(' ').any(|wanted| wanted == *name)) {
        let Some((lab, _running)) = make() else {
            println!("| {name} | not on this machine | | | | |");
            continue;
        };
        for key in &lab.keys {
            measure(name, &lab, key, &data, &archive);
        }
    }
}

/// `None` where `sh tests/tokens/NAME.sh` cannot build or install what this token needs.
fn built(name: &str) -> Option<()> {
    let status = Command::new("sh").arg(format!("tests/tokens/{name}.sh")).stdout(Stdio::null()).status().unwrap();
    status.success().then_some(())
}

/// One with the token and keys of the world.
fn worldly(name: &'static str, table: String) -> Lab {
    let keys = ["rsa2048", "rsa4096", "nistp256", "ed25519"].map(|key| Key::named(key).present());
    let lab = Lab::new(name, table, PIN, keys.into());
    secret(&lab.pin_file(), lab.pin);
    prepares(&lab, &lab.config(&[]));
    lab
}

fn measure(name: &str, lab: &Lab, key: &Key, data: &str, archive: &str) {
    let config = lab.config(&[]);
    let session = |request: &str, input: &str| run(&mut lab.session(&config, &format!("{request} {}", key.name)).command, input);
    // Of a composite key two keys sign.
    let known = scheme(key.name).is_some();
    let bare = |count: usize| if known { alone(lab, key, count) } else { (Duration::ZERO, Duration::ZERO) };
    let mut cold = turns(TURNS, &mut [&mut || session("sign", data), &mut || bare(1).0]);
    let mut warm = turns(3, &mut [&mut || session("sign-tar", archive) / FILES as u32, &mut || bare(FILES).1]);
    let [session, process] = [0, 1].map(|index| median(&mut cold[index]));
    let [batch, sign] = [0, 1].map(|index| median(&mut warm[index]));
    let [process, sign] = [process, sign].map(|time| known.then_some(time));
    let against = |time: Duration, other: Option<Duration>| match other {
        Some(other) => format!("{:.2} ({:.2})", ms(time), ratio(time, other)),
        None => format!("{:.2} (-)", ms(time)),
    };
    let alone = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.2}", ms(time)));
    let [batch, session] = [against(batch, sign), against(session, process)];
    println!("| {name} | {} | {} | {batch} | {} | {session} |", key.name, alone(sign), alone(process));
}

/// The bare token, as a process of the account: how long all of it takes, and the median of C_SignInit and C_Sign.
fn alone(lab: &Lab, key: &Key, count: usize) -> (Duration, Duration) {
    let table = lab.table.parse::<toml::Table>().unwrap();
    let text = |name: &str| table.get(name).and_then(toml::Value::as_str);
    let mut command = as_account(env::current_exe().unwrap());
    command.arg("--bench").env("SIGSH_BARE_COUNT", count.to_string()).env("SIGSH_BARE_PIN", lab.pin);
    command.env("SIGSH_BARE_TOKEN", text("uri").unwrap()).env("SIGSH_BARE_OBJECT", &key.uri).env("SIGSH_BARE_KEY", key.name);
    command.envs(text("module").map(|path| ("SIGSH_BARE_MODULE", path)));
    command.envs(text("server").map(|path| ("SIGSH_BARE_SERVER", path)));
    for (name, value) in table.get("environment").and_then(toml::Value::as_table).into_iter().flatten() {
        command.env(name, value.as_str().unwrap());
    }
    let began = Instant::now();
    let output = command.output().unwrap();
    let took = began.elapsed();
    assert!(output.status.success(), "{output:?}");
    (took, Duration::from_secs_f64(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()))
}

/// A key's mechanism, and the length of what it signs.
fn scheme(key: &str) -> Option<(u64, usize)> {
    Some(match key {
        "nistp256" => (cryptoki_sys::CKM_ECDSA, 32),
        "ed25519" => (cryptoki_sys::CKM_EDDSA, 64),
        _ if key.starts_with("rsa") => (cryptoki_sys::CKM_RSA_PKCS, 83),
        _ => return None,
    })
}

/// In that process: seconds.
fn bare() -> f64 {
    let [token, object, pin] = ["TOKEN", "OBJECT", "PIN"].map(|name| var(format!("SIGSH_BARE_{name}")).unwrap());
    let cryptoki: Box<dyn Cryptoki> = match var("SIGSH_BARE_SERVER") {
        Ok(socket) => Box::new(Server::initialize(UnixStream::connect(socket).unwrap()).unwrap()),
        Err(_) => Box::new(Module::load(Path::new(&var("SIGSH_BARE_MODULE").unwrap())).unwrap()),
    };
    let uri = TokenUri::try_from(token).unwrap();
    let matches = |wanted: &Option<String>, is: String| wanted.as_ref().is_none_or(|wanted| *wanted == is);
    let is =
        |slot: &u64| cryptoki.token(*slot).is_ok_and(|info| matches(&uri.label, info.label) && matches(&uri.serial, info.serial));
    let slot = cryptoki.slots().unwrap().into_iter().find(is).unwrap();
    let session = cryptoki.open(slot, false).unwrap();
    cryptoki.login(session, cryptoki_sys::CKU_USER, pin.as_bytes()).unwrap();
    let found = match key::find(&*cryptoki, session, &KeyUri::try_from(object).unwrap()).unwrap() {
        (Private::One(found), _) => found.handle,
        (pair, _) => panic!("{pair:?}"),
    };
    let (mechanism, length) = scheme(&var("SIGSH_BARE_KEY").unwrap()).unwrap();
    let data = vec![7; length];
    let once = || {
        let began = Instant::now();
        cryptoki.sign_init(session, mechanism, &[], found).unwrap();
        assert!(!cryptoki.sign(session, &data).unwrap().is_empty());
        began.elapsed()
    };
    let mut times = (0..var("SIGSH_BARE_COUNT").unwrap().parse().unwrap()).map(|_: usize| once()).collect::<Vec<_>>();
    let time = median(&mut times);
    cryptoki.leave(session);
    time.as_secs_f64()
}
