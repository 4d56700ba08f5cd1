//! What the programs are linked to; and the static build: it signs where there is nothing else, in the same sandbox, with the same tokens.

// Whoever reads the output is to know what was not tested.
#![allow(clippy::print_stderr)]

mod empty_root;
mod guide;

use crate::client::BuildServer;
use crate::tokens::p11kit::{Store, by_hand, lab};
use crate::tokens::{Lab, suite};
use crate::world::{CONFIG, PIN_FILE, PROGRAMS, Session, as_account, built, finish, scratch, static_build, succeed, verify};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The libraries that a program names.
fn needed(program: &Path) -> Vec<String> {
    let output = succeed(Command::new("readelf").arg("-d").arg(program).env("LC_ALL", "C"));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| line.contains("(NEEDED)"));
    let mut names = lines.map(|line| line.split(['[', ']']).nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    names.sort();
    names
}

#[test]
fn the_dynamic_build_needs_libc_alone() {
    for program in PROGRAMS {
        let names = needed(&built().join(program));
        // The loader and the mathematics are parts of glibc.
        let others = names.iter().filter(|name| !name.starts_with("ld-linux") && **name != "libm.so.6").collect::<Vec<_>>();
        assert_eq!(others, ["libc.so.6"], "{program}");
    }
}

#[test]
fn the_static_build_needs_nothing() {
    let Some(programs) = static_build() else { return };
    for program in PROGRAMS.map(|program| programs.join(program)) {
        assert_eq!(needed(&program), Vec::<String>::new());
        let segments = succeed(Command::new("readelf").arg("-lW").arg(&program).env("LC_ALL", "C")).stdout;
        assert!(!String::from_utf8(segments).unwrap().contains("INTERP"), "{program:?}");
        let output = Command::new("ldd").arg(&program).env("LC_ALL", "C").output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");
    }
}

#[test]
fn a_static_build_loads_no_module() {
    let Some(programs) = static_build() else { return };
    let outcome = Session::of(programs.join("sigsh").to_str().unwrap(), CONFIG).client("build1").request("sign").run(b"data");
    outcome.fails(
        78,
        "sigsh is not set up properly on this host",
        "refused",
        "linked statically and loads no module: name the 'server' that does",
    );
}

/// Certificates, signatures, batches, sshd, `check`: all as with the dynamic build.
#[test]
fn the_static_build_passes_the_suite() {
    let Some(programs) = static_build() else { return };
    let (_daemon, lab) = lab("static");
    suite(&Lab { programs: programs.into(), ..lab });
}

/// As an operator sets a host up.
#[test]
fn sigsh_admin_makes_keys_certificates_and_ledgers() {
    let Some(programs) = static_build() else { return };
    // What the units start lets nobody change the token.
    let (_daemon, socket) = by_hand(&Store::writable());
    let directory = format!("/var/lib/{}", scratch().rsplit('/').next().unwrap());
    succeed(Command::new("install").args(["-d", "-o", "signer", "-m", "0700", &format!("{directory}/state")]));
    let config = format!("{directory}/sigsh.toml");
    let text = format!(
        "account = \"signer\"\n[token.hsm]\nserver = \"{}\"\nserver-account = \"sigsh-token\"\nuri = \"pkcs11:token=release\"\npin-file = \"{PIN_FILE}\"\n\
         [key.new]\ntoken = \"hsm\"\nuri = \"pkcs11:object=new;id=%77\"\ncertificate = \"/etc/sigsh/new.pgp\"\n\
         [client.build1]\nunix-user = \"signer\"\nkeys = [\"new\"]\n\
         [audit]\nledger = \"{directory}/ledger.jsonl\"\nstate = \"{directory}/state\"\n",
        socket.display()
    );
    fs::write(&config, text).unwrap();
    let admin = |arguments: &[&str]| {
        let output = succeed(Command::new(programs.join("sigsh-admin")).args(["--config", &config]).args(arguments));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        admin(&["key", "generate", "new", "--algorithm", "nistp256"]).starts_with("made key 'new' (nistp256) in token 'hsm'\n")
    );
    assert!(
        admin(&["certificate", "create", "new", "--user-id", "Test new <new@example.org>"])
            .starts_with("wrote /etc/sigsh/new.pgp\n")
    );
    assert!(admin(&["ledger", "init"]).starts_with(&format!("made {directory}/ledger.jsonl\n")));
    assert!(admin(&["check"]).contains("\nok: key 'new' signs; "));
    let mut command = as_account(programs.join("sigsh"));
    command.args(["--config", &config, "-c", "sign"]);
    verify("new", finish(command, b"data").signature(), b"data");
    admin(&["ledger", "rotate"]);
    assert!(admin(&["ledger", "show"]).contains(" rotate\n"));
    assert!(admin(&["ledger", "verify"]).starts_with("ok: lines "));
}

/// Files, names of hosts and users, other programs: by musl.
#[test]
fn sigsh_client_signs_and_verifies() {
    let Some(programs) = static_build() else { return };
    let client = programs.join("sigsh-client").into_os_string().into_string().unwrap();
    let server = BuildServer::new("build1", &["ed25519"], "");
    let run = |arguments: &[&str]| finish(server.program(&client, arguments), b"");
    for name in ["a", "b"] {
        server.write(name, format!("content of {name}"));
    }
    let outcome = run(&["sign", "a", "b"]);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    for name in ["a", "b"] {
        verify("ed25519", &server.read(&format!("{name}.sig")), &server.read(name));
    }
    assert_eq!(run(&["verify", "a", "b"]).code, Some(0));
    server.write("a", "something else");
    assert_ne!(run(&["verify", "a"]).code, Some(0));
    let outcome = run(&["doctor"]);
    let found = String::from_utf8(outcome.out).unwrap();
    assert!(found.contains("ok: signer@127.0.0.1: key 'ed25519' signs: binary, text, cleartext, tar\n"), "{found}");
    // What these tests tell ssh.
    let errors = found.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>();
    assert!(matches!(errors[..], [error] if error.contains("StrictHostKeyChecking")), "{found}");
}
