//! The whole arrangement by sigsh-client: a build endorses, people approve, and what both have vouched for is signed.

use super::openpgp::Gpg;
use super::{admit_guarded, certify, new_key, print};
use crate::client::BuildServer;
use crate::world::{HOST, Outcome, finish, secret, succeed, verify_file, world};
use sha2::{Digest, Sha512};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const FILE: &[u8] = b"what was built\n";

/// Somebody with an ssh key.
struct Person {
    name: &'static str,
    key: String,
}

impl Person {
    fn new(name: &'static str) -> Person {
        world();
        Person { name, key: new_key("ed25519") }
    }

    /// A line of allowed_signers.
    fn line(&self) -> String {
        let public = fs::read_to_string(format!("{}.pub", self.key)).unwrap();
        let mut words = public.split_whitespace();
        format!("{}@example.org {} {}\n", self.name, words.next().unwrap(), words.next().unwrap())
    }

    /// What the name of an approval says of the key.
    fn tag(&self) -> String {
        use base64ct::{Base64Unpadded, Encoding};
        hex::encode(&Base64Unpadded::decode_vec(print(&self.key).strip_prefix("SHA256:").unwrap()).unwrap()[..4])
    }

    fn approval(&self, file: &str) -> String {
        format!("{file}.{}-{}.approval", self.name, self.tag())
    }

    /// `sigsh-client approve` by this person, with these arguments.
    fn command(&self, server: &BuildServer, arguments: &[&str]) -> Command {
        let mut command = server.command(&["approve", "--identity", &self.key]);
        command.args(arguments).env("LOGNAME", self.name);
        command
    }

    #[track_caller]
    fn approves(&self, server: &BuildServer, arguments: &[&str]) {
        let outcome = finish(self.command(server, &[&["--yes"], arguments].concat()), b"");
        assert_eq!((outcome.code, outcome.out.len()), (Some(0), 0), "{outcome:#?}");
    }
}

/// A key in the world's token that is guarded so, its only client, and the list of approvers that the table may name as `{LIST}`.
fn guarded_by(name: &str, people: &[&Person], table: &str) -> BuildServer {
    world();
    let list = format!("/etc/sigsh/{name}.approvers");
    // As many as must approve have to be on it.
    let zoe = Person::new("zoe").line();
    for list in [&list, &format!("{list}.glass")] {
        fs::write(list, people.iter().map(|person| person.line()).collect::<String>() + &zoe).unwrap();
    }
    fs::copy("/etc/sigsh/ed25519.pgp", format!("/etc/sigsh/{name}.pgp")).unwrap();
    admit_guarded(name, "ed25519", &table.replace("{LIST}", &list));
    let server = BuildServer::new(name, &[name], "");
    let path = ".config/sigsh/client.toml";
    let more = format!("guarded = true\nrequester = \"{name}\"\napprove-for = \"host {HOST}\"\n");
    server.write(path, String::from_utf8(server.read(path)).unwrap() + &more);
    server.write("f", FILE);
    server
}

const TWO: &str = "approvals = { need = 2, approvers = \"{LIST}\" }\nbreak-glass = { need = 1, approvers = \"{LIST}.glass\" }\n";

#[track_caller]
fn says(outcome: &Outcome, code: i32, lines: &[&str]) {
    assert_eq!((outcome.code, outcome.out.len()), (Some(code), 0), "{outcome:#?}");
    assert_eq!(outcome.err.lines().collect::<Vec<_>>(), lines, "{outcome:#?}");
}

/// The certificate of a build of this key.
fn permit(ca: &str, key: &str) -> String {
    let grant = format!("critical:grant@sigsh=host={HOST};max=64");
    let principal = format!("build@{key}");
    let arguments = ["-I", "build-1234 by=alice", "-n", &principal, "-V", "-5m:+2h", "-z", "1234", "-O", "clear", "-O", &grant];
    certify(ca, &new_key("ed25519"), &arguments)
}

/// The fingerprint of the world's key.
fn fingerprint() -> String {
    let pinned = sigsh::openpgp::Pinned::read(&fs::read("/etc/sigsh/ed25519.pgp").unwrap()).unwrap();
    pinned.certs()[0].fingerprint().to_hex()
}

fn moment(after: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(now + after)).to_string()
}

