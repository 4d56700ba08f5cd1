//! A tar of files in, a tar of their signatures out.

use crate::batch::{END, Running, content, entry, files, raw, recorded, session, signatures, tools};
use crate::ledger::Own;
use crate::world::{
    CONFIG, HOME, Outcome, Session, calls, changed, configuration, field, finish, scratch, succeed, verify, verify_file, world,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;
use tar::EntryType;

/// The line of README, as a shell runs it: packs what is in the directory, has it signed, unpacks the signatures beside it.
fn pipeline(directory: &str, pack: &str, request: &str, unpack: &str) -> Outcome {
    let ssh = world().ssh_command("build1");
    let words = std::iter::once(ssh.get_program()).chain(ssh.get_args()).map(|word| word.to_str().unwrap()).collect::<Vec<_>>();
    let line = format!("set -o pipefail; {pack} | {} {request} | {unpack}", words.join(" "));
    let mut command = Command::new("bash");
    finish(
        {
            command.args(["-c", &line]).current_dir(directory);
            command
        },
        b"",
    )
}

#[test]
fn a_directory_is_signed_by_nothing_but_tar_and_ssh() {
    world();
    let directory = scratch();
    for number in 0..20 {
        fs::write(format!("{directory}/package-{number}.rpm"), vec![number; 1500 * usize::from(number)]).unwrap();
    }
    let outcome = pipeline(&directory, "tar -c *.rpm", "sign-tar ed25519", "tar -x");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    for number in 0..20 {
        let file = format!("{directory}/package-{number}.rpm");
        verify_file("ed25519", &format!("{file}.sig"), &file);
    }
}

/// A configuration of keys by version 6, by SHA-256, and in another token, among the host's.
fn mixed() -> PathBuf {
    static CONFIG: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        crate::v6::config();
        let v6 = crate::v6::certificate("nistp256");
        let (rsa, more) = ("certificate = \"/etc/sigsh/rsa2048.pgp\"\n", "[client.build1]");
        let token = configuration().split_once("[key.").unwrap().0.split_once("[token.hsm]").unwrap().1.to_owned();
        // The same one, by another name: to sigsh it is another token, with processes of its own.
        let second = format!(
            "[token.second]{token}[key.other]\ntoken = \"second\"\nuri = \"pkcs11:object=ed25519;id=%07\"\n\
             certificate = \"/etc/sigsh/ed25519.pgp\"\nhash = \"sha384\"\n{more}"
        );
        changed(&[
            ("/etc/sigsh/nistp256.pgp", &v6),
            (rsa, &format!("{rsa}hash = \"sha256\"\n")),
            (more, &second),
            ("keys = [\"rsa2048\"", "inputs = [\"tar\", \"state\"]\nkeys = [\"other\", \"rsa2048\""),
        ])
    };
    CONFIG.get_or_init(make).clone()
}

fn run(config: impl AsRef<OsStr>, request: &str, files: &[Vec<u8>]) -> Outcome {
    session(config, request).run(&[files.concat(), END.to_vec()].concat())
}

