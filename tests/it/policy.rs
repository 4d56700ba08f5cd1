//! Who may have what signed: every combination of who asks, for which key, what may be sent, what is declared and must be, and how much
//! there is. What must come of it is worked out here anew, from the manual and not from the code.

use crate::world::{
    CLIENTS, Session, account, account_file, as_account, configuration, field, fingerprint, records, scratch, ssh_key, succeed,
    verify, world,
};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Key,
    Certificate,
    User,
    Stranger,
    Unset,
    Expired,
    Revoked,
    Elsewhere,
    Two,
}
const WHO: [Who; 9] =
    [Who::Key, Who::Certificate, Who::User, Who::Stranger, Who::Unset, Who::Expired, Who::Revoked, Who::Elsewhere, Who::Two];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    Default,
    Own,
    Forbidden,
    Unknown,
}
const KEYS: [Key; 4] = [Key::Default, Key::Own, Key::Forbidden, Key::Unknown];

/// What the client's table admits: artifacts, or hash states alone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Input {
    Artifact,
    State,
}
const INPUTS: [Input; 2] = [Input::Artifact, Input::State];

/// What the client's table requires.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Require {
    Nothing,
    Both,
}
const REQUIRES: [Require; 2] = [Require::Nothing, Require::Both];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Declared {
    Nothing,
    Size,
    Digest,
    Both,
    WrongSize,
    WrongDigest,
    OtherHash,
}
const DECLARED: [Declared; 7] = [
    Declared::Nothing,
    Declared::Size,
    Declared::Digest,
    Declared::Both,
    Declared::WrongSize,
    Declared::WrongDigest,
    Declared::OtherHash,
];

/// How much is sent, against a `max-size` of 1 KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Within,
    Beyond,
}
const AMOUNTS: [Amount; 2] = [Amount::Within, Amount::Beyond];

/// THE DIMENSION OF RATES: whether the client has signatures left. Another value belongs here, into `table` and into `oracle`, where a
/// client that has none left is told so (75) after all that is refused by policy (77, 64), and before a byte is read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    Left,
}
const RATES: [Rate; 1] = [Rate::Left];

#[derive(Clone, Copy, Debug)]
struct Cell {
    who: Who,
    key: Key,
    input: Input,
    require: Require,
    declared: Declared,
    amount: Amount,
    rate: Rate,
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for who in WHO {
        for key in KEYS {
            for input in INPUTS {
                for require in REQUIRES {
                    for declared in DECLARED {
                        for amount in AMOUNTS {
                            cells.extend(RATES.map(|rate| Cell { who, key, input, require, declared, amount, rate }));
                        }
                    }
                }
            }
        }
    }
    cells
}

fn data(amount: Amount) -> &'static [u8] {
    match amount {
        Amount::Within => &[b'd'; 1000],
        Amount::Beyond => &[b'd'; 1025],
    }
}

/// How a session must end.
#[derive(Debug, PartialEq)]
struct End {
    code: i32,
    err: String,
    events: Vec<&'static str>,
    reason: String,
    client: &'static str,
    /// The signing key's name, once it is granted.
    key: &'static str,
}