fn text(title: &str, not_after: &str, place: &str, requester: &str) -> String {
    let (key, digest) = (fingerprint(), hex::encode(Sha512::digest(FILE)));
    format!(
        "{title}\nkey {key}\ntype 0x00\nsize {}\ndigest sha512:{digest}\nnot-after {not_after}\n{place}\nrequester {requester}\n",
        FILE.len()
    )
}

#[test]
fn a_build_endorses_and_two_people_approve() {
    let (ca, carol, dave) = (new_key("ed25519"), Person::new("carol"), Person::new("dave"));
    let table = format!("endorsement = {{ ssh-ca = [\"{}\"] }}\n{TWO}", print(&ca));
    let server = guarded_by("vouched-client", &[&carol, &dave], &table);
    let missing = "signer@127.0.0.1: the endorsement is missing: this key signs what a build has endorsed";
    says(&server.run(&["sign", "f"], b""), 77, &[&format!("sigsh-client: error: {missing}")]);

    let certificate = permit(&ca, "vouched-client");
    says(&server.run(&["endorse", "--ssh", &certificate, "f"], b""), 0, &[]);
    let with = "sigsh-client: with f.endorsement";
    let outcome = server.run(&["sign", "f"], b"");
    let hint = "sigsh-client: hint: signer@127.0.0.1: --approval TIME=BASE64 brings one person's";
    says(&outcome, 77, &[with, "sigsh-client: error: signer@127.0.0.1: 0 of 2 approvals", hint]);

    carol.approves(&server, &["f"]);
    let outcome = server.run(&["sign", "f"], b"");
    let with = format!("{with}, {}", carol.approval("f"));
    let hint = "sigsh-client: hint: signer@127.0.0.1: another --approval TIME=BASE64 brings one more";
    says(&outcome, 77, &[&with, "sigsh-client: error: signer@127.0.0.1: 1 of 2 approvals", hint]);
    assert!(!server.files().contains(&"f.sig".to_owned()));

    dave.approves(&server, &["--expires", "1s", "f"]);
    std::thread::sleep(Duration::from_secs(2));
    let outcome = server.run(&["sign", "f"], b"");
    assert!(outcome.err.contains("\nsigsh-client: error: signer@127.0.0.1: 1 of 2 approvals\n"), "{outcome:#?}");
    assert!(outcome.err.contains("\nsigsh-client: hint: signer@127.0.0.1: dave@example.org's expired "), "{outcome:#?}");
    says_first(
        &finish(dave.command(&server, &["--yes", "f"]), b""),
        73,
        &format!("sigsh-client: error: {} exists already", dave.approval("f")),
    );

    dave.approves(&server, &["--force", "f"]);
    let with = format!("{with}, {}", dave.approval("f"));
    says(&server.run(&["sign", "f"], b""), 0, &[&with]);
    verify_file("ed25519", &server.path("f.sig"), &server.path("f"));

    // The same by name, of another file with these bytes, or of standard input.
    let [endorsement, one, other] = ["f.endorsement".to_owned(), carol.approval("f"), dave.approval("f")];
    fs::create_dir(server.path("sub")).unwrap();
    let elsewhere = server.write("sub/f", FILE);
    let named = ["sign", "--endorsement", &endorsement, "--approval", &one, "--approval", &other];
    says(&server.run(&[&named[..], &["sub/f"]].concat(), b""), 0, &[]);
    verify_file("ed25519", &server.path("sub/f.sig"), &elsewhere);
    let outcome = server.run(&named, FILE);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    let several = "--endorsement, --approval and --break-glass are of one file and one key, and there are several";
    says(&server.run(&[&named[..], &["f", "sub/f"]].concat(), b""), 64, &[&format!("sigsh-client: error: {several}")]);

    // Whose client.toml does not say that the key is guarded is told so; and several files go with what is beside each.
    let config = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    let plain = server.write("plain.toml", config.replace("guarded = true\n", ""));
    let outcome = server.run(&["--config", &plain, "sign", "-o", "g.sig", "f"], b"");
    let line = "this key signs what is endorsed or approved: one artifact at a time, its bytes, with --size and --digest";
    let hint = "say guarded = true in the key's table of client.toml, or name what vouches for the file: --endorsement, --approval";
    says(&outcome, 77, &[&format!("sigsh-client: error: signer@127.0.0.1: {line}"), &format!("sigsh-client: hint: {hint}")]);
    for (from, to) in [("f", "f.2"), (&endorsement, "f.2.endorsement"), (&one, "f.2.carol.approval"), (&other, "f.2.dave.approval")]
    {
        fs::copy(server.path(from), server.path(to)).unwrap();
    }
    let second = "sigsh-client: with f.2.endorsement, f.2.carol.approval, f.2.dave.approval";
    says(&server.run(&["sign", "-f", "f", "f.2"], b""), 0, &[&with, second]);
    verify_file("ed25519", &server.path("f.2.sig"), &server.path("f.2"));
}

