//! The calls that packagers' tools make, and where gpg itself would put the result.

use super::{Around, Call, Export, Half, Keyid, List, Sign, Stream};
use crate::gpg::home::Home;
use sigsh::hash_state::{Form, HashAlgorithm};
use std::ffi::OsString;
use std::path::Path;

const F: &str = "0E0926C12DC9569C2A5D3ACDF2D5B2669EC9A986";
const BINARY: (Form, bool) = (Form::Binary, false);
const ARMOR: (Form, bool) = (Form::Binary, true);
const TEXT: (Form, bool) = (Form::Text, true);
const CLEARTEXT: (Form, bool) = (Form::Cleartext, true);

/// A command line as a shell has it, F standing for a fingerprint.
fn parse(line: &str) -> Result<Call, String> {
    let words = shlex::split(line).unwrap().into_iter().map(|word| OsString::from(if word == "F" { F } else { &word }));
    Call::parse(&words.collect::<Vec<_>>()).map_err(|error| error.to_string())
}

fn stream(name: &str) -> Stream {
    match (name, name.strip_prefix("-&")) {
        ("-", _) => Stream::Standard,
        (_, Some(fd)) => Stream::Fd(fd.parse().unwrap()),
        (file, None) => Stream::File(file.into()),
    }
}

fn users(user: &str) -> Vec<OsString> {
    user.split_terminator('|').map(OsString::from).collect()
}

fn sign((form, armor): (Form, bool), user: &str, input: &str, output: &str) -> Sign {
    let inputs = input.split('|').map(stream).collect();
    let (output, around) = (stream(output), Around::default());
    let (yes, dry_run, elsewhere) = (false, false, false);
    Sign { form, armor, users: users(user), inputs, output, yes, dry_run, digest: None, unmet: Vec::new(), elsewhere, around }
}

fn around(status: Option<i32>, logger: Option<i32>, batch: bool) -> Around {
    Around { status: status.map(Stream::Fd), logger: logger.map(Stream::Fd), batch, ..Around::default() }
}

fn secret(specs: &str) -> List {
    List { specs: users(specs), half: Half::Secret, colons: false, keyid: Keyid::None, around: Around::default() }
}

fn export(specs: &str, armor: bool, output: &str) -> Export {
    Export { specs: users(specs), armor, output: stream(output), yes: false, around: Around::default() }
}

/// What gpgme puts before each command.
const GPGME: &str =
    "--batch --no-sk-comments --status-fd 4 --no-tty --charset utf8 --enable-progress-filter --exit-on-status-write-error";

