//! The client's configuration is right, or there is none: each mistake is told with file, line and column. What is said closer counts.

use super::BuildServer;
use crate::world::{Outcome, finish};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

const GOOD: &str = r#"hosts = ["signer@127.0.0.1", "other"]
default-key = "ed25519"
ssh-options = ["-4"]
parallel = 8
reuse = "30s"
retry = "2m"
timeout = "10m"
state-above = "64MiB"
digest = false
log = "syslog"
gpg = "/usr/bin/gpg"
local-fallback = ["gpg", "--batch"]

[key.ed25519]
certificate = "/etc/sigsh/ed25519.pgp"
hash = "sha512"

[key.rsa2048]
certificate = "/etc/sigsh/rsa2048.pgp"
"#;

const TOP: &str = "expected one of `hosts`, `default-key`, `ssh-options`, `parallel`, `reuse`, `retry`, `timeout`, `state-above`, `digest`, \
    `log`, `gpg`, `local-fallback`, `identity`, `key`";
const KEY: &str = "expected one of `certificate`, `hash`, `guarded`, `approve-for`, `requester`";
const PLACE: &str = "the name of a host or fleet is 1 to 255 letters, digits, '.' and '-'";
const HOST: &str = "a host is what ssh calls one, such as \"signer@sign.example.org\"";
const COUNT: &str = "a number between 1 and 1000000 belongs here";

/// What a command that needs settings says of this file.
fn read(server: &BuildServer, source: &str) -> Outcome {
    server.write("client.toml", source);
    written(server, "client.toml")
}

/// The same of a file that is there.
fn written(server: &BuildServer, name: &str) -> Outcome {
    let mut command = server.command(&["setup", "git"]);
    command.env("SIGSH_CONFIG", name);
    finish(command, b"")
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let outcome = read(&server, GOOD);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    for (from, to, message) in [
        ("parallel", "paralel", format!("4:1: unknown field `paralel`, {TOP}")),
        ("hash = \"sha512\"", "hsah = \"sha512\"", format!("16:1: unknown field `hsah`, {KEY}")),
        ("[key.rsa2048]", "[kye.rsa2048]", format!("18:2: unknown field `kye`, {TOP}")),
        (
            "hosts = [\"signer@127.0.0.1\", \"other\"]",
            "hosts = \"signer@127.0.0.1\"",
            "1:9: invalid type: string \"signer@127.0.0.1\", expected a sequence".to_owned(),
        ),
        ("\"other\"", "7", "1:30: invalid type: integer `7`, expected a string".to_owned()),
        ("\"other\"", "\"\"", format!("1:30: {HOST}")),
        ("\"other\"", "\"-oProxyCommand=sh\"", format!("1:30: {HOST}")),
        ("\"other\"", "\"a b\"", format!("1:30: {HOST}")),
        ("\"other\"", "\"a\\u001b\"", format!("1:30: {HOST}")),
        ("\"other\"", "\"ä\"", format!("1:30: {HOST}")),
        ("default-key = \"ed25519\"", "default-key = \"none\"", "2:15: there is no [key.none]".to_owned()),
        ("default-key = \"ed25519\"\n", "", "1:1: several keys need a default-key".to_owned()),
        ("default-key = \"ed25519\"", "default-key = \"Upper\"", "2:15: a name is 1 to 64 of a-z, 0-9 and '-'".to_owned()),
        ("ssh-options = [\"-4\"]", "ssh-options = \"-4\"", "3:15: invalid type: string \"-4\", expected a sequence".to_owned()),
        ("parallel = 8", "parallel = 0", format!("4:12: {COUNT}")),
        ("parallel = 8", "parallel = \"8\"", "4:12: invalid type: string \"8\", expected i64".to_owned()),
        ("reuse = \"30s\"", "reuse = true", "5:9: a time such as \"30s\", or false".to_owned()),
        ("reuse = \"30s\"", "reuse = 30", "5:9: a time such as \"30s\", or false".to_owned()),
        ("reuse = \"30s\"", "reuse = \"30\"", "5:9: a time such as \"30s\", or false".to_owned()),
        ("retry = \"2m\"", "retry = \"soon\"", "6:9: a time is between \"1s\" and \"30days\"".to_owned()),
        ("retry = \"2m\"", "retry = 2", "6:9: invalid type: integer `2`, expected a string".to_owned()),
        ("timeout = \"10m\"", "timeout = \"0s\"", "7:11: a time is between \"1s\" and \"30days\"".to_owned()),
        ("state-above = \"64MiB\"", "state-above = 64", "8:15: invalid type: integer `64`, expected a string".to_owned()),
        (
            "state-above = \"64MiB\"",
            "state-above = \"64 elephants\"",
            "8:15: a size is a number of bytes with a unit, such as \"16GiB\"".to_owned(),
        ),
        ("digest = false", "digest = \"yes\"", "9:10: invalid type: string \"yes\", expected a boolean".to_owned()),
        ("log = \"syslog\"", "log = \"a/file\"", "10:7: a log is \"syslog\" or a path that begins with '/'".to_owned()),
        ("log = \"syslog\"", "log = true", "10:7: \"syslog\", a path that begins with '/', or false".to_owned()),
        ("gpg = \"/usr/bin/gpg\"", "gpg = \"gpg\"", "11:7: a path begins with '/'".to_owned()),
        (
            "[\"gpg\", \"--batch\"]",
            "\"gpg --batch\"",
            "12:18: invalid type: string \"gpg --batch\", expected a sequence".to_owned(),
        ),
        ("certificate = \"/etc/sigsh/ed25519.pgp\"\n", "", "14:1: missing field `certificate`".to_owned()),
        ("certificate = \"/etc/sigsh/ed25519.pgp\"", "certificate = \"ed25519.pgp\"", "15:15: a path begins with '/'".to_owned()),
        (
            "hash = \"sha512\"",
            "hash = \"sha1\"",
            "16:8: unknown variant `sha1`, expected one of `sha256`, `sha384`, `sha512`".to_owned(),
        ),
        ("hash = \"sha512\"", "guarded = 1", "16:11: invalid type: integer `1`, expected a boolean".to_owned()),
        ("hash = \"sha512\"", "approve-for = \"here\"", "16:15: it is \"host NAME\" or \"fleet NAME\"".to_owned()),
        ("hash = \"sha512\"", "approve-for = \"host a\\nb\"", format!("16:15: {PLACE}")),
        ("hash = \"sha512\"", "approve-for = \"fleet \"", format!("16:15: {PLACE}")),
        ("hash = \"sha512\"", "requester = \"a b\"", "16:13: a name is 1 to 64 of a-z, 0-9 and '-'".to_owned()),
        ("digest = false", "identity = \"id\"", "9:12: a path begins with '/'".to_owned()),
        ("[key.rsa2048]", "[key.ed25519]", "18:6: duplicate key".to_owned()),
        ("[key.rsa2048]", "[key.\"a b\"]", "18:6: a name is 1 to 64 of a-z, 0-9 and '-'".to_owned()),
        ("[key.rsa2048]", "[key.rsa2048", "18:13: unclosed table, expected `]`".to_owned()),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let outcome = read(&server, &GOOD.replacen(from, to, 1));
        let expected = format!("sigsh-client: error: {}:{message}", server.path("client.toml"));
        let first = outcome.err.lines().next().unwrap_or_default();
        assert_eq!((outcome.code, outcome.out.len(), first), (Some(78), 0, expected.as_str()), "{to}");
    }
}