/// A key that people must approve by is nobody's to replace: no other host is asked when one has refused, and no local key.
#[test]
fn a_guarded_key_has_no_substitute() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-alone", &[&carol], TWO);
    let config = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    server.write(".config/sigsh/client.toml", format!("local-fallback = [\"false\"]\nretry = \"1s\"\n{config}"));
    let hosts = ["--host", "signer@127.0.0.1", "--host", "signer@nowhere.invalid", "sign", "f"];
    let hint = "sigsh-client: hint: signer@127.0.0.1: --approval TIME=BASE64 brings one person's";
    says(&server.run(&hosts, b""), 77, &["sigsh-client: error: signer@127.0.0.1: 0 of 2 approvals", hint]);
    let outcome = server.run(&hosts[2..], b"");
    assert_eq!((outcome.code, outcome.out.len()), (Some(69), 0), "{outcome:#?}");
    assert!(!outcome.err.contains("on this machine"), "{outcome:#?}");
    let doctor = server.run(&["doctor"], b"");
    let line = "ok: signer@127.0.0.1: key 'vouched-alone' is guarded: no test is signed by it\n";
    assert!(String::from_utf8(doctor.out).unwrap().contains(line), "{}", doctor.err);
}

#[test]
fn a_build_endorses_by_gpg() {
    let gpg = Gpg::new();
    let operator = gpg.key("Alice <alice@example.org>", "ed25519", "cert,sign");
    let build = gpg.key("build 7", "ed25519", "sign");
    gpg.certify(&operator, &build, &format!("grant@sigsh=key=vouched-gpg;host={HOST};max=64"), "7200");
    fs::write("/etc/sigsh/vouched-gpg.operators", gpg.export(&operator)).unwrap();
    let server = guarded_by("vouched-gpg", &[], "endorsement = { openpgp = \"/etc/sigsh/vouched-gpg.operators\" }");
    let endorse = |arguments: &[&str]| {
        let mut command = server.command(&["endorse", "--openpgp"]);
        command.args(arguments).env("GNUPGHOME", &gpg.home);
        // What is called gpg there is sigsh-client.
        command.env("PATH", server.front());
        finish(command, b"")
    };
    says(&endorse(&["build 7", "f"]), 0, &[]);
    says(&server.run(&["sign", "f"], b""), 0, &["sigsh-client: with f.endorsement"]);
    verify_file("ed25519", &server.path("f.sig"), &server.path("f"));
    let error = "sigsh-client: error: ";
    says(
        &endorse(&["build 7", "f"]),
        73,
        &[&format!("{error}f.endorsement exists already"), "sigsh-client: hint: --force replaces it"],
    );
    let outcome = endorse(&["build 8", "-o", "g", "f"]);
    assert!(outcome.code == Some(69) && outcome.err.ends_with("error: gpg: it has failed\n"), "{outcome:#?}");
    assert!(!server.files().contains(&"g".to_owned()));
}

/// What `sigsh-admin grant mac` prints goes to the build by a pipe, and into no argument.
#[test]
fn a_build_endorses_by_a_nonce() {
    world();
    secret("/etc/sigsh/vouched-nonce.mac", "correct-horse-4711-staple-magnet");
    let server = guarded_by("vouched-nonce", &[], "endorsement = { mac-file = \"/etc/sigsh/vouched-nonce.mac\" }");
    let grant = ["grant", "mac", "--key", "vouched-nonce", "--id", "build-7", "--expires", "2h"];
    let line = succeed(Command::new("sigsh-admin").args(grant)).stdout;
    says(&server.run(&["endorse", "--mac", "-", "f"], &line), 0, &[]);
    says(&server.run(&["sign", "f"], b""), 0, &["sigsh-client: with f.endorsement"]);
    verify_file("ed25519", &server.path("f.sig"), &server.path("f"));
    let script = "import hmac, sys; k, t = sys.argv[1:]; print(hmac.digest(bytes.fromhex(k), t.encode(), 'sha512').hex())";
    let line = String::from_utf8(line).unwrap();
    let [_, key, host, id, begin, end, max, nonce] = line.trim_end().split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let (size, digest) = (FILE.len(), hex::encode(Sha512::digest(FILE)));
    let text = format!(
        "endorse-v1\nkey {key}\nhost {host}\nid {id}\nnot-before {begin}\nnot-after {end}\nmax {max}\nsize {size}\n\
         digest sha512:{digest}\n"
    );
    let mac = String::from_utf8(succeed(Command::new("python3").args(["-c", script, nonce, &text])).stdout).unwrap();
    assert_eq!(String::from_utf8(server.read("f.endorsement")).unwrap(), format!("mac-v1 {id} {begin} {end} {max} {mac}"));
    let over = line.replace(end, "2026-01-02T03:04:05Z");
    for (text, code, why) in [
        (over.as_str(), 65, "-: it has expired"),
        ("rubbish", 65, "-: this is not what 'sigsh-admin grant mac' prints"),
        (&"x".repeat(5000), 66, "-: it is too long"),
    ] {
        let outcome = server.run(&["endorse", "-f", "--mac", "-", "f"], text.as_bytes());
        says(&outcome, code, &[&format!("sigsh-client: error: {why}")]);
    }
}

