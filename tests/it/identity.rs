//! Who asks: certificates, networks, unix users, and what was revoked; at the start of a session and when the token is about to be asked.

use crate::world::{
    CONFIG, HOME, Outcome, Session, account_file, as_account, calls, changed, faulty, field, fingerprint, finish, finish_child,
    patient, records, scratch, ssh_key, succeed, user_auth, verify, world,
};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::Duration;

const NOT_IDENTIFIED: &str = "you are not identified";
const EXPIRED: &str = "your ssh certificate has expired";
const REVOKED: &str = "your ssh key or certificate is revoked";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
const CHANGED: &str = "the list of revoked keys has changed";

/// Hardware keys: nobody here has one, but an authority certifies their public halves.
const SK: [&str; 2] = [
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABHNzaDo=",
    "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfUAAAAEc3NoOg==",
];

/// An ssh key of this type (`ed25519`, `rsa-2048`, `ecdsa-384`), made at the first call.
fn key(name: &str, kind: &str) -> String {
    static TURN: Mutex<()> = Mutex::new(());
    world();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let path = format!("{HOME}/{name}-{kind}");
    if !Path::new(&path).exists() {
        let (algorithm, bits) = kind.split_once('-').unwrap_or((kind, ""));
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", algorithm, "-N", "", "-C", name, "-f", &path]);
        if !bits.is_empty() {
            command.args(["-b", bits]);
        }
        succeed(&mut command);
    }
    path
}

/// The authority, by kind of its key.
pub fn authority(kind: &str) -> String {
    key("authority", kind)
}

fn print(path: &str) -> String {
    let output = succeed(Command::new("ssh-keygen").args(["-l", "-f", &format!("{path}.pub")]));
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// A certificate, beside a copy of its key, and what sshd would hand over of it.
struct Certified {
    key: String,
    auth: String,
    fingerprint: String,
}

/// Has an authority certify a copy of this key.
fn certify(ca: &str, key: &str, arguments: &[&str]) -> Certified {
    let directory = scratch();
    let copy = format!("{directory}/key");
    if Path::new(key).exists() {
        fs::copy(key, &copy).unwrap();
    }
    fs::copy(format!("{key}.pub"), format!("{copy}.pub")).unwrap();
    succeed(Command::new("ssh-keygen").args(["-q", "-s", ca]).args(arguments).arg(format!("{copy}.pub")));
    let line = fs::read_to_string(format!("{copy}-cert.pub")).unwrap();
    let auth = format!("{directory}/auth");
    account_file(&auth, format!("publickey {}\n", line.split(' ').take(2).collect::<Vec<_>>().join(" ").trim()).as_bytes());
    Certified { fingerprint: print(&copy), key: copy, auth }
}

/// The same of a key that sshd does not let in as such.
fn certificate(arguments: &[&str]) -> Certified {
    certify(&authority("ed25519"), &key("certified", "ed25519"), arguments)
}

/// A configuration with these clients more; `{CA}` and `{RSA}` are authorities.
fn with(clients: &str) -> PathBuf {
    changed(&[("[limits]", &format!("{}[limits]", known(clients)))])
}

fn known(text: &str) -> String {
    text.replace("{CA}", &print(&authority("ed25519"))).replace("{RSA}", &print(&authority("rsa-2048")))
}

/// A session of somebody whose SSH_USER_AUTH is this file.
fn session(config: &Path, auth: &str) -> Session {
    let mut session = Session::new(config).client("build1").request("sign ed25519");
    session.command.env("SSH_USER_AUTH", auth);
    session
}

const CLIENTS: &str = "[client.ci]\nssh-ca = \"{CA}\"\nprincipals = [\"build\", \"deploy\"]\nkeys = [\"ed25519\"]\n\
    [client.dev]\nssh-ca = \"{CA}\"\nkey-ids = [\"dev-*\", \"d?v\"]\nkeys = [\"ed25519\"]\n\
    [client.both]\nssh-ca = \"{RSA}\"\nprincipals = [\"build\"]\nkey-ids = [\"ci-*\"]\nkeys = [\"ed25519\"]\n";

/// The shipped settings with their lines for an authority.
fn sshd() -> u16 {
    static SSHD: OnceLock<Child> = OnceLock::new();
    const PORT: u16 = 2240;
    SSHD.get_or_init(|| {
        let authorities =
            ["ed25519", "rsa-2048", "ecdsa-256"].map(|kind| fs::read_to_string(format!("{}.pub", authority(kind))).unwrap());
        fs::write("/etc/sigsh/user_ca.pub", authorities.concat()).unwrap();
        fs::write("/etc/sigsh/authorized_principals", "build\n").unwrap();
        let shipped = fs::read_to_string("sshd/50-sigsh.conf").unwrap();
        let mut settings = shipped.clone();
        for setting in ["TrustedUserCAKeys", "AuthorizedPrincipalsFile"] {
            assert!(shipped.contains(&format!("    #{setting} ")), "{setting}");
            settings = settings.replace(&format!("    #{setting} "), &format!("    {setting} "));
        }
        let path = "/etc/ssh/sshd_config.d/certificates.conf";
        fs::write(path, settings).unwrap();
        let main = format!("{HOME}/certificates_main");
        let key = key("certificates", "ed25519");
        let own = format!("ListenAddress 127.0.0.1:{PORT}\nHostKey {key}\nPidFile none\nUsePAM no\nInclude {path}\n");
        fs::write(&main, own).unwrap();
        let log = fs::File::create(format!("{HOME}/certificates.log")).unwrap();
        let sshd = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &main]).stderr(log).spawn().unwrap();
        patient(|| std::net::TcpStream::connect(("127.0.0.1", PORT)).is_ok());
        sshd
    });
    PORT
}