/// The oracle: sigsh(8) and sigsh.toml(5), in the order of refusals.
fn oracle(cell: Cell) -> End {
    let client = match cell.who {
        Who::Key => "by-key",
        Who::Certificate => "by-certificate",
        Who::User => "by-user",
        _ => "",
    };
    let ends = |code, line: &str, hint: &str, event, reason: &str, key| {
        let hint = if hint.is_empty() { String::new() } else { format!("sigsh: hint: {hint}\n") };
        End { code, err: format!("sigsh: error: {line}\n{hint}"), events: vec![event], reason: reason.to_owned(), client, key }
    };
    let operator = "the operator of this host finds the reason in the journal";
    let nobody = |reason| ends(77, "you are not identified", operator, "refused", reason, "");
    match cell.who {
        Who::Stranger => return nobody("no client has this ssh key"),
        Who::Unset => return nobody("SSH_USER_AUTH is not set (ExposeAuthInfo in sshd_config)"),
        Who::Elsewhere => return nobody("client 'elsewhere' must not come from this address"),
        Who::Two => return nobody("two clients are this one: 'here' and 'there'"),
        Who::Expired => {
            let reason = "the ssh certificate was valid until 2020-01-02T00:00:00Z";
            return ends(77, "your ssh certificate has expired", "log in with a new one", "refused", reason, "");
        }
        Who::Revoked => {
            return ends(77, "your ssh key or certificate is revoked", operator, "refused", "the ssh key is revoked", "");
        }
        Who::Key | Who::Certificate | Who::User => {}
    }
    let refused = |code, line: &str, hint| ends(code, line, hint, "refused", line, "");
    if matches!(cell.key, Key::Forbidden | Key::Unknown) {
        return refused(77, "key not permitted", "without a key's name you get your default key");
    }
    if cell.input != Input::Artifact {
        return refused(77, "this client may not send artifact input", "");
    }
    let says_size = matches!(
        cell.declared,
        Declared::Size | Declared::Both | Declared::WrongSize | Declared::OtherHash | Declared::WrongDigest
    );
    let says_digest = !matches!(cell.declared, Declared::Nothing | Declared::Size);
    let declare = "declare what you send, so that half a file is never signed";
    if cell.require == Require::Both && !says_size {
        return refused(77, "this client must declare --size", declare);
    }
    if cell.require == Require::Both && !says_digest {
        return refused(77, "this client must declare --digest", declare);
    }
    if says_size && cell.amount == Amount::Beyond {
        return refused(77, "the declared size exceeds the limit of 1024 bytes", "");
    }
    if cell.declared == Declared::OtherHash {
        return refused(64, "the key signs sha512; declare the digest by that hash", "");
    }
    assert_eq!(cell.rate, Rate::Left);
    let cut_off = "it was cut off on its way, or changed";
    let failed = |line: &str, hint, reason: &str| ends(65, line, hint, "failed", reason, "ed25519");
    if cell.amount == Amount::Beyond {
        return failed("the input is longer than declared or allowed", "", "the input cannot be hashed: it is too long");
    }
    let size = "the input has 1000 bytes, not the declared number";
    let digest = "the input has not the declared digest";
    match cell.declared {
        Declared::WrongSize => failed(size, cut_off, size),
        Declared::WrongDigest => failed(digest, cut_off, digest),
        _ => End { code: 0, err: String::new(), events: vec!["intent", "signed"], reason: String::new(), client, key: "ed25519" },
    }
}

/// What the whole matrix needs: a configuration for each pair of `inputs` and `require`, and the certificates.
struct Table {
    configs: BTreeMap<(bool, bool), PathBuf>,
    certificate: String,
    expired: String,
}

fn table() -> Table {
    world();
    let directory = scratch();
    let ca = format!("{directory}/ca");
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &ca]));
    let print = |path: &str| {
        let output = succeed(Command::new("ssh-keygen").args(["-l", "-f", path]));
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    let certify = |name: &str, validity: &str| {
        let (key, auth) = (format!("{directory}/{name}"), format!("{directory}/{name}.auth"));
        fs::copy(format!("{}.pub", ssh_key("build1")), format!("{key}.pub")).unwrap();
        let arguments = ["-q", "-s", &ca, "-I", name, "-n", "build", "-V", validity];
        succeed(Command::new("ssh-keygen").args(arguments).arg(format!("{key}.pub")));
        let line = fs::read_to_string(format!("{key}-cert.pub")).unwrap();
        account_file(&auth, format!("publickey {}\n", line.split(' ').take(2).collect::<Vec<_>>().join(" ")).as_bytes());
        auth
    };
    let revoked = "/etc/sigsh/policy-revoked";
    fs::write(revoked, format!("hash: {}\n", fingerprint("limited"))).unwrap();
    let base = configuration();
    let (top, tail) = (base.split("[client.").next().unwrap(), base.split_once("[limits]").unwrap().1);
    let [build1, careful, small] = ["build1", "careful", "small"].map(fingerprint);
    let mut configs = BTreeMap::new();
    for (state, both) in [(false, false), (false, true), (true, false), (true, true)] {
        let rights = format!(
            "keys = [\"ed25519\", \"rsa2048\"]\nmax-size = \"1KiB\"\n{}{}",
            if state { "inputs = [\"state\"]\n" } else { "" },
            if both { "require = [\"size\", \"digest\"]\n" } else { "" }
        );
        let clients = [
            ("by-key", format!("ssh-keys = [\"{build1}\"]")),
            ("by-certificate", format!("ssh-ca = \"{}\"\nprincipals = [\"build\"]", print(&format!("{ca}.pub")))),
            ("by-user", "unix-user = \"signer\"".to_owned()),
            ("elsewhere", format!("ssh-keys = [\"{careful}\"]\nfrom = [\"198.51.100.0/24\"]")),
            ("here", format!("ssh-keys = [\"{small}\"]\nfrom = [\"192.0.2.0/24\"]")),
            ("there", format!("ssh-keys = [\"{small}\"]\nfrom = [\"192.0.2.1\"]")),
        ];
        let clients = clients.map(|(name, identity)| format!("[client.{name}]\n{identity}\n{rights}")).concat();
        let all = crate::world::KEYS.map(|key| format!("\"{key}\"")).join(", ");
        let other = format!("[client.other]\nunix-user = \"nobody\"\nkeys = [{all}]\n");
        let path = PathBuf::from(format!("/etc/sigsh/policy-{state}-{both}.toml"));
        fs::write(&path, format!("revoked-keys = \"{revoked}\"\n{top}{clients}{other}[limits]{tail}")).unwrap();
        configs.insert((state, both), path);
    }
    Table { configs, certificate: certify("valid", "always:forever"), expired: certify("old", "20200101:20200102") }
}

