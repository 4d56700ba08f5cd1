//! What people approve with `ssh-keygen -Y sign`, by keys of every kind. In place of a FIDO token ssh-keygen has the library
//! `tests/sk.rs`: the keys, the signatures and what they say of a touch are as a token makes them, but nothing is in hardware.

use crate::vouched::{LONG, admit_guarded, base64, certify, dearmor, declare, ends_in_time, guarded, new_key, ssh_sign};
pub use crate::vouched::{after, fingerprint};
use crate::world::{
    FLEET, HOME, HOST, Outcome, PORT, Session, account_file, calls, changed, faulty, field, finish_child, patient, scratch,
    ssh_key, succeed, verify, world,
};
use serde_json::Value;
use sigsh::config::Approvers;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub const APPROVE: &str = "approve@sigsh";
pub const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
pub const DATA: &[u8] = b"what is to be signed\n";
const OTHER: &str = "one is of another artifact, key, host, time or requester";

/// A list of approvers: `PRINCIPAL OPTIONS` and an ssh key's path for each line.
pub fn list(lines: &[(&str, &str)]) -> String {
    let line = |(words, key): &(&str, &str)| format!("{words} {}", fs::read_to_string(format!("{key}.pub")).unwrap());
    write(&lines.iter().map(line).collect::<String>())
}

fn write(text: &str) -> String {
    world();
    let path = format!("{}/approvers", scratch());
    fs::write(&path, text).unwrap();
    path
}

/// A security key of a kind that ssh-keygen knows: `ed25519-sk`, `ecdsa-sk`.
pub fn security_key(kind: &str) -> String {
    let path = format!("{}/key", scratch());
    succeed(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-C", "", "-w", &provider(), "-f", &path]));
    path
}

pub fn provider() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_sigsh")).parent().unwrap().join("examples/libsk.so");
    path.into_os_string().into_string().unwrap()
}

/// The same as [`ssh_sign`] by a security key, which says this of the moment: 1 is touched, 4 is verified.
fn touched(key: &str, flags: u8, text: &str) -> Vec<u8> {
    let file = format!("{}/f", scratch());
    fs::write(&file, text).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "sign", "-q", "-f", key, "-n", APPROVE, &file]);
    succeed(command.env("SSH_SK_PROVIDER", provider()).env("SK_FLAGS", flags.to_string()));
    fs::read(format!("{file}.sig")).unwrap()
}

/// What an approver types for [`DATA`].
fn text(key: &str, not_after: &str) -> String {
    crate::vouched::text("approve-v1", key, DATA, not_after)
}

/// The words of a request that bring a signature over such a text.
pub fn word(not_after: &str, signature: &[u8]) -> String {
    format!(" --approval {not_after}={}", base64(signature))
}

/// Signs a text, and makes the words of it.
fn approve(key: &str, text: &str, not_after: &str) -> String {
    word(not_after, &ssh_sign(key, APPROVE, text.as_bytes(), &[]))
}

pub fn ask(config: &Path, key: &str, words: &str) -> Outcome {
    let request = format!("{}{words}", declare(key, "sha512", DATA));
    Session::new(config).client("build1").request(&request).run(DATA)
}

/// Demands a signature after these records, which it returns.
#[track_caller]
pub fn signed<'a>(outcome: &'a Outcome, key: &str, events: &[&str]) -> Vec<&'a Value> {
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify(key, &outcome.out, DATA);
    let found = outcome.records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
    assert_eq!(found, events, "{outcome:#?}");
    outcome.records.iter().collect()
}

/// Demands a refusal with this line and hint, and their record.
#[track_caller]
pub fn refused(outcome: &Outcome, line: &str, hint: &str) {
    outcome.fails(77, line, "refused", &format!("{line}; {hint}"));
    assert_eq!(outcome.err, format!("sigsh: error: {line}\nsigsh: hint: {hint}\n"));
}