pub fn ssh(port: u16, key: &str, options: &[&str], request: &str) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-F", &format!("{HOME}/ssh_config"), "-i", key, "-o", &format!("Port={port}")]);
    command.args(options).args(["signer@127.0.0.1", request]);
    command
}

/// What sigsh(8) says of the fields, of a certificate.
#[track_caller]
fn recorded(record: &serde_json::Value, expected: [&str; 5]) {
    let names = ["SIGSH_SSH_KEY", "SIGSH_SSH_CA", "SIGSH_CERT_ID", "SIGSH_CERT_SERIAL", "SIGSH_PRINCIPALS"];
    assert_eq!(names.map(|name| field(record, name)), expected, "{record:#?}");
    assert_eq!(field(record, "SIGSH_UNIX_USER"), "signer");
}

/// The configuration that sshd's sessions use has certificates' clients as well: no other test is one of them.
pub fn over_ssh() -> u16 {
    static ONCE: OnceLock<()> = OnceLock::new();
    let port = sshd();
    ONCE.get_or_init(|| {
        let text = fs::read_to_string(CONFIG).unwrap();
        let more = ["ed25519", "rsa-2048", "ecdsa-256"].map(|kind| {
            let ca = print(&authority(kind));
            format!("[client.over-ssh-{kind}]\nssh-ca = \"{ca}\"\nprincipals = [\"build\"]\nkeys = [\"ed25519\"]\n")
        });
        fs::write(format!("{CONFIG}.new"), text.replace("[limits]", &format!("{}[limits]", more.concat()))).unwrap();
        fs::rename(format!("{CONFIG}.new"), CONFIG).unwrap();
    });
    port
}