fn request(cell: Cell) -> String {
    let key = match cell.key {
        Key::Default => "",
        Key::Own => " ed25519",
        Key::Forbidden => " nistp256",
        Key::Unknown => " nosuch",
    };
    let data = data(cell.amount);
    let size = |more: usize| format!(" --size {}", data.len() + more);
    let digest = |data: &[u8]| format!(" --digest sha512:{}", hex::encode(Sha512::digest(data)));
    let declared = match cell.declared {
        Declared::Nothing => String::new(),
        Declared::Size => size(0),
        Declared::Digest => digest(data),
        Declared::Both => size(0) + &digest(data),
        Declared::WrongSize => size(1) + &digest(data),
        Declared::WrongDigest => size(0) + &digest(b"other"),
        Declared::OtherHash => size(0) + &format!(" --digest sha256:{}", hex::encode(Sha256::digest(data))),
    };
    format!("sign{key}{declared}")
}

fn session(table: &Table, cell: Cell) -> Command {
    let config: &Path = &table.configs[&(cell.input == Input::State, cell.require == Require::Both)];
    let as_client = |client| Session::new(config).client(client).request(&request(cell)).command;
    let by = |auth: &str| {
        let mut command = as_client("build1");
        command.env("SSH_USER_AUTH", auth);
        command
    };
    match cell.who {
        Who::Key => as_client("build1"),
        Who::Certificate => by(&table.certificate),
        Who::Expired => by(&table.expired),
        Who::Stranger => as_client("stranger"),
        Who::Revoked => as_client("limited"),
        Who::Elsewhere => as_client("careful"),
        Who::Two => as_client("small"),
        Who::Unset => Session::new(config).request(&request(cell)).command,
        Who::User => {
            let mut command = as_account("/usr/bin/sigsh");
            command.arg("--config").arg(config).args(["-c", &request(cell)]);
            command
        }
    }
}

