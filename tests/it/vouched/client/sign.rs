//! What goes to the host with a file, and what stays here.

use super::super::{base64, new_key, print};
use super::*;
use crate::client::odd_host;
use crate::world::{FLEET, succeed, verify_file};
use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::Duration;

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
    says(&outcome, 77, &[with, "sigsh-client: error: signer@127.0.0.1: 0 of 2 approvals", HINT]);

    carol.approves(&server, &["f"]);
    let outcome = server.run(&["sign", "f"], b"");
    let with = format!("{with}, {}", carol.approval("f"));
    says(&outcome, 77, &[&with, "sigsh-client: error: signer@127.0.0.1: 1 of 2 approvals", HINT]);
    assert!(!server.files().contains(&"f.sig".to_owned()));

    dave.approves(&server, &["--expires", "1s", "f"]);
    std::thread::sleep(Duration::from_secs(2));
    let over = String::from_utf8(server.read(&dave.approval("f"))).unwrap();
    let over = format!("sigsh-client: warning: {} is left out: it held until {}", dave.approval("f"), &over[..20]);
    let error = "sigsh-client: error: signer@127.0.0.1: 1 of 2 approvals";
    says(&server.run(&["sign", "f"], b""), 77, &[&over, &with, error, HINT]);
    // The host tells of what is named.
    let named =
        ["sign", "--endorsement", "f.endorsement", "--approval", &carol.approval("f"), "--approval", &dave.approval("f"), "f"];
    let outcome = server.run(&named, b"");
    assert!(outcome.err.starts_with(error), "{outcome:#?}");
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
    says(&server.run(&hosts, b""), 77, &["sigsh-client: error: signer@127.0.0.1: 0 of 2 approvals", HINT]);
    let outcome = server.run(&hosts[2..], b"");
    assert_eq!((outcome.code, outcome.out.len()), (Some(69), 0), "{outcome:#?}");
    assert!(!outcome.err.contains("on this machine"), "{outcome:#?}");
    let doctor = server.run(&["doctor"], b"");
    let line = "ok: signer@127.0.0.1: key 'vouched-alone' is guarded: no test is signed by it\n";
    assert!(String::from_utf8(doctor.out).unwrap().contains(line), "{}", doctor.err);
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
    let fleet = finish(carol.command(&server, &["--yes", "--break-glass", "--for-fleet", "release", "f"]), b"");
    assert_eq!(fleet.code, Some(64), "{fleet:#?}");
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
    says(&server.run(&["sign", "f"], b""), 77, &["sigsh-client: error: signer@127.0.0.1: 0 of 2 approvals", HINT]);
}

/// ssh itself, which writes down what it is told.
fn listening(server: &BuildServer) -> String {
    fake(server, "ssh", "printf '%s\\n' \"$@\" >> $HOME/.said; exec /usr/bin/ssh \"$@\"")
}

/// What lies beside a file may be put there by anybody: it neither stops us, nor takes a file away that is not his to read.
#[test]
fn what_lies_beside_a_file_neither_leaks_nor_blocks() {
    let [carol, dave] = ["carol", "dave"].map(Person::new);
    let server = guarded_by("vouched-beside", &[&carol, &dave], TWO);
    let path = listening(&server);
    let sign = |more: &[&str]| {
        let mut command = server.program("timeout", &["30", "sigsh-client", "sign", "-f"]);
        command.args(more).arg("f").env("PATH", &path);
        finish(command, b"")
    };
    let secret = server.write(".id", fs::read(&carol.key).unwrap());
    let grant = format!("mac-v1 {} h b 2099-01-02T01:04:05Z 2099-01-02T03:04:05Z 64 {}\n", "0A".repeat(20), "ab".repeat(64));
    let junk = "this is no approval: it is a time, '=' and base64";
    let blob = format!("2099-01-02T03:04:05Z={}\n", base64(&fs::read(&carol.key).unwrap()));
    let neither = "this is no endorsement: it is neither an ssh signature, nor mac-v1, nor OpenPGP";
    type Make<'a> = &'a dyn Fn(&str);
    let link: Make<'_> = &|name| symlink(&secret, name).unwrap();
    let dangling: Make<'_> = &|name| symlink("nowhere", name).unwrap();
    let pipe: Make<'_> = &|name| drop(succeed(Command::new("mkfifo").arg(name)));
    let directory: Make<'_> = &|name| fs::create_dir(name).unwrap();
    let key: Make<'_> = &|name| fs::write(name, fs::read(&secret).unwrap()).unwrap();
    let nonce: Make<'_> = &|name| fs::write(name, &grant).unwrap();
    let inside: Make<'_> = &|name| fs::write(name, &blob).unwrap();
    let long: Make<'_> = &|name| fs::write(name, [b'x'; 20_000]).unwrap();
    let cases = [
        ("f.endorsement", link, "it is a symbolic link"),
        ("f.endorsement", dangling, "it is a symbolic link"),
        ("f.endorsement", pipe, "it is no regular file"),
        ("f.endorsement", directory, "it is no regular file"),
        ("f.endorsement", long, "it is too long"),
        ("f.endorsement", key, neither),
        ("f.endorsement", nonce, "this is no endorsement: it is not one line of mac-v1, ID, NOT-BEFORE, NOT-AFTER, MAX and HEX"),
        ("f.x.approval", link, "it is a symbolic link"),
        ("f.x.approval", pipe, "it is no regular file"),
        ("f.x.approval", directory, "it is no regular file"),
        ("f.x.approval", key, junk),
        ("f.x.approval", inside, "this is no approval: it holds no ssh signature that is understood"),
        ("f.\u{1b}[2J.approval", key, junk),
    ];
    [&carol, &dave].iter().for_each(|person| person.approves(&server, &["f"]));
    let with = format!("sigsh-client: with {}, {}", carol.approval("f"), dave.approval("f"));
    for (name, make, why) in cases {
        make(&server.path(name));
        let shown = if name.contains('\u{1b}') { "\"f.\\x1b[2J.approval\"" } else { name };
        says(&sign(&[]), 0, &[&format!("sigsh-client: warning: {shown} is left out: {why}"), &with]);
        let _ = fs::remove_file(server.path(name)).or_else(|_| fs::remove_dir(server.path(name)));
    }
    // By its name it is no more sent than without.
    fs::write(server.path("grant"), &grant).unwrap();
    says(&sign(&["--endorsement", ".id"]), 65, &[&format!("sigsh-client: error: .id: {neither}")]);
    assert_eq!(sign(&["--endorsement", "grant"]).code, Some(65));
    let said = String::from_utf8(server.read(".said")).unwrap();
    let secrets = [base64(&fs::read(&secret).unwrap()), base64(grant.as_bytes())];
    assert!(said.contains("--approval=") && secrets.iter().all(|secret| !said.contains(&secret[..40])), "{said}");
}