/// What `approve` writes, as the manual tells to look at it: what of a request brings it and what was signed.
#[test]
fn ssh_keygen_verifies_what_was_approved() {
    let (carol, not_after) = (Person::new("carol"), moment(3000));
    let server = guarded_by("vouched-hand", &[&carol], TWO);
    server.write("approvers", carol.line());
    for (name, more, title, place) in [
        ("a", &[][..], "approve-v1", format!("host {HOST}")),
        ("b", &["--host", "other.example.org", "--requester", "b1"], "approve-v1", "host other.example.org".to_owned()),
        ("c", &["--fleet", "release"], "approve-v1", "fleet release".to_owned()),
        ("d", &["--break-glass"], "break-glass-v1", format!("host {HOST}")),
    ] {
        carol.approves(&server, &[&["--not-after", &not_after, "-o", name, "f"], more].concat());
        let line = String::from_utf8(server.read(name)).unwrap();
        assert!(line.starts_with(&format!("{not_after}=")) && line.lines().count() == 1 && line.ends_with('\n'), "{line}");
        let requester = if name == "b" { "b1" } else { "vouched-hand" };
        server.write("text", text(title, &not_after, &place, requester));
        let namespace = title.replace("-v1", "@sigsh");
        let script = format!(
            "cut -d= -f2- {name} | base64 -d > text.sig; \
             ssh-keygen -Y verify -f approvers -I carol@example.org -n {namespace} -s text.sig < text"
        );
        succeed(&mut server.program("sh", &["-ec", &script]));
    }
}

#[test]
fn an_emergency_is_named() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-glass", &[&carol], TWO);
    let outcome = finish(carol.command(&server, &["--yes", "--break-glass", "f"]), b"");
    let name = carol.approval("f").replace(".approval", ".break-glass");
    assert!(outcome.err.starts_with("break-glass stands in for endorsement and approvals\nfile        f\n"), "{outcome:#?}");
    assert!(outcome.err.ends_with(&format!(" (in 30m)\napproved by {}\nsigsh-client: wrote {name}\n", print(&carol.key))));
    assert_eq!(server.run(&["sign", "f"], b"").code, Some(77), "it was not named");
    says(&server.run(&["sign", "--break-glass", &name, "f"], b""), 0, &[]);
    verify_file("ed25519", &server.path("f.sig"), &server.path("f"));
    let fleet = finish(carol.command(&server, &["--yes", "--break-glass", "--fleet", "release", "f"]), b"");
    assert_eq!(fleet.code, Some(64), "{fleet:#?}");
}

/// What happens on a terminal of so many columns: for each of `steps`, what is waited for, what is done then, and what is typed.
fn terminal(mut command: Command, columns: usize, steps: &[(&str, &dyn Fn(), &str)]) -> (Option<i32>, String) {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_str().unwrap().to_owned());
    let line = shlex::try_join(words.collect::<Vec<_>>().iter().map(String::as_str)).unwrap();
    let mut script = Command::new("timeout");
    script
        .args(["--foreground", "30", "script", "-qec", &format!("stty cols {columns}; exec {line}"), "/dev/null"])
        .current_dir(command.get_current_dir().unwrap());
    script.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command = script;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    for (prompt, act, answer) in steps {
        while !shown.ends_with(prompt.as_bytes()) {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
        act();
        stdin.write_all(answer.as_bytes()).unwrap();
    }
    stdout.read_to_end(&mut shown).unwrap();
    (child.wait().unwrap().code(), String::from_utf8(shown).unwrap().replace("\r\n", "\n"))
}