/// One line of error, and the code.
#[track_caller]
fn fails(outcome: &Outcome, code: i32, line: &str) {
    let first = outcome.err.lines().next().unwrap_or_default();
    assert_eq!((outcome.code, outcome.out.len(), first), (Some(code), 0, format!("sigsh-client: error: {line}").as_str()));
    assert!(outcome.err.lines().skip(1).all(|hint| hint.starts_with("sigsh-client: hint: ")) && outcome.err.lines().count() <= 2);
}

/// Whoever could write it would decide where to sign, and what is a good signature.
#[test]
fn what_others_could_have_written_is_not_read() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let (config, certificate) = (server.path("client.toml"), server.path("key.pgp"));
    let source = format!("hosts = [\"h\"]\n[key.k]\ncertificate = \"{certificate}\"\n");
    let run = || written(&server, "client.toml");
    let fresh = || {
        for (path, bytes) in [(&config, source.as_bytes()), (&certificate, &fs::read("/etc/sigsh/ed25519.pgp").unwrap())] {
            let _ = fs::remove_file(path);
            fs::write(path, bytes).unwrap();
        }
    };
    fresh();
    assert_eq!(run().code, Some(0));
    for path in [&config, &certificate] {
        let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o664);
        fails(&run(), 78, &format!("{path} is writable by group or others (mode 664)"));
        assert!(run().err.ends_with(&format!("sigsh-client: hint: chmod g-w {path}\n")));
        mode(0o646);
        fails(&run(), 78, &format!("{path} is writable by group or others (mode 646)"));
        assert!(run().err.ends_with(&format!("sigsh-client: hint: chmod go-w {path}\n")));
        mode(0o644);
        chown(path, Some(65534), None).unwrap();
        fails(&run(), 78, &format!("{path} belongs to user 65534; it must belong to root, or to the user that sigsh runs as"));
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fails(&run(), 78, &format!("{path} is not a regular file"));
        fs::remove_dir(path).unwrap();
        fails(&run(), 78, &format!("cannot open {path}: no such file or directory"));
        fresh();
    }
    // What it leads to may be another file the next time.
    symlink(&config, server.path("link.toml")).unwrap();
    fails(&written(&server, "link.toml"), 78, &format!("{} is a symbolic link", server.path("link.toml")));
    fs::set_permissions(&server.directory, fs::Permissions::from_mode(0o777)).unwrap();
    fails(&run(), 78, &format!("{} is writable by group or others (mode 777)", server.directory));
    // As a home is where the umask is 002.
    fs::set_permissions(&server.directory, fs::Permissions::from_mode(0o775)).unwrap();
    assert!(run().err.ends_with(&format!("sigsh-client: hint: chmod g-w {}\n", server.directory)));
    fs::set_permissions(&server.directory, fs::Permissions::from_mode(0o755)).unwrap();
    for (bytes, why) in
        [(&b""[..], "file is empty"), (b"garbage", "cannot be read: Malformed packet: Invalid packet type: Unknown packet type")]
    {
        fs::write(&certificate, bytes).unwrap();
        let outcome = run();
        assert!(
            outcome.code == Some(78) && outcome.err.contains(&format!("{certificate}: the certificate ")),
            "{why}: {outcome:?}"
        );
    }
    server.write("client.toml", "");
    fails(&run(), 78, "no certificate is configured");
    server.write("client.toml", "#".repeat(2 << 20));
    assert_eq!(run().code, Some(78));
}