#[test]
fn every_packagers_tool_is_understood() {
    let sha512 = |sign| Sign { digest: Some(HashAlgorithm::Sha512), ..sign };
    let quiet = || Around { passphrase: Some(0), ..around(None, None, true) };
    let gpgme = |logger| Around { strict: true, ..around(Some(4), Some(logger), true) };
    let table = [
        // makepkg
        ("--list-secret-key", Call::List(secret(""))),
        ("--list-secret-key F", Call::List(secret(F))),
        ("--detach-sign --use-agent --no-armor /b/a.pkg", Call::Sign(sign(BINARY, "", "/b/a.pkg", "/b/a.pkg.sig"))),
        ("--detach-sign --use-agent -u F --no-armor /b/a.pkg", Call::Sign(sign(BINARY, F, "/b/a.pkg", "/b/a.pkg.sig"))),
        // repo-add, repo-remove
        ("--detach-sign --use-agent --no-armor -u F /r/.tmp.X.db", Call::Sign(sign(BINARY, F, "/r/.tmp.X.db", "/r/.tmp.X.db.sig"))),
        // rpmsign
        ("--version", Call::Version),
        ("--no-verbose --no-armor --no-secmem-warning -u F -sbo p.rpm.sig -- -", Call::Sign(sign(BINARY, F, "-", "p.rpm.sig"))),
        (
            "--no-verbose --no-armor --no-secmem-warning --digest-algo=sha512 -u F -sbo p.rpm.sig -- -",
            Call::Sign(sha512(sign(BINARY, F, "-", "p.rpm.sig"))),
        ),
        // repomd.xml
        ("--detach-sign --armor repomd.xml", Call::Sign(sign(ARMOR, "", "repomd.xml", "repomd.xml.asc"))),
        // debsign
        (
            "--local-user F --clearsign --list-options no-show-policy-urls --armor --textmode --output O IN",
            Call::Sign(sign(CLEARTEXT, F, "IN", "O")),
        ),
        (
            "--no-auto-check-trustdb --local-user F --clearsign --openpgp --personal-digest-preferences 'SHA512 SHA384 SHA256 SHA224'
             --list-options no-show-policy-urls --armor --textmode --output O IN",
            Call::Sign(sign(CLEARTEXT, F, "IN", "O")),
        ),
        // dpkg-buildpackage
        (
            "--weak-digest SHA1 --weak-digest RIPEMD160 --utf8-strings --textmode --armor --openpgp
             --personal-digest-preferences 'SHA512 SHA384 SHA256 SHA224' --local-user F --output O --clearsign IN",
            Call::Sign(sign(CLEARTEXT, F, "IN", "O")),
        ),
        // debsigs
        ("--openpgp --detach-sign --default-key F", Call::Sign(sign(BINARY, F, "-", "-"))),
        ("--detach-sign --default-key F", Call::Sign(sign(BINARY, F, "-", "-"))),
        // reprepro, ostree, flatpak
        (
            "GPGME --logger-fd 13 --with-colons --list-secret-keys -- F",
            Call::List(List { colons: true, around: gpgme(13), ..secret(F) }),
        ),
        (
            "--enable-special-filenames GPGME --logger-fd 6 --sign --detach --armor -u 2B0F1DF8E6A8D2D4 -- '-&12'",
            Call::Sign(Sign { around: gpgme(6), ..sign(ARMOR, "2B0F1DF8E6A8D2D4", "-&12", "-") }),
        ),
        (
            "--enable-special-filenames GPGME --logger-fd 6 --sign --detach -u 2B0F1DF8E6A8D2D4 -- '-&16'",
            Call::Sign(Sign { around: gpgme(6), ..sign(BINARY, "2B0F1DF8E6A8D2D4", "-&16", "-") }),
        ),
        (
            "--enable-special-filenames GPGME --logger-fd 6 --clearsign -u 2B0F1DF8E6A8D2D4 -- '-&7'",
            Call::Sign(Sign { around: gpgme(6), ..sign(CLEARTEXT, "2B0F1DF8E6A8D2D4", "-&7", "-") }),
        ),
        ("GPGME --logger-fd 6 --export --armor -- F", Call::Export(Export { around: gpgme(6), ..export(F, true, "-") })),
        // aptly
        (
            "--list-keys --dry-run --no-auto-check-trustdb",
            Call::List(List { half: Half::Public { with_secret: false }, ..secret("") }),
        ),
        (
            "-o Release.gpg --digest-algo SHA256 --armor --yes -u F --no-tty --batch --pinentry-mode loopback --detach-sign Release",
            Call::Sign(Sign {
                yes: true,
                digest: Some(HashAlgorithm::Sha256),
                around: around(None, None, true),
                ..sign(ARMOR, F, "Release", "Release.gpg")
            }),
        ),
        (
            "-o InRelease --digest-algo SHA256 --yes -u F --no-tty --batch --pinentry-mode loopback --clearsign Release",
            Call::Sign(Sign {
                yes: true,
                digest: Some(HashAlgorithm::Sha256),
                around: around(None, None, true),
                ..sign(CLEARTEXT, F, "Release", "InRelease")
            }),
        ),
        // git
        ("--status-fd=2 -bsau F", Call::Sign(Sign { around: around(Some(2), None, false), ..sign(ARMOR, F, "-", "-") })),
        (
            "--status-fd=2 -bsau 'Name <mail@x>'",
            Call::Sign(Sign { around: around(Some(2), None, false), ..sign(ARMOR, "Name <mail@x>", "-", "-") }),
        ),
        ("--keyid-format=long --status-fd=1 --verify TMP -", Call::Other),
        // goreleaser
        ("--output S --detach-sig A", Call::Sign(sign(BINARY, "", "A", "S"))),
        // Maven
        (
            "--batch --pinentry-mode loopback --passphrase-fd 0 --local-user K --armor --detach-sign --status-fd 1 --batch --no-tty --output S F.jar",
            Call::Sign(Sign { around: Around { status: Some(Stream::Fd(1)), ..quiet() }, ..sign(ARMOR, "K", "F.jar", "S") }),
        ),
        // Gradle
        (
            "--local-user K --pinentry-mode=loopback --passphrase-fd 0 --no-tty --batch --detach-sign",
            Call::Sign(Sign { around: quiet(), ..sign(BINARY, "K", "-", "-") }),
        ),
        // mkarchiso
        (
            "--batch --no-armor --output P --export K",
            Call::Export(Export { around: around(None, None, true), ..export("K", false, "P") }),
        ),
        (
            "--batch --no-armor --no-include-key-block --output S --detach-sign --default-key K --sender M IMG",
            Call::Sign(Sign { around: around(None, None, true), ..sign(BINARY, "K", "IMG", "S") }),
        ),
    ];
    for (line, meant) in table {
        assert_eq!(parse(&line.replace("GPGME", GPGME)), Ok(meant), "{line}");
    }
}

