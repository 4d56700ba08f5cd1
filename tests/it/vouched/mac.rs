//! What a build endorses by a MAC. The other side is Python, and the page's Perl.

use crate::ledger::Own;
use crate::sandbox::all_misfits;
use crate::separation::{DIED, Ending, HUNG, NONSENSE, session_of};
use crate::token::group;
use crate::vouched::{LONG, admit_guarded, after, base64, declare, emergency, ends_in_time, fingerprint, guarded, new_key, print};
use crate::world::{
    HOME, HOST, Outcome, PORT, Session, all_of, calls, changed, faulty, field, finish_child, patient, scratch, secret, ssh_key,
    succeed, verify, world,
};
use sha2::{Digest, Sha512};
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::sandbox::Profile;
use sigsh::sandbox::syscalls::Libc;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

/// What the file for MACs holds: 32 bytes.
pub const MASTER: &str = "correct-horse-4711-staple-magnet";
const KEY: &str = "ed25519";
const DATA: &[u8] = b"what the build has made";
const WRONG: &str = "the endorsement is a MAC by another nonce, or of something else";
const NO_LINE: &str =
    "the endorsement is not one line of mac-v1, ID, NOT-BEFORE, NOT-AFTER, MAX and HEX, with one blank between them";

/// The table of a key that takes MACs, with a file of this name and this in it.
pub fn table(name: &str, master: &str) -> String {
    world();
    let path = format!("/etc/sigsh/{name}.mac");
    secret(&path, master);
    format!("endorsement = {{ mac-file = \"{path}\" }}")
}

fn config(name: &str) -> PathBuf {
    guarded(KEY, &table(name, MASTER))
}