fn fingerprint(key: &str) -> String {
    let pinned = sigsh::openpgp::Pinned::read(&fs::read(format!("/etc/sigsh/{key}.pgp")).unwrap()).unwrap();
    pinned.certs()[0].fingerprint().to_hex()
}

/// Option before variable before file, each value by itself.
#[test]
fn what_is_said_closer_counts() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let keys = ["ed25519", "rsa2048", "rsa3072"];
    let config = |name: &str, host: &str, key: &str| {
        let tables = keys.map(|key| format!("[key.{key}]\ncertificate = \"/etc/sigsh/{key}.pgp\"\n")).concat();
        server.write(
            name,
            format!("hosts = [\"{host}\"]\nretry = \"1s\"\nreuse = false\nlog = false\ndefault-key = \"{key}\"\n{tables}"),
        )
    };
    config("option.toml", "of-option-file", "rsa3072");
    config("variable.toml", "of-variable-file", "rsa2048");
    config(".config/sigsh/client.toml", "of-home", "ed25519");
    fs::create_dir_all(server.path("xdg/sigsh")).unwrap();
    config("xdg/sigsh/client.toml", "of-xdg", "rsa2048");
    // Whoever asks for a signature of nothing learns which hosts were asked, and by which certificate it would be judged.
    server.write("ssh", "#!/bin/sh\nfor host; do shift; [ \"$host\" != -- ] || break; done\necho \"asked $1\" >&2\nexit 255\n");
    fs::set_permissions(server.path("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = |arguments: &[&str], variables: &[(&str, &str)]| {
        let run = |more: &[&str]| {
            let mut command = server.program("/usr/bin/sigsh-client", &[arguments, more].concat());
            command.env("PATH", format!("{}:/usr/bin:/bin", server.directory)).envs(variables.iter().copied());
            finish(command, b"x")
        };
        let (doctor, sign) = (run(&["doctor"]), run(&["sign", "-o", "-"]));
        assert_eq!(sign.code, Some(69), "{sign:?}");
        let asked = sign.err.lines().rfind(|line| line.contains("error: ")).unwrap().split(['"', ':', ';', ' ']);
        let mut hosts = asked.skip_while(|word| *word != "error").filter(|word| word.starts_with("of-")).collect::<Vec<_>>();
        hosts.dedup();
        let doctor = String::from_utf8(doctor.out).unwrap();
        let first = doctor.lines().find(|line| line.contains(": pinned certificate ")).unwrap();
        let key = keys.into_iter().find(|key| first.contains(&fingerprint(key))).unwrap_or("none");
        format!("{} {key}", hosts.join("+"))
    };
    let armored = sigsh::openpgp::Pinned::read(&fs::read("/etc/sigsh/rsa4096.pgp").unwrap()).unwrap().export(true).unwrap();
    let armored = String::from_utf8(armored).unwrap();
    let variable = ("SIGSH_CONFIG", "variable.toml");
    let host = ("SIGSH_HOST", "of-v1 of-v2");
    let xdg = server.path("xdg");
    for (arguments, variables, expected) in [
        (&[][..], &[][..], "of-home ed25519"),
        (&[], &[("XDG_CONFIG_HOME", xdg.as_str())], "of-xdg rsa2048"),
        // A relative one counts as none (XDG Base Directory Specification).
        (&[], &[("XDG_CONFIG_HOME", "xdg")], "of-home ed25519"),
        (&[], &[variable], "of-variable-file rsa2048"),
        (&[], &[("SIGSH_CONFIG", "")], "of-home ed25519"),
        (&["--config", "option.toml"], &[variable], "of-option-file rsa3072"),
        (&[], &[variable, host], "of-v1+of-v2 rsa2048"),
        (&["--host", "of-o1", "--host", "of-o2"], &[variable, host], "of-o1+of-o2 rsa2048"),
        (&[], &[("SIGSH_KEY", "rsa3072")], "of-home rsa3072"),
        (&["-k", "rsa2048"], &[("SIGSH_KEY", "rsa3072")], "of-home rsa2048"),
        (&[], &[("SIGSH_CERTIFICATE", "/etc/sigsh/rsa3072.pgp")], "of-home rsa3072"),
        (&["--certificate", "/etc/sigsh/rsa2048.pgp"], &[("SIGSH_CERTIFICATE", armored.as_str())], "of-home rsa2048"),
    ] {
        assert_eq!(said(arguments, variables), expected, "{arguments:?} {variables:?}");
    }
    let mut command = server.command(&["setup", "git"]);
    command.env("SIGSH_CERTIFICATE", &armored);
    let outcome = finish(command, b"");
    assert!(String::from_utf8(outcome.out).unwrap().contains(&fingerprint("rsa4096")));
}