struct Seen {
    pid: u32,
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

fn run(table: &Table, cell: Cell) -> Seen {
    let mut command = session(table, cell);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A pipe holds all of it: who refuses need not read.
    let _ = child.stdin.take().unwrap().write_all(data(cell.amount));
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    Seen { pid, code: output.status.code(), out: output.stdout, err: String::from_utf8(output.stderr).unwrap() }
}

fn compare(cell: Cell, seen: &Seen, records: &[&Value]) {
    let last = records.last().unwrap_or_else(|| panic!("{cell:?}: no record"));

    let end = oracle(cell);
    let found = End {
        code: seen.code.unwrap(),
        err: seen.err.clone(),
        events: records.iter().map(|record| known(field(record, "SIGSH_EVENT"))).collect(),
        reason: field(last, "SIGSH_REASON").to_owned(),
        client: known(field(last, "SIGSH_CLIENT")),
        key: known(field(last, "SIGSH_KEY")),
    };
    assert_eq!(found, end, "{cell:?}");
    let code = if end.code == 0 { String::new() } else { end.code.to_string() };
    assert_eq!(field(last, "SIGSH_CODE"), code, "{cell:?}");
    assert_eq!(seen.out.is_empty(), end.code != 0, "{cell:?}");
    let ssh_key = match cell.who {
        Who::Key | Who::Certificate | Who::Expired => fingerprint_of(0),
        Who::Revoked => fingerprint_of(1),
        Who::Elsewhere => fingerprint_of(2),
        Who::Two => fingerprint_of(3),
        Who::Stranger => fingerprint_of(4),
        Who::User | Who::Unset => "",
    };
    let certificate = matches!(cell.who, Who::Certificate | Who::Expired);
    for record in records {
        assert_eq!(field(record, "SIGSH_SSH_KEY"), ssh_key, "{cell:?}");
        assert_eq!(field(record, "SIGSH_PRINCIPALS"), if certificate { "build" } else { "" }, "{cell:?}");
        assert_eq!(field(record, "SIGSH_UNIX_USER"), if cell.who == Who::Unset { "" } else { "signer" }, "{cell:?}");
    }
    if end.code == 0 {
        verify("ed25519", &seen.out, data(cell.amount));
        assert_eq!(field(last, "SIGSH_SIGNATURE_SHA256"), hex::encode(Sha256::digest(&seen.out)), "{cell:?}");
    }
}

/// One of the names that a record can have here; "?" for any other.
fn known(name: &str) -> &'static str {
    ["", "intent", "signed", "refused", "failed", "by-key", "by-certificate", "by-user", "ed25519"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("?")
}

fn fingerprint_of(client: usize) -> &'static str {
    static ALL: std::sync::OnceLock<[String; 5]> = std::sync::OnceLock::new();
    &ALL.get_or_init(|| CLIENTS.map(fingerprint))[client]
}

#[test]
fn the_whole_matrix() {
    let table = table();
    let cells = cells();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*cell, run(&table, *cell)));
        }
        done
    };
    let seen = thread::scope(|scope| {
        let threads = (0..4).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(seen.len(), cells.len());
    let records = records(&format!("_UID={}", account().0));
    let mut by_process: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for record in &records {
        by_process.entry(field(record, "_PID")).or_default().push(record);
    }
    for (cell, seen) in &seen {
        compare(*cell, seen, by_process.get(seen.pid.to_string().as_str()).map_or(&[], Vec::as_slice));
    }
    // The oracle is no stopped clock.
    let ends = cells.iter().map(|cell| oracle(*cell).code).fold(BTreeMap::new(), |mut ends: BTreeMap<i32, usize>, code| {
        *ends.entry(code).or_default() += 1;
        ends
    });
    assert!(ends.keys().eq(&[0, 64, 65, 77]) && ends[&0] == 30, "{ends:?}");
}

#[test]
fn an_empty_request_is_what_the_clients_table_says() {
    world();
    let own = format!("ssh-keys = [\"{}\"]\nkeys = [\"ed25519\"]", fingerprint("limited"));
    let with = |request: &str| {
        let config = crate::world::changed(&[(&own, &format!("{own}\nrequest = \"{request}\""))]);
        let mut session = Session::new(config).client("limited");
        session.command.env("SSH_ORIGINAL_COMMAND", "");
        session.run(b"data")
    };
    verify("ed25519", with("sign").signature(), b"data");
    let outcome = with("sign ed25519 --armor --name default");
    assert!(outcome.signature().starts_with(b"-----BEGIN PGP SIGNATURE-----"));
    assert_eq!(field(&outcome.records[1], "SIGSH_NAME"), "default");
    let size = "the input has 4 bytes, not the declared number";
    with("sign --size 5").fails(65, size, "failed", size);
    assert!(with("certificate --armor").out.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"));
    assert_eq!(with("version").out, format!("sigsh {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert!(with("help").out.starts_with(b"Sign what comes in"));
    // What is asked expressly, is what is meant.
    let config = crate::world::changed(&[(&own, &format!("{own}\nrequest = \"version\""))]);
    verify("ed25519", Session::new(config).client("limited").request("sign").run(b"data").signature(), b"data");
}