/// By Python: the hexadecimal digits.
fn hmac(key: &[u8], text: &[u8]) -> String {
    let script = "import hmac, sys; print(hmac.digest(*map(bytes.fromhex, sys.argv[1:]), 'sha512').hex())";
    let output = succeed(Command::new("python3").args(["-c", script, &hex::encode(key), &hex::encode(text)]));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What a nonce is for, and what a build says.
#[derive(Clone)]
pub struct Build {
    pub key: String,
    host: String,
    id: String,
    begin: String,
    end: String,
    pub max: String,
    size: String,
    digest: String,
}

impl Build {
    /// Granted now, and for so many seconds.
    pub fn new(end: i64) -> Build {
        let digest = format!("sha512:{}", hex::encode(Sha512::digest(DATA)));
        let [host, id, max, size] = [HOST, "build-1234", "64", &DATA.len().to_string()].map(str::to_owned);
        Build { key: fingerprint(KEY), host, id, begin: after(0), end: after(end), max, size, digest }
    }

    fn scope(&self) -> String {
        let Build { key, host, id, begin, end, max, .. } = self;
        format!("key {key}\nhost {host}\nid {id}\nnot-before {begin}\nnot-after {end}\nmax {max}\n")
    }

    fn nonce(&self) -> String {
        hmac(MASTER.as_bytes(), format!("sigsh permit\0permit-v1\n{}", self.scope()).as_bytes())
    }

    fn mac(&self, nonce: &str) -> String {
        let text = format!("endorse-v1\n{}size {}\ndigest {}\n", self.scope(), self.size, self.digest);
        hmac(&hex::decode(nonce).unwrap(), text.as_bytes())
    }

    fn line(&self, mac: &str) -> String {
        format!("mac-v1 {} {} {} {} {mac}\n", self.id, self.begin, self.end, self.max)
    }

    /// What it says of this artifact in place of [`DATA`].
    pub fn of(self, data: &[u8]) -> Build {
        let digest = format!("sha512:{}", hex::encode(Sha512::digest(data)));
        Build { size: data.len().to_string(), digest, ..self }
    }

    pub fn endorsement(&self) -> String {
        self.line(&self.mac(&self.nonce()))
    }
}

fn request(line: &str) -> String {
    format!("{} --endorsement {}", declare(KEY, "sha512", DATA), base64(line.as_bytes()))
}

fn run(config: &Path, line: &str) -> Outcome {
    Session::new(config).client("build1").request(&request(line)).run(DATA)
}

#[track_caller]
fn signs(outcome: &Outcome) {
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify(KEY, &outcome.out, DATA);
}

/// To judge it needs no call that a session does not make anyway.
#[test]
fn it_needs_no_further_system_call() {
    let session = Session::new(config("traced")).client("build1").request(&request(&Build::new(3600).endorsement()));
    let misfits = all_misfits(Libc::OURS, Profile::Softhsm, [(session, DATA.to_vec(), 0)]);
    assert_eq!(misfits.into_iter().filter(|misfit| misfit.ends_with("has no row")).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn what_a_build_endorses_is_signed() {
    let (config, build) = (config("signed"), Build::new(3600));
    let outcome = run(&config, &build.endorsement());
    signs(&outcome);
    let signed = outcome.records.last().unwrap();
    let names = ["SIGSH_EVENT", "SIGSH_ENDORSED", "SIGSH_PERMIT_BY", "SIGSH_PERMIT_SERIAL", "SIGSH_PERMIT_ID"];
    assert_eq!(names.map(|name| field(signed, name)), ["signed", "mac", "", "", "build-1234"]);
    let [begin, end] = [&build.begin, &build.end]
        .map(|time| humantime::parse_rfc3339(time).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    assert_eq!(field(signed, "SIGSH_PERMITS"), format!("mac:{}:build-1234:{begin}:{end}", build.key));
}

/// One thing after the other is another one in the nonce, in the text, in the line, in the request.
#[test]
fn each_field_counts() {
    let (config, good) = (config("fields"), Build::new(3600));
    let (nonce, endorsement) = (good.nonce(), good.endorsement());
    let mac = good.mac(&nonce);
    let other = |change: &dyn Fn(&mut Build)| {
        let mut build = good.clone();
        change(&mut build);
        build
    };
    let scopes = [
        other(&|build| build.key = fingerprint("rsa2048")),
        other(&|build| build.key = build.key.to_lowercase()),
        other(&|build| build.host = "sign2.example.org".to_owned()),
        other(&|build| build.id = "build-1235".to_owned()),
        other(&|build| build.begin = after(-9)),
        other(&|build| build.end = after(3609)),
        other(&|build| build.max = "65".to_owned()),
    ];
    let mut table = vec![("good", endorsement.clone(), "")];
    for scope in &scopes {
        // A nonce that was printed for something else; one that was printed for this, and a text that says something else; and a
        // MAC that was right, in a line that says something else.
        table.push(("nonce", good.line(&good.mac(&scope.nonce())), WRONG));
        table.push(("text", good.line(&scope.mac(&nonce)), WRONG));
        table.push(("all but the line", good.line(&scope.mac(&scope.nonce())), WRONG));
    }
    // Key and host do not stand in the line.
    table.extend(scopes[3..].iter().map(|scope| ("line", scope.line(&mac), WRONG)));
    for build in [
        other(&|build| build.size = "22".to_owned()),
        other(&|build| build.digest = build.digest.replace("sha512", "sha256")),
        other(&|build| build.digest = format!("sha512:{}", hex::encode(Sha512::digest(b"something else")))),
        other(&|build| build.digest = build.digest.to_uppercase().replace("SHA", "sha")),
    ] {
        table.push(("artifact", good.line(&build.mac(&nonce)), WRONG));
    }
    let without_tag = hmac(MASTER.as_bytes(), format!("permit-v1\n{}", good.scope()).as_bytes());
    table.extend([
        ("no tag", good.line(&good.mac(&without_tag)), WRONG),
        ("the nonce itself", good.line(&nonce), WRONG),
        ("the master as nonce", good.line(&good.mac(&hex::encode(MASTER))), WRONG),
        ("zeros", good.line(&"0".repeat(128)), WRONG),
        ("63 bytes", good.line(&mac[..126]), NO_LINE),
        ("65 bytes", good.line(&format!("{mac}00")), NO_LINE),
        ("upper case", good.line(&mac.to_uppercase()), NO_LINE),
        ("trailing bytes", format!("{endorsement}\0"), NO_LINE),
        ("two lines", endorsement.repeat(2), NO_LINE),
        ("no newline", endorsement.trim_end().to_owned(), NO_LINE),
    ]);
    all_of(&table, |(what, line, error)| match *error {
        "" => signs(&run(&config, line)),
        error => {
            let outcome = run(&config, line);
            outcome.fails(77, error, "refused", error);
            assert_eq!(outcome.records.len(), 1, "{what}: {outcome:#?}");
        }
    });

    // Of another artifact, and by another key.
    let session = |config: &Path, key: &str, data: &[u8]| {
        let request = format!("{} --endorsement {}", declare(key, "sha512", data), base64(endorsement.as_bytes()));
        Session::new(config).client("build1").request(&request).run(data)
    };
    session(&config, KEY, b"something else").fails(77, WRONG, "refused", WRONG);
    let both = "endorsement = { mac-file = \"/etc/sigsh/fields.mac\" }";
    session(&guarded("rsa2048", both), "rsa2048", DATA).fails(77, WRONG, "refused", WRONG);
    let elsewhere = format!("{}elsewhere.toml", scratch());
    fs::write(&elsewhere, fs::read_to_string(&config).unwrap().replace(HOST, "sign2.example.org")).unwrap();
    session(Path::new(&elsewhere), KEY, DATA).fails(77, WRONG, "refused", WRONG);
    let outcome = Session::new(&config).client("build1").request(&declare(KEY, "sha512", DATA)).run(DATA);
    outcome.fails(77, "the endorsement is missing: this key signs what a build has endorsed", "refused", "missing");
}

#[test]
fn it_begins_and_ends_in_time() {
    let config = config("time");
    let (ended, just) = (Build { begin: after(-60), ..Build::new(0) }, Build::new(20));
    let line = format!("the endorsement has expired: it held until {}", ended.end);
    run(&config, &ended.endorsement()).fails(77, &line, "refused", "has expired");
    signs(&run(&config, &just.endorsement()));
    let ahead = Build { begin: after(30), ..Build::new(60) };
    let line = format!("the endorsement does not hold yet: it does from {} on", ahead.begin);
    run(&config, &ahead.endorsement()).fails(77, &line, "refused", "does not hold yet");
    let lasting = |seconds: u64| {
        let begin = after(-3600);
        let end = humantime::parse_rfc3339(&begin).unwrap() + Duration::from_secs(seconds);
        Build { begin, end: humantime::format_rfc3339_seconds(end).to_string(), ..Build::new(0) }
    };
    signs(&run(&config, &lasting(24 * 3600).endorsement()));
    let line = "the endorsement holds for longer than 1day, as none may";
    run(&config, &lasting(24 * 3600 + 1).endorsement()).fails(77, line, "refused", line);
    let late = ends_in_time(&config, |seconds| {
        let build = Build::new(seconds as i64).of(LONG);
        let request = format!("{} --endorsement {}", declare(KEY, "sha512", LONG), base64(build.endorsement().as_bytes()));
        (request, humantime::parse_rfc3339(&build.end).unwrap())
    });
    late.fails(
        77,
        late.err.trim_start_matches("sigsh: error: ").trim_end(),
        "refused",
        "the endorsement has expired: it held until ",
    );
}

/// What is counted begins when it was granted: another `max-age` changes nothing of that, and a ledger that was begun anew in place of
/// another believes what was granted since, and nothing else.
#[test]
fn it_is_counted_from_when_it_was_granted() {
    world();
    let certificate = format!("certificate = \"/etc/sigsh/{KEY}.pgp\"\n");
    let guarded = format!("{certificate}{}\n", table("counted", MASTER));
    let own = Own::faulty("/run/systemd/journal/socket", "", &[(&certificate, &guarded)]);
    own.init();
    let once = |begin: i64| Build { begin: after(begin), max: "1".to_owned(), ..Build::new(7200) };
    let early = once(-7200).endorsement();
    signs(&run(&own.config, &early));
    let used_up = "what permits this is used up: it was good for 1 signature, made or tried";
    run(&own.config, &early).fails(77, used_up, "refused", used_up);
    let shorter = fs::read_to_string(&own.config).unwrap().replace("counted.mac\"", "counted.mac\", max-age = \"3h\"");
    fs::write(&own.config, shorter).unwrap();
    let long = "the endorsement holds for longer than 3h, as none may";
    run(&own.config, &early).fails(77, long, "refused", long);

    succeed(Command::new("chattr").arg("-a").arg(&own.ledger));
    fs::rename(&own.ledger, own.directory.join("lost")).unwrap();
    own.init();
    std::thread::sleep(Duration::from_secs(1));
    signs(&run(&own.config, &once(0).endorsement()));
    let reason = "the ledger does not reach back as far as what permits this";
    let not_set_up = "sigsh is not set up properly on this host";
    run(&own.config, &once(-60).endorsement()).fails(78, not_set_up, "refused", reason);
}

/// Whoever puts other bytes into the file ends what is under way by it, too.
#[test]
fn a_file_that_changes_during_an_upload_signs_nothing() {
    world();
    let certificate = format!("certificate = \"/etc/sigsh/{KEY}.pgp\"\n");
    let changes: [fn(&str); 3] = [
        |file| fs::write(file, MASTER.replace("4711", "4712")).unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| {
            fs::copy(file, format!("{file}.new")).unwrap();
            fs::rename(format!("{file}.new"), file).unwrap();
        },
    ];
    for change in changes {
        let guarded = format!("{certificate}{}\n", table("rotated", MASTER));
        let (config, count) = faulty("", &[(&certificate, &guarded)]);
        let mut child = Session::new(&config).client("build1").request(&request(&Build::new(600).endorsement())).start();
        child.stdin.as_mut().unwrap().write_all(&DATA[..5]).unwrap();
        // The module is loaded once the MAC was found right.
        patient(|| calls(&count, "C_Initialize") > 0);
        change("/etc/sigsh/rotated.mac");
        finish_child(child, &DATA[5..]).fails_quietly(75, "what says who may endorse or approve has changed");
        assert_eq!(calls(&count, "C_SignInit"), 0);
    }
}

/// The monitor sees whether the file for MACs stays, by a descriptor that shows no byte of it.
fn watched(pid: i32, file: &str) -> Vec<bool> {
    let found = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let is_path = |fd: PathBuf| {
        let info = fs::read_to_string(fd.to_str().unwrap().replace("/fd/", "/fdinfo/")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
        i32::from_str_radix(&flags, 8).unwrap() & nix::libc::O_PATH != 0
    };
    found.filter(|fd| fs::read_link(fd).is_ok_and(|to| to == Path::new(file))).map(is_path).collect()
}

#[test]
fn an_id_can_be_revoked() {
    let list = "/etc/sigsh/revoked-macs";
    fs::write(list, "mac: build-1234\n").unwrap();
    let table = table("revoked", MASTER).replace(" }", &format!(", revoked = \"{list}\" }}"));
    let config = guarded(KEY, &table);
    let line = "the endorsement is by a permit that is revoked";
    run(&config, &Build::new(3600).endorsement()).fails(77, line, "refused", line);
    signs(&run(&config, &Build { id: "build-1235".to_owned(), ..Build::new(3600) }.endorsement()));
}

#[test]
fn a_key_that_takes_other_endorsements_takes_no_mac() {
    let config = guarded(KEY, &format!("endorsement = {{ ssh-ca = [\"{}\"] }}", print(&new_key("ed25519"))));
    let line = "the endorsement is a MAC, which this key does not take";
    run(&config, &Build::new(3600).endorsement()).fails(77, line, "refused", line);
}

/// Who breaks the glass needs no endorsement: one that comes along is neither judged nor waited for.
#[test]
fn a_mac_beside_broken_glass_is_not_looked_at() {
    let (key, people) = (new_key("ed25519"), "/etc/sigsh/glass-macs");
    fs::write(people, format!("carol@example.org {}", fs::read_to_string(format!("{key}.pub")).unwrap())).unwrap();
    let glass = format!("{}\nbreak-glass = {{ need = 1, approvers = \"{people}\" }}", table("glass", MASTER));
    let (config, build) = (guarded(KEY, &glass), Build::new(600));
    let words = emergency(&key, KEY, DATA, &build.end);
    let request = |line: &str| format!("{}{words}", request(line));
    let session = |request: &str| Session::new(&config).client("build1").request(request).run(DATA);
    signs(&session(&request(&build.line(&"0".repeat(128)))));
    let outcome = session(&request(&build.endorsement()).replace(&build.end, &after(601)));
    assert_eq!((outcome.code, outcome.out.len(), outcome.records.len()), (Some(77), 0, 1), "{outcome:#?}");
}

/// A file that is not as it should be: for MACs it is an error, and others never open it.
#[test]
fn the_file_is_a_secret_of_32_bytes() {
    let (not_set_up, failed) = ("sigsh is not set up properly on this host", "the token failed");
    let chmod = |mode| move |path: &str| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let write = |text: String| move |path: &str| secret(path, &text);
    type Spoil<'a> = &'a dyn Fn(&str);
    let table: [(&str, Spoil<'_>, i32, &str, &str); 10] = [
        ("31 bytes", &write(MASTER[..31].to_owned()), 69, failed, "has 31 bytes instead of 32"),
        ("33 bytes", &write(format!("{MASTER}\n")), 69, failed, "has 33 bytes instead of 32"),
        ("empty", &write(String::new()), 69, failed, "has 0 bytes instead of 32"),
        ("missing", &|path| fs::remove_file(path).unwrap(), 69, failed, "no such file or directory"),
        ("unreadable", &chmod(0o600), 69, failed, "permission denied"),
        ("for all to read", &chmod(0o644), 78, not_set_up, "readable by others (mode 644)"),
        ("for the group to write", &chmod(0o660), 78, not_set_up, "writable by group or others (mode 660)"),
        ("another's", &|path| std::os::unix::fs::chown(path, Some(65534), None).unwrap(), 78, not_set_up, "belongs to user 65534"),
        (
            "a link",
            &|path| {
                fs::rename(path, format!("{path}.real")).unwrap();
                symlink(format!("{path}.real"), path).unwrap();
            },
            78,
            not_set_up,
            "is a symbolic link",
        ),
        (
            "a directory",
            &|path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            78,
            not_set_up,
            "is not a regular file",
        ),
    ];
    let endorsement = Build::new(3600).endorsement();
    for (number, (what, spoil, code, line, reason)) in table.into_iter().enumerate() {
        let name = format!("spoilt{number}");
        let config = config(&name);
        spoil(&format!("/etc/sigsh/{name}.mac"));
        let outcome = run(&config, &endorsement);
        outcome.fails(code, line, if code == 69 { "failed" } else { "refused" }, reason);
        assert!(outcome.records.len() == 1, "{what}: {outcome:#?}");
        for other in ["mac-v2 x\n", "-----BEGIN SSH SIGNATURE-----\n"] {
            assert_eq!(run(&config, other).code, Some(77), "{what}: {other}");
        }
    }
}

/// The token process has neither read its PIN nor loaded its module by then.
#[test]
fn a_wrong_mac_never_reaches_the_token() {
    world();
    let certificate = format!("certificate = \"/etc/sigsh/{KEY}.pgp\"\n");
    let guarded = format!("{certificate}{}\n", table("unreached", MASTER));
    let (config, count) = faulty("", &[(&certificate, &guarded)]);
    let good = Build::new(3600);
    run(&config, &good.line(&"0".repeat(128))).fails(77, WRONG, "refused", WRONG);
    assert_eq!(fs::read_to_string(&count).unwrap(), "");
    signs(&run(&config, &good.endorsement()));
    assert_eq!((calls(&count, "C_Initialize"), calls(&count, "C_Login")), (1, 1));
}

/// Which of these stand anywhere in the memory of a process.
fn remembered(pid: i32, traces: &[Vec<u8>]) -> Vec<usize> {
    let script = "import sys\nmemory, found = open(f'/proc/{sys.argv[1]}/mem', 'rb', 0), set()\n\
                  for line in open(f'/proc/{sys.argv[1]}/maps'):\n    \
                      start, end = (int(part, 16) for part in line.split()[0].split('-'))\n    \
                      if line.split()[1][0] != 'r' or '[v' in line: continue\n    \
                      memory.seek(start); content = memory.read(end - start)\n    \
                      assert len(content) == end - start, line\n    \
                      found |= {at for at, trace in enumerate(sys.argv[2:]) if bytes.fromhex(trace) in content}\n\
                  print(*sorted(found))";
    let traces = traces.iter().map(hex::encode);
    let output = succeed(Command::new("python3").args(["-c", script, &pid.to_string()]).args(traces));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(|at| at.parse().unwrap()).collect()
}

/// Neither the file's bytes, nor the nonce, nor either as HMAC pads it, nor the state that comes of that: once the module is loaded,
/// nobody has any of them; and the monitor and the hasher never had.
#[test]
fn the_secret_is_gone_when_the_module_is_loaded() {
    world();
    let certificate = format!("certificate = \"/etc/sigsh/{KEY}.pgp\"\n");
    let guarded = format!("{certificate}{}\n", table("gone", MASTER));
    let (config, count) = faulty("", &[(&certificate, &guarded)]);
    let build = Build::new(3600);
    let nonce = hex::decode(build.nonce()).unwrap();
    let mut traces = Vec::new();
    for key in [MASTER.as_bytes(), &nonce] {
        traces.extend([key.to_vec(), hex::encode(key).into_bytes()]);
        for pad in [0x36, 0x5c, 0x36 ^ 0x5c] {
            let mut block = key.iter().map(|byte| byte ^ pad).collect::<Vec<_>>();
            traces.push(block.clone());
            block.resize(128, pad);
            let mut state = HashState::new(HashAlgorithm::Sha512);
            state.update(&block);
            traces.push(state.export(|state| state[..64].to_vec()));
        }
    }
    let mut session = Session::new(&config).client("build1").request(&request(&build.endorsement()));
    session.command.process_group(0);
    let child = session.start();
    let monitor = child.id().cast_signed();
    patient(|| calls(&count, "C_Initialize") == 1);
    let processes = group(child.id());
    assert_eq!(processes.len(), 3, "{processes:?}");
    // Said in the request, which the monitor has read, and read before it forked the token process: what is there is found.
    let id = b"build-1234".to_vec();
    for (pid, name) in processes {
        assert_eq!(
            (remembered(pid, &traces), name != "sigsh-hasher"),
            (vec![], remembered(pid, std::slice::from_ref(&id)) == [0]),
            "{name}"
        );
        let expected: &[bool] = if pid == monitor { &[true] } else { &[] };
        assert_eq!(watched(pid, "/etc/sigsh/gone.mac"), expected, "{name}");
    }
    signs(&finish_child(child, DATA));
}

/// Whatever a token process does that was taken over when it is asked, or says where nothing was asked.
#[test]
fn an_evil_token_process_gets_nowhere() {
    let long = config("evil");
    let short = PathBuf::from("/etc/sigsh/evil-short.toml");
    fs::write(&short, fs::read_to_string(&long).unwrap().replace("timeout = \"20s\"", "timeout = \"2s\"")).unwrap();
    let fault: Ending = (69, "the token failed", "failed", "the module failed: ?[2Jx?SIGSH_EVENT=signed?SIGSH_CLIENT=other");
    let stages = ["vouch-leave", "vouch-exit-1", "vouch-kill", "vouch-segv", "vouch-empty"].map(|act| (act, DIED)).to_vec();
    let nonsense = ["nonsense", "oversized", "huge", "trailing", "loaded", "open", "signed"]
        .map(|act| format!("vouch-{act}"))
        .into_iter()
        .map(|act| (act, NONSENSE));
    let more = [("vouch-hang", HUNG), ("vouch-fault", fault), ("load-vouched", NONSENSE), ("loaded-vouched", NONSENSE)];
    let table = stages.into_iter().chain(more).map(|(act, ending)| (act.to_owned(), ending)).chain(nonsense).collect::<Vec<_>>();
    let request = request(&Build::new(3600).endorsement());
    all_of(&table, |(act, (code, line, event, reason))| {
        let config = if act.ends_with("hang") { &short } else { &long };
        let outcome = session_of(config, &format!("token-at-{act}"), &request, DATA, false);
        outcome.fails(*code, line, event, reason);
        assert!(act.contains("loaded-") || outcome.records.len() == 1, "{act}: {outcome:#?}");
    });
}

fn grant(config: &str, arguments: &[&str]) -> Output {
    Command::new("sigsh-admin").args(["--config", config, "grant", "mac"]).args(arguments).output().unwrap()
}

#[test]
fn a_grant_is_the_line_and_nothing_else() {
    let config = config("grant");
    let config = config.to_str().unwrap();
    let output = grant(config, &["--key", KEY, "--id", "build-1234", "--expires", "2h"]);
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{line}");
    let words = line.strip_suffix('\n').unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>();
    let build = Build { begin: words[4].clone(), end: words[5].clone(), ..Build::new(0) };
    let expected = ["mac-v1", &build.key, HOST, "build-1234", &build.begin, &build.end, "64", &build.nonce()].map(str::to_owned);
    assert_eq!(words, expected);
    let [begin, end] = [&build.begin, &build.end].map(|time| humantime::parse_rfc3339(time).unwrap());
    assert_eq!(end.duration_since(begin).unwrap(), Duration::from_secs(7200));
    let ago = SystemTime::now().duration_since(begin).unwrap();
    assert!(ago < Duration::from_secs(100), "{ago:?}");

    // By a terminal, a word about it beside.
    let terminal = format!("sigsh-admin --config {config} grant mac --key {KEY} --id 1 --expires 1s --max 1 2>/dev/stdout");
    let shown = String::from_utf8(succeed(Command::new("script").args(["-qec", &terminal, "/dev/null"])).stdout).unwrap();
    let lines = shown.lines().collect::<Vec<_>>();
    assert!(lines.len() == 2 && lines[0].starts_with("sigsh-admin: note: ") && lines[1].starts_with("mac-v1 "), "{shown}");
}

#[test]
fn what_is_not_granted() {
    let guarded = config("refused");
    let plain = changed(&[]);
    let file = "/etc/sigsh/refused.mac";
    let words = ["--key", KEY, "--id", "1", "--expires", "2h"];
    let with = |at: usize, word: &'static str| {
        let mut words = words;
        words[at] = word;
        words
    };
    for (config, words, code, error) in [
        (&plain, words, 1, "key 'ed25519' takes no endorsement by a MAC"),
        (&guarded, with(1, "rsa2048"), 1, "key 'rsa2048' takes no endorsement by a MAC"),
        (&guarded, with(1, "nobody"), 1, "there is no [key.nobody] in the configuration"),
        (&guarded, with(5, "86401s"), 1, "that is longer than the key's max-age of 1day"),
        (&guarded, with(5, "0s"), 2, "at least 1s"),
        (&guarded, with(5, "soon"), 2, "at least 1s"),
        (&guarded, with(3, "a b"), 2, "1 to 64 letters"),
        (&guarded, with(3, ""), 2, "1 to 64 letters"),
    ] {
        let output = grant(config.to_str().unwrap(), &words);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{words:?}: {err}");
        assert!(err.contains(error), "{words:?}: {err}");
    }
    for max in ["0", "1000001", "-1", "many"] {
        let output = grant(guarded.to_str().unwrap(), &[&words[..], &["--max", max]].concat());
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{max}");
    }
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = grant(guarded.to_str().unwrap(), &words);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err, format!("sigsh-admin: error: {file} is readable by others (mode 644)\n"));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    // As the account reads it: what root could read besides does not count.
    secret(file, MASTER);
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    let err = String::from_utf8(grant(guarded.to_str().unwrap(), &words).stderr).unwrap();
    assert_eq!(err, format!("sigsh-admin: error: cannot open {file}: permission denied\n"));
}

/// docs/MAC.md, typed in, through sshd.
#[test]
fn the_page_signs() {
    world();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/MAC.md")).unwrap();
    let block = |name: &str| {
        let (_, rest) = page.split_once(&format!("<!-- test: {name} -->\n```")).unwrap();
        rest.split_once('\n').unwrap().1.split_once("```\n").unwrap().0.replace("release", "paged")
    };
    let fences = page.lines().filter(|line| line.starts_with("```")).count();
    assert_eq!((fences, page.matches("<!-- test: ").count()), (12, 6));
    let sh = |script: &str, directory: &str| succeed(Command::new("sh").args(["-ec", script]).current_dir(directory)).stdout;
    let directory = scratch();
    sh(&block("file"), &directory);
    let written: toml::Table = toml::from_str(&block("configuration")).unwrap();
    assert_eq!(written["host"].as_str(), Some(HOST));
    let table = block("configuration").split_once("[key.paged]\n").unwrap().1.to_owned();
    admit_guarded("paged", "rsa2048", &table);
    fs::write(format!("{directory}/grant"), sh(&block("grant"), &directory)).unwrap();
    let ssh =
        format!("ssh() {{ shift; command ssh -F {HOME}/ssh_config -p {PORT} -i {} signer@127.0.0.1 \"$@\"; }}\n", ssh_key("paged"));
    fs::write(format!("{directory}/hello.tar.gz"), DATA).unwrap();
    let mut said = Vec::new();
    for program in ["python", "perl"] {
        let text = block(program);
        assert!(text.lines().count() <= 10, "{text}");
        let interpreter = if program == "python" { "python3" } else { program };
        fs::write(format!("{directory}/endorse"), format!("#!/usr/bin/env {interpreter}\n{text}")).unwrap();
        sh("chmod +x endorse; rm -f *.sig", &directory);
        sh(&format!("{ssh}{}", block("sign")), &directory);
        verify("rsa2048", &fs::read(format!("{directory}/hello.tar.gz.sig")).unwrap(), DATA);
        said.push(sh("./endorse hello.tar.gz < grant", &directory));
    }
    assert_eq!(said[0], said[1]);
    let line = "the endorsement is missing: this key signs what a build has endorsed";
    world().ssh("paged", &declare("paged", "sha512", DATA), DATA).fails_quietly(77, line);
}