#[test]
fn without_a_file() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    fs::remove_file(server.path(".config/sigsh/client.toml")).unwrap();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = server.command(arguments);
        finish(
            {
                command.envs(variables.iter().copied());
                command
            },
            b"x",
        )
    };
    let sign = ["sign", "-o", "-"];
    fails(&run(&sign, &[]), 78, "no certificate is configured");
    fails(&run(&["-k", "k", "sign"], &[]), 78, "there is no [key.k] in the configuration");
    let certificate = ("SIGSH_CERTIFICATE", "/etc/sigsh/ed25519.pgp");
    fails(&run(&sign, &[certificate]), 78, "no host is configured");
    fails(
        &run(&["--config", "none.toml", "sign"], &[]),
        78,
        &format!("cannot open {}: no such file or directory", server.path("none.toml")),
    );
    fails(&run(&sign, &[("SIGSH_CERTIFICATE", "none.pgp")]), 74, "none.pgp: no such file or directory");
    let garbage = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\ngarbage\n-----END PGP PUBLIC KEY BLOCK-----\n";
    let outcome = run(&sign, &[("SIGSH_CERTIFICATE", garbage)]);
    assert!(outcome.code == Some(78) && outcome.err.contains("SIGSH_CERTIFICATE: the certificate "), "{outcome:?}");
    fails(&run(&sign, &[certificate, ("SIGSH_KEY", "No Name")]), 78, "SIGSH_KEY: 'No Name': a name is 1 to 64 of a-z, 0-9 and '-'");
    assert_eq!(run(&["sign", "--host", "-oProxyCommand=touch x"], &[certificate]).code, Some(64));
    let option = run(&["sign", "--host=-oProxyCommand=touch x"], &[certificate]);
    fails(&option, 78, &format!("a host: {HOST}"));
    // One variable is enough for each, and the client's first key signs.
    let ssh = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F {}/ssh_config -i {} \"$@\"\n",
        crate::world::HOME,
        crate::world::ssh_key("build1")
    );
    fs::create_dir(server.path("bin")).unwrap();
    let path = server.write("bin/ssh", ssh);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", server.path("bin"));
    let rsa2048 = ("SIGSH_CERTIFICATE", "/etc/sigsh/rsa2048.pgp");
    let outcome = run(&sign, &[rsa2048, ("SIGSH_HOST", "signer@127.0.0.1"), ("PATH", &path)]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    crate::world::verify("rsa2048", &outcome.out, b"x");
    assert_eq!(server.files(), ["bin"]);
}