#[track_caller]
fn names(outcome: &Outcome) -> Vec<String> {
    signatures(&outcome.out).iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn both_tars_on_both_ends() {
    world();
    for pack in ["tar -c", "tar --format=posix -c", "tar --format=ustar -c", "bsdtar -c", "bsdtar --format=pax -c"] {
        for unpack in ["tar -x", "bsdtar -x"] {
            let directory = scratch();
            fs::create_dir_all(format!("{directory}/sub/below")).unwrap();
            let long = format!("{}-long", "x".repeat(120));
            // A name that ustar cannot write down stays at home.
            let files = ["a", "b c", "sub/below/d", "empty", "sub/new\nline", long.as_str()];
            let files = if pack.contains("ustar") { &files[..5] } else { &files[..] };
            for name in files {
                let name = *name;
                fs::write(format!("{directory}/{name}"), if name == "empty" { "" } else { name }).unwrap();
            }
            let pack = if pack.starts_with("tar") { format!("{pack} .") } else { format!("{pack} -f - .") };
            let unpack = if unpack.starts_with("bsd") { format!("{unpack} -f -") } else { unpack.to_owned() };
            let outcome = pipeline(&directory, &pack, "sign-tar ed25519 --armor", &unpack);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{pack} {unpack}: {outcome:?}");
            for name in files {
                let file = format!("{directory}/{name}");
                assert!(fs::read(format!("{file}.asc")).unwrap().starts_with(b"-----BEGIN PGP SIGNATURE-----"));
                verify_file("ed25519", &format!("{file}.asc"), &file);
            }
        }
    }
}

#[test]
fn several_keys_sign_each_file_once() {
    let config = mixed();
    let data = [content(1), content(2), vec![]];
    let files = [entry(b"a", &data[0]), entry(b"sub/b", &data[1]), entry(b"c", &data[2])];
    // Of one token and of two, v4 and v6, SHA-256 with SHA-384 and SHA-512.
    for keys in [
        &["ed25519", "rsa3072"][..],
        &["rsa2048", "ed25519"],
        &["nistp256", "ed25519"],
        &["other", "rsa2048", "nistp256"],
        &["rsa4096", "other", "nistp521"],
        &["ed25519"],
    ] {
        for armor in [false, true] {
            let kind = if armor { "asc" } else { "sig" };
            let outcome = run(&config, &format!("sign-tar {} {}", keys.join(" "), if armor { "--armor" } else { "" }), &files);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{keys:?}");
            let expected = ["a", "sub/b", "c"].iter().flat_map(|name| {
                keys.iter().map(move |key| if keys.len() > 1 { format!("{name}.{key}.{kind}") } else { format!("{name}.{kind}") })
            });
            assert_eq!(names(&outcome), expected.collect::<Vec<_>>());
            for (at, (_, signature)) in signatures(&outcome.out).iter().enumerate() {
                let (data, key) = (&data[at / keys.len()], keys[at % keys.len()]);
                match key {
                    "nistp256" => crate::trixie::verify(&crate::v6::certificate(key), signature, data),
                    "other" => verify("ed25519", signature, data),
                    key => verify(key, signature, data),
                }
                assert_eq!(signature.starts_with(b"-----BEGIN PGP SIGNATURE"), armor);
                // Each has both of its records, with the digest by its own hash, and its place.
                let entry = (at + 1).to_string();
                let own = outcome.records.iter().filter(|record| field(record, "SIGSH_ENTRY") == entry).collect::<Vec<_>>();
                let [intent, signed] = own[..] else { panic!("{own:#?}") };
                let (hash, digest) = match key {
                    "rsa2048" => ("SIGSH_SHA256", hex::encode(Sha256::digest(data))),
                    "other" => ("SIGSH_SHA384", hex::encode(Sha384::digest(data))),
                    _ => ("SIGSH_SHA512", hex::encode(Sha512::digest(data))),
                };
                for (record, event) in [(intent, "intent"), (signed, "signed")] {
                    let fields = ["SIGSH_EVENT", "SIGSH_KEY", "SIGSH_MODE", "SIGSH_SIZE", hash].map(|name| field(record, name));
                    assert_eq!(fields, [event, key, "tar", &data.len().to_string(), &digest]);
                }
                assert_eq!(field(signed, "SIGSH_SIGNATURE_SHA256"), hex::encode(Sha256::digest(signature)));
            }
            assert_eq!(outcome.records.len(), 2 * 3 * keys.len());
        }
    }
}

#[test]
fn texts_in_a_tar() {
    let text = b"one \r\ntwo\n-three";
    let outcome = run(CONFIG, "sign-tar ed25519 --type text", &[entry(b"t", text), entry(b"u", b"")]);
    assert_eq!((outcome.code, names(&outcome)), (Some(0), vec!["t.sig".to_owned(), "u.sig".to_owned()]), "{outcome:?}");
    verify("ed25519", &signatures(&outcome.out)[0].1, text);
    verify("ed25519", &signatures(&outcome.out)[0].1, b"one \ntwo\r\n-three");
    verify("ed25519", &signatures(&outcome.out)[1].1, b"");
    assert!(outcome.records.iter().all(|record| field(record, "SIGSH_MODE") == "tar-text"));
    let bad = run(CONFIG, "sign-tar ed25519 --type text", &[entry(b"t", text), entry(b"u", b"one\rtwo\n"), entry(b"v", b"")]);
    assert_eq!((bad.code, names(&bad), tools(&bad.out)), (Some(65), vec!["t.sig".to_owned()], [false, false]));
    assert!(bad.err.starts_with("sigsh: error: u: the text has a carriage return without a line feed"), "{bad:?}");
}

/// Whatever a file is called, its signature is unpacked beside it.
#[test]
fn names_of_every_kind() {
    let deep = format!("{}/{}", vec!["d".repeat(200); 4].join("/"), "f".repeat(200));
    let long = |length: usize| "n".repeat(length).into_bytes();
    let mut names = vec![
        b"plain".to_vec(),
        b"two words".to_vec(),
        b"new\nline".to_vec(),
        b"\xff\xfe not utf-8".to_vec(),
        b"./dot".to_vec(),
        b"a/./b".to_vec(),
        b"-dash".to_vec(),
        b"%41".to_vec(),
        "ü".as_bytes().to_vec(),
        b"back\\slash".to_vec(),
        deep.clone().into_bytes(),
    ];
    // Around what the fields of a header hold, and with its `.sig`.
    names.extend([94, 95, 96, 97, 98, 99, 100, 101, 155, 156, 251].map(long));
    names.extend([95, 99, 100, 101, 150, 156].map(|length| [b"p/", &long(length)[..]].concat()));
    names.extend([251, 256].map(|length| format!("{}/f", "q/".repeat(length / 2)).into_bytes()));
    let (directory, mut files) = (scratch(), Vec::new());
    let path = |name: &[u8]| Path::new(&directory).join(OsStr::from_bytes(name));
    for name in &names {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), name).unwrap();
        files.push(entry(name, name));
    }
    let outcome = run(CONFIG, "sign-tar ed25519", &files);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(signatures(&outcome.out).len(), names.len());
    for tool in ["tar", "bsdtar"] {
        fs::write(format!("{directory}/answer"), &outcome.out).unwrap();
        succeed(Command::new(tool).args(["-xf", "answer"]).current_dir(&directory));
        for name in &names {
            let signature = path(&[name, &b".sig"[..]].concat());
            verify("ed25519", &fs::read(&signature).unwrap(), name);
            fs::remove_file(signature).unwrap();
        }
    }
}