const ASKED: &str = "approve? [y/N] ";

fn nothing() {}

/// Each line as it is, at both widths.
#[test]
fn what_an_approver_sees() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-seen", &[&carol], TWO);
    let (digest, key, by) = (hex::encode(Sha512::digest(FILE)), fingerprint(), print(&carol.key));
    let wide = format!(
        "file        f\nsize        15 bytes\nsha512      {}\n            {}\nkey         vouched-seen\nfingerprint {key}\n\
         user id     Test ed25519 <ed25519@example.org>\ntype        0x00, its bytes as they are\nhost        {HOST}\n\
         requester   vouched-seen\nnot after   TIME (in 2h)\napproved by {by}\n",
        &digest[..64],
        &digest[64..]
    );
    let eights = digest.as_bytes().chunks(24).map(|piece| str::from_utf8(piece).unwrap()).collect::<Vec<_>>();
    let narrow = format!(
        "file        f\nsize        15 bytes\nsha512      {}\nkey         vouched-seen\nfingerprint {}\n            {}\n\
         user id     Test ed25519 \n            <ed25519@example.org>\ntype        0x00, its bytes as they are\n\
         host        {HOST}\nrequester   vouched-seen\nnot after   TIME (in 2h)\napproved by {}\n            {}\n",
        eights.join("\n            "),
        &key[..28],
        &key[28..],
        &by[..28],
        &by[28..]
    );
    let name = carol.approval("f");
    for (columns, shown) in [(80, wide), (40, narrow)] {
        let shown = format!("{shown}{ASKED}");
        let approve = |typed: &str| {
            let command = carol.command(&server, &["--expires", "2h", "f"]);
            let (code, text) = terminal(command, columns, &[(ASKED, &nothing, typed)]);
            let time = text.split_once("not after   ").unwrap().1.split(' ').next().unwrap().to_owned();
            (code, text.replace(&time, "TIME"))
        };
        for no in ["\n", "n\n", "yess\n", "\u{4}"] {
            let echo = if no == "\u{4}" { "" } else { no };
            let expected = format!("{shown}{echo}sigsh-client: error: f is not approved\n");
            assert_eq!(approve(no), (Some(77), expected), "{no:?}");
        }
        assert!(!server.files().contains(&name));
        for yes in ["y\n", "YES\n"] {
            assert_eq!(approve(yes), (Some(0), format!("{shown}{yes}sigsh-client: wrote {name}\n")));
            fs::remove_file(server.path(&name)).unwrap();
        }
    }
}

/// ssh-keygen asks for itself.
#[test]
fn a_passphrase_is_asked_for() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-phrase", &[&carol], TWO);
    succeed(Command::new("ssh-keygen").args(["-q", "-p", "-N", "open sesame", "-f", &carol.key]));
    let steps: [(&str, &dyn Fn(), &str); 2] = [(ASKED, &nothing, "y\n"), ("Enter passphrase: ", &nothing, "open sesame\n")];
    let (code, text) = terminal(carol.command(&server, &["f"]), 80, &steps);
    assert!(code == Some(0) && text.ends_with(&format!("\nsigsh-client: wrote {}\n", carol.approval("f"))), "{text}");
    // Of a build nobody is there to be asked.
    succeed(Command::new("ssh-keygen").args([
        "-q",
        "-s",
        &new_key("ed25519"),
        "-I",
        "i",
        "-n",
        "p",
        "-V",
        "+1h",
        &format!("{}.pub", carol.key),
    ]));
    let command = server.command(&["endorse", "--ssh", &format!("{}-cert.pub", carol.key), "f"]);
    let (code, text) = terminal(command, 80, &[]);
    assert!(code == Some(69) && !text.contains("passphrase:"), "{text}");
}

/// What is shown is what is signed, or nothing is.
#[test]
fn a_file_that_changes_is_not_approved() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-change", &[&carol], TWO);
    for change in ["echo more >> f", "cp f g; mv g f", "rm f", "rm f; ln -s /dev/zero f"] {
        let _ = fs::remove_file(server.path("f"));
        server.write("f", FILE);
        let act = || drop(succeed(&mut server.program("sh", &["-c", change])));
        let (code, text) = terminal(carol.command(&server, &["f"]), 80, &[(ASKED, &act, "y\n")]);
        let end = "y\nsigsh-client: error: f changed in the meantime\nsigsh-client: hint: try again when nobody writes to it\n";
        assert!(code == Some(65) && text.ends_with(end), "{change}: {text}");
        assert!(!server.files().contains(&carol.approval("f")), "{change}");
    }
}