/// What no host takes is told here, and what is shorter without its armor goes without it.
#[test]
fn too_many_approvals() {
    let carol = Person::with("carol", new_key("rsa-3072"));
    let server = guarded_by("vouched-many", &[&carol], TWO);
    carol.approves(&server, &["-o", "one", "f"]);
    for (number, code, line) in [
        (10, 77, "signer@127.0.0.1: 1 of 2 approvals"),
        (16, 64, "f: with all that vouches for it, the request is longer than 16 KiB"),
        (17, 64, "f: of 17 approvals a request may bring 16: name these by --approval"),
    ] {
        for number in 0..number {
            fs::copy(server.path("one"), server.path(&format!("f.a{number}.approval"))).unwrap();
        }
        let outcome = server.run(&["sign", "f"], b"");
        assert_eq!(outcome.code, Some(code), "{outcome:#?}");
        assert!(outcome.err.contains(&format!("\nsigsh-client: error: {line}\n")), "{outcome:#?}");
    }
}

/// Where it is configured what an approval must say, one that says anything else is told before it is sent.
#[test]
fn an_approval_of_something_else() {
    let [carol, dave] = ["carol", "dave"].map(Person::new);
    let server = guarded_by("vouched-else", &[&carol, &dave], TWO);
    server.write("g", b"another file\n");
    let not = format!("it is not of this file, key and time, host {HOST} and requester vouched-else");
    let plain = String::from_utf8(server.read(".config/sigsh/client.toml")).unwrap();
    server.write("plain.toml", plain.replace("requester = ", "# "));
    for arguments in [&["f", "--requester", "b1"][..], &["f", "--for-host", "h"], &["f", "--for-fleet", FLEET], &["g"]] {
        carol.approves(&server, &[arguments, &["-f", "-o", "f.c.approval"]].concat());
        let outcome = server.run(&["sign", "f"], b"");
        assert!(outcome.err.starts_with(&format!("sigsh-client: warning: f.c.approval is left out: {not}\n")), "{outcome:#?}");
        let outcome = server.run(&["sign", "--approval", "f.c.approval", "f"], b"");
        says(&outcome, 65, &[&format!("sigsh-client: error: f.c.approval: {not}")]);
        // Else it is the host that knows.
        let outcome = server.run(&["--config", "plain.toml", "sign", "--approval", "f.c.approval", "f"], b"");
        assert!(outcome.code == Some(77) && outcome.err.contains(" of 2 approvals\n"), "{outcome:#?}");
    }
    carol.approves(&server, &["--break-glass", "-o", "glass", "f"]);
    let outcome = server.run(&["sign", "--approval", "glass", "f"], b"");
    says(&outcome, 65, &["sigsh-client: error: glass: it was not signed with -n approve@sigsh"]);
}

/// What a fleet may sign, another host of it signs when the first is down.
#[test]
fn approvals_for_a_fleet() {
    let [carol, dave] = ["carol", "dave"].map(Person::new);
    let server = guarded_by("vouched-fleet", &[&carol, &dave], TWO);
    let path = ".config/sigsh/client.toml";
    let config = String::from_utf8(server.read(path)).unwrap();
    server.write(path, config.replace(&format!("\"host {HOST}\""), &format!("\"fleet {FLEET}\"")));
    [&carol, &dave].iter().for_each(|person| person.approves(&server, &["f"]));
    let outcome = server.run(&["--host", "ssh://signer@127.0.0.1:1", "--host", "signer@127.0.0.1", "sign", "f"], b"");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    verify_file("ed25519", &server.path("f.sig"), &server.path("f"));
}

/// It may have signed, and a permit may be used up by that.
#[test]
fn a_connection_that_breaks_may_have_used_up_a_permit() {
    let server = guarded_by("vouched-cut", &[], "approvals = { need = 1, approvers = \"{LIST}\" }");
    let hint = "sigsh-client: hint: it may have used up a permit, or what was approved for an emergency: before you sign again, look in the \
                host's journal, or ask its operator";
    for number in [2263, 2264] {
        server.write("f", [7; 200_000]);
        let outcome = server.run(&["--host", &odd_host(number), "sign", "f"], b"");
        assert_eq!((outcome.code, outcome.err.lines().next_back()), (Some(69), Some(hint)), "{outcome:#?}");
    }
    let plain = BuildServer::new("build1", &["ed25519"], "");
    plain.write("f", FILE);
    let outcome = plain.run(&["--host", &odd_host(2264), "sign", "f"], b"");
    let again = "sigsh-client: hint: sign again: a second signature of the same file does no harm";
    assert_eq!((outcome.code, outcome.err.lines().next_back()), (Some(69), Some(again)), "{outcome:#?}");
}