#[test]
fn sparse_files_are_signed_as_they_are() {
    let directory = scratch();
    let file = fs::File::create(format!("{directory}/sparse")).unwrap();
    for at in [0, 1 << 20, 5 << 20] {
        file.write_all_at(b"data", at).unwrap();
    }
    file.set_len(8 << 20).unwrap();
    for pack in [
        "tar --sparse --format=gnu -c sparse",
        "tar --sparse --format=posix -c sparse",
        "tar --sparse --format=posix --sparse-version=0.0 -c sparse",
        "tar --sparse --format=posix --sparse-version=0.1 -c sparse",
        "bsdtar --format=pax -cf - sparse",
        "bsdtar --read-sparse --format=pax -cf - sparse",
    ] {
        let outcome = pipeline(&directory, pack, "sign-tar ed25519", "tar -x");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{pack}");
        verify_file("ed25519", &format!("{directory}/sparse.sig"), &format!("{directory}/sparse"));
        fs::remove_file(format!("{directory}/sparse.sig")).unwrap();
    }
}

/// Holes cost the sender nothing: as many as one file can have, and as many as there were bytes.
#[test]
fn more_holes_than_can_be_signed_at_once() {
    world();
    let config = changed(&[("keys = [\"rsa2048\"", "inputs = [\"tar\"]\nmax-size = \"1KiB\"\nkeys = [\"rsa2048\"")]);
    let hole = |name: &[u8]| {
        let mut header = tar::Header::from_byte_slice(&raw(name, EntryType::GNUSparse, "", 0)).clone();
        let gnu = header.as_gnu_mut().unwrap();
        (gnu.sparse[0].offset, gnu.sparse[0].numbytes) = (*b"00000002000\0", *b"00000000000\0");
        gnu.realsize = *b"00000002000\0";
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let data = entry(b"data", &[b'd'; 1024]);
    let good = run(&config, "sign-tar ed25519", &[hole(b"a"), data.clone(), hole(b"b"), data.clone(), hole(b"c")]);
    assert_eq!((good.code, names(&good).len()), (Some(0), 5), "{good:?}");
    let bad = run(&config, "sign-tar ed25519", &[hole(b"a"), data, hole(b"b"), hole(b"c")]);
    assert_eq!((bad.code, names(&bad).len(), tools(&bad.out)), (Some(65), 3, [false, false]), "{bad:?}");
    let line =
        "sigsh: error: c: the tar has more holes than can be signed at once\nsigsh: hint: send fewer sparse files at a time\n";
    assert!(bad.err.starts_with(line), "{bad:?}");
}

#[test]
fn a_tar_with_nothing_to_sign() {
    let directory = raw(b"directory/", EntryType::Directory, "", 0);
    for input in [END.to_vec(), [directory, END.to_vec()].concat(), vec![0; 10240]] {
        let outcome = session(CONFIG, "sign-tar ed25519").run(&input);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(65), "sigsh: error: the input holds nothing to sign\n"));
        assert_eq!((names(&outcome).len(), tools(&outcome.out)), (0, [false, false]));
    }
    let outcome = session(mixed(), "sign-state ed25519").run(b"\n\n");
    outcome.fails(65, "the input holds nothing to sign", "failed", "nothing to sign");
}