/// A name that a terminal would obey, or that looks like what is not there.
#[test]
fn a_name_does_not_fool_the_approver() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-name", &[&carol], TWO);
    for (name, shown) in [
        ("f\r\u{1b}[2Jsize  1", "file        \"f\\x0d\\x1b[2Jsize  1\"\nsize        15 bytes\n"),
        ("\u{202e}gz.tar", "file        \"\\xe2\\x80\\xaegz.tar\"\nsize        15 bytes\n"),
        (
            "a-name-that-is-as-long-as-the-line.............................size        1 byte",
            "file        \"a-name-that-is-as-long-as-the-line.............................size\n\x20           \
                     \x20       1 byte\"\nsize        15 bytes\n",
        ),
    ] {
        server.write(name, FILE);
        let (code, text) = terminal(carol.command(&server, &[name]), 80, &[(ASKED, &nothing, "n\n")]);
        assert!(code == Some(77) && text.starts_with(shown) && text.ends_with("\" is not approved\n"), "{text:?}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{202e}']), "{text:?}");
    }
}

/// In place of ssh-keygen or gpg: a script.
fn fake(server: &BuildServer, program: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::create_dir(server.path(".fake"));
    let path = server.write(&format!(".fake/{program}"), format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", server.path(".fake"))
}

#[test]
fn what_ssh_keygen_gives_is_looked_at() {
    let (ca, carol, dave) = (new_key("ed25519"), Person::new("carol"), Person::new("dave"));
    let server = guarded_by("vouched-fake", &[&carol], TWO);
    let certificate = permit(&ca, "vouched-fake");
    let (key, plain) = (&carol.key, certificate.replace("-cert.pub", ".pub"));
    let sign = "exec /usr/bin/ssh-keygen -q -Y sign -n";
    let approve = || carol.command(&server, &["--yes", "f"]);
    let endorse = || server.command(&["endorse", "--ssh", &certificate, "f"]);
    type Make<'a> = &'a dyn Fn() -> Command;
    for (make, script, why) in [
        (&approve as Make<'_>, "exit 1".to_owned(), "it has failed"),
        (&approve, "kill -HUP $$".to_owned(), "it has failed"),
        (&approve, "cat >/dev/null".to_owned(), "it has written nothing"),
        (&approve, "echo rubbish".to_owned(), "what it has written is no such signature"),
        (&approve, "head -c 100000 /dev/zero".to_owned(), "it is too long"),
        (&approve, format!("{sign} approve@other -f {key}"), "what it has written is no such signature"),
        (&approve, format!("{sign} approve@sigsh -f {}", dave.key), "it has signed by another key"),
        (&approve, format!("echo x | {sign} approve@sigsh -f {key}"), "its signature is not good"),
        (&endorse, "exit 1".to_owned(), "it has failed"),
        (&endorse, "head -c 3; echo x".to_owned(), "what it has written is no such signature"),
        (&endorse, format!("{sign} artifact -f {certificate}"), "what it has written is no such signature"),
        (&endorse, format!("{sign} artifact@sigsh -O hashalg=sha256 -f {certificate}"), "what it has written is no such signature"),
        (
            &endorse,
            format!("{sign} artifact@sigsh -f {plain}"),
            "it signs by no certificate that expires: name the \u{2026}-cert.pub",
        ),
        (&endorse, format!("echo x | {sign} artifact@sigsh -f {certificate}"), "its signature is not good"),
    ] {
        let mut command = make();
        command.env("PATH", fake(&server, "ssh-keygen", &script));
        let outcome = finish(command, b"");
        let end = format!("sigsh-client: error: ssh-keygen: {why}\n");
        assert!(outcome.code == Some(69) && outcome.err.ends_with(&end), "{script} {outcome:#?}");
        assert_eq!(server.files(), ["f"], "{script}");
    }
    for (script, why) in [
        ("exit 2", "it has failed"),
        ("echo rubbish", "its signature is not good: "),
        ("cat >/dev/null; cat $HOME/f.text.sig", "its signature is not good: of another type than was asked for"),
    ] {
        let gpg = Gpg::new();
        gpg.key("b", "ed25519", "sign");
        let path = server.path(".f.text.sig");
        let script = script.replace("$HOME/f.text.sig", &path);
        succeed(Command::new("gpg").args([
            "--homedir",
            &gpg.home,
            "--batch",
            "--yes",
            "--textmode",
            "-o",
            &path,
            "-b",
            &server.path("f"),
        ]));
        let mut command = server.command(&["endorse", "--openpgp", "b", "f"]);
        command.env("PATH", fake(&server, "gpg", &script));
        let outcome = finish(command, b"");
        assert!(outcome.code == Some(69) && outcome.err.contains(&format!("error: gpg: {why}")), "{script} {outcome:#?}");
        assert_eq!(server.files(), ["f"], "{script}");
    }
}

/// Nothing is guessed.
#[test]
fn what_approve_must_know() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-know", &[&carol], TWO);
    let config = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    let end = config.find("guarded").unwrap();
    let short = server.write("short.toml", &config[..end]);
    server.write("no-key", "rubbish");
    let rubbish = "no-key: neither it nor the file beside it that ends in .pub is a public ssh key";
    let all = ["approve", "--config", &short, "--identity", &carol.key, "--host", "h", "--requester", "r", "--yes", "f"];
    says_first(&server.run(&all[..10], b""), 64, "error: the following required arguments were not provided:");
    for (without, more, code, line) in [
        (3..5, &[][..], 78, "it is not known which ssh key approves"),
        (5..7, &[], 78, "it is not known where it may be signed"),
        (7..9, &[], 78, "it is not known who will ask for the signature"),
        (9..10, &[], 64, "nobody can be asked: this is no terminal; --yes approves"),
        (3..5, &["--identity", "no-key"], 66, rubbish),
        (3..5, &["--identity", "nowhere"], 66, &rubbish.replace("no-key", "nowhere")),
        (5..7, &["--host", "a b"], 64, "--host: the name of a host or fleet is 1 to 255 letters, digits, '.' and '-'"),
        (0..0, &["--host", "i"], 64, "an approval is for one host, or for a fleet"),
        (0..0, &["--not-after", "2026-01-02T03:04:05Z"], 64, "2026-01-02T03:04:05Z is over"),
        (0..0, &["-"], 64, "an approval is of a file, and standard input is none"),
        (0..0, &["-o", "x", "g"], 64, "--output names one file, and there are several"),
        (0..0, &["nowhere"], 66, "nowhere: no such file or directory"),
        (5..7, &["--fleet", "x", "--break-glass"], 64, "the argument"),
        (0..0, &["--expires", "31days"], 64, "invalid value '31days' for '--expires <TIME>': a time is between"),
        (0..0, &["--not-after", "tomorrow"], 64, "invalid value 'tomorrow' for '--not-after <TIME>': a time is written"),
        (0..0, &["--fleet", "x"], 64, "the argument"),
    ] {
        let kept = all.iter().enumerate().filter(|(number, _)| !without.contains(number)).map(|(_, word)| *word);
        let words = kept.chain(more.iter().copied()).collect::<Vec<_>>();
        let outcome = server.run(&words, b"");
        let said = outcome.err.strip_prefix("sigsh-client: ").unwrap_or(&outcome.err);
        assert!(outcome.code == Some(code) && said.starts_with(&format!("error: {line}")), "{words:?} {outcome:#?}");
        assert!(!server.files().iter().any(|name| name.ends_with(".approval")), "{words:?}");
    }
    // By a key in an agent, whose public part alone is here.
    let socket = server.path(".agent");
    let script = format!("eval $(ssh-agent -s -a {socket}) >&2; ssh-add -q {0}; rm {0}; \"$@\"; kill $SSH_AGENT_PID", carol.key);
    let public = format!("{}.pub", carol.key);
    let mut by_agent = all;
    by_agent[4] = &public;
    succeed(server.program("sh", &["-ec", &script, "sh", "sigsh-client"]).args(by_agent));
    assert!(server.files().iter().any(|name| name.ends_with(".approval")));
}

#[track_caller]
fn says_first(outcome: &Outcome, code: i32, line: &str) {
    assert_eq!((outcome.code, outcome.err.lines().next().unwrap_or_default()), (Some(code), line), "{outcome:#?}");
}

/// What is no endorsement or approval is told here, and what lies beside a file is its own.
#[test]
fn files_that_vouch_for_nothing() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-none", &[&carol], TWO);
    File::create(server.path("empty")).unwrap();
    server.write("rubbish", "rubbish\n");
    server.write("long", [b'x'; 20_000]);
    let hour = "2026-01-02T03:04:05Z=";
    server.write("two", format!("{hour}AAAA\n{hour}AAAA\n"));
    server.write("open", format!("{hour}A\n"));
    let base64 = "it is not base64, on one line and with its padding";
    for (option, file, code, why) in [
        ("--endorsement", "empty", 65, "it is empty"),
        ("--endorsement", "long", 66, "it is too long"),
        ("--endorsement", "nowhere", 66, "no such file or directory"),
        ("--approval", "empty", 65, "it is empty"),
        ("--approval", "rubbish", 65, "this is no approval: it is a time, '=' and base64"),
        ("--approval", "two", 65, &format!("this is no approval: {base64}")),
        ("--break-glass", "open", 65, &format!("this is no approval: {base64}")),
        ("--break-glass", "nowhere", 66, "no such file or directory"),
    ] {
        says(&server.run(&["sign", option, file, "f"], b""), code, &[&format!("sigsh-client: error: {file}: {why}")]);
    }
    // None of these is of "f".
    for name in
        ["f.approval", "f..approval", "f.gz.carol.approval", "ff.carol.approval", "f.carol.approval~", "f.carol.break-glass"]
    {
        server.write(name, "rubbish");
    }
    let hint = "sigsh-client: hint: signer@127.0.0.1: --approval TIME=BASE64 brings one person's";
    says(&server.run(&["sign", "f"], b""), 77, &["sigsh-client: error: signer@127.0.0.1: 0 of 2 approvals", hint]);
}