/// The lines of a session in the ledger.
pub fn ledger(session: &Value) -> Vec<Value> {
    let text = fs::read_to_string("/var/lib/sigsh/ledger.jsonl").unwrap();
    let lines = text.lines().filter(|line| line.contains(field(session, "SIGSH_SESSION")));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What OpenSSH itself says.
fn is_verified(list: &str, principal: &str, namespace: &str, text: &str, signature: &[u8]) -> bool {
    let directory = scratch();
    let (file, sig) = (format!("{directory}/f"), format!("{directory}/f.sig"));
    fs::write(&file, text).unwrap();
    fs::write(&sig, signature).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-q", "-f", list, "-I", principal, "-n", namespace, "-s", &sig]);
    command.stdin(fs::File::open(file).unwrap()).output().unwrap().status.success()
}

/// Keys of every kind that OpenSSH has, each of another person; and what is recorded of them.
#[test]
fn people_approve_with_keys_of_every_kind() {
    let mut keys = ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048"].map(new_key).to_vec();
    keys.extend(["ed25519-sk", "ecdsa-sk"].map(security_key));
    let names = ["alice@example.org", "bob", "carol", "dave", "erin", "frank", "grace"];
    let list = list(&names.into_iter().zip(keys.iter().map(String::as_str)).collect::<Vec<_>>());
    let config = guarded("rsa2048", &format!("approvals = {{ need = 7, approvers = \"{list}\" }}"));
    let host = text("rsa2048", &after(3600));
    let not_after = host.split("not-after ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let fleet = host.replace(&format!("host {HOST}"), &format!("fleet {FLEET}"));
    let signatures = keys.iter().enumerate().map(|(at, key)| match at {
        0 => ssh_sign(key, APPROVE, fleet.as_bytes(), &[]),
        5.. => touched(key, 1, &host),
        _ => ssh_sign(key, APPROVE, host.as_bytes(), &[]),
    });
    let signatures = signatures.collect::<Vec<_>>();
    let words = signatures.iter().rev().map(|signature| word(&not_after, signature)).collect::<String>();
    let outcome = ask(&config, "rsa2048", &words);
    let records = signed(&outcome, "rsa2048", &[["approval"; 7].as_slice(), &["intent", "signed"]].concat());
    for (at, record) in records.iter().enumerate() {
        let place = if at == 0 { format!("fleet {FLEET}") } else { format!("host {HOST}") };
        let own = names
            .get(at)
            .map_or_else(|| [names.join(" "), String::new(), String::new()], |name| [(*name).to_owned(), not_after.clone(), place]);
        assert_eq!(
            ["SIGSH_APPROVERS", "SIGSH_NOT_AFTER", "SIGSH_PLACE"].map(|name| field(record, name)),
            own.each_ref().map(String::as_str)
        );
        assert_eq!((field(record, "SIGSH_EVIDENCE"), field(record, "SIGSH_BREAK_GLASS"), field(record, "PRIORITY")), ("", "", "6"));
    }
    assert_eq!(field(records[0], "MESSAGE"), "approval for client build1 with key rsa2048");
    // The ledger has them as they came: OpenSSH can verify each.
    let lines = ledger(records[0]);
    assert_eq!(lines.len(), 9);
    for (at, name) in names.iter().enumerate() {
        let line = &lines[at];
        assert_eq!(
            (field(line, "event"), field(line, "approvers"), field(line, "evidence")),
            ("approval", *name, base64(&signatures[at]).as_str())
        );
        assert!(is_verified(&list, name, APPROVE, if at == 0 { &fleet } else { &host }, &signatures[at]), "{name}");
    }
    // What was approved may be signed again, and that is recorded as the first time.
    signed(&ask(&config, "rsa2048", &words), "rsa2048", &[["approval"; 7].as_slice(), &["intent", "signed"]].concat());
    refused(&ask(&config, "rsa2048", ""), "0 of 7 approvals", "--approval TIME=BASE64 brings one person's");
    let six = words.rsplit_once(" --approval").unwrap().0;
    refused(&ask(&config, "rsa2048", six), "6 of 7 approvals", "another --approval TIME=BASE64 brings one more");
}

/// Every line changed, and whatever else an approval can be of: sigsh refuses all that OpenSSH refuses, by the same list.
#[test]
fn an_approval_is_of_this_alone() {
    let [alice, stranger] = ["ed25519", "ecdsa-256"].map(new_key);
    let list = list(&[("alice", &alice)]);
    let config = guarded("rsa2048", &format!("approvals = {{ need = 1, approvers = \"{list}\" }}"));
    let not_after = after(3600);
    let right = text("rsa2048", &not_after);
    let other_key = fingerprint("rsa3072");
    let later =
        humantime::format_rfc3339_seconds(humantime::parse_rfc3339(&not_after).unwrap() + Duration::from_secs(1)).to_string();
    let digest = right.split("sha512:").nth(1).unwrap().lines().next().unwrap().to_owned();
    let other_digest = format!("{}{}", if digest.starts_with('0') { "1" } else { "0" }, &digest[1..]);
    let size = format!("size {}", DATA.len());
    let mut cases = Vec::new();
    for (from, to) in [
        ("approve-v1", "approve-v2"),
        ("approve-v1", "break-glass-v1"),
        (&*fingerprint("rsa2048"), &*other_key),
        ("0x00", "0x01"),
        (&size, "size 22"),
        (&digest, &other_digest),
        ("sha512:", "sha256:"),
        (&not_after, &later),
        (HOST, "sign2.example.org"),
        (&format!("host {HOST}"), "fleet other"),
        (&format!("host {HOST}"), &format!("fleet {HOST}")),
        (&format!("host {HOST}"), &format!("host {FLEET}")),
        ("requester build1", "requester build2"),
        ("requester build1\n", "requester build1"),
        ("requester build1\n", "requester build1\n\n"),
        ("\n", "\r\n"),
        ("approve-v1", " approve-v1"),
    ] {
        assert!(right.contains(from), "{from}");
        cases.push((ssh_sign(&alice, APPROVE, right.replace(from, to).as_bytes(), &[]), OTHER));
    }
    let namespace = "one was not signed with -n approve@sigsh";
    for other in ["break-glass@sigsh", "artifact@sigsh", "file", "approve@sigsh "] {
        cases.push((ssh_sign(&alice, other, right.as_bytes(), &[]), namespace));
    }
    let good = ssh_sign(&alice, APPROVE, right.as_bytes(), &[]);
    cases.push((ssh_sign(&stranger, APPROVE, right.as_bytes(), &[]), "one is by nobody on the list"));
    // By a certificate of an approver's key, be it signed by the approver.
    let certificate = certify(&alice, &alice, &["-I", "alice", "-n", "alice"]);
    cases.push((ssh_sign(&certificate, APPROVE, right.as_bytes(), &[]), "one is by no plain ssh key"));
    let garbage = "one is no signature of ssh-keygen";
    let armored = String::from_utf8(good.clone()).unwrap();
    for bytes in [
        b"garbage".to_vec(),
        good[..good.len() / 2].to_vec(),
        armored.replace("SSH SIGNATURE", "SSH SIGNATURES").into_bytes(),
        b"SSHSIG".to_vec(),
    ] {
        cases.push((bytes, garbage));
    }
    for (signature, hint) in &cases {
        assert!(!is_verified(&list, "alice", APPROVE, &right, signature), "OpenSSH takes what is: {hint}");
        refused(&ask(&config, "rsa2048", &word(&not_after, signature)), "0 of 1 approvals", hint);
    }
    // Told for another time than it was signed for, for other bytes, and by another client.
    let word = word(&not_after, &good);
    refused(&ask(&config, "rsa2048", &word.replace(&not_after, &later)), "0 of 1 approvals", OTHER);
    let request = format!("{}{word}", declare("rsa2048", "sha512", b"other data"));
    refused(&Session::new(&config).client("build1").request(&request).run(b"other data"), "0 of 1 approvals", OTHER);
    signed(&ask(&config, "rsa2048", &word), "rsa2048", &["approval", "intent", "signed"]);
    // And all bits of the signature count.
    let (mut blob, mut taken) = (dearmor(armored.as_bytes()), 0);
    for at in (0..blob.len()).step_by(7) {
        blob[at] ^= 1;
        let outcome = ask(&config, "rsa2048", &self::word(&not_after, &blob));
        taken += usize::from(outcome.code != Some(77));
        blob[at] ^= 1;
    }
    assert_eq!(taken, 0);
    signed(&ask(&config, "rsa2048", &self::word(&not_after, &blob)), "rsa2048", &["approval", "intent", "signed"]);
}

#[test]
fn a_request_brings_at_most_sixteen_each_with_its_time() {
    let alice = new_key("ed25519");
    let config = guarded("rsa2048", &format!("approvals = {{ need = 1, approvers = \"{}\" }}", list(&[("alice", &alice)])));
    let not_after = after(600);
    let good = approve(&alice, &text("rsa2048", &not_after), &not_after);
    let none = format!(" --approval {not_after}=AAAA").repeat(15);
    signed(&ask(&config, "rsa2048", &format!("{none}{good}")), "rsa2048", &["approval", "intent", "signed"]);
    let wrong = "an option of the request has a wrong value";
    for (words, line) in [
        (format!("{none}{good}{good}"), "a request may bring at most 16 approvals"),
        (good.replacen('T', "t", 1), wrong),
        (good.replace("Z=", "="), wrong),
        (good.replace("Z=", ".5Z="), wrong),
        (good.replace("Z=", "+00:00="), wrong),
        (format!(" --approval {not_after}="), wrong),
        (format!(" --approval {not_after}=A"), wrong),
        (format!(" --approval {not_after}=-_AA"), wrong),
        (" --approval AAAA".to_owned(), wrong),
        (format!(" --approval {not_after}={}", base64(&[0; 6145])), wrong),
    ] {
        ask(&config, "rsa2048", &words).fails_quietly(64, line);
    }
    // A key that wants none gets none, and one that does signs nothing without size and digest.
    world()
        .session("build1", &format!("{}{good}", declare("rsa2048", "sha512", DATA)))
        .run(DATA)
        .fails_quietly(64, "this key wants neither endorsement nor approvals");
    let line = "this key signs what is endorsed or approved: one artifact at a time, its bytes, with --size and --digest";
    for request in ["sign rsa2048".to_owned(), format!("sign rsa2048 --size 21{good}")] {
        Session::new(&config).client("build1").request(&request).run(DATA).fails_quietly(77, line);
    }
}

#[test]
fn nobody_is_two_people_and_who_asks_is_none() {
    let [alice, spare, bob] = ["ed25519", "ecdsa-256", "ed25519"].map(new_key);
    let dave = ssh_key("build1");
    let not_after = after(600);
    let right = text("rsa2048", &not_after);
    let approve = |key: &str| approve(key, &right, &not_after);
    let two = |table: &str, client: &str, lines: &[(&str, &str)]| {
        let certificate = "certificate = \"/etc/sigsh/rsa2048.pgp\"\n";
        let approvals = format!("{certificate}approvals = {{ need = 2, approvers = \"{}\"{table} }}\n", list(lines));
        changed(&[(certificate, &approvals), ("[client.build1]\n", &format!("[client.build1]\n{client}"))])
    };
    let exclude = ", exclude-requester = true";
    let people = [("alice", &*alice), ("alice", &spare), ("bob", &bob), ("dave", &dave)];
    let twice = two("", "", &people);
    let one = "1 of 2 approvals";
    refused(&ask(&twice, "rsa2048", &[approve(&alice), approve(&alice)].concat()), one, "alice approved twice");
    refused(&ask(&twice, "rsa2048", &[approve(&alice), approve(&spare)].concat()), one, "alice approved twice");
    let events = ["approval", "approval", "intent", "signed"];
    let all = [approve(&alice), approve(&spare), approve(&bob)].concat();
    let outcome = ask(&twice, "rsa2048", &all);
    assert_eq!(field(signed(&outcome, "rsa2048", &events)[2], "SIGSH_APPROVERS"), "alice bob");

    // Who has logged in as build1 has dave's key, is called so, or is told to be so.
    signed(&ask(&twice, "rsa2048", &[approve(&alice), approve(&dave)].concat()), "rsa2048", &events);
    let own = |person: &str, key: &str, client: &str| {
        let config = two(exclude, client, &[("alice", &alice), ("bob", &bob), (person, key)]);
        (
            ask(&config, "rsa2048", &[approve(&alice), approve(key)].concat()),
            ask(&config, "rsa2048", &[approve(&alice), approve(&bob)].concat()),
        )
    };
    for (person, key, client) in [
        ("dave", &*dave, ""),
        ("build1", &spare, ""),
        ("Build1", &spare, ""),
        ("dave@example.org", &spare, "person = \"dave@example.org\"\n"),
    ] {
        let (with, without) = own(person, key, client);
        refused(&with, one, &format!("{person} asked for it himself"));
        signed(&without, "rsa2048", &events);
    }
    // By any of a person's keys.
    let config = two(exclude, "", &[("alice", &alice), ("dave", &dave), ("dave", &spare)]);
    refused(&ask(&config, "rsa2048", &[approve(&alice), approve(&spare)].concat()), one, "dave asked for it himself");

    // By the certificate that he has logged in with: its key, key id and principals.
    let ca = new_key("ed25519");
    for (person, key, words) in [
        ("carol", "build1", ["-I", "ci-7", "-n", "ci"]),
        ("ci-7", "", ["-I", "ci-7", "-n", "ci"]),
        ("carol@example.org", "", ["-I", "ci-7", "-n", "ci,carol@example.org"]),
    ] {
        let login = new_key("ed25519");
        let certificate = fs::read_to_string(certify(&ca, &login, &words)).unwrap();
        let auth = format!("{}/auth", scratch());
        let plain = certificate.split(' ').take(2).collect::<Vec<_>>().join(" ");
        account_file(&auth, format!("publickey {}\n", plain.trim()).as_bytes());
        let key = if key.is_empty() { &spare } else { &login };
        let client =
            format!("ssh-ca = \"{}\"\nprincipals = [\"ci\"]\nkeys = [\"rsa2048\"]\n[client.former]\n", crate::vouched::print(&ca));
        let config = two(exclude, &client, &[("alice", &alice), (person, key)]);
        let request = format!("{}{}{}", declare("rsa2048", "sha512", DATA), approve(&alice), approve(key));
        let mut session = Session::new(&config).client("build1").request(&request);
        session.command.env("SSH_USER_AUTH", &auth);
        refused(&session.run(DATA), one, &format!("{person} asked for it himself"));
    }
}

#[test]
fn an_approval_holds_until_its_last_second_and_never_for_longer_than_may_be() {
    let alice = new_key("ed25519");
    let list = list(&[("alice", &alice)]);
    let config = guarded("rsa2048", &format!("approvals = {{ need = 1, approvers = \"{list}\" }}"));
    let short = guarded("rsa2048", &format!("approvals = {{ need = 1, approvers = \"{list}\", max-age = \"1h\" }}"));
    let events = ["approval", "intent", "signed"];
    for (config, seconds, hint) in [
        (&config, 24 * 3600, ""),
        (&config, 24 * 3600 + 5, "alice's holds for longer than 1day"),
        (&short, 3600, ""),
        (&short, 3605, "alice's holds for longer than 1h"),
        (&config, -190, "alice's expired 3 minutes ago"),
    ] {
        let not_after = after(seconds);
        let outcome = ask(config, "rsa2048", &approve(&alice, &text("rsa2048", &not_after), &not_after));
        if hint.is_empty() {
            signed(&outcome, "rsa2048", &events);
        } else {
            refused(&outcome, "0 of 1 approvals", hint);
        }
    }
    // From its second on it has expired, and during an upload, too.
    let late = ends_in_time(&config, |seconds| {
        let not_after = after(seconds as i64);
        let text = crate::vouched::text("approve-v1", "rsa2048", LONG, &not_after);
        let request = format!("{}{}", declare("rsa2048", "sha512", LONG), approve(&alice, &text, &not_after));
        (request, humantime::parse_rfc3339(&not_after).unwrap())
    });
    late.fails_quietly(77, "0 of 1 approvals");
    assert!(late.err.contains("alice's expired "), "{late:?}");
}

/// What OpenSSH refuses by its list's options, sigsh refuses; and of lists it takes no line that OpenSSH does not.
#[test]
fn a_list_means_what_it_means_to_openssh() {
    let [alice, bob] = ["ed25519", "ecdsa-256"].map(new_key);
    let not_after = after(600);
    let right = text("rsa2048", &not_after);
    let signature = ssh_sign(&alice, APPROVE, right.as_bytes(), &[]);
    let digits = |seconds: i64| after(seconds).replace(['-', ':', 'T'], "");
    let [past, future] = [digits(-60), digits(600)];
    let public = fs::read_to_string(format!("{alice}.pub")).unwrap();
    let [public, other] = [public.trim(), fs::read_to_string(format!("{bob}.pub")).unwrap().trim()].map(str::to_owned);
    // What OpenSSH says, and what sigsh does: a hint, the reason of a configuration error, or nothing.
    for (line, theirs, ours) in [
        (format!("alice {public}"), true, ""),
        (format!("\t alice \t {public} comment, and \"more\""), true, ""),
        (format!("# alice\nbob {other}\n\nalice {public}"), true, ""),
        (format!("alice namespaces=\"approve@sigsh\" {public}"), true, ""),
        (format!("alice namespaces=\"file,approve@sigsh\" {public}"), true, ""),
        (format!("alice valid-after=\"{past}\",valid-before=\"{future}\" {public}"), true, ""),
        (format!("alice valid-after=\"20200101Z\" {public}"), true, ""),
        (format!("alice namespaces=\"file\" {public}"), false, ":1:1: by this list 0 can approve, and 1 must"),
        (format!("alice valid-before=\"{past}\" {public}"), false, "alice's key is no longer valid"),
        (format!("alice valid-after=\"{future}\" {public}"), false, "alice's key is not valid yet"),
        (format!("alice {other}"), false, "one is by nobody on the list"),
        // Refused by both.
        (format!("alice valid-before=\"20301301Z\" {public}"), false, ":1:1: a time is "),
        (format!("alice valid-before=20300101Z {public}"), false, ":1:1: an option is "),
        (format!("alice valid-before=\"20300101Z {public}"), false, ":1:1: a quote is missing"),
        (format!("alice namespaces=\"\" {public}"), false, ":1:1: namespaces are names"),
        (format!("alice namespaces=\"approve@sigsh\",namespaces=\"file\" {public}"), false, ":1:1: an option stands here twice"),
        (format!("alice no-touch-required {public}"), false, ":1:1: behind the principal belongs a public ssh key"),
        (format!("alice cert-authority {public}"), false, ":1:1: an approver's key is a plain one"),
        ("alice ssh-ed25519 AAAA".to_owned(), false, ":1:1: behind the principal belongs a public ssh key"),
        (public.clone(), false, ":1:1: behind the principal belongs a public ssh key"),
        // Refused by sigsh alone, because it can be misread.
        (format!("ali* {public}"), true, ":1:1: a person is one principal"),
        (format!("alice,bob {public}"), true, ":1:1: a person is one principal"),
        (format!("\"alice\" {public}"), true, ":1:1: a person is one principal"),
        (format!("alice namespaces=\"approve@*\" {public}"), true, ":1:1: namespaces are names"),
        (format!("alice namespaces=\"*,!file\" {public}"), true, ":1:1: namespaces are names"),
        (format!("alice valid-before=\"20360101\" {public}"), true, ":1:1: a time is "),
        (format!("alice {public}\r"), true, ":1:1: the line has a control character"),
        (format!("alice {public}\nbob {public}"), true, ":2:1: this key is on line 1, too"),
        (format!("alice {public}\nalice {public}"), true, ":2:1: this key is on line 1, too"),
    ] {
        let list = write(&format!("{line}\n"));
        assert_eq!(is_verified(&list, "alice", APPROVE, &right, &signature), theirs, "OpenSSH: {line}");
        assert_eq!(Approvers::parse(line.as_bytes()).is_err(), ours.starts_with(':') && !ours.contains("by this list"), "{line}");
        let config = guarded("rsa2048", &format!("approvals = {{ need = 1, approvers = \"{list}\" }}"));
        let outcome = ask(&config, "rsa2048", &word(&not_after, &signature));
        match ours {
            "" => drop(signed(&outcome, "rsa2048", &["approval", "intent", "signed"])),
            reason if reason.starts_with(':') => outcome.fails(78, NOT_SET_UP, "refused", &format!("{list}{reason}")),
            hint => refused(&outcome, "0 of 1 approvals", hint),
        }
    }
}

#[test]
fn a_list_that_others_can_write_or_that_is_too_short_signs_nothing() {
    let alice = new_key("ed25519");
    let list = list(&[("alice", &alice), ("alice", &security_key("ed25519-sk"))]);
    let fails = |approvers: &str, more: &str, reason: &str| {
        let config = guarded("rsa2048", &format!("approvals = {{ approvers = \"{approvers}\", {more} }}"));
        ask(&config, "rsa2048", "").fails(78, NOT_SET_UP, "refused", reason);
    };
    fails(&list, "need = 2", &format!("{list}:1:1: by this list 1 can approve, and 2 must"));
    let soft = self::list(&[("alice", &alice)]);
    fails(&soft, "need = 1, hardware-only = true", &format!("{soft}:1:1: by this list 0 can approve, and 1 must"));
    fails("/etc/sigsh/nobody", "need = 1", "cannot open /etc/sigsh/nobody");
    succeed(Command::new("chmod").args(["o+w", &soft]));
    fails(&soft, "need = 1", &format!("{soft} is writable by group or others"));
}

/// Whoever takes somebody off the list while an artifact is on its way has it not signed.
#[test]
fn a_list_that_changes_during_an_upload_signs_nothing() {
    let alice = new_key("ed25519");
    let not_after = after(600);
    let word = approve(&alice, &text("rsa2048", &not_after), &not_after);
    let request = format!("{}{word}", declare("rsa2048", "sha512", DATA));
    let certificate = "certificate = \"/etc/sigsh/rsa2048.pgp\"\n";
    let changes: [fn(&str); 3] = [
        |list| fs::write(list, "").unwrap(),
        |list| fs::remove_file(list).unwrap(),
        |list| {
            fs::copy(list, format!("{list}.new")).unwrap();
            fs::rename(format!("{list}.new"), list).unwrap();
        },
    ];
    for change in changes {
        let list = list(&[("alice", &alice)]);
        let table = format!("{certificate}approvals = {{ need = 1, approvers = \"{list}\" }}\n");
        let (config, count) = faulty("", &[(certificate, &table)]);
        let mut child = Session::new(&config).client("build1").request(&request).start();
        child.stdin.as_mut().unwrap().write_all(&DATA[..5]).unwrap();
        // The list is read before the token process is there.
        patient(|| calls(&count, "C_Initialize") > 0);
        change(&list);
        finish_child(child, &DATA[5..]).fails_quietly(75, "what says who may endorse or approve has changed");
        assert_eq!(calls(&count, "C_SignInit"), 0);
    }
}

#[test]
fn a_security_key_was_touched_and_has_asked_whom_it_is_told_to() {
    let [soft, token, second] = [new_key("ed25519"), security_key("ed25519-sk"), security_key("ecdsa-sk")];
    let list = list(&[("alice", &token), ("bob", &second), ("carol", &soft)]);
    let config = |more: &str| guarded("rsa2048", &format!("approvals = {{ need = 1, approvers = \"{list}\"{more} }}"));
    let [plain, verified, hardware] = [config(""), config(", user-verification = true"), config(", hardware-only = true")];
    let not_after = after(600);
    let right = text("rsa2048", &not_after);
    for (key, person) in [(&token, "alice"), (&second, "bob")] {
        for (config, flags, hint) in [
            (&plain, 0, "'s key was not touched"),
            (&plain, 4, "'s key was not touched"),
            (&plain, 1, ""),
            (&plain, 5, ""),
            (&verified, 0, "'s key was not touched"),
            (&verified, 1, "'s key has not asked who touched it"),
            (&verified, 5, ""),
            (&hardware, 0, "'s key was not touched"),
            (&hardware, 1, ""),
        ] {
            let signature = touched(key, flags, &right);
            // OpenSSH does not look at this: the signature is good.
            assert!(is_verified(&list, person, APPROVE, &right, &signature));
            let outcome = ask(config, "rsa2048", &word(&not_after, &signature));
            if hint.is_empty() {
                signed(&outcome, "rsa2048", &["approval", "intent", "signed"]);
            } else {
                refused(&outcome, "0 of 1 approvals", &format!("{person}{hint}"));
            }
        }
        // What it says of the touch is signed, too.
        let mut blob = dearmor(&touched(key, 0, &right));
        let flags = blob.len() - 5;
        assert_eq!(blob[flags], 0);
        blob[flags] = 1;
        refused(&ask(&plain, "rsa2048", &word(&not_after, &blob)), "0 of 1 approvals", OTHER);
    }
    let software = word(&not_after, &ssh_sign(&soft, APPROVE, right.as_bytes(), &[]));
    signed(&ask(&plain, "rsa2048", &software), "rsa2048", &["approval", "intent", "signed"]);
    signed(&ask(&verified, "rsa2048", &software), "rsa2048", &["approval", "intent", "signed"]);
    refused(&ask(&hardware, "rsa2048", &software), "0 of 1 approvals", "carol's key is no security key");
}

/// With the names of this host in place of the manual's.
#[test]
fn what_the_manual_says_can_be_typed_in() {
    let [alice, bob] = [new_key("ed25519"), security_key("ed25519-sk")];
    let list = list(&[("alice@example.org", &alice), ("bob", &bob)]);
    admit_guarded("production", "rsa2048", &format!("approvals = {{ need = 2, approvers = \"{list}\" }}"));
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/sigsh.8.md")).unwrap();
    let section = page.split_once("\n# APPROVALS\n").unwrap().1.split("\n# ").next().unwrap();
    let blocks = section.split("\n\n").filter(|text| text.starts_with("    ")).map(|text| text.replace("\n    ", "\n"));
    let [_, by_hand, asked, verified, _] = blocks.collect::<Vec<_>>().try_into().unwrap();
    let by_hand = by_hand.replace("0123456789ABCDEF0123456789ABCDEF01234567", &fingerprint("rsa2048"));
    let by_hand = by_hand.replace("requester build1", "requester production").replace("sign1.example.org", HOST);
    let run = |script: &str, home: &str| {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(home).env("HOME", home).env("SSH_SK_PROVIDER", provider());
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    };
    let words = [&alice, &bob].map(|key| {
        let home = scratch();
        fs::create_dir(format!("{home}/.ssh")).unwrap();
        fs::write(format!("{home}/package.deb"), DATA).unwrap();
        for (suffix, from) in [("", key.clone()), (".pub", format!("{key}.pub"))] {
            fs::copy(from, format!("{home}/.ssh/id_ed25519_sk{suffix}")).unwrap();
        }
        let words = run(&by_hand, &home);
        if *key == alice {
            assert!(
                run(&verified.replace("-f approvers", &format!("-f {list}")), &home)
                    .starts_with("Good \"approve@sigsh\" signature")
            );
        }
        words.lines().next_back().unwrap().to_owned()
    });
    let home = scratch();
    fs::write(format!("{home}/f"), DATA).unwrap();
    let (before, rest) = asked.split_once("--approval").unwrap();
    let asked = format!("{before}{} {}\"{}", words[0], words[1], rest.rsplit_once('"').unwrap().1);
    let ssh = format!("ssh -F {HOME}/ssh_config -p {PORT} -i {} -o HostName=127.0.0.1", ssh_key("production"));
    run(&format!("ssh() {{ command {ssh} \"$@\"; }}\n{asked}"), &home);
    verify("rsa2048", &fs::read(format!("{home}/f.sig")).unwrap(), DATA);
}

#[test]
fn through_sshd() {
    let [alice, bob] = ["ed25519", "ed25519"].map(new_key);
    let list = list(&[("alice", &alice), ("bob", &bob)]);
    admit_guarded("approved", "rsa2048", &format!("approvals = {{ need = 2, approvers = \"{list}\", exclude-requester = true }}"));
    let not_after = after(600);
    let right = text("rsa2048", &not_after).replace("requester build1", "requester approved");
    let words = [approve(&alice, &right, &not_after), approve(&bob, &right, &not_after)];
    let request = declare("approved", "sha512", DATA);
    let outcome = world().ssh("approved", &format!("{request}{}{}", words[0], words[1]), DATA);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify("rsa2048", &outcome.out, DATA);
    let outcome = world().ssh("approved", &format!("{request}{}", words[1]), DATA);
    outcome.fails_quietly(77, "1 of 2 approvals");
    assert!(outcome.err.ends_with("sigsh: hint: another --approval TIME=BASE64 brings one more\n"), "{outcome:?}");
}