#[test]
fn what_an_empty_request_of_a_client_of_tars_means() {
    world();
    let config = changed(&[("keys = [\"rsa2048\"", "request = \"sign-tar ed25519 --armor\"\nkeys = [\"rsa2048\"")]);
    let outcome = run(&config, "", &[entry(b"a", b"x")]);
    assert_eq!((outcome.code, names(&outcome)), (Some(0), vec!["a.asc".to_owned()]), "{outcome:?}");
}

/// Before anything is read: the code, one line, nothing of the input taken, and an answer that no tar takes for a good one.
#[test]
fn a_batch_that_is_refused_is_seen_to_fail() {
    world();
    let inputs = |inputs: &str| changed(&[("keys = [\"rsa2048\"", &format!("inputs = [{inputs}]\nkeys = [\"rsa2048\""))]);
    let (artifacts, all) = (inputs("\"artifact\""), inputs("\"artifact\", \"tar\", \"state\""));
    let nine = "sign-tar ".to_owned() + &(0..9).map(|n| format!("k{n}")).collect::<Vec<_>>().join(" ");
    // A tar declares nothing, and a client that must declare something cannot go round that by sending one.
    let declaring = changed(&[("keys = [\"rsa2048\"", "require = [\"digest\"]\nkeys = [\"rsa2048\"")]);
    let missing = changed(&[("/etc/sigsh/ed25519.pgp", "/etc/sigsh/absent.pgp")]);
    let wrong = format!("{HOME}/wrong.toml");
    fs::write(&wrong, "nonsense").unwrap();
    let full = crate::batch::JOURNAL;
    let journal = changed(&[(full, "/run/absent")]);
    let host = PathBuf::from(CONFIG);
    for (config, request, code, line) in [
        (&artifacts, "sign-tar ed25519", 77, "this client may not send tar input"),
        (&declaring, "sign-tar ed25519", 77, "this client may not send tar input"),
        (&host, "sign-tar unknown", 77, "key not permitted"),
        (&host, "sign-tar ed25519 unknown rsa2048", 77, "key not permitted"),
        (&host, &nine, 64, "a request may name at most 8 keys"),
        (&host, "sign-tar ed25519 ed25519", 64, "the request names a key twice"),
        (&host, "sign-tar --size 1", 64, "the request has an unknown option or a word too many"),
        (&host, "sign-tar 'ed25519", 64, "a quote in the request is not closed"),
        (&missing, "sign-tar ed25519", 78, "sigsh is not set up properly on this host"),
        (&PathBuf::from(&wrong), "sign-tar ed25519", 78, "sigsh is not set up properly on this host"),
        (&journal, "sign-tar ed25519", 74, "the journal cannot record this, so nothing is signed"),
    ] {
        let outcome = run(config, request, &[entry(b"a", b"x")]);
        // Where output or audit failed, a signature may have left in part: more headers than one has blocks.
        let blocks = if code == 74 { 25 } else { 1 };
        assert_eq!((outcome.code, names(&outcome).len(), outcome.out.len()), (Some(code), 0, 512 * blocks), "{request}");
        assert_eq!(outcome.err.lines().next(), Some(format!("sigsh: error: {line}").as_str()), "{request}");
        assert_eq!(tools(&outcome.out), [false, false], "{request}");
        if code != 74 {
            assert_eq!(field(outcome.records.last().unwrap(), "SIGSH_CODE"), code.to_string());
        }
    }
    let stranger = Session::new(CONFIG).client("stranger").request("sign-tar").run(&END);
    assert_eq!((stranger.code, tools(&stranger.out)), (Some(77), [false, false]));
    // States are answered by lines: their answer just ends.
    for (config, request, code, line) in [
        (&artifacts, "sign-state ed25519", 77, "this client may not send state input"),
        (&all, "sign-state unknown", 77, "key not permitted"),
        (&mixed(), "sign-state nistp256", 64, "this key signs no hash states: it is of version 6"),
    ] {
        session(config, request).run(b"").fails(code, line, "refused", "");
    }
}

