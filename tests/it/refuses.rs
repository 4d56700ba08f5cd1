//! What is refused, is refused at once and in the same words: nothing on stdout, one error line, one record, and no byte of stdin read.

use crate::world::{
    CONFIG, Outcome, Session, account, account_file, as_account, changed, fingerprint, patient, records, scratch, ssh_key, succeed,
    user_auth, verify, world,
};
use sha2::{Digest, Sha256, Sha512};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const OPERATOR: &str = "the operator of this host finds the reason in the journal";
const HELP: &str = "'ssh signer@host help' shows what can be asked";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
const NOT_IDENTIFIED: &str = "you are not identified";
const LONG: &str = "the request is longer than 16 KiB";
const UNPRINTABLE: &str = "the request holds a character that is not printable ASCII";
const NO_REQUEST: &str = "this is not a request";
const EXTRA: &str = "the request has an unknown option or a word too many";
const WRONG_VALUE: &str = "an option of the request has a wrong value";
const KEY: &str = "key not permitted";
const DEFAULT_KEY: &str = "without a key's name you get your default key";
const DECLARE: &str = "declare what you send, so that half a file is never signed";
const CUT_OFF: &str = "it was cut off on its way, or changed";

/// How a session is to end: exit code, error line, hint (none when empty), event and reason in the journal.
#[derive(Clone, Copy)]
struct End<'a> {
    code: i32,
    line: &'a str,
    hint: &'a str,
    event: &'a str,
    reason: &'a str,
}

fn refused<'a>(code: i32, line: &'a str, hint: &'a str, reason: &'a str) -> End<'a> {
    End { code, line, hint, event: "refused", reason }
}

fn failed<'a>(code: i32, line: &'a str, hint: &'a str, reason: &'a str) -> End<'a> {
    End { event: "failed", ..refused(code, line, hint, reason) }
}

impl End<'_> {
    /// Both lines on stderr, nothing on stdout, and the one record that a refusal leaves.
    #[track_caller]
    fn is(self, outcome: &Outcome) {
        self.is_last(outcome);
        assert_eq!(outcome.records.len(), 1, "{outcome:#?}");
    }

    /// The same where others came before the record.
    #[track_caller]
    fn is_last(self, outcome: &Outcome) {
        let hint = if self.hint.is_empty() { String::new() } else { format!("sigsh: hint: {}\n", self.hint) };
        assert_eq!(outcome.err, format!("sigsh: error: {}\n{hint}", self.line), "{outcome:#?}");
        outcome.fails(self.code, self.line, self.event, self.reason);
        let last = outcome.records.last().unwrap();
        assert_eq!(last["SIGSH_REASON"], self.reason, "{outcome:#?}");
        well_formed(outcome);
    }
}

