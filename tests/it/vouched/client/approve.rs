//! What a person sees, and signs.

use super::super::approvals::{after, fingerprint, provider, security_key};
use super::super::{new_key, print};
use super::*;
use crate::world::succeed;
use sha2::{Digest, Sha512};
use std::io::{Read, Write};
use std::process::Stdio;

fn text(title: &str, not_after: &str, place: &str, requester: &str) -> String {
    let (key, digest) = (fingerprint("ed25519"), hex::encode(Sha512::digest(FILE)));
    format!(
        "{title}\nkey {key}\ntype 0x00\nsize {}\ndigest sha512:{digest}\nnot-after {not_after}\n{place}\nrequester {requester}\n",
        FILE.len()
    )
}

/// What `approve` writes, as the manual tells to look at it: what of a request brings it and what was signed.
#[test]
fn ssh_keygen_verifies_what_was_approved() {
    let (carol, not_after) = (Person::new("carol"), after(3000));
    let server = guarded_by("vouched-hand", &[&carol], TWO);
    server.write("approvers", carol.line());
    for (name, more, title, place) in [
        ("a", &[][..], "approve-v1", format!("host {HOST}")),
        ("b", &["--for-host", "other.example.org", "--requester", "b1"], "approve-v1", "host other.example.org".to_owned()),
        ("c", &["--for-fleet", "release"], "approve-v1", "fleet release".to_owned()),
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
        let before = shown.len();
        while !shown[before..].ends_with(prompt.as_bytes()) {
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
    let (digest, key, by) = (hex::encode(Sha512::digest(FILE)), fingerprint("ed25519"), print(&carol.key));
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

/// What somebody has typed before he could see what it is about, is no answer: neither to the first question nor to the next.
#[test]
fn what_is_typed_ahead_approves_nothing() {
    let carol = Person::new("carol");
    let server = guarded_by("vouched-ahead", &[&carol], TWO);
    server.write("g", FILE);
    let late = |files: &str| {
        let script = format!("sleep 1; exec sigsh-client approve --identity {} {files}", carol.key);
        let mut command = server.program("sh", &["-c", &script]);
        command.env("LOGNAME", carol.name);
        command
    };
    for early in ["y", "y\n", "yes\ny\n"] {
        let steps: [(&str, &dyn Fn(), &str); 2] = [("", &nothing, early), (ASKED, &nothing, "\n")];
        let (code, text) = terminal(late("f"), 80, &steps);
        assert!(code == Some(77) && text.starts_with(early.trim_end()), "{early:?}: {text}");
        assert!(text.ends_with("sigsh-client: error: f is not approved\n"), "{early:?}: {text}");
    }
    let steps: [(&str, &dyn Fn(), &str); 2] = [(ASKED, &nothing, "y\ny\n"), (ASKED, &nothing, "\n")];
    let (code, text) = terminal(late("f g"), 80, &steps);
    assert!(code == Some(77) && text.ends_with("sigsh-client: error: g is not approved\n"), "{text}");
    assert_eq!(server.files(), ["f", carol.approval("f").as_str(), "g"]);
}

/// A security key signs as any other does.
#[test]
fn a_security_key_approves() {
    world();
    let people = ["ed25519-sk", "ecdsa-sk"].map(security_key).map(|key| Person::with("carol", key));
    let [carol, other] = &people;
    let server = guarded_by("vouched-touch", &[carol], "approvals = { need = 1, approvers = \"{LIST}\" }");
    for person in &people {
        let mut command = person.command(&server, &["--yes", "f"]);
        let outcome = finish(
            {
                command.env("SSH_SK_PROVIDER", provider());
                command
            },
            b"",
        );
        assert_eq!((outcome.code, outcome.out.len()), (Some(0), 0), "{outcome:#?}");
    }
    let outcome = server.run(&["sign", "--approval", &carol.approval("f"), "f"], b"");
    says(&outcome, 0, &[]);
    let outcome = server.run(&["sign", "-f", "--approval", &other.approval("f"), "f"], b"");
    assert!(
        outcome.code == Some(77) && outcome.err.ends_with("hint: signer@127.0.0.1: one is by nobody on the list\n"),
        "{outcome:#?}"
    );
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
    let all = ["approve", "--config", &short, "--identity", &carol.key, "--for-host", "h", "--requester", "r", "--yes", "f"];
    says_first(&server.run(&all[..10], b""), 64, "error: the following required arguments were not provided:");
    for (without, more, code, line) in [
        (3..5, &[][..], 78, "it is not known which ssh key approves"),
        (5..7, &[], 78, "it is not known where it may be signed"),
        (7..9, &[], 78, "it is not known who will ask for the signature"),
        (9..10, &[], 64, "nobody can be asked: this is no terminal; --yes approves"),
        (3..5, &["--identity", "no-key"], 66, rubbish),
        (3..5, &["--identity", "nowhere"], 66, &rubbish.replace("no-key", "nowhere")),
        (
            5..7,
            &["--for-host", "a b"],
            64,
            "invalid value 'a b' for '--for-host <NAME>': the name of a host or fleet is 1 to 255 letters, digits, '.' and '-'",
        ),
        (0..0, &["--for-host", "i"], 64, "the argument"),
        (0..0, &["--host", "i"], 64, "no host is asked for an approval: --for-host says where the file may be signed"),
        (0..0, &["--not-after", "2026-01-02T03:04:05Z"], 64, "2026-01-02T03:04:05Z is over"),
        (0..0, &["-"], 64, "an approval is of a file, and standard input is none"),
        (0..0, &["-o", "x", "g"], 64, "--output names one file, and there are several"),
        (0..0, &["nowhere"], 66, "nowhere: no such file or directory"),
        (5..7, &["--for-fleet", "x", "--break-glass"], 64, "the argument"),
        (0..0, &["--expires", "31days"], 64, "invalid value '31days' for '--expires <TIME>': a time is between"),
        (0..0, &["--not-after", "tomorrow"], 64, "invalid value 'tomorrow' for '--not-after <TIME>': a time is written"),
        (0..0, &["--for-fleet", "x"], 64, "the argument"),
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
