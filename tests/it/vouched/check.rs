//! What `sigsh-admin check` finds of keys that demand endorsements and approvals.

use crate::ledger::Own;
use crate::v6;
use crate::vouched::{guarded, new_key, print};
use crate::world::{HOME, account_file, scratch, secret, ssh_key, succeed, world};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const KEY: &str = "ed25519";

/// Runs it, and returns what it finds of this key's demands: whether that is an error, and the lines.
#[track_caller]
fn findings(config: &Path) -> Vec<String> {
    let mut command = Command::new("sigsh-admin");
    let output =
        command.arg("--config").arg(config).args(["check", "--sshd-config", &format!("{HOME}/sshd_config")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = text.lines().any(|line| line.starts_with("error: "));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(i32::from(errors)), &b""[..]), "{text}");
    // It signs all the same: nothing is demanded of what nobody gets.
    assert!(text.lines().any(|line| line.starts_with(&format!("ok: key '{KEY}' signs; "))), "{text}");
    text.lines().filter(|line| line.contains(&format!("key '{KEY}': "))).map(str::to_owned).collect()
}

/// A line of a list of approvers.
fn approver(person: &str, options: &str) -> String {
    let public = fs::read_to_string(format!("{}.pub", new_key("ed25519"))).unwrap();
    format!("{person} {options}{public}")
}

