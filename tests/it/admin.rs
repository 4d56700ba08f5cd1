//! sigsh-admin: what it makes, what it refuses to, and what `check` finds.

use crate::v6;
use crate::world::{
    CONFIG, HOME, PIN, PIN_FILE, account, account_file, as_account, changed, fingerprint, scratch, secret, softhsm, ssh_key,
    succeed, world,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// What is said of one thing that is wrong, and of the same on standard error.
struct Report {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Report {
    fn of(output: Output) -> Report {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Report { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Demands one error line, with these words, and nothing done.
    #[track_caller]
    fn refuses(&self, words: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{}", self.err);
        let mut lines = self.err.lines();
        let error = lines.next().unwrap_or_default();
        assert!(error.starts_with("sigsh-admin: error: ") && error.contains(words), "{error}");
        assert!(lines.all(|line| line.starts_with("sigsh-admin: hint: ")), "{}", self.err);
        self.is_prose();
    }

    /// The findings of `check` that begin with this word. Nothing stands beside findings.
    #[track_caller]
    fn findings(&self, word: &str) -> Vec<&str> {
        assert_eq!(self.err, "");
        self.is_prose();
        assert!(self.out.lines().all(|line| ["ok: ", "warning: ", "error: "].iter().any(|w| line.starts_with(w))), "{}", self.out);
        // inside.sh's journald keeps its records in memory, as it should.
        self.out.lines().filter(|line| !line.contains("Storage=volatile")).filter_map(|line| line.strip_prefix(word)).collect()
    }

    /// Demands that `check` finds these errors and no other.
    #[track_caller]
    fn finds(&self, errors: &[&str]) {
        let found = self.findings("error: ");
        assert_eq!((self.code, found.len()), (Some(1), errors.len()), "{}", self.out);
        for (found, error) in found.iter().zip(errors) {
            assert!(found.contains(error), "{found}");
        }
    }

    /// No Debug dump, no trace, no PIN.
    #[track_caller]
    fn is_prose(&self) {
        for text in [&self.out, &self.err] {
            assert!(!["{", "Some(", "Err(", "Os {", "panicked", "\x1b"].iter().any(|dump| text.contains(dump)), "{text}");
            assert!(!text.contains(PIN), "{text}");
        }
    }
}

fn admin(config: &str, arguments: &[&str]) -> Report {
    Report::of(Command::new("sigsh-admin").args(["--config", config]).args(arguments).output().unwrap())
}

fn check(config: &str, sshd_config: &str) -> Report {
    admin(config, &["check", "--sshd-config", sshd_config])
}

fn sshd_config() -> String {
    format!("{HOME}/sshd_config")
}

/// A configuration of one key on a token of its own, both of this name.
fn own(name: &str) -> String {
    world();
    softhsm(name);
    write(name, &text(name))
}

fn text(name: &str) -> String {
    format!(
        "account = \"signer\"\n[token.{name}]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\nuri = \"pkcs11:token={name}\"\n\
         pin-file = \"{PIN_FILE}\"\nsandbox = \"softhsm\"\nread = [\"/var/lib/sigsh/tokens\"]\n\
         environment = {{ SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\" }}\n\
         [key.k]\ntoken = \"{name}\"\nuri = \"pkcs11:object={name};id=%07\"\ncertificate = \"/etc/sigsh/{name}.pgp\"\n\
         [client.build1]\nssh-keys = [\"{}\"]\nkeys = [\"k\"]\n[limits]\nrefusals = \"1000000/s\"\n",
        fingerprint("build1")
    )
}

fn write(name: &str, text: &str) -> String {
    let path = format!("/etc/sigsh/{name}.toml");
    fs::write(&path, text).unwrap();
    path
}

#[track_caller]
fn generate(config: &str) {
    let report = admin(config, &["key", "generate", "k", "--algorithm", "ed25519"]);
    assert_eq!((report.code, report.err.as_str()), (Some(0), ""));
}

#[track_caller]
fn create(config: &str, more: &[&str]) {
    let report = admin(config, &[&["certificate", "create", "k", "--user-id", "A <a@example.org>"], more].concat());
    assert_eq!((report.code, report.err.as_str()), (Some(0), ""));
}

/// Half a key that somebody left would be taken for the other one's.
#[test]
fn a_public_key_that_was_left_is_told() {
    let config = own("left");
    generate(&config);
    let words = format!(
        "--module /usr/lib/softhsm/libsofthsm2.so --token-label left --login --pin {PIN} --delete-object --type privkey --id 07"
    );
    succeed(Command::new("pkcs11-tool").args(words.split(' ')).env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf"));
    admin(&config, &["key", "generate", "k", "--algorithm", "ed25519"])
        .refuses("the token already has a public key that this uri selects");
}

/// With key and certificate.
fn complete(name: &str) -> String {
    let config = own(name);
    generate(&config);
    create(&config, &[]);
    config
}

fn gpg(arguments: &[&str]) -> String {
    let output = succeed(Command::new("gpg").args(["--batch", "--homedir", &scratch()]).args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_key_is_made_once_under_a_name_that_there_is() {
    let config = own("once");
    generate(&config);
    admin(&config, &["key", "generate", "k", "--algorithm", "rsa2048"])
        .refuses("the token already has a private key that this uri selects");
    // Two keys would be one too many.
    create(&config, &[]);
    admin(&config, &["key", "generate", "nobody", "--algorithm", "ed25519"])
        .refuses("there is no [key.nobody] in the configuration");
    admin(&config, &["certificate", "show", "nobody"]).refuses("there is no [key.nobody] in the configuration");
    let unknown = admin(&config, &["key", "generate", "k", "--algorithm", "dsa1024"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(2), ""));
    assert!(unknown.err.contains("invalid value 'dsa1024'") && unknown.err.contains("rsa4096"), "{}", unknown.err);
}

#[test]
fn the_key_never_leaves_the_token() {
    let config = own("kept");
    generate(&config);
    let mut tool = as_account("pkcs11-tool");
    tool.env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf");
    tool.args([
        "--module",
        "/usr/lib/softhsm/libsofthsm2.so",
        "--token-label",
        "kept",
        "--login",
        "--pin",
        PIN,
        "-O",
        "--type",
        "privkey",
    ]);
    let objects = String::from_utf8(succeed(&mut tool).stdout).unwrap();
    assert!(objects.contains("never extractable") && objects.contains("always sensitive"), "{objects}");
    assert!(objects.contains("label:      kept") && objects.contains("ID:         07"), "{objects}");
}

#[test]
fn nothing_of_the_accounts_is_left_to_root() {
    let config = complete("owned");
    assert_eq!(check(&config, &sshd_config()).code, Some(0));
    let (uid, _) = account();
    let mut todo = vec!["/var/lib/sigsh/tokens".into(), "/var/lib/sigsh/state".into()];
    let mut files = 0;
    while let Some(path) = todo.pop() {
        // Other tests make and unmake files here.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        assert_eq!(meta.uid(), uid, "{path:?}");
        files += 1;
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(files > 5);
    assert!(Path::new("/var/lib/sigsh/state/pin.owned").exists());
}

#[test]
fn a_certificate_is_written_once() {
    let config = complete("written");
    let path = "/etc/sigsh/written.pgp";
    let meta = fs::metadata(path).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o644));
    let before = fs::read(path).unwrap();
    let again = ["certificate", "create", "k", "--user-id", "B <b@example.org>"];
    admin(&config, &again).refuses("/etc/sigsh/written.pgp exists already, and is not overwritten");
    assert_eq!(fs::read(path).unwrap(), before);
    // Nor is what a link leads to made.
    let linked = write("linked", &text("written").replace(path, "/etc/sigsh/link.pgp"));
    symlink("/etc/sigsh/nowhere.pgp", "/etc/sigsh/link.pgp").unwrap();
    admin(&linked, &again).refuses("/etc/sigsh/link.pgp: File exists");
    assert!(!Path::new("/etc/sigsh/nowhere.pgp").exists() && !Path::new("/etc/sigsh/link.new").exists());
}

#[test]
fn a_certificate_shows_what_was_asked_for() {
    let config = own("shown");
    generate(&config);
    create(&config, &["--expires", "2y"]);
    let binary = Command::new("sigsh-admin").args(["--config", &config, "certificate", "show", "k"]).output().unwrap();
    assert_eq!((binary.status.code(), &binary.stdout), (Some(0), &fs::read("/etc/sigsh/shown.pgp").unwrap()));
    let armored = admin(&config, &["certificate", "show", "k", "--armor"]);
    assert!(armored.out.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"));
    let directory = scratch();
    fs::write(format!("{directory}/armored"), &armored.out).unwrap();
    let dearmored = succeed(Command::new("gpg").args(["--dearmor", "--output", "-"]).arg(format!("{directory}/armored")));
    assert_eq!(dearmored.stdout, binary.stdout);

    let listing = gpg(&["--with-colons", "--show-keys", "/etc/sigsh/shown.pgp"]);
    let key: Vec<&str> = listing.lines().find(|line| line.starts_with("pub:")).unwrap().split(':').collect();
    // doc/DETAILS of GnuPG: field 4 is the algorithm, 6 the creation, 7 the expiry, 12 the capabilities.
    let lifetime = key[6].parse::<u64>().unwrap() - key[5].parse::<u64>().unwrap();
    assert_eq!((key[3], lifetime, key[11]), ("22", 2 * 31_557_600, "scSC"));
    assert!(listing.contains("A <a@example.org>"), "{listing}");
    // For ever, where nothing else is said.
    let listing = gpg(&["--with-colons", "--show-keys", "/etc/sigsh/rsa2048.pgp"]);
    assert_eq!(listing.lines().find(|line| line.starts_with("pub:")).unwrap().split(':').nth(6), Some(""));
}

#[test]
fn a_certificate_that_would_never_or_at_once_expire_is_not_made() {
    let config = own("never");
    generate(&config);
    for time in ["0s", "1ms", "200y", "soon"] {
        let report = admin(&config, &["certificate", "create", "k", "--user-id", "A", "--expires", time]);
        assert_eq!((report.code, report.out.as_str()), (Some(2), ""), "{time}: {}", report.err);
        assert!(report.err.contains(&format!("invalid value '{time}'")), "{}", report.err);
        assert!(!Path::new("/etc/sigsh/never.pgp").exists());
    }
}

#[test]
fn a_certificate_needs_the_public_key() {
    let config = own("hidden");
    generate(&config);
    let mut tool = as_account("pkcs11-tool");
    tool.env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf");
    tool.args(["--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "hidden", "--login", "--pin", PIN]);
    succeed(tool.args(["--delete-object", "--type", "pubkey", "--id", "07"]));
    let create = ["certificate", "create", "k", "--user-id", "A"];
    admin(&config, &create).refuses("the token does not show the public half of its key");
    assert!(!Path::new("/etc/sigsh/hidden.pgp").exists());
}

#[test]
fn a_good_host_is_all_good() {
    world();
    let report = check(CONFIG, &sshd_config());
    assert_eq!(
        (report.code, report.findings("error: ").len(), report.findings("warning: ").len()),
        (Some(0), 0, 0),
        "{}",
        report.out
    );
    let good = report.findings("ok: ");
    for words in [
        CONFIG,
        "sandbox: ",
        "state directory ",
        "ledger /var/lib/sigsh/ledger.jsonl: goes on behind line ",
        "key 'rsa4096' signs",
        "key 'ed25519' signs",
        "was found again",
        "sshd: 17 settings",
    ] {
        assert!(good.iter().any(|line| line.contains(words)), "{words}: {}", report.out);
    }
}

#[test]
fn check_says_what_a_client_may_do() {
    world();
    let asked = |option: &str, value: &str| admin(CONFIG, &["check", "--sshd-config", &sshd_config(), option, value]);
    let own = [
        format!("client 'careful' is known by ssh key {}", fingerprint("careful")),
        "client 'careful' comes from anywhere".to_owned(),
        "client 'careful' signs with ed25519 (Ed25519, its default)".to_owned(),
        "client 'careful' sends artifact (sign); a file has up to 17179869184 bytes".to_owned(),
        "client 'careful' must declare --size and --digest".to_owned(),
        "client 'careful' asks 'sign' when it asks nothing".to_owned(),
        "client 'careful': at most 4096 sessions at once".to_owned(),
        "client 'careful': as many signatures as it asks for".to_owned(),
    ];
    let is = format!("ssh key {}: client 'careful'", fingerprint("careful"));
    for (report, lines) in [
        (asked("--client", "careful"), own.to_vec()),
        (asked("--ssh-key", &format!("{}.pub", ssh_key("careful"))), [&[is][..], &own].concat()),
    ] {
        assert_eq!(report.code, Some(0), "{}", report.out);
        let told = report.findings("ok: ");
        assert_eq!(told[told.len() - lines.len()..], lines, "{}", report.out);
    }
    asked("--client", "nobody").finds(&["client 'nobody': no client of the configuration"]);
    let stranger = format!("ssh key {}: no client of the configuration", fingerprint("stranger"));
    asked("--ssh-key", &format!("{}.pub", ssh_key("stranger"))).finds(&[&stranger]);
    let report = asked("--ssh-key", CONFIG);
    assert_eq!(report.code, Some(1));
    assert!(report.err.contains("is not a public ssh key or certificate"), "{}", report.err);
}

#[test]
fn check_warns_of_inputs_that_lead_nowhere() {
    let text = fs::read_to_string(v6::config()).unwrap();
    let own = "keys = [\"ed25519\"]\nrequire";
    assert_eq!(text.matches(own).count(), 1);
    let path = "/etc/sigsh/nowhere.toml";
    fs::write(path, text.replace(own, &format!("inputs = [\"tar\", \"state\"]\n{own}"))).unwrap();
    let report = admin(path, &["check", "--sshd-config", &sshd_config(), "--client", "careful"]);
    let warnings = [
        "client 'careful': it asks 'sign' when it asks nothing, but may not send artifact input",
        "client 'careful': it may send hash states, but its keys are of version 6, which sign none",
    ];
    assert_eq!((report.code, report.findings("warning: ")), (Some(0), warnings.to_vec()), "{}", report.out);
    let told = report.findings("ok: ");
    for line in [
        "client 'careful' signs with ed25519 (Ed25519, version 6, its default)",
        "client 'careful' sends tar (sign-tar), state (sign-state); a file has up to 17179869184 bytes",
    ] {
        assert!(told.contains(&line), "{line}: {}", report.out);
    }
}

#[test]
fn check_says_who_a_certificate_is() {
    world();
    let directory = scratch();
    let keygen = |arguments: &[&str]| succeed(Command::new("ssh-keygen").arg("-q").args(arguments));
    let ca = format!("{directory}/ca");
    keygen(&["-t", "ed25519", "-N", "", "-f", &ca]);
    let print = |path: &str| {
        let output = succeed(Command::new("ssh-keygen").args(["-l", "-f", path]));
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    let (authority, own) = (print(&format!("{ca}.pub")), fingerprint("build1"));
    let list = "/etc/sigsh/check-revoked";
    fs::write(list, format!("serial: 7\nhash: {}\n", fingerprint("small"))).unwrap();
    let ci = format!(
        "[client.ci]\nssh-ca = \"{authority}\"\nprincipals = [\"build\"]\nkey-ids = [\"ci-*\"]\nkeys = [\"rsa2048\", \"nistp256\"]\n\
         from = [\"192.0.2.0/24\", \"0.0.0.0/0\"]\nunix-user = \"signer\"\nrequest = \"sign --armor\"\ninputs = [\"artifact\"]\n[limits]"
    );
    let config = changed(&[("[token.hsm]", &format!("revoked-keys = \"{list}\"\n[token.hsm]")), ("[limits]", &ci)]);
    let asked = |arguments: &[&str]| {
        fs::copy(format!("{}.pub", ssh_key("build1")), format!("{directory}/id.pub")).unwrap();
        keygen(&[&["-s", &ca][..], arguments, &[&format!("{directory}/id.pub")]].concat());
        let file = format!("{directory}/id-cert.pub");
        admin(config.to_str().unwrap(), &["check", "--sshd-config", &sshd_config(), "--ssh-key", &file])
    };
    let report = asked(&["-I", "ci-1", "-n", "build,other", "-z", "5", "-V", "20200101:20991231"]);
    let lines = [
        format!("ssh certificate 'ci-1', serial 5, of {authority}"),
        "ssh certificate is valid from 2020-01-01T00:00:00Z until 2099-12-31T00:00:00Z".to_owned(),
        "ssh certificate has principals build, other".to_owned(),
        format!("ssh certificate of key {own}: client 'ci', if it comes from 192.0.2.0/24 or 0.0.0.0/0 and sigsh runs as signer"),
        format!(
            "client 'ci' is known by an ssh certificate of {authority} with principal build with key id ci-* with unix user signer"
        ),
        "client 'ci' comes from 192.0.2.0/24 or 0.0.0.0/0".to_owned(),
        "client 'ci' signs with rsa2048 (RSA, 2048 bits, its default), nistp256 (NIST P-256)".to_owned(),
        "client 'ci' sends artifact (sign); a file has up to 17179869184 bytes".to_owned(),
        "client 'ci' must declare nothing".to_owned(),
        "client 'ci' asks 'sign --armor' when it asks nothing".to_owned(),
        "client 'ci': at most 4096 sessions at once".to_owned(),
        "client 'ci': as many signatures as it asks for".to_owned(),
    ];
    let told = report.findings("ok: ");
    assert_eq!(told[told.len() - lines.len()..], lines, "{}", report.out);
    assert!(told.iter().any(|line| line.contains(&format!("revoked keys {list}: 2 entries"))), "{}", report.out);
    let warnings = [
        "sshd: TrustedUserCAKeys is not set for 'signer': no ssh certificate logs in by it",
        "client 'ci': 0.0.0.0/0 is everywhere; leave 'from' out, or say where it comes from",
        "client 'small': all that it is known by is revoked",
    ];
    assert_eq!((report.code, report.findings("warning: ")), (Some(0), warnings.to_vec()), "{}", report.out);

    let nobody = "no client of the configuration";
    asked(&["-I", "ci-1", "-n", "build", "-z", "7"]).finds(&["the serial of the ssh certificate is revoked"]);
    asked(&["-I", "ci-1", "-n", "build", "-V", "20200101:20200102"]).finds(&["was valid until 2020-01-02T00:00:00Z"]);
    asked(&["-I", "ci-1", "-n", "build", "-h"]).finds(&["is a host's"]);
    asked(&["-I", "ci-1", "-n", "other"]).finds(&[nobody]);
    asked(&["-I", "ci-1"]).finds(&["no principals", nobody]);
    let small = format!("{}.pub", ssh_key("small"));
    let arguments = ["check", "--sshd-config", &sshd_config(), "--ssh-key", &small];
    admin(config.to_str().unwrap(), &arguments).finds(&["the ssh key is revoked"]);
    fs::write(list, "serials: 7\n").unwrap();
    admin(config.to_str().unwrap(), &arguments[..3])
        .finds(&[&format!("{list}:1:1: this is neither a public ssh key nor a known directive")]);
}

#[test]
fn check_finds_a_wrong_pin_and_tries_it_once() {
    let config = complete("pinned");
    secret("/etc/sigsh/pinned.pin", "0815");
    write("pinned", &text("pinned").replace(PIN_FILE, "/etc/sigsh/pinned.pin"));
    check(&config, &sshd_config()).finds(&["key 'k': the PIN is wrong"]);
    check(&config, &sshd_config()).finds(&["key 'k': the PIN in this PIN file was wrong"]);
    secret("/etc/sigsh/pinned.pin", PIN);
    assert_eq!(check(&config, &sshd_config()).code, Some(0));
}

#[test]
fn check_finds_the_certificate_of_another_key() {
    let config = own("other");
    generate(&config);
    write("other", &text("other").replace("other.pgp", "ed25519.pgp"));
    check(&config, &sshd_config()).finds(&["key 'k': the certificate is not that of the key in the token"]);
}

#[test]
fn check_finds_an_expired_certificate() {
    let config = own("late");
    generate(&config);
    create(&config, &["--expires", "1s"]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    check(&config, &sshd_config()).finds(&["key 'k': the certificate expired on 20"]);
    admin(&config, &["certificate", "show", "k"]).refuses("the certificate expired on 20");
}

#[test]
fn check_finds_the_journal_absent() {
    let config = complete("silent");
    write("silent", &(text("silent") + "[audit]\njournal = \"/run/absent\"\n"));
    check(&config, &sshd_config()).finds(&["journal /run/absent: cannot connect to the journal's socket"]);
}

/// By settings that stand in place of those of `tests/inside.sh`, for this run alone.
#[test]
fn check_names_settings_of_journald_that_drop_records() {
    let config = complete("dropped");
    let warning = "warning: journald: its rate limit, 10,000 records in 30 s by default, drops those of large batches; \
                   let a drop-in say RateLimitBurst=0, as sigsh(8) does";
    let ok = "ok: journald: no setting drops records of this size and level";
    let volatile = "warning: journald: Storage=volatile forgets all records at a reboot";
    let level = "error: journald: MaxLevelStore=notice drops records of signatures (info)";
    for (inputs, settings, found) in [
        ("", "", vec![warning]),
        ("inputs = [\"artifact\"]\n", "", vec![ok]),
        ("inputs = [\"state\"]\n", "RateLimitBurst=20000\n", vec![warning]),
        ("inputs = [\"tar\"]\n", "RateLimitBurst=0\n", vec![ok]),
        ("", "RateLimitBurst=0\nRateLimitBurst=1\n", vec![warning]),
        ("", "RateLimitIntervalSec = 0s\nStorage=volatile\n", vec![volatile, ok]),
        ("", "Storage=none\nRateLimitIntervalSec=0\n", vec!["error: journald: Storage=none keeps no record"]),
        ("", "MaxLevelStore=notice\n", vec![level, warning]),
    ] {
        write("dropped", &text("dropped").replace("keys = [\"k\"]\n", &format!("keys = [\"k\"]\n{inputs}")));
        let file = format!("{}/settings", scratch());
        fs::write(&file, format!("[Journal]\n{settings}")).unwrap();
        let script =
            "mount --bind $0 /etc/systemd/journald.conf.d/zz-inside.conf && exec sigsh-admin --config $1 check --sshd-config $2";
        let mut command = Command::new("unshare");
        let output = command.args(["--mount", "sh", "-c", script, &file, &config, &sshd_config()]).output().unwrap();
        let report = Report::of(output);
        let lines = report.out.lines().filter(|line| line.contains(": journald: ")).collect::<Vec<_>>();
        assert_eq!(lines, found, "{inputs}{settings}: {}", report.err);
    }
}

#[test]
fn check_finds_the_state_directory_missing() {
    let config = complete("stateless");
    write("stateless", &(text("stateless") + "[audit]\nstate = \"/var/lib/sigsh/absent\"\n"));
    let absent = "key 'k': cannot open /var/lib/sigsh/absent: no such file";
    let lock = "ledger /var/lib/sigsh/ledger.jsonl: the ledger's lock in the state directory: cannot open";
    check(&config, &sshd_config()).finds(&["state directory /var/lib/sigsh/absent: cannot open", lock, absent]);
}

#[test]
fn check_finds_what_sshd_leaves_open() {
    let config = complete("open");
    let sshd = |name: &str, before: &str| {
        let path = format!("{HOME}/{name}_config");
        let include = if name == "bare" { "" } else { "Include /etc/ssh/sshd_config.d/50-sigsh.conf" };
        fs::write(&path, format!("HostKey {HOME}/sshd_host\n{before}\n{include}\n")).unwrap();
        path
    };
    assert_eq!(check(&config, &sshd("shipped", "")).code, Some(0));
    let terminal = sshd("terminal", "Match User signer\nPermitTTY yes\nMatch all");
    check(&config, &terminal).finds(&["sshd: permittty is 'yes' for 'signer', not 'no': a terminal mangles signatures"]);
    let shell = sshd("shell", "Match User signer\nForceCommand /bin/sh\nMatch all");
    check(&config, &shell).finds(&["sshd: no ForceCommand with an absolute path to sigsh for 'signer'"]);
    assert_eq!(check(&config, &sshd("harmless", "Match User signer\nAcceptEnv LANG LC_* LD\nMatch all")).code, Some(0));
    for (name, pattern) in [("library", "LD_LIBRARY_PATH"), ("audit", "LD_AUDIT"), ("any", "*"), ("tunables", "GLIBC_*")] {
        let careless = sshd(name, &format!("Match User signer\nAcceptEnv {pattern}\nMatch all"));
        check(&config, &careless).finds(&[&format!("sshd: AcceptEnv {pattern} lets clients choose libraries")]);
    }
    let loader = sshd("loader", "Match User signer\nAcceptEnv LD_*\nMatch all");
    let report = check(&config, &loader);
    report.finds(&["sshd: AcceptEnv LD_* lets clients choose libraries"]);
    let principals = "sshd: AuthorizedPrincipalsFile is not set: ssh certificates need the principal 'signer'";
    for (more, warned) in [("", true), ("AuthorizedPrincipalsFile /etc/sigsh/authorized_principals\n", false)] {
        let trusting = format!("Match User signer\nTrustedUserCAKeys /etc/sigsh/user_ca.pub\n{more}Match all");
        let report = check(&config, &sshd("trusting", &trusting));
        assert_eq!((report.code, report.findings("warning: ").contains(&principals)), (Some(0), warned), "{}", report.out);
    }
    let bare = check(&config, &sshd("bare", ""));
    assert_eq!(bare.code, Some(1));
    assert!(bare.findings("error: ").len() > 8, "{}", bare.out);
    let broken = check(&config, &sshd("broken", "NoSuchSetting yes"));
    assert!(broken.findings("warning: ").iter().any(|line| line.contains("cannot see its settings")), "{}", broken.out);
}

#[test]
fn check_finds_a_configuration_that_others_could_write() {
    let config = complete("writable");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    check(&config, &sshd_config()).refuses("/etc/sigsh/writable.toml is writable by group or others (mode 666)");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    // root can read this one, the account cannot.
    check(&config, &sshd_config()).finds(&["cannot open /etc/sigsh/writable.toml: permission denied"]);
}

#[test]
fn check_says_where_the_configuration_is_wrong() {
    world();
    let config = changed(&[("[limits]\n", "[limits]\nburst = 1\n")]);
    let line = fs::read_to_string(&config).unwrap().lines().position(|line| line == "burst = 1").unwrap() + 1;
    let path = config.to_str().unwrap();
    check(path, &sshd_config()).refuses(&format!("{path}:{line}:1: unknown field `burst`"));
    check("/etc/sigsh/absent.toml", &sshd_config()).refuses("cannot open /etc/sigsh/absent.toml");
    let unused = changed(&[("keys = [\"rsa2048\", ", "keys = [")]);
    check(unused.to_str().unwrap(), &sshd_config()).refuses("no client may use key 'rsa2048'");
}

#[test]
fn check_finds_an_account_that_is_not_there() {
    world();
    let config = changed(&[("account = \"signer\"", "account = \"nobody-at-all\"")]);
    check(config.to_str().unwrap(), &sshd_config()).refuses("cannot become the account 'nobody-at-all': there is no such account");
    let root = changed(&[("account = \"signer\"", "account = \"root\"")]);
    check(root.to_str().unwrap(), &sshd_config()).refuses("cannot become the account 'root': it is root");
}

#[test]
fn check_warns_of_files_that_the_account_could_change() {
    let config = complete("lax");
    account_file("/etc/sigsh/lax.pin", PIN.as_bytes());
    write("lax", &text("lax").replace(PIN_FILE, "/etc/sigsh/lax.pin"));
    chown("/etc/sigsh/lax.pgp", Some(account().0), None).unwrap();
    let report = check(&config, &sshd_config());
    let warnings = report.findings("warning: ");
    assert_eq!((report.code, warnings.len()), (Some(0), 2), "{}", report.out);
    for (warning, path) in warnings.iter().zip(["/etc/sigsh/lax.pgp", "/etc/sigsh/lax.pin"]) {
        assert!(warning.starts_with(&format!("{path} belongs to the account")), "{warning}");
    }
    // What root is told to do, the account must not write.
    chown(&config, Some(account().0), None).unwrap();
    check(&config, &sshd_config()).refuses(&format!("{config} belongs to user {}", account().0));
}

#[test]
fn an_ordinary_user_can_try_it_out() {
    world();
    let home = "/srv/plain";
    fs::create_dir_all(home).unwrap();
    let nobody = 65534;
    let plain = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", program]).current_dir(home).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("SOFTHSM2_CONF", format!("{home}/softhsm2.conf"));
        command
    };
    for directory in ["", "/tokens", "/state"].map(|name| format!("{home}{name}")) {
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(nobody), Some(nobody)).unwrap();
    }
    let text = text("plain")
        .replace("account = \"signer\"", "account = \"nobody\"")
        .replace(PIN_FILE, "/srv/plain/pin")
        .replace("/var/lib/sigsh/tokens", "/srv/plain/tokens")
        .replace("/etc/sigsh/", "/srv/plain/")
        + "[audit]\nledger = \"/srv/plain/ledger.jsonl\"\nstate = \"/srv/plain/state\"\n";
    for (name, text) in
        [("sigsh.toml", text.as_str()), ("pin", PIN), ("softhsm2.conf", "directories.tokendir = /srv/plain/tokens\n")]
    {
        let path = format!("{home}/{name}");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(nobody), Some(nobody)).unwrap();
    }
    succeed(plain("softhsm2-util").args(["--init-token", "--free", "--label", "plain", "--pin", PIN, "--so-pin", PIN]));
    let admin = |arguments: &[&str]| {
        Report::of(plain("sigsh-admin").args(["--config", "/srv/plain/sigsh.toml"]).args(arguments).output().unwrap())
    };
    assert_eq!(admin(&["key", "generate", "k", "--algorithm", "nistp256"]).code, Some(0));
    assert_eq!(admin(&["certificate", "create", "k", "--user-id", "A"]).code, Some(0));
    assert_eq!(fs::metadata("/srv/plain/plain.pgp").unwrap().uid(), nobody);
    assert_eq!(admin(&["ledger", "init"]).code, Some(0));
    assert_eq!(fs::metadata("/srv/plain/ledger.jsonl").unwrap().uid(), nobody);
    let report = admin(&["check"]);
    assert_eq!((report.code, report.findings("error: ").len()), (Some(0), 0), "{}", report.out);
    let warnings = report.findings("warning: ");
    for words in [
        "sigsh.toml belongs to",
        "pin belongs to",
        "its lines can be changed",
        "its directory does not belong to root",
        "plain.pgp belongs to",
        "cannot read the journal",
        "sshd: cannot see its settings",
    ] {
        assert!(warnings.iter().any(|line| line.contains(words)), "{words}: {}", report.out);
    }
}