#[test]
fn what_else_gpg_takes_is_ours_another_s_or_an_error() {
    let table = [
        ("-b -u a -u b f", Ok(Call::Sign(sign(BINARY, "a|b", "f", "f.sig")))),
        ("-b --default-key c -u a f", Ok(Call::Sign(sign(BINARY, "a", "f", "f.sig")))),
        ("-b --default-key c --default-key d f", Ok(Call::Sign(sign(BINARY, "d", "f", "f.sig")))),
        ("-ba -t f", Ok(Call::Sign(sign(TEXT, "", "f", "f.asc")))),
        ("-ba --textmode --no-textmode --no-armor f", Ok(Call::Sign(sign(BINARY, "", "f", "f.sig")))),
        ("-b f g", Ok(Call::Sign(sign(BINARY, "", "f|g", "g.sig")))),
        ("-b -o - f", Ok(Call::Sign(sign(BINARY, "", "f", "-")))),
        ("-b -o -&5 --enable-special-filenames -- -&4", Ok(Call::Sign(sign(BINARY, "", "-&4", "-&5")))),
        ("-bn --yes f", Ok(Call::Sign(Sign { yes: true, dry_run: true, ..sign(BINARY, "", "f", "f.sig") }))),
        ("--clear-sign", Ok(Call::Sign(sign(CLEARTEXT, "", "-", "-")))),
        ("-b --clearsign f", Ok(Call::Sign(sign(CLEARTEXT, "", "f", "f.asc")))),
        (
            "-b --digest-algo SHA1 -N a@b=c --default-sig-expire 0 f",
            Ok(Call::Sign(Sign { unmet: vec!["digest-algo", "set-notation"], ..sign(BINARY, "", "f", "f.sig") })),
        ),
        ("-b --homedir d f", Ok(Call::Sign(Sign { elsewhere: true, ..sign(BINARY, "", "f", "f.sig") }))),
        ("-b --keyring k f", Ok(Call::Sign(Sign { elsewhere: true, ..sign(BINARY, "", "f", "f.sig") }))),
        ("-s -u a f", Ok(Call::Inline { users: users("a"), elsewhere: false })),
        ("-se -r x -u a f", Ok(Call::Inline { users: users("a"), elsewhere: false })),
        ("-b --symmetric --homedir d f", Ok(Call::Inline { users: Vec::new(), elsewhere: true })),
        ("-e -r x f", Ok(Call::Other)),
        ("-K --keyid-format 0xLONG a b", Ok(Call::List(List { keyid: Keyid::HexLong, ..secret("a|b") }))),
        ("--fingerprint --list-secret-keys", Ok(Call::List(secret("")))),
        ("--homedir d -K F", Ok(Call::List(secret(F)))),
        ("--homedir d -K", Ok(Call::Other)),
        ("-k --with-secret a", Ok(Call::List(List { half: Half::Public { with_secret: true }, ..secret("a") }))),
        ("--homedir d -k F", Ok(Call::Other)),
        ("--no-default-keyring --keyring k --list-keys F", Ok(Call::Other)),
        ("--fingerprint", Ok(Call::Other)),
        ("-a --export", Ok(Call::Export(export("", true, "-")))),
        ("--export --export-options export-minimal F", Ok(Call::Export(export(F, false, "-")))),
        ("--export --export-options export-dane F", Ok(Call::Other)),
        ("--homedir d --export", Ok(Call::Other)),
        ("--export-secret-keys F", Ok(Call::Other)),
        ("", Ok(Call::Other)),
        ("f --detach-sign", Ok(Call::Other)),
        ("--import --what-a-later-gpg-has", Ok(Call::Other)),
        ("-h", Ok(Call::Other)),
        ("--clearsign f g", Err("only one file can be signed as cleartext")),
        ("--clearsign -e", Err("conflicting commands")),
        ("-e --clearsign", Err("conflicting commands")),
        ("-b -K", Err("conflicting commands")),
        ("--export -b", Err("conflicting commands")),
        ("-b --status-fd two", Err("invalid argument for option '--status-fd'")),
        ("-K --keyid-format wide", Err("invalid argument for option '--keyid-format'")),
        ("-b --what-a-later-gpg-has", Err("invalid option '--what-a-later-gpg-has'")),
        ("-b --status-fd", Err("missing argument for option '--status-fd'")),
    ];
    for (line, meant) in table {
        assert_eq!(parse(line), meant.map_err(String::from), "{line}");
    }
    // -1 is no descriptor, as in gpg.
    let Ok(Call::Sign(sign)) = parse("-b --status-fd -1 --logger-file l --passphrase-fd 3 -q") else { panic!("no signature") };
    assert_eq!(sign.around, Around { logger: Some(stream("l")), passphrase: Some(3), quiet: true, ..Around::default() });
}