#[test]
fn certificates_of_every_kind_sign_over_ssh() {
    let port = over_ssh();
    let all = ["ed25519", "rsa-2048", "rsa-4096", "ecdsa-256", "ecdsa-384", "ecdsa-521"].map(|kind| ("ed25519", kind));
    for (ca, kind) in all.into_iter().chain([("rsa-2048", "ed25519"), ("ecdsa-256", "ed25519")]) {
        let id = format!("{ca} {kind}");
        let certified =
            certify(&authority(ca), &key("certified", kind), &["-I", &id, "-n", "x,build", "-z", "18446744073709551615"]);
        let name = format!("certificate-{ca}-{kind}");
        let outcome = finish(ssh(port, &certified.key, &[], &format!("sign --name {name}")), b"data");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{id}: {outcome:#?}");
        verify("ed25519", &outcome.out, b"data");
        let records = records(&format!("SIGSH_NAME={name}"));
        assert_eq!(records.len(), 2);
        for record in &records {
            let id = id.replace(' ', "%20");
            recorded(record, [&certified.fingerprint, &print(&authority(ca)), &id, "18446744073709551615", "x,build"]);
            assert_eq!(field(record, "SIGSH_CLIENT"), format!("over-ssh-{ca}"));
            assert!(field(record, "SIGSH_PEER").starts_with("127.0.0.1:"));
        }
    }
    // Without a principal of the file sshd lets nobody in: not even one that has the account's name.
    for principals in [&["-n", "signer"][..], &["-n", "other"], &[]] {
        let certified = certificate(&[&["-I", "id"], principals].concat());
        let outcome =
            finish(ssh(port, &certified.key, &["-o", "IdentitiesOnly=yes", "-o", "PubkeyAcceptedAlgorithms=*cert*"], "sign"), b"");
        assert_eq!((outcome.code, outcome.out.len()), (Some(255), 0), "{outcome:#?}");
    }
}

#[test]
fn hardware_keys_and_long_lives() {
    let config = with(CLIENTS);
    for (number, line) in SK.iter().enumerate() {
        let path = format!("{}/sk", scratch());
        fs::write(format!("{path}.pub"), format!("{line} sk\n")).unwrap();
        let certified = certify(&authority("ed25519"), &path, &["-I", "sk", "-n", "build"]);
        verify("ed25519", session(&config, &certified.auth).run(b"data").signature(), b"data");
        assert!(fs::read_to_string(&certified.auth).unwrap().starts_with("publickey sk-"), "{number}");
    }
    for time in ["always:forever", "-5m:forever", "always:99991231", "-5m:+5m"] {
        let certified = certificate(&["-I", "id", "-n", "build", "-V", time]);
        verify("ed25519", session(&config, &certified.auth).run(b"data").signature(), b"data");
    }
    // As large as sshd lets one through, or nearly: keys of 16384 bits on both sides would add 9 KiB.
    let principals =
        (0..255).map(|n| format!("{n:03}{}", "p".repeat(125))).chain(["build".to_owned()]).collect::<Vec<_>>().join(",");
    let certified = certify(&authority("ed25519"), &key("certified", "rsa-4096"), &["-I", &"i".repeat(4096), "-n", &principals]);
    let outcome = session(&config, &certified.auth).run(b"data");
    verify("ed25519", outcome.signature(), b"data");
    let record = &outcome.records[1];
    assert_eq!(field(record, "SIGSH_CERT_ID"), "i".repeat(256));
    let told = principals.split(',').take(3).chain(["%..."]).collect::<Vec<_>>().join(",");
    assert_eq!(field(record, "SIGSH_PRINCIPALS"), told);
}

#[test]
fn which_client_a_certificate_is() {
    let config = with(CLIENTS);
    let nobody = "no client has this ssh certificate";
    let two = "two clients are this one: 'ci' and 'dev'";
    let past = "the ssh certificate was valid until 2020-01-02T00:00:00Z";
    let future = "the ssh certificate is not valid before 2090-01-01T00:00:00Z";
    let host = "the ssh certificate is a host's, not a user's";
    let (ours, rsa, stranger) = (authority("ed25519"), authority("rsa-2048"), key("stranger-authority", "ed25519"));
    for (ca, arguments, end) in [
        (&ours, &["-I", "id", "-n", "build"][..], Ok("ci")),
        (&ours, &["-I", "id", "-n", "x,deploy,y"], Ok("ci")),
        (&ours, &["-I", "dev-7", "-n", "x"], Ok("dev")),
        (&ours, &["-I", "dxv", "-n", "x"], Ok("dev")),
        (&rsa, &["-I", "ci-1", "-n", "build"], Ok("both")),
        (&ours, &["-I", "id", "-n", "Build"], Err((NOT_IDENTIFIED, nobody))),
        (&ours, &["-I", "id", "-n", "build1,buil"], Err((NOT_IDENTIFIED, nobody))),
        (&ours, &["-I", "id", "-n", "*"], Err((NOT_IDENTIFIED, nobody))),
        (&ours, &["-I", "xdev-7", "-n", "x"], Err((NOT_IDENTIFIED, nobody))),
        (&ours, &["-I", "id"], Err((NOT_IDENTIFIED, nobody))),
        (&ours, &["-I", "dev-7"], Err((NOT_IDENTIFIED, nobody))),
        (&rsa, &["-I", "ci-1", "-n", "x"], Err((NOT_IDENTIFIED, nobody))),
        (&rsa, &["-I", "x", "-n", "build"], Err((NOT_IDENTIFIED, nobody))),
        (&stranger, &["-I", "dev-7", "-n", "build"], Err((NOT_IDENTIFIED, nobody))),
        (&ours, &["-I", "dev-7", "-n", "build"], Err((NOT_IDENTIFIED, two))),
        (&ours, &["-h", "-I", "id", "-n", "build"], Err((NOT_IDENTIFIED, host))),
        (&ours, &["-I", "id", "-n", "build", "-V", "20200101Z:20200102Z"], Err((EXPIRED, past))),
        (&ours, &["-I", "id", "-n", "build", "-V", "20900101Z:20910101Z"], Err(("your ssh certificate is not valid yet", future))),
        (&stranger, &["-I", "id", "-n", "build", "-V", "20200101Z:20200102Z"], Err((EXPIRED, past))),
    ] {
        // Debian 12's ssh-keygen knows no zone in a time: it takes the local one, which is UTC here.
        let arguments = arguments.iter().map(|word| if word.contains("Z:") { word.replace('Z', "") } else { (*word).to_owned() });
        let arguments = arguments.collect::<Vec<_>>();
        let certified = certify(ca, &ssh_key("build1"), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let outcome = session(&config, &certified.auth).run(b"data");
        match end {
            Ok(client) => {
                verify("ed25519", outcome.signature(), b"data");
                assert!(outcome.records.iter().all(|record| field(record, "SIGSH_CLIENT") == client), "{outcome:#?}");
            }
            Err((line, reason)) => {
                outcome.fails(77, line, "refused", reason);
                assert_eq!(field(&outcome.records[0], "SIGSH_REASON"), reason);
                assert_eq!((outcome.records.len(), field(&outcome.records[0], "SIGSH_CLIENT")), (1, ""));
            }
        }
        let id = arguments[arguments.iter().position(|word| word == "-I").unwrap() + 1].clone();
        let principals = arguments.iter().position(|word| word == "-n").map_or("", |at| &arguments[at + 1]);
        recorded(&outcome.records[0], [&fingerprint("build1"), &print(ca), &id, "0", principals]);
    }
}

#[test]
fn a_key_is_no_certificate_and_a_certificate_no_key() {
    // build1's own key, certified, by an authority that a client has; and the authority's key itself.
    let certified = certify(&authority("ed25519"), &ssh_key("build1"), &["-I", "id", "-n", "signer"]);
    let outcome = session(Path::new(CONFIG), &certified.auth).run(b"data");
    outcome.fails(77, NOT_IDENTIFIED, "refused", "no client has this ssh certificate");
    let line = fs::read_to_string(format!("{}.pub", authority("ed25519"))).unwrap();
    let auth = format!("{}/auth", scratch());
    account_file(&auth, format!("publickey {}\n", line.split(' ').take(2).collect::<Vec<_>>().join(" ")).as_bytes());
    session(&with(CLIENTS), &auth).run(b"data").fails(77, NOT_IDENTIFIED, "refused", "no client has this ssh key");
}

#[test]
fn what_is_no_certificate_or_an_absurd_one() {
    let config = with(CLIENTS);
    let good = fs::read_to_string(certificate(&["-I", "id", "-n", "build"]).auth).unwrap();
    let (kind, base64) = good.trim_end().rsplit_once(' ').unwrap();
    let not_understood = "the SSH_USER_AUTH file holds an ssh certificate that is not understood";
    let wide = (0..257).map(|n| format!("p{n}")).collect::<Vec<_>>();
    let packed = |strings: &[String]| {
        strings.iter().flat_map(|s| [&(s.len() as u32).to_be_bytes()[..], s.as_bytes()].concat()).collect::<Vec<_>>()
    };
    let blob = decode(base64);
    // What ssh-keygen has written into it: 4 bytes of length and "build".
    let at = blob.windows(9).position(|bytes| bytes == b"\0\0\0\x05build").unwrap();
    let mut many = blob[..at - 4].to_vec();
    many.extend((packed(&wide).len() as u32).to_be_bytes());
    many.extend(packed(&wide));
    many.extend(&blob[at + 9..]);
    let id = blob.windows(6).position(|bytes| bytes == b"\0\0\0\x02id").unwrap();
    let mut long = blob[..id].to_vec();
    long.extend([&4097_u32.to_be_bytes()[..], &[b'i'; 4097], &blob[id + 6..]].concat());
    let mut claims = blob.clone();
    claims[id..id + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    let more = [&blob[..], b"more"].concat();
    let mut lies = vec![
        format!("{kind}\n"),
        format!("{kind} \n"),
        format!("{kind} AAAA\n"),
        good.replace("ssh-ed25519", "ssh-rsa"),
        good.replace("v01", "v00"),
    ];
    lies.extend([many, long, claims, more].map(|bytes| format!("{kind} {}\n", encode(&bytes))));
    lies.extend((0..blob.len()).step_by(7).map(|length| format!("{kind} {}\n", encode(&blob[..length]))));
    let mut outcomes = std::collections::BTreeMap::new();
    for text in &lies {
        let result = sigsh::identity::Login::parse(text).map(drop).map_err(|error| error.to_string());
        *outcomes.entry(result).or_insert(0) += 1;
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [(Err(not_understood.to_owned()), lies.len())]);
    // No change of a byte makes it panic.
    for at in 0..blob.len() {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bytes = blob.clone();
            bytes[at] = byte;
            let _ = sigsh::identity::Login::parse(&format!("{kind} {}\n", encode(&bytes)));
        }
    }
    let auth = format!("{}/auth", scratch());
    for (text, reason) in [
        (&lies[2], not_understood),
        (&lies[6], not_understood),
        (&format!("{kind} {}\n", "A".repeat(128 * 1024)), "the SSH_USER_AUTH file is longer than 128 KiB"),
    ] {
        account_file(&auth, text.as_bytes());
        session(&config, &auth).run(b"data").fails(77, NOT_IDENTIFIED, "refused", reason);
    }
}

fn decode(base64: &str) -> Vec<u8> {
    let mut child = Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(base64.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().chain([0, 0].iter()).take(3).fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        for place in 0..4 {
            text.push(if place > three.len() { '=' } else { DIGITS[number >> (18 - 6 * place) & 63].into() });
        }
    }
    text
}

#[test]
fn where_a_client_comes_from() {
    world();
    let own = format!("ssh-keys = [\"{}\"]", fingerprint("limited"));
    let from = format!("{own}\nfrom = [\"192.0.2.0/24\", \"2001:db8::/32\", \"198.51.100.7\"]");
    let config = changed(&[(&own, &from)]);
    let place = "client 'limited' must not come from this address";
    for (connection, comes) in [
        (Some("192.0.2.1 4000 192.0.2.2 22"), true),
        (Some("192.0.2.255 1 192.0.2.2 22"), true),
        (Some("::ffff:192.0.2.9 4000 ::1 22"), true),
        (Some("2001:db8:1::1 4000 ::1 22"), true),
        (Some("198.51.100.7 4000 192.0.2.2 22"), true),
        (Some("192.0.3.1 4000 192.0.2.2 22"), false),
        (Some("198.51.100.8 4000 192.0.2.2 22"), false),
        (Some("2001:db9::1 4000 ::1 22"), false),
        (Some("::192.0.2.1 4000 ::1 22"), false),
        (Some("fe80::1%eth0 4000 ::1 22"), false),
        (Some("UNKNOWN 65535 UNKNOWN 65535"), false),
        (Some(""), false),
        (None, false),
    ] {
        let mut session = Session::new(&config).client("limited").request("sign");
        session.command.env_remove("SSH_CONNECTION");
        if let Some(connection) = connection {
            session.command.env("SSH_CONNECTION", connection);
        }
        let outcome = session.run(b"data");
        if comes {
            verify("ed25519", outcome.signature(), b"data");
        } else {
            outcome.fails(77, NOT_IDENTIFIED, "refused", place);
        }
    }
    // One key, two clients: the network tells them apart, and where it does not, nobody is anybody.
    let split = format!(
        "{own}\nfrom = [\"192.0.2.0/24\"]\nkeys = [\"ed25519\"]\n[client.elsewhere]\n{own}\nfrom = [\"198.51.100.0/24\", \"192.0.2.64/26\"]"
    );
    let config = changed(&[(&own, &split)]);
    for (address, client) in [("192.0.2.1", Some("limited")), ("198.51.100.1", Some("elsewhere")), ("192.0.2.65", None)] {
        let mut session = Session::new(&config).client("limited").request("sign");
        session.command.env("SSH_CONNECTION", format!("{address} 4000 192.0.2.2 22"));
        let outcome = session.run(b"data");
        match client {
            Some(client) => {
                outcome.signature();
                assert_eq!(field(&outcome.records[0], "SIGSH_CLIENT"), client);
            }
            None => outcome.fails(77, NOT_IDENTIFIED, "refused", "two clients are this one: 'elsewhere' and 'limited'"),
        }
    }
}

#[test]
fn unix_users() {
    world();
    let own = format!("ssh-keys = [\"{}\"]", fingerprint("limited"));
    let alone = |user: &str| changed(&[(&own, &format!("unix-user = \"{user}\""))]);
    let bound = |user: &str| changed(&[(&own, &format!("{own}\nunix-user = \"{user}\""))]);
    let uid = crate::world::account().0.to_string();
    let outside = |config: &Path| {
        let mut command = as_account("/usr/bin/sigsh");
        command.arg("--config").arg(config).args(["-c", "sign ed25519"]);
        Session { command }
    };
    for user in ["signer", &uid] {
        let outcome = outside(&alone(user)).run(b"data");
        verify("ed25519", outcome.signature(), b"data");
        assert_eq!((field(&outcome.records[0], "SIGSH_UNIX_USER"), field(&outcome.records[0], "SIGSH_SSH_KEY")), ("signer", ""));
        // Within ssh the account proves nothing: it is everybody's.
        let within = Session::new(alone(user)).client("limited").request("sign ed25519").run(b"data");
        within.fails(77, NOT_IDENTIFIED, "refused", "no client has this ssh key");
        for (mark, value) in [("SSH_CONNECTION", ""), ("SSH_CLIENT", ""), ("SSH_ORIGINAL_COMMAND", "sign ed25519")] {
            let mut session = Session::new(alone(user));
            session.command.env(mark, value);
            session.run(b"data").fails(77, NOT_IDENTIFIED, "refused", "SSH_USER_AUTH is not set (ExposeAuthInfo in sshd_config)");
        }
        let mut session = outside(&alone(user));
        session.command.env("SSH_USER_AUTH", "");
        session.run(b"data").fails(77, NOT_IDENTIFIED, "refused", "cannot open the SSH_USER_AUTH file: no such file or directory");
        // Account and key.
        let both = Session::new(bound(user)).client("limited").request("sign ed25519").run(b"data");
        verify("ed25519", both.signature(), b"data");
        let nobody = "no client is this unix user outside ssh";
        outside(&bound(user)).run(b"data").fails(77, NOT_IDENTIFIED, "refused", nobody);
    }
    for user in ["root", "nobody", "0", "nosuchuser", "65534"] {
        outside(&alone(user)).run(b"data").fails(77, NOT_IDENTIFIED, "refused", "no client is this unix user outside ssh");
        let bound = Session::new(bound(user)).client("limited").request("sign ed25519").run(b"data");
        bound.fails(77, NOT_IDENTIFIED, "refused", "no client has this ssh key");
    }
}

/// A list of revoked keys, and a configuration that names it; and the count of the token's calls.
fn revoking(list: &str) -> (PathBuf, PathBuf, PathBuf) {
    world();
    let path = PathBuf::from(format!("/etc/sigsh/revoked{}", scratch().rsplit('h').next().unwrap()));
    fs::write(&path, list).unwrap();
    let clients = format!("{}[limits]", known(CLIENTS));
    let top = format!("revoked-keys = \"{}\"\n[token.", path.display());
    let (config, count) = faulty("", &[("[limits]", &clients), ("[token.", &top)]);
    (config, count, path)
}

#[test]
fn what_is_revoked_is_refused() {
    let certified = certify(&authority("ed25519"), &key("certified", "ecdsa-384"), &["-I", "dev-7", "-n", "x", "-z", "42"]);
    let ca = authority("ed25519");
    let line = |path: &str| fs::read_to_string(format!("{path}.pub")).unwrap();
    let (plain, by_key, by_ca) = ("the ssh key", "the key of the ssh certificate", "the key of the certificate authority");
    let (by_serial, by_id) = ("the serial of the ssh certificate", "the key id of the ssh certificate");
    for (list, key_is, certificate_is) in [
        (String::new(), None, None),
        (format!("# {}", line(&ca)), None, None),
        (line(&ssh_key("build1")), Some(plain), None),
        (format!("key: {}", line(&ssh_key("build1"))), Some(plain), None),
        (format!("hash: {}", fingerprint("build1")), Some(plain), None),
        (line(&certified.key), None, Some(by_key)),
        (format!("sha256: {}", line(&certified.key)), None, Some(by_key)),
        (format!("key: {}", fs::read_to_string(format!("{}-cert.pub", certified.key)).unwrap()), None, Some(by_key)),
        (line(&ca), None, Some(by_ca)),
        (format!("hash: {}", print(&ca)), None, Some(by_ca)),
        ("serial: 42".to_owned(), None, Some(by_serial)),
        ("serial: 40-50".to_owned(), None, Some(by_serial)),
        ("serial: 43".to_owned(), None, None),
        ("id: dev-7 # left in May".to_owned(), None, Some(by_id)),
        ("id: dev-*".to_owned(), None, None),
    ] {
        let (config, _, path) = revoking(&format!("# who is out\n\n{list}\n"));
        for (auth, is) in [(&user_auth("build1"), key_is), (&certified.auth, certificate_is)] {
            let outcome = session(&config, auth).run(b"data");
            match is {
                None => drop(outcome.signature()),
                Some(what) => outcome.fails(77, REVOKED, "refused", &format!("{what} is revoked")),
            }
        }
        // The same file is a specification to ssh-keygen, which agrees.
        let krl = format!("{}.krl", path.display());
        succeed(Command::new("ssh-keygen").args(["-q", "-k", "-f", &krl, "-s", &format!("{ca}.pub")]).arg(&path));
        for (file, is) in [(format!("{}.pub", ssh_key("build1")), key_is), (format!("{}-cert.pub", certified.key), certificate_is)]
        {
            let query = Command::new("ssh-keygen").args(["-Q", "-f", &krl, &file]).output().unwrap();
            assert_eq!(query.status.success(), is.is_none(), "{list}: {query:?}");
        }
    }
}

#[test]
fn a_list_that_is_not_understood_lets_nobody_in() {
    let (config, count, path) = revoking("");
    let shown = path.display().to_string();
    let good = line_of_build1();
    for (list, reason) in [
        (
            format!("{good}\nserials: 4\n").into_bytes(),
            format!("{shown}:2:1: this is neither a public ssh key nor a known directive"),
        ),
        (b"serial: 0\n".to_vec(), format!("{shown}:1:1: serials are N or N-M, from 1 to 18446744073709551615")),
        (b"\n\nid:\n".to_vec(), format!("{shown}:3:1: an id is missing")),
        (b"\xff".to_vec(), format!("{shown}:1:1: the line is not UTF-8")),
        (b"SSHKRL\n\0\0".to_vec(), format!("{shown}:1:1: this KRL is broken, signed, or has sections that are not known")),
        (vec![b'#'; (1 << 20) + 1], format!("cannot read {shown}: it is larger than 1048576 bytes")),
    ] {
        fs::write(&path, list).unwrap();
        session(&config, &user_auth("build1")).run(b"data").fails(78, NOT_SET_UP, "refused", &reason);
    }
    fs::write(&path, vec![b'#'; 1 << 20]).unwrap();
    session(&config, &user_auth("build1")).run(b"data").signature();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let writable = format!("{shown} is writable by group or others (mode 666)");
    session(&config, &user_auth("build1")).run(b"data").fails(78, NOT_SET_UP, "refused", &writable);
    fs::remove_file(&path).unwrap();
    let missing = format!("cannot open {shown}: no such file or directory");
    session(&config, &user_auth("build1")).run(b"data").fails(78, NOT_SET_UP, "refused", &missing);
    assert_eq!(calls(&count, "C_SignInit"), 1);
}

fn line_of_build1() -> String {
    fs::read_to_string(format!("{}.pub", ssh_key("limited"))).unwrap().trim_end().to_owned()
}

/// Starts an upload, and has `then` happen in the middle of it.
fn in_an_upload(session: Session, count: &Path, then: impl FnOnce()) -> Outcome {
    let before = calls(count, "C_Initialize");
    let mut child = session.start();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"half and ").unwrap();
    patient(|| calls(count, "C_Initialize") > before);
    then();
    child.stdin = Some(stdin);
    finish_child(child, b"half")
}

#[test]
fn a_list_that_changes_during_an_upload() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("another line", |path| {
            let line = format!("{}\n", line_of_build1());
            fs::OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
        }),
        ("another text of the same length", |path| fs::write(path, "serial: 8\n").unwrap()),
        ("another file in its place", |path| {
            fs::write(path.with_extension("new"), "serial: 9\n").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("none", |path| fs::remove_file(path).unwrap()),
        ("touched", |path| drop(succeed(Command::new("touch").arg(path)))),
        ("another owner", |path| std::os::unix::fs::chown(path, None, Some(crate::world::account().1)).unwrap()),
    ];
    for (what, change) in changes {
        let (config, count, path) = revoking("serial: 7\n");
        let whole = in_an_upload(session(&config, &user_auth("build1")), &count, || ());
        verify("ed25519", whole.signature(), b"half and half");
        let outcome = in_an_upload(session(&config, &user_auth("build1")), &count, || change(&path));
        outcome.fails(75, CHANGED, "refused", CHANGED);
        assert_eq!(outcome.err, format!("sigsh: error: {CHANGED}\nsigsh: hint: try again\n"), "{what}");
        assert_eq!((calls(&count, "C_SignInit"), outcome.records.len()), (1, 1), "{what}");
        if path.exists() {
            verify("ed25519", session(&config, &user_auth("build1")).run(b"again").signature(), b"again");
        }
    }
    // And what the new list revokes stays out at the second try.
    let (config, count, path) = revoking("");
    let revoke = || fs::write(&path, format!("hash: {}\n", fingerprint("build1"))).unwrap();
    in_an_upload(session(&config, &user_auth("build1")), &count, revoke).fails(75, CHANGED, "refused", CHANGED);
    session(&config, &user_auth("build1")).run(b"data").fails(77, REVOKED, "refused", "the ssh key is revoked");
    assert_eq!(calls(&count, "C_SignInit"), 0);
}

#[test]
fn a_certificate_that_expires_during_an_upload() {
    let (config, count, _) = revoking("");
    let certified = certificate(&["-I", "id", "-n", "build", "-V", "-1m:+4s"]);
    let outcome = in_an_upload(session(&config, &certified.auth), &count, || sleep(Duration::from_secs(5)));
    outcome.fails(77, EXPIRED, "refused", "the ssh certificate was valid until ");
    assert_eq!((calls(&count, "C_SignInit"), calls(&count, "C_Login"), outcome.records.len()), (0, 0, 1));
}

/// The last look comes after the turn at the token was waited for.
#[test]
fn a_certificate_that_expires_while_it_waits_for_the_token() {
    let (config, count, _) = revoking("");
    session(&config, &user_auth("build1")).run(b"data").signature();
    let text = fs::read_to_string(&config).unwrap();
    let token = text.split_once("[token.").unwrap().1.split_once(']').unwrap().0;
    let turn = fs::File::open(format!("/var/lib/sigsh/state/pin.{token}")).unwrap();
    turn.lock().unwrap();
    let certified = certificate(&["-I", "id", "-n", "build", "-V", "-1m:+5s"]);
    let mut child = session(&config, &certified.auth).start();
    let pid = child.id();
    child.stdin.take().unwrap().write_all(b"data").unwrap();
    patient(|| !records(&format!("_PID={pid}")).is_empty());
    sleep(Duration::from_secs(6));
    turn.unlock().unwrap();
    let output = child.wait_with_output().unwrap();
    let records = records(&format!("_PID={pid}"));
    let events = records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
    assert_eq!(
        (events, output.status.code(), output.stdout.len()),
        (vec!["intent", "refused"], Some(77), 0),
        "{output:?} {records:#?}"
    );
    assert!(output.stderr.starts_with(format!("sigsh: error: {EXPIRED}\n").as_bytes()), "{output:?}");
    assert_eq!((calls(&count, "C_Login"), calls(&count, "C_SignInit")), (2, 1));
}

#[test]
fn a_connection_outlives_its_certificate() {
    let port = over_ssh();
    let socket = format!("{}/master", scratch());
    let certified = certificate(&["-I", "id", "-n", "build", "-V", "-1m:+5s"]);
    let mut master = ssh(port, &certified.key, &["-N", "-M", "-S", &socket], "").stdin(Stdio::null()).spawn().unwrap();
    patient(|| Path::new(&socket).exists());
    let sign = |name: &str| {
        let outcome =
            finish(ssh(port, &certified.key, &["-o", "ControlMaster=no", "-S", &socket], &format!("sign --name {name}")), b"data");
        (outcome, records(&format!("SIGSH_REQUEST=sign%20--name%20{name}")))
    };
    let (outcome, _) = sign("in-time");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    sleep(Duration::from_secs(6));
    let (outcome, records) = sign("too-late");
    outcome.fails_quietly(77, EXPIRED);
    assert_eq!(records.len(), 1);
    recorded(&records[0], [&certified.fingerprint, &print(&authority("ed25519")), "id", "0", "build"]);
    master.kill().unwrap();
    master.wait().unwrap();
}

/// As in authorized_keys, where sshd before OpenSSH 10 lets one in that has no principals.
#[test]
fn without_principals_nobody_is_let_in_by_a_careless_sshd() {
    over_ssh();
    let keys = "/etc/sigsh/careless_keys";
    fs::write(keys, format!("cert-authority {}", fs::read_to_string(format!("{}.pub", authority("ed25519"))).unwrap())).unwrap();
    let main = format!("{HOME}/careless_config");
    let shipped = fs::read_to_string("sshd/50-sigsh.conf").unwrap().replace("/etc/sigsh/authorized_keys", keys);
    let own = format!("ListenAddress 127.0.0.1:2241\nHostKey {}\nPidFile none\nUsePAM no\n", key("careless", "ed25519"));
    fs::write(&main, format!("{own}{shipped}")).unwrap();
    let mut sshd = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &main]).stderr(Stdio::null()).spawn().unwrap();
    patient(|| std::net::TcpStream::connect(("127.0.0.1", 2241)).is_ok());
    let certified = certificate(&["-I", "careless"]);
    finish(ssh(2241, &certified.key, &[], "sign --name careless"), b"data").fails_quietly(77, NOT_IDENTIFIED);
    let record = &records("SIGSH_CERT_ID=careless")[0];
    assert_eq!(field(record, "SIGSH_REASON"), "no client has this ssh certificate");
    recorded(record, [&certified.fingerprint, &print(&authority("ed25519")), "careless", "0", ""]);
    sshd.kill().unwrap();
    sshd.wait().unwrap();
}