/// What the monitor of a session calls, and which files it names: every name of a key alike.
fn trace(config: &Path, request: &str, key: &str) -> Vec<String> {
    let directory = scratch();
    let mut session = Session::new(config).client("limited").request(request);
    let mut command = Command::new("strace");
    command.args(["-ff", "-qq", "-o", &format!("{directory}/trace")]);
    command.arg(session.command.get_program()).args(session.command.get_args());
    command.env_clear().envs(session.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    session.command = command;
    let outcome = session.run(b"data");
    assert_eq!(outcome.code, Some(77), "{outcome:#?}");
    let traces = fs::read_dir(&directory).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    // setpriv becomes sigsh; the hasher is a process of its own.
    let start = "execve(\"/usr/bin/sigsh\"";
    let monitor = traces.into_iter().find(|text| text.contains(start)).unwrap();
    // What comes before its first filter, the loader's work, depends on addresses; how often it looks whether the hasher is dead, on the
    // machine's load.
    let calls = monitor.lines().skip_while(|line| !line.starts_with("seccomp("));
    let calls = calls.filter(|line| !["---", "ppoll(", "wait4("].iter().any(|word| line.starts_with(word))).map(|line| {
        let name = line.split('(').next().unwrap();
        let path =
            line.split('"').nth(1).filter(|_| ["open", "newfstatat", "readlink", "stat"].iter().any(|call| name.starts_with(call)));
        format!("{name} {}", path.unwrap_or_default()).replace(key, "KEY")
    });
    calls.collect()
}

#[test]
fn a_forbidden_key_costs_what_an_unknown_one_does() {
    world();
    // Of our own: other tests make the host's longer while they run.
    let config = changed(&[]);
    for asked in ["sign", "certificate"] {
        let forbidden = trace(&config, &format!("{asked} rsa2048"), "rsa2048");
        let unknown = trace(&config, &format!("{asked} nosuch7"), "nosuch7");
        assert!(forbidden.len() > 30 && forbidden.iter().any(|call| call == "openat passwd"), "{forbidden:#?}");
        assert_eq!(forbidden, unknown, "{asked}");
        for touched in [".pgp", "pin", "softhsm", "tokens"] {
            assert!(!forbidden.iter().any(|call| call.contains(touched)), "{touched}: {forbidden:#?}");
        }
    }
}

/// Every record has the known fields, each once and in text, and a message of the operator's names and our words alone.
#[track_caller]
fn well_formed(outcome: &Outcome) {
    const KNOWN: [&str; 28] = [
        "SYSLOG_IDENTIFIER",
        "MESSAGE",
        "MESSAGE_ID",
        "PRIORITY",
        "SIGSH_SEQ",
        "SIGSH_LEDGER",
        "SIGSH_EVENT",
        "SIGSH_SESSION",
        "SIGSH_CLIENT",
        "SIGSH_SSH_KEY",
        "SIGSH_SSH_CA",
        "SIGSH_CERT_ID",
        "SIGSH_CERT_SERIAL",
        "SIGSH_PRINCIPALS",
        "SIGSH_UNIX_USER",
        "SIGSH_PEER",
        "SIGSH_REQUEST",
        "SIGSH_KEY",
        "SIGSH_FINGERPRINT",
        "SIGSH_MODE",
        "SIGSH_ENTRY",
        "SIGSH_NAME",
        "SIGSH_SIZE",
        "SIGSH_SHA512",
        "SIGSH_SIGNATURE_SHA256",
        "SIGSH_DATE",
        "SIGSH_REASON",
        "SIGSH_CODE",
    ];
    for record in &outcome.records {
        for (name, value) in record.as_object().unwrap() {
            assert!(name.starts_with('_') || KNOWN.contains(&name.as_str()), "{name}: {record:#?}");
            // journalctl shows a field that stands twice as an array, and so it does one with bytes that are no text.
            let text = value.as_str().unwrap_or_else(|| panic!("{name}: {record:#?}"));
            assert!(name.starts_with('_') || text.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{name}: {record:#?}");
        }
        let who = match record["SIGSH_CLIENT"].as_str() {
            None => "client (unknown)".to_owned(),
            Some(client) => format!("client {client}"),
        };
        let message = record["MESSAGE"].as_str().unwrap();
        if let Some(refusal) = outcome.err.lines().next().and_then(|line| line.strip_prefix("sigsh: error: "))
            && record["SIGSH_KEY"].is_null()
        {
            assert_eq!(message, format!("{} {who}: {refusal}", record["SIGSH_EVENT"].as_str().unwrap()), "{record:#?}");
        } else {
            assert!(message.contains(&who), "{record:#?}");
        }
    }
}

/// Runs a session with a pipe full of bytes as stdin, and demands that they are all still there afterwards.
#[track_caller]
fn unread(session: Session) -> Outcome {
    let data = vec![b'u'; 60_000];
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&data).unwrap();
    let mut command = session.command;
    command.stdin(reader.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let outcome = ended(command.spawn().unwrap());
    drop((command, writer));
    let mut left = Vec::new();
    reader.read_to_end(&mut left).unwrap();
    assert_eq!(left.len(), data.len(), "it has read: {outcome:#?}");
    outcome
}

/// Waits for a session, whose stdin the caller keeps.
fn ended(child: Child) -> Outcome {
    let began = Instant::now();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let took = began.elapsed();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome { code: output.status.code(), out: output.stdout, err, records: records(&format!("_PID={pid}")), took }
}

/// Like [`Session::new`] with an account of its own making: for the name that it is started by.
fn started_as(name: &str, arguments: &[&str]) -> Session {
    let (uid, gid) = account();
    let mut command = Command::new("/usr/bin/sigsh");
    command.arg0(name).args(arguments).uid(uid).gid(gid).env_clear();
    Session { command }
}

fn broken() -> PathBuf {
    let path = PathBuf::from("/etc/sigsh/broken.toml");
    fs::write(&path, "account = \"signer\"\naccount = 1\n").unwrap();
    path
}

const BROKEN: &str = "/etc/sigsh/broken.toml:2:1: duplicate key";

#[test]
fn the_first_wrong_thing_is_told() {
    world();
    let long = "\n".repeat(16 * 1024 + 1);
    let printable = "x".repeat(16 * 1024 + 1);
    let strict = changed(&[("require = [\"size\", \"digest\"]", "require = [\"size\", \"digest\"]\nmax-size = \"1KiB\"")]);
    let (broken, good) = (broken(), PathBuf::from(CONFIG));
    let sha256 = format!("sha256:{}", "00".repeat(32));
    let size_alone = format!("sign ed25519 --size 4096 --digest {sha256}");
    let hash_alone = format!("sign ed25519 --size 1024 --digest {sha256}");
    let no_client = "no client has this ssh key";
    let unset = "SSH_USER_AUTH is not set (ExposeAuthInfo in sshd_config)";
    // From the top, each row has one wrong thing fewer than the one before.
    for (config, client, request, end) in [
        (&broken, "", long.as_str(), refused(64, LONG, "", LONG)),
        (&broken, "", &printable, refused(64, LONG, "", LONG)),
        (&broken, "", "sign\n--wrong", refused(64, UNPRINTABLE, "", UNPRINTABLE)),
        (&broken, "", "sing --wrong", refused(78, NOT_SET_UP, OPERATOR, BROKEN)),
        (&broken, "stranger", "sing --wrong", refused(78, NOT_SET_UP, OPERATOR, BROKEN)),
        (&broken, "build1", "sign nosuch", refused(78, NOT_SET_UP, OPERATOR, BROKEN)),
        (&good, "", "sing --wrong", refused(77, NOT_IDENTIFIED, OPERATOR, unset)),
        (&good, "stranger", "sing --wrong", refused(77, NOT_IDENTIFIED, OPERATOR, no_client)),
        (&good, "stranger", "sign nosuch", refused(77, NOT_IDENTIFIED, OPERATOR, no_client)),
        (&strict, "careful", "sign nosuch --size x", refused(64, WRONG_VALUE, HELP, WRONG_VALUE)),
        (&strict, "careful", "sign nosuch --size 4096", refused(77, KEY, DEFAULT_KEY, KEY)),
        (
            &strict,
            "careful",
            "sign ed25519 --size 4096",
            refused(77, "this client must declare --digest", DECLARE, "this client must declare --digest"),
        ),
        (
            &strict,
            "careful",
            &size_alone,
            refused(
                77,
                "the declared size exceeds the limit of 1024 bytes",
                "",
                "the declared size exceeds the limit of 1024 bytes",
            ),
        ),
        (
            &strict,
            "careful",
            &hash_alone,
            refused(
                64,
                "the key signs sha512; declare the digest by that hash",
                "",
                "the key signs sha512; declare the digest by that hash",
            ),
        ),
    ] {
        let session = Session::new(config).request(request);
        end.is(&unread(if client.is_empty() { session } else { session.client(client) }));
    }
    // And with nothing wrong at all, the same client is served.
    let data = vec![7; 1024];
    let request = format!("sign ed25519 --size 1024 --digest sha512:{}", hex::encode(Sha512::digest(&data)));
    verify("ed25519", Session::new(&strict).client("careful").request(&request).run(&data).signature(), &data);
}

#[test]
fn what_is_no_request() {
    let twice = "an option of the request stands twice";
    for (request, line) in [
        ("sing", NO_REQUEST),
        ("Sign", NO_REQUEST),
        ("internal-sftp", NO_REQUEST),
        ("/usr/lib/openssh/sftp-server", NO_REQUEST),
        ("scp -t /tmp", NO_REQUEST),
        ("git-receive-pack 'x.git'", NO_REQUEST),
        ("/bin/sh -i", NO_REQUEST),
        ("sign-tars", NO_REQUEST),
        ("sign-tar --size 1", EXTRA),
        ("sign-tar --cleartext", EXTRA),
        ("sign-tar a b a", "the request names a key twice"),
        ("sign-tar a b c d e f g h i", "a request may name at most 8 keys"),
        ("sign-state --armor", EXTRA),
        ("sign-state a b", EXTRA),
        ("--config /etc/passwd", EXTRA),
        ("--help", EXTRA),
        ("sign a b", EXTRA),
        ("sign ed25519; id", EXTRA),
        ("sign ed25519 | sh", EXTRA),
        ("sign --force", EXTRA),
        ("sign --text", EXTRA),
        ("sign --clear", EXTRA),
        ("sign --type", WRONG_VALUE),
        ("sign --type pdf", WRONG_VALUE),
        ("sign --type Text", WRONG_VALUE),
        ("sign --cleartext=yes", WRONG_VALUE),
        ("sign --type text --type text", twice),
        ("sign --cleartext --cleartext", twice),
        ("sign --help", EXTRA),
        ("sign -h", EXTRA),
        ("version --long", EXTRA),
        ("help sign", EXTRA),
        ("certificate ed25519 rsa2048", EXTRA),
        ("certificate --size 1", EXTRA),
        ("sign --size", WRONG_VALUE),
        ("sign --size ''", WRONG_VALUE),
        ("sign --size=-1", WRONG_VALUE),
        ("sign --size 1k", WRONG_VALUE),
        ("sign --size 18446744073709551616", WRONG_VALUE),
        ("sign --digest sha512:00", WRONG_VALUE),
        ("sign --digest md5:d41d8cd98f00b204e9800998ecf8427e", WRONG_VALUE),
        ("sign --digest 00", WRONG_VALUE),
        ("sign --size 1 --size 1", twice),
        ("sign --armor --armor", twice),
        ("sign --name a --name b", twice),
        ("sign 'open", "a quote in the request is not closed"),
        ("sign \"open", "a quote in the request is not closed"),
        ("sign open\\", "a quote in the request is not closed"),
        ("sign --name build #7 --size 100", "the request has a comment"),
        ("# sign", "the request has a comment"),
        ("''", NO_REQUEST),
    ] {
        let mut outcome = unread(world().session("build1", request));
        assert_eq!(outcome.err.lines().next(), Some(format!("sigsh: error: {line}").as_str()), "{request}: {outcome:#?}");
        // A header without its data: `tar::a_batch_that_is_refused_is_seen_to_fail`.
        let tail = if request.starts_with("sign-tar ") { 512 } else { 0 };
        assert_eq!(std::mem::take(&mut outcome.out).len(), tail, "{request}");
        refused(64, line, HELP, line).is(&outcome);
    }
}

#[test]
fn an_unknown_key_looks_like_a_forbidden_one() {
    for asked in ["sign", "certificate"] {
        let forbidden = unread(world().session("limited", &format!("{asked} rsa2048")));
        refused(77, KEY, DEFAULT_KEY, KEY).is(&forbidden);
        for key in ["nosuch", "UPPER/..", "../ed25519", "''", "ED25519", "'ed25519 '", "ed25519*"] {
            let unknown = unread(world().session("limited", &format!("{asked} {key}")));
            refused(77, KEY, DEFAULT_KEY, KEY).is(&unknown);
            assert_eq!((forbidden.code, &forbidden.out, &forbidden.err), (unknown.code, &unknown.out, &unknown.err), "{key}");
        }
    }
    // The same key for whom it is meant.
    assert_eq!(world().session("build1", "certificate rsa2048").run(b"").code, Some(0));
}

#[test]
fn help_and_version_are_for_anybody() {
    world();
    let broken = broken();
    let missing = PathBuf::from("/etc/sigsh/missing.toml");
    let text = format!("sigsh {}\n", env!("CARGO_PKG_VERSION"));
    for config in [Path::new(CONFIG), &broken, &missing] {
        let version = unread(Session::new(config).request("version"));
        assert_eq!((version.code, version.err.as_str()), (Some(0), ""), "{version:#?}");
        assert_eq!(String::from_utf8(version.out).unwrap(), text);
        let help = unread(Session::new(config).request("help"));
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{help:#?}");
        let help = String::from_utf8(help.out).unwrap();
        for word in ["sign ", "certificate ", "version ", "help ", "--armor", "--size <N>", "--digest <ALG:HEX>", "--name <TEXT>"] {
            assert!(help.contains(word), "{word}: {help}");
        }
        // Not a word about this host or its keys.
        assert!(!help.contains("ed25519") && !help.contains("/etc"), "{help}");
    }
}

#[test]
fn certificates_are_those_of_the_host() {
    for armor in ["", " --armor"] {
        for key in ["rsa2048", "nistp384", "ed25519"] {
            let mut show = Command::new("sigsh-admin");
            show.args(["certificate", "show", key]).args(armor.split_whitespace());
            let shown = succeed(&mut show).stdout;
            assert_eq!(shown.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"), !armor.is_empty());
            let outcome = unread(world().session("build1", &format!("certificate {key}{armor}")));
            assert_eq!((outcome.code, outcome.err.as_str(), &outcome.out), (Some(0), "", &shown), "{key}{armor}");
        }
    }
    // Without a name: the client's first key.
    let [named, first] = ["certificate ed25519", "certificate"].map(|request| world().session("limited", request).run(b"").out);
    assert!(!first.is_empty() && named == first);

    let missing = changed(&[("/etc/sigsh/ed25519.pgp", "/etc/sigsh/missing.pgp")]);
    let outcome = unread(Session::new(missing).client("limited").request("certificate"));
    refused(78, NOT_SET_UP, OPERATOR, "cannot open /etc/sigsh/missing.pgp: no such file or directory").is(&outcome);
}

#[test]
fn all_ways_of_being_started() {
    world();
    let auth = user_auth("limited");
    let lost = "sigsh was started with options in -c, which a forced command under sigsh as login shell cannot pass on";
    let strange = "sigsh was started with '--hidden', which a forced command under sigsh as login shell cannot pass on";
    let version = format!("sigsh {}\n", env!("CARGO_PKG_VERSION")).into_bytes();
    let version = version.as_slice();
    let sign = b"".as_slice();
    let start = |name: &str, arguments: &[&str], original: Option<&str>| {
        let mut session = started_as(name, arguments);
        session.command.env("SSH_USER_AUTH", &auth);
        if let Some(original) = original {
            session.command.env("SSH_ORIGINAL_COMMAND", original);
        }
        session
    };
    for (name, arguments, original, expected) in [
        ("-sigsh", &[][..], None, sign),
        ("sigsh", &[], None, sign),
        ("sigsh", &["-c", "sign ed25519"], None, sign),
        ("sigsh", &["-c", "version"], None, version),
        ("sigsh", &["-c", "sigsh"], None, sign),
        ("sigsh", &["-c", "/usr/bin/sigsh"], None, sign),
        ("sigsh", &["-c", "/usr/bin/sigsh"], Some(""), sign),
        ("sigsh", &["-c", "/usr/bin/sigsh"], Some("version"), version),
        ("sigsh", &["-c", "sigsh"], Some("sign ed25519"), sign),
        ("/usr/bin/sigsh", &[], Some("version"), version),
        ("/usr/bin/sigsh", &["--config", CONFIG], Some("version"), version),
        ("/usr/bin/sigsh", &["--config", CONFIG, "-c", "version"], None, version),
        ("/usr/bin/sigsh", &["--config", CONFIG, "-c", "sign ed25519"], None, sign),
    ] {
        let outcome = start(name, arguments, original).run(b"data");
        if expected.is_empty() {
            verify("ed25519", outcome.signature(), b"data");
        } else {
            assert_eq!((outcome.code, outcome.err.as_str(), outcome.out.as_slice()), (Some(0), "", expected), "{arguments:?}");
        }
    }
    for (arguments, original, reason) in [
        (&["-c", "/usr/bin/sigsh --config /etc/sigsh/sigsh.toml"][..], Some("sign"), lost),
        (&["-c", "/usr/bin/sigsh --config /etc/sigsh/sigsh.toml"], Some("version"), lost),
        (&["-c", "sign"], Some("sign"), lost),
        (&["-c", "/bin/evil; /sigsh"], Some("sign"), lost),
        (&["--hidden"], None, strange),
        (&["--hidden"], Some("version"), strange),
        (&["-c", "version", "--hidden"], None, strange),
    ] {
        refused(78, NOT_SET_UP, OPERATOR, reason).is(&unread(start("sigsh", arguments, original)));
    }
    // In a request, `--config` is a word like any other.
    let outcome = unread(start("sigsh", &["-c", "--config /etc/sigsh/sigsh.toml"], None));
    refused(64, EXTRA, HELP, EXTRA).is(&outcome);
    // As a real argument it counts, and without one the default does.
    let broken = broken();
    for arguments in [&["--config", broken.to_str().unwrap()][..], &["--config", broken.to_str().unwrap(), "-c", "sign"]] {
        refused(78, NOT_SET_UP, OPERATOR, BROKEN).is(&unread(start("sigsh", arguments, None)));
    }
}

#[test]
fn who_is_not_identified() {
    world();
    let directory = scratch();
    let good = fs::read_to_string(user_auth("build1")).unwrap();
    let other = fs::read_to_string(user_auth("limited")).unwrap();
    let not_ours = "the SSH_USER_AUTH file is not a regular file of ours with mode 0600 and one link";
    let not_one = "the SSH_USER_AUTH file does not hold exactly one public key";
    let certificate = "no client has this ssh certificate";

    // A real certificate, of a key that is a client's, by an authority of our own.
    let ca = format!("{directory}/ca");
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &ca]));
    fs::copy(format!("{}.pub", ssh_key("build1")), format!("{directory}/build1.pub")).unwrap();
    succeed(Command::new("ssh-keygen").args(["-q", "-s", &ca, "-I", "id", "-n", "signer", &format!("{directory}/build1.pub")]));
    let line = fs::read_to_string(format!("{directory}/build1-cert.pub")).unwrap();
    let of_ca = format!("publickey {}\n", line.split(' ').take(2).collect::<Vec<_>>().join(" "));

    let path = |name: &str| format!("{directory}/{name}");
    let make = |name: &str, text: &str| account_file(&path(name), text.as_bytes());
    make("good", &good);
    make("wide", &good);
    fs::set_permissions(path("wide"), fs::Permissions::from_mode(0o644)).unwrap();
    make("setuid", &good);
    fs::set_permissions(path("setuid"), fs::Permissions::from_mode(0o4600)).unwrap();
    make("linked", &good);
    fs::hard_link(path("linked"), path("hard")).unwrap();
    symlink(path("good"), path("link")).unwrap();
    make("locked", &good);
    chown(path("locked"), Some(0), Some(0)).unwrap();
    make("roots", &good);
    chown(path("roots"), Some(0), Some(0)).unwrap();
    fs::set_permissions(path("roots"), fs::Permissions::from_mode(0o644)).unwrap();
    succeed(Command::new("mkfifo").args(["-m", "600", &path("fifo")]));
    let (uid, gid) = account();
    chown(path("fifo"), Some(uid), Some(gid)).unwrap();
    fs::create_dir(path("directory")).unwrap();
    make("empty", "");
    make("two", &format!("{good}{other}"));
    make("same", &format!("{good}{good}"));
    make("certificate", &of_ca);
    make("open", good.trim_end());
    make("password", "password\n");
    make("both", &format!("password\n{good}"));
    make("after", &format!("{good}password\n"));
    make("windows", &good.replace('\n', "\r\n"));
    make("binary", "publickey \u{1}\u{2}\n");
    make("huge", &"publickey ssh-ed25519 ".repeat(6000));
    make("large", &"publickey ssh-ed25519 ".repeat(1000));

    let missing = "cannot open the SSH_USER_AUTH file: no such file or directory";
    for (name, reason) in [
        ("missing", missing),
        ("wide", not_ours),
        ("setuid", not_ours),
        ("linked", not_ours),
        ("hard", not_ours),
        ("link", "cannot open the SSH_USER_AUTH file: too many symbolic links encountered"),
        ("locked", "cannot open the SSH_USER_AUTH file: permission denied"),
        ("roots", not_ours),
        ("fifo", not_ours),
        ("directory", not_ours),
        ("empty", not_one),
        ("two", not_one),
        ("same", not_one),
        ("certificate", certificate),
        ("open", not_one),
        ("password", not_one),
        ("both", not_one),
        ("after", not_one),
        ("windows", not_one),
        ("binary", not_one),
        ("large", not_one),
        ("huge", "the SSH_USER_AUTH file is longer than 128 KiB"),
    ] {
        let mut session = Session::new(CONFIG).request("sign");
        session.command.env("SSH_USER_AUTH", path(name));
        refused(77, NOT_IDENTIFIED, OPERATOR, reason).is(&unread(session));
    }
    // The file of another user is refused even to somebody who could read it.
    let mut able = Command::new("setpriv");
    able.args(["--reuid", "signer", "--regid", "signer", "--init-groups"]);
    able.args(["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search", "--", "/usr/bin/sigsh"]);
    able.env_clear().env("SSH_USER_AUTH", path("locked")).env("SSH_ORIGINAL_COMMAND", "sign");
    refused(77, NOT_IDENTIFIED, OPERATOR, not_ours).is(&unread(Session { command: able }));

    let mut session = Session::new(CONFIG).request("sign");
    session.command.env("SSH_USER_AUTH", "");
    refused(77, NOT_IDENTIFIED, OPERATOR, missing).is(&unread(session));
    let unset = "SSH_USER_AUTH is not set (ExposeAuthInfo in sshd_config)";
    refused(77, NOT_IDENTIFIED, OPERATOR, unset).is(&unread(Session::new(CONFIG).request("sign")));
    let stranger = unread(Session::new(CONFIG).client("stranger"));
    refused(77, NOT_IDENTIFIED, OPERATOR, "no client has this ssh key").is(&stranger);
    // The record tells the operator which key it was.
    assert_eq!(stranger.records[0]["SIGSH_SSH_KEY"], fingerprint("stranger"));
    assert_eq!(stranger.records[0]["SIGSH_PEER"], "192.0.2.1:4000");

    let mut session = Session::new(CONFIG).request("sign ed25519");
    session.command.env("SSH_USER_AUTH", path("good"));
    verify("ed25519", session.run(b"good").signature(), b"good");
}

#[test]
fn declared_and_sent() {
    let data = b"four".as_slice();
    let sha512 = |data: &[u8]| format!("sha512:{}", hex::encode(Sha512::digest(data)));
    let overlong = failed(65, "the input is longer than declared or allowed", "", "the input cannot be hashed: it is too long");
    let empty = failed(65, "the input is empty", "if an empty file is meant, say --size 0", "the input is empty");
    let digest = failed(65, "the input has not the declared digest", CUT_OFF, "the input has not the declared digest");
    let short = "the input has 4 bytes, not the declared number";
    let none = "this client must declare --size";
    let wrong = "the key signs sha512; declare the digest by that hash";
    for (client, request, data, end) in [
        ("limited", String::new(), b"".as_slice(), empty),
        ("limited", format!("sign --digest {}", sha512(b"")), b"", empty),
        ("limited", "sign --size 5".to_owned(), data, failed(65, short, CUT_OFF, short)),
        ("limited", format!("sign --size {}", u64::MAX >> 30), data, failed(65, short, CUT_OFF, short)),
        ("limited", "sign --size 3".to_owned(), data, overlong),
        ("limited", "sign --size 0".to_owned(), data, overlong),
        ("limited", format!("sign --digest {}", sha512(b"five")), data, digest),
        ("limited", format!("sign --size 4 --digest {}", sha512(b"five")), data, digest),
        ("small", String::new(), &[b's'; 1025], overlong),
        ("small", "sign --size 1024".to_owned(), &[b's'; 1025], overlong),
    ] {
        end.is(&world().session(client, &request).run(data));
    }
    let limit = "the declared size exceeds the limit of 1024 bytes";
    let of_sha256 = format!("sign --digest sha256:{}", hex::encode(Sha256::digest(data)));
    for (client, request, end) in [
        ("careful", String::new(), refused(77, none, DECLARE, none)),
        ("careful", format!("sign --digest {}", sha512(data)), refused(77, none, DECLARE, none)),
        (
            "careful",
            "sign --size 4".to_owned(),
            refused(77, "this client must declare --digest", DECLARE, "this client must declare --digest"),
        ),
        ("small", "sign --size 1025".to_owned(), refused(77, limit, "", limit)),
        ("small", format!("sign --size {}", u64::MAX), refused(77, limit, "", limit)),
        ("limited", of_sha256, refused(64, wrong, "", wrong)),
    ] {
        end.is(&unread(world().session(client, &request)));
    }
    // What is declared rightly, is signed.
    let whole = [b's'; 1024];
    for (client, request, data) in [
        ("limited", "sign --size 0".to_owned(), b"".as_slice()),
        ("limited", format!("sign --size 0 --digest {}", sha512(b"")), b""),
        ("limited", format!("sign --digest {}", sha512(data).to_uppercase().replace("SHA", "sha")), data),
        ("careful", format!("sign --size 4 --digest {}", sha512(data)), data),
        ("small", String::new(), &whole),
        ("small", "sign --size 1024".to_owned(), &whole),
    ] {
        verify("ed25519", world().session(client, &request).run(data).signature(), data);
    }
}

#[test]
fn too_slow() {
    world();
    for (config, sent, end) in [
        (
            changed(&[("idle = \"10s\"", "idle = \"1s\"")]),
            b"".as_slice(),
            failed(
                65,
                "the input stopped coming",
                "send it without pauses, or ask for a longer idle limit",
                "the input cannot be hashed: it stopped coming",
            ),
        ),
        (
            changed(&[("idle = \"10s\"", "idle = \"1s\"")]),
            b"half of it",
            failed(
                65,
                "the input stopped coming",
                "send it without pauses, or ask for a longer idle limit",
                "the input cannot be hashed: it stopped coming",
            ),
        ),
        (
            changed(&[("idle = \"10s\"", "idle = \"5m\"\ntotal = \"1s\"")]),
            b"half of it",
            failed(65, "the input took longer than a session may", "", "total time is over"),
        ),
    ] {
        let mut child = Session::new(config).client("limited").start();
        // Kept until the session has ended: its end would be the input's.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(sent).unwrap();
        let outcome = ended(child);
        end.is(&outcome);
        assert!(outcome.took.as_secs() < 60, "{outcome:?}");
        drop(stdin);
    }
}

#[test]
fn without_standard_descriptors() {
    let auth = user_auth("limited");
    let closed = failed(74, "standard output is closed", "", "standard input or output is closed, or is /dev/null");
    world();
    let shell = |script: &str| {
        let mut command = as_account("/bin/sh");
        command.args(["-c", script]).env("SSH_USER_AUTH", &auth);
        Session { command }
    };
    for script in ["exec /usr/bin/sigsh >&-", "exec /usr/bin/sigsh >/dev/null", "exec /usr/bin/sigsh <>/dev/null >&0"] {
        let outcome = if script.contains("<>") { shell(script).run(b"data") } else { unread(shell(script)) };
        closed.is(&outcome);
    }
    // Without stdin there is no file, not even an empty one.
    let empty = failed(65, "the input is empty", "if an empty file is meant, say --size 0", "the input is empty");
    empty.is(&shell("exec /usr/bin/sigsh <&-").run(b""));
    // Nobody reads stderr: the code and the record still tell.
    let outcome = unread(shell("exec /usr/bin/sigsh -c sing 2>&-"));
    assert_eq!((outcome.code, outcome.out.len(), outcome.err.as_str()), (Some(64), 0, ""));
    assert_eq!((&outcome.records[0]["SIGSH_REASON"], outcome.records.len()), (&NO_REQUEST.into(), 1));

    // A signature that was made and recorded, and that nobody could take.
    let outcome = shell("exec /usr/bin/sigsh >/dev/full").run(b"data");
    let full = "undelivered: ENOSPC: No space left on device";
    failed(74, "cannot write to standard output", "", full).is_last(&outcome);
    assert_eq!(events(&outcome), ["intent", "signed", "failed"]);
    // The reader went away before the token was asked.
    let mut session = world().session("limited", "");
    let (reader, writer) = std::io::pipe().unwrap();
    let probe = writer.try_clone().unwrap();
    let mut child = session.command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop((session, reader));
    // Another test's process has a copy for a moment, between its fork and its exec.
    patient(|| {
        let mut fds = [nix::poll::PollFd::new(probe.as_fd(), nix::poll::PollFlags::empty())];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap() == 1
    });
    child.stdin.take().unwrap().write_all(b"data").unwrap();
    let gone = failed(65, "the client has gone away", "", "the reader of standard output is gone");
    gone.is(&ended(child));
}

fn events(outcome: &Outcome) -> Vec<&str> {
    outcome.records.iter().map(|record| record["SIGSH_EVENT"].as_str().unwrap()).collect()
}

#[test]
fn hostile_requests_leave_one_plain_record() {
    world();
    let words = "a ".repeat(8 * 1024);
    let options = format!("sign {}", "--armor ".repeat(2000));
    let quotes = "'\"".repeat(4000);
    for (request, line) in [
        ("x".repeat(130_000), LONG),
        ("sign ".repeat(26_000), LONG),
        ("\u{1b}]0;\u{7}".repeat(20_000), LONG),
        (words, NO_REQUEST),
        (options, "an option of the request stands twice"),
        ("sign\nSIGSH_EVENT=signed\nMESSAGE=forged".to_owned(), UNPRINTABLE),
        ("\nSIGSH_EVENT\n\u{6}".to_owned(), UNPRINTABLE),
        ("sign --name a\nSIGSH_CLIENT=root".to_owned(), UNPRINTABLE),
        ("sign\r\nMESSAGE=forged".to_owned(), UNPRINTABLE),
        ("\u{1b}[2J\u{1b}]52;c;Zm9v\u{7}".to_owned(), UNPRINTABLE),
        ("sign\u{7f}".to_owned(), UNPRINTABLE),
        ("sign\ted25519".to_owned(), UNPRINTABLE),
        ("sign \u{202e}gnp.exe".to_owned(), UNPRINTABLE),
        (quotes, "a quote in the request is not closed"),
        ("%n%n%s%s %x{} ${HOME} $(id) `id`".to_owned(), NO_REQUEST),
        ("SIGSH_EVENT=signed".to_owned(), NO_REQUEST),
        ("sign --name 'a' SIGSH_EVENT=signed x".to_owned(), EXTRA),
        ("sign SIGSH_EVENT=signed".to_owned(), KEY),
        ("certificate ../../../../etc/passwd".to_owned(), KEY),
    ] {
        let outcome = unread(world().session("limited", &request));
        let (code, hint) = match line {
            KEY => (77, DEFAULT_KEY),
            LONG | UNPRINTABLE => (64, ""),
            _ => (64, HELP),
        };
        assert_eq!(outcome.err.lines().next(), Some(format!("sigsh: error: {line}").as_str()), "{request:.80}");
        refused(code, line, hint, line).is(&outcome);
        let logged = outcome.records[0]["SIGSH_REQUEST"].as_str().unwrap();
        assert!(logged.len() <= 512, "{logged}");
        assert!(request.starts_with(decode(logged).as_str()), "{request:.80}: {logged}");
        assert!(decode(logged).len() >= request.len().min(100), "{request:.80}: {logged}");
        let message = outcome.records[0]["MESSAGE"].as_str().unwrap();
        assert!(!message.contains("SIGSH") && !message.contains("forged") && !message.contains('%'), "{message}");
    }
    // Bytes that are no text at all.
    use std::os::unix::ffi::OsStrExt;
    let mut session = Session::new(CONFIG).client("limited");
    session.command.env("SSH_ORIGINAL_COMMAND", std::ffi::OsStr::from_bytes(b"sign \xff\xfe\x80"));
    let outcome = unread(session);
    refused(64, UNPRINTABLE, "", UNPRINTABLE).is(&outcome);
    assert_eq!(outcome.records[0]["SIGSH_REQUEST"], "sign%20%FF%FE%80");
}

#[test]
fn hostile_names_stay_in_their_field() {
    for name in ["%n%s%00", "a\\nSIGSH_EVENT=failed", "\" <b>'`", "../../etc/passwd", "-", &"n".repeat(5000)] {
        let words = shlex::try_quote(name).unwrap().into_owned();
        let outcome = world().session("limited", &format!("sign --name={words}")).run(b"named");
        verify("ed25519", outcome.signature(), b"named");
        well_formed(&outcome);
        let logged = outcome.records.iter().map(|record| record["SIGSH_NAME"].as_str().unwrap()).collect::<BTreeSet<_>>();
        assert_eq!(logged.len(), 1);
        let logged = decode(logged.first().unwrap());
        assert_eq!(logged, name[..name.len().min(512)]);
        assert!(
            outcome
                .records
                .iter()
                .all(|record| record["MESSAGE"].as_str().unwrap().ends_with("for client limited with key ed25519"))
        );
    }
}

/// What was encoded; of a sequence that the limit has cut, nothing.
fn decode(text: &str) -> String {
    let cut = text.char_indices().rev().take(2).find(|(_, c)| *c == '%').map_or(text.len(), |(at, _)| at);
    percent_encoding::percent_decode_str(&text[..cut]).decode_utf8().unwrap().into_owned()
}