#[test]
fn gpg_itself_writes_to_the_same_place() {
    let home = Home::with_key("ed25519");
    for line in [
        "-b f",
        "-ba f",
        "-bat f",
        "-b f g",
        "-b g f",
        "--clearsign f",
        "-b --clearsign f",
        "-sb f",
        "-bo - f",
        "-b",
        "-b -",
        "--clearsign -o x f",
        "-bo x -",
        "-s -o x f",
        "-e -b f",
        "-b -K",
        "-b -e --clearsign",
        "--clearsign f g",
        "-b f --armor",
        "-K",
        "-K nobody",
        "--export",
        "-b --armor=no f",
    ] {
        for name in ["f", "g"] {
            std::fs::write(home.path(name), b"x\n").unwrap();
        }
        let output = home.run(line);
        let Ok(Call::Sign(sign)) = parse(line) else {
            assert!(matches!(line, "-s -o x f" | "-K" | "--export") || !output.status.success(), "{line}");
            continue;
        };
        // The last of the files that "-b f --armor" names is not there.
        let there = sign.inputs.iter().all(|it| !matches!(it, Stream::File(path) if !home.path(path).exists()));
        assert_eq!(output.status.success(), there, "{line}");
        if let (Stream::File(path), true) = (&sign.output, there) {
            assert!(output.stdout.is_empty(), "{line}");
            let written = std::fs::read(home.path(path)).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(written.starts_with(b"-----BEGIN PGP SIGN"), sign.armor, "{line}");
            std::fs::remove_file(home.path(path)).unwrap();
        } else {
            assert_eq!(output.stdout.is_empty(), !there, "{line}");
        }
        for name in std::fs::read_dir(home.path(".")).unwrap().map(|it| it.unwrap().file_name()) {
            let extension = Path::new(&name).extension().and_then(|it| it.to_str());
            assert!(!matches!(extension, Some("sig" | "asc")), "{line} leaves {name:?}");
        }
    }
}