/// A day so many days from now, as such a list has it and as a finding does.
fn day(from_now: i64) -> [String; 2] {
    let output = succeed(Command::new("date").args(["-u", "-d", &format!("{from_now} days"), "+%Y%m%d %Y-%m-%d"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let (list, finding) = text.trim_end().split_once(' ').unwrap();
    [list.to_owned(), finding.to_owned()]
}

#[test]
fn what_a_key_demands_is_told() {
    world();
    let home = scratch();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let gpg = |words: &[&str]| {
        succeed(Command::new("gpg").args(["--homedir", &home, "--quiet", "--batch", "--passphrase", ""]).args(words))
    };
    gpg(&["--quick-gen-key", "Operator <operator@example.org>", "ed25519", "cert", "2d"]);
    let ca = new_key("ed25519");
    secret("/etc/sigsh/told.mac", &"m".repeat(32));
    fs::write("/etc/sigsh/told.pgp", gpg(&["--export"]).stdout).unwrap();
    fs::write("/etc/sigsh/told.revoked", "mac: 1\nserial: 2-3\n").unwrap();
    let [alice, again, bob] = ["alice@example.org", "alice@example.org", "bob@example.org"].map(|person| approver(person, ""));
    fs::write("/etc/sigsh/told.approvers", [alice, again, bob].concat()).unwrap();
    let carol = approver("carol@example.org", "namespaces=\"break-glass@sigsh\" ");
    let dave = approver("dave@example.org", "namespaces=\"approve@sigsh\" ");
    fs::write("/etc/sigsh/told.glass", carol + &dave).unwrap();
    let config = guarded(
        KEY,
        &format!(
            "endorsement = {{ ssh-ca = [\"{}\"], openpgp = \"/etc/sigsh/told.pgp\", mac-file = \"/etc/sigsh/told.mac\", revoked = \
             \"/etc/sigsh/told.revoked\", max-age = \"2h\" }}\napprovals = {{ need = 2, approvers = \"/etc/sigsh/told.approvers\" }}\n\
             break-glass = {{ need = 1, approvers = \"/etc/sigsh/told.glass\" }}",
            print(&ca)
        ),
    );
    let expected = [
        "endorsement: ssh keys, by 1 authority; OpenPGP keys; MACs; for at most 2h",
        "endorsement: revoked /etc/sigsh/told.revoked: 2 entries",
        "endorsement: operators /etc/sigsh/told.pgp: 1 certificate",
        "endorsement: mac-file /etc/sigsh/told.mac: 32 bytes, mode 640",
        "approvals: /etc/sigsh/told.approvers: 2 of 2 people with 3 keys must approve",
        "break-glass: /etc/sigsh/told.glass: 1 of 1 people with 1 keys must approve",
    ];
    let mut found = findings(&config);
    let soon = found.remove(2);
    let start = format!("warning: key '{KEY}': endorsement: operators /etc/sigsh/told.pgp: the certificate ");
    assert!(soon.starts_with(&start) && soon.ends_with(&format!(" ends on {}", day(2)[1])), "{soon}");
    assert_eq!(found, expected.map(|line| format!("ok: key '{KEY}': {line}")));
}

/// Who may ask with a key that excludes who asks, and be an approver whom nobody recognises.
#[test]
fn who_could_approve_for_himself_is_told() {
    let people = "/etc/sigsh/excluded.approvers";
    world();
    let public = fs::read_to_string(format!("{}.pub", ssh_key("careful"))).unwrap();
    fs::write(people, format!("{}Limited {public}", approver("alice", ""))).unwrap();
    let table = |more: &str| format!("approvals = {{ need = 1, approvers = \"{people}\"{more} }}");
    assert_eq!(findings(&guarded(KEY, &table(""))).len(), 1);
    let config = guarded(KEY, &table(", exclude-requester = true"));
    let line = |client: &str| {
        format!(
            "warning: key '{KEY}': approvals: {people}: who client '{client}' is among these people is not told; give it a 'person'"
        )
    };
    // 'limited' by its name, 'careful' by its key.
    assert_eq!(findings(&config)[1..], [line("build1"), line("small")]);
    let text = fs::read_to_string(&config).unwrap().replace("[client.small]\n", "[client.small]\nperson = \"nobody\"\n");
    fs::write(&config, text).unwrap();
    assert_eq!(findings(&config)[1..], [line("build1")]);
}

#[test]
fn an_archive_that_is_missing_is_told() {
    let own = Own::bare("/run/systemd/journal/socket");
    own.init();
    let text = fs::read_to_string(&own.config).unwrap();
    let warnings = |text: &str| {
        fs::write(&own.config, text).unwrap();
        let report = own.admin(&["check", "--sshd-config", &format!("{HOME}/sshd_config")]);
        report.said("warning: ").into_iter().filter(|line| line.contains("reach back")).map(str::to_owned).collect::<Vec<_>>()
    };
    let certificate = "certificate = \"/etc/sigsh/ed25519.pgp\"\n";
    let table = format!("{certificate}endorsement = {{ ssh-ca = [\"{}\"] }}\n", print(&new_key("ed25519")));
    let guarded = text.replace(certificate, &table);
    assert_eq!(warnings(&guarded).len(), 0);
    assert_eq!(own.admin(&["ledger", "rotate"]).code, Some(0));
    assert_eq!(warnings(&guarded).len(), 0);
    let archive = fs::read_dir(own.ledger.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.into_iter().find(|path| *path != own.ledger).unwrap();
    succeed(Command::new("chattr").arg("-a").arg(&archive));
    fs::rename(&archive, format!("{}/archive", scratch())).unwrap();
    assert_eq!(warnings(&text).len(), 0);
    let why = "it does not reach back as far as permits may: a file that it goes on from is missing, or it replaced another one";
    assert_eq!(warnings(&guarded), [format!("ledger {}: {why}", own.ledger.display())]);
}

/// Each alone; and what is good beside it is told all the same.
#[test]
fn what_is_wrong_with_it_is_an_error() {
    world();
    let table = "endorsement = { mac-file = \"/etc/sigsh/checked.mac\", revoked = \"/etc/sigsh/checked.revoked\" }\n\
                 approvals = { need = 1, approvers = \"/etc/sigsh/checked.approvers\" }";
    let config = guarded(KEY, table);
    let whole = || {
        secret("/etc/sigsh/checked.mac", &"m".repeat(32));
        fs::write("/etc/sigsh/checked.revoked", "").unwrap();
        fs::write("/etc/sigsh/checked.approvers", approver("alice@example.org", "")).unwrap();
    };
    whole();
    let good = findings(&config);
    assert!(good.len() == 4 && good.iter().all(|line| line.starts_with("ok: ")), "{good:?}");
    let [mac, list, people] = ["mac", "revoked", "approvers"].map(|name| format!("/etc/sigsh/checked.{name}"));
    type Spoil<'a> = &'a dyn Fn();
    let table: [(Spoil<'_>, String); 9] = [
        (&|| secret(&mac, "short"), format!("endorsement: mac-file {mac}: the file for MACs has 5 bytes instead of 32")),
        (&|| fs::remove_file(&mac).unwrap(), format!("endorsement: mac-file {mac}: cannot open {mac}: no such file or directory")),
        (
            &|| fs::set_permissions(&mac, fs::Permissions::from_mode(0o644)).unwrap(),
            format!("endorsement: mac-file {mac}: {mac} is readable by others (mode 644)"),
        ),
        (
            &|| fs::remove_file(&list).unwrap(),
            format!("endorsement: revoked {list}: cannot open {list}: no such file or directory"),
        ),
        (
            &|| fs::write(&list, "x\n").unwrap(),
            format!("endorsement: revoked {list}: {list}:1:1: this is neither a public ssh key nor a known directive"),
        ),
        (&|| fs::remove_file(&people).unwrap(), format!("approvals: {people}: cannot open {people}: no such file or directory")),
        (&|| fs::write(&people, "").unwrap(), format!("approvals: {people}: {people}:1:1: by this list 0 can approve, and 1 must")),
        (
            &|| fs::write(&people, approver("alice@example.org", "valid-before=\"20200101Z\" ")).unwrap(),
            format!("approvals: {people}: 1 of 0 people with 0 keys must approve"),
        ),
        (
            &|| fs::write(&people, approver("alice@example.org", "valid-after=\"20990101Z\" ")).unwrap(),
            format!("approvals: {people}: 1 of 0 people with 0 keys must approve"),
        ),
    ];
    for (spoil, error) in table {
        whole();
        spoil();
        let found = findings(&config);
        let errors = found.iter().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>();
        assert_eq!(errors, [&format!("error: key '{KEY}': {error}")], "{found:?}");
        assert!(found.iter().filter(|line| line.starts_with("ok: ")).count() >= 3, "{found:?}");
    }
    // The same key under another name, which asks for nothing.
    fs::copy(format!("/etc/sigsh/{KEY}.pgp"), "/etc/sigsh/again.pgp").unwrap();
    whole();
    let again = "[key.again]\ntoken = \"hsm\"\nuri = \"pkcs11:id=%07\"\ncertificate = \"/etc/sigsh/again.pgp\"\n";
    let text = fs::read_to_string(&config).unwrap().replace("keys = [\"ed25519\"]\nrequire", "keys = [\"again\"]\nrequire");
    let both = Path::new("/etc/sigsh/again.toml");
    fs::write(both, text + again).unwrap();
    let error = format!("error: key '{KEY}': key 'again' has the same certificate, and not its demands");
    assert!(findings(both).contains(&error));
    account_file(&people, approver("alice@example.org", "").as_bytes());
    let config = guarded(KEY, &format!("approvals = {{ need = 1, approvers = \"{people}\" }}"));
    assert_eq!(findings(&config).len(), 1);
    let output = Command::new("sigsh-admin").arg("--config").arg(&config).arg("check").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("warning: {people} belongs to the account, which could change it")), "{text}");
}

#[test]
fn who_can_soon_approve_no_more_is_told() {
    world();
    let (people, [past, shown]) = ("/etc/sigsh/soon.approvers", day(-2));
    let [[soon, soon_shown], [late, _]] = [day(30), day(90)];
    let lines = [("alice", past), ("bob", soon), ("carol", late)]
        .map(|(person, day)| approver(&format!("{person}@example.org"), &format!("valid-before=\"{day}Z\" ")));
    fs::write(people, lines.concat()).unwrap();
    let found = findings(&guarded(KEY, &format!("approvals = {{ need = 2, approvers = \"{people}\" }}")));
    let [alice, bob, summary] = found.as_slice() else { panic!("{found:?}") };
    let start = format!("warning: key '{KEY}': approvals: {people}: the key SHA256:");
    assert!(alice.starts_with(&start) && alice.ends_with(&format!(" of alice@example.org has ended on {shown}")), "{alice}");
    assert!(bob.starts_with(&start) && bob.ends_with(&format!(" of bob@example.org ends on {soon_shown}")), "{bob}");
    assert_eq!(*summary, format!("ok: key '{KEY}': approvals: {people}: 2 of 2 people with 2 keys must approve"));
}

/// Nobody could say what such a key signs.
#[test]
fn a_certificate_that_cannot_be_guarded() {
    v6::config();
    secret("/etc/sigsh/unguardable.mac", &"m".repeat(32));
    let table = "endorsement = { mac-file = \"/etc/sigsh/unguardable.mac\" }";
    let config = guarded(KEY, table);
    let text = fs::read_to_string(&config).unwrap().replace(&format!("/etc/sigsh/{KEY}.pgp"), &v6::certificate(KEY));
    fs::write(&config, text).unwrap();
    let line = format!(
        "the certificate of key '{KEY}' has several signing keys, or one of version 6: nobody can endorse or approve what they sign"
    );
    let output = Command::new("sigsh-admin").arg("--config").arg(&config).arg("check").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(&format!("error: {line}\n")));
    let words = ["grant", "mac", "--key", KEY, "--id", "1", "--expires", "1h"];
    let output = Command::new("sigsh-admin").arg("--config").arg(&config).args(words).output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.status.code()), (&b""[..], Some(1)));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("sigsh-admin: error: {line}\n"));
}