/// What spoils a batch does so from there on: what came before is released, good and recorded; the line names the entry.
#[test]
fn a_bad_entry_ends_a_batch() {
    world();
    let good = |name: &[u8]| entry(name, b"x");
    let small = ("keys = [\"rsa2048\"", "max-size = \"2KiB\"\nkeys = [\"rsa2048\"");
    let symlink = raw(b"a link", EntryType::Symlink, "file-1", 0);
    let cut = |at: usize| entry(b"file-4", &content(1))[..at].to_vec();
    for (what, bytes, line) in [
        ("symlink", symlink, "a%20link: the tar has an entry that is a link"),
        ("hard link", raw(b"l", EntryType::Link, "file-1", 0), "l: the tar has an entry that is a link"),
        ("device", raw(b"d", EntryType::Char, "", 0), "d: the tar has an entry that is a device or a fifo"),
        ("fifo", raw(b"f", EntryType::Fifo, "", 0), "f: the tar has an entry that is a device or a fifo"),
        ("absolute", raw(b"/etc/passwd", EntryType::Regular, "", 0), "/etc/passwd: the tar has a name that cannot be used"),
        ("upwards", raw(b"a/../../b", EntryType::Regular, "", 0), "a/../../b: the tar has a name that cannot be used"),
        ("cut in a header", cut(300), "the tar is cut off"),
        ("cut in a file", cut(700), "file-4: the tar is cut off"),
        ("cut behind a file", cut(1530), "file-4: the tar is cut off"),
        ("a second archive", [END.to_vec(), good(b"file-4")].concat(), "the tar has something behind its end"),
        ("no tar", b"garbage!".repeat(64), "the input is not a tar, or a broken one"),
        ("too long", entry(b"new\nline", &[b'x'; 2049]), "new%0Aline: the input is longer than declared or allowed"),
        ("too long in words", raw(b"h", EntryType::Regular, "", 1 << 40), "h: the input is longer than declared or allowed"),
    ] {
        let own = Own::faulty(crate::batch::JOURNAL, "", &[small]);
        own.init();
        let last = if what.starts_with("cut") { vec![] } else { [good(b"file-5"), END.to_vec()].concat() };
        let mut running = Running::start(&own.config, "sign-tar ed25519");
        running.send(&[files(1), files_from(2), files_from(3), bytes, last].concat());
        drop(running.stdin.take());
        let outcome = running.end();
        recorded(&own, &outcome, 65, line, 3, |_| content(1));
        assert_eq!(tools(&outcome.out), [false, false], "{what}");
        assert_eq!(calls(&own.count, "C_SignInit"), 3, "{what}");
        let name = line.split_once(": ").map_or("", |(name, _)| name);
        assert_eq!(field(outcome.records.last().unwrap(), "SIGSH_NAME"), name, "{what}");
        assert!(outcome.err.lines().nth(1).is_none_or(|hint| hint.starts_with("sigsh: hint: ")), "{outcome:?}");
        assert!(outcome.err.lines().count() <= 2 && (what.contains("too long") || outcome.err.lines().count() == 2), "{outcome:?}");
    }
}