/// All that the client can choose is as long as it can be, and the record still tells how it ended.
#[test]
fn a_record_has_room_for_all_of_it() {
    let config = with(CLIENTS);
    let principals = (0..200).map(|n| format!("{n:03}~\u{fc}")).collect::<Vec<_>>().join(",");
    let arguments = ["-I", &"\u{fc}%".repeat(200), "-n", &principals, "-z", "18446744073709551615"];
    let certified = certificate(&arguments);
    let mut session = session(&config, &certified.auth);
    session.command.env("SSH_ORIGINAL_COMMAND", format!("sign --name '{}'", "%".repeat(10_000)));
    session.command.env("SSH_CONNECTION", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 65535 ::1 22");
    let outcome = session.run(b"data");
    outcome.fails(77, NOT_IDENTIFIED, "refused", "no client has this ssh certificate");
    let record = &outcome.records[0];
    for name in
        ["SIGSH_SSH_KEY", "SIGSH_SSH_CA", "SIGSH_CERT_ID", "SIGSH_CERT_SERIAL", "SIGSH_PRINCIPALS", "SIGSH_PEER", "SIGSH_REQUEST"]
    {
        assert!(!field(record, name).is_empty(), "{name}: {record:#?}");
    }
    assert!(field(record, "SIGSH_CERT_ID").starts_with("%C3%BC%25%C3") && field(record, "SIGSH_CERT_ID").len() <= 256);
    assert!(
        field(record, "SIGSH_PRINCIPALS").starts_with("000~%C3%BC,001~%C3%BC,") && field(record, "SIGSH_PRINCIPALS").len() <= 517
    );
    // Cut between principals, not within one, and marked.
    let told = field(record, "SIGSH_PRINCIPALS").strip_suffix(",%...").unwrap();
    assert!(told.split(',').all(|principal| principal.len() == 10));
}