#[test]
fn a_build_endorses_several_or_none() {
    let ca = new_key("ed25519");
    let server = BuildServer::new("build1", &["ed25519"], "");
    let certificate = permit(&ca, "ed25519");
    server.write("f", FILE);
    server.write("g", b"");
    let endorse = |more: &[&str], input: &[u8]| server.run(&[&["endorse", "--ssh", &certificate], more].concat(), input);
    says(&endorse(&["f", "nowhere"], b""), 66, &["sigsh-client: error: nowhere: no such file or directory"]);
    assert_eq!(server.files(), ["f", "g"]);
    says(&endorse(&["f", "g"], b""), 0, &[]);
    // By hand, as a certificate's signature is looked at.
    let authority = fs::read_to_string(format!("{ca}.pub")).unwrap();
    server.write("builds", format!("* cert-authority,namespaces=\"artifact@sigsh\" {authority}"));
    for file in ["f", "g"] {
        let script = format!("ssh-keygen -Y verify -f builds -I build@ed25519 -n artifact@sigsh -s {file}.endorsement < {file}");
        succeed(&mut server.program("sh", &["-c", &script]));
    }
    says_first(&endorse(&["f"], b""), 73, "sigsh-client: error: f.endorsement exists already");
    says(&endorse(&["-f", "f"], b""), 0, &[]);
    says(&endorse(&["-o", "x", "f", "g"], b""), 64, &["sigsh-client: error: --output names one file, and there are several"]);
    says(&endorse(&["-f", "-o", "f", "f"], b""), 64, &["sigsh-client: error: f is one of the files that are signed"]);
    let outcome = endorse(&["-"], FILE);
    assert!(outcome.code == Some(0) && outcome.out.starts_with(b"-----BEGIN SSH SIGNATURE-----\n"), "{outcome:#?}");
    // Nothing is configured where artifacts are built, and the hash is SHA-512; or it says what the hash is.
    let config = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    fs::remove_file(server.path(".config/sigsh/client.toml")).unwrap();
    says(&endorse(&["-k", "release", "-f", "f"], b""), 0, &[]);
    for (hash, code, line) in [("sha256", 0, ""), ("sha384", 64, "no ssh key endorses by sha384: use --openpgp or --mac")] {
        server.write("hash.toml", format!("{config}hash = \"{hash}\"\n"));
        let outcome = endorse(&["--config", "hash.toml", "-f", "f"], b"");
        assert!(outcome.code == Some(code) && outcome.err.contains(line), "{outcome:#?}");
    }
    says_first(
        &endorse(&["--config", "hash.toml", "-k", "other", "f", "-f"], b""),
        78,
        "sigsh-client: error: there is no [key.other] in the configuration",
    );
}