/// The same content under the next name.
fn files_from(number: usize) -> Vec<u8> {
    entry(format!("file-{number}").as_bytes(), &content(1))
}

/// In a pipe the exit code of ssh is lost: tar itself fails, whichever it is, and what came before is there.
#[test]
fn tar_fails_where_the_batch_did() {
    world();
    for unpack in ["tar -x", "bsdtar -xf -"] {
        for (pack, request, signed) in [
            ("tar -c a b link c", "sign-tar ed25519", &["a", "b"][..]),
            ("tar -c a b | head -c 1300", "sign-tar ed25519", &["a"]),
            ("cat a", "sign-tar ed25519", &[]),
            ("tar -c a b", "sign-tar unknown", &[]),
            ("tar -c a b", "sign-tar --frobnicate", &[]),
        ] {
            let directory = scratch();
            for name in ["a", "b", "c"] {
                fs::write(format!("{directory}/{name}"), name.repeat(200)).unwrap();
            }
            std::os::unix::fs::symlink("a", format!("{directory}/link")).unwrap();
            // Without the shell's help: the code is the last one's.
            let outcome = pipeline(&directory, &format!("set +o pipefail; {pack}"), request, unpack);
            assert_ne!(outcome.code, Some(0), "{unpack} {pack}: {outcome:?}");
            assert!(outcome.err.contains("sigsh: error: "), "{outcome:?}");
            for name in ["a", "b", "c"] {
                let (file, signature) = (format!("{directory}/{name}"), format!("{directory}/{name}.sig"));
                assert_eq!(Path::new(&signature).exists(), signed.contains(&name), "{unpack} {pack}: {name}");
                if signed.contains(&name) {
                    verify_file("ed25519", &signature, &file);
                }
            }
        }
    }
}

/// Two batches that name the keys of two tokens in opposite orders do not keep them from each other.
#[test]
fn two_tokens_are_taken_in_one_order() {
    let one = fs::read_to_string(mixed()).unwrap().replace("timeout = \"20s\"", "timeout = \"20s\"\nsessions = 1\nqueue = \"8s\"");
    let config = PathBuf::from("/etc/sigsh/one-session.toml");
    fs::write(&config, one).unwrap();
    let mut holder = Running::start(&config, "sign-tar other");
    holder.send(&entry(b"a", b"x"));
    holder.receive(1);
    // The first of these waits for what the holder has; the others would take it from under its nose, and then want what it has.
    let start = |request: &str| {
        let mut running = Running::start(&config, request);
        running.send(&[entry(b"a", b"x"), END.to_vec()].concat());
        drop(running.stdin.take());
        running
    };
    let first = start("sign-tar ed25519 other");
    sleep(Duration::from_millis(500));
    let others = (0..5).map(|_| start("sign-tar other ed25519")).collect::<Vec<_>>();
    sleep(Duration::from_millis(500));
    holder.send(&END);
    drop(holder.stdin.take());
    assert_eq!(holder.end().code, Some(0));
    for running in others.into_iter().chain([first]) {
        let outcome = running.end();
        assert_eq!((outcome.code, names(&outcome).len()), (Some(0), 2), "{:?}", outcome.err);
    }
}
