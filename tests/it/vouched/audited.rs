//! What `sigsh-admin ledger verify --approvals` finds: a host that invents what builds and people have said is caught by what they signed.

use crate::ledger::{Own, Report, joined, lines};
use crate::vouched::approvals::list;
use crate::vouched::{after, base64, certify, declare, emergency, fingerprint, guarded_own, new_key, print, ssh_sign, text};
use crate::world::{HOST, Session, scratch};
use base64ct::{Base64, Encoding};
use serde_json::{Map, Value};
use sigsh::audit::ledger::line::hash;
use std::fs;
use std::process::Command;

const DATA: &[u8] = b"artifact";
type Record = Map<String, Value>;

/// A ledger with one signature that a build has endorsed and two people approved, and one in an emergency.
struct Honest {
    own: Own,
    people: String,
    records: Vec<Record>,
}

impl Honest {
    fn new() -> Honest {
        let [alice, bob, carol, erin, ca, build] = ["ed25519"; 6].map(new_key);
        let people = list(&[("alice", &alice), ("bob", &bob), ("carol", &carol)]);
        let emergencies = list(&[("erin", &erin)]);
        let table = format!(
            "endorsement = {{ ssh-ca = [\"{}\"] }}\napprovals = {{ need = 2, approvers = \"{people}\" }}\n\
             break-glass = {{ need = 1, approvers = \"{emergencies}\" }}",
            print(&ca)
        );
        let own = guarded_own(Own::bare("/run/systemd/journal/socket"), &table);
        let (not_after, request) = (after(1800), declare("ed25519", "sha512", DATA));
        let text = text("approve-v1", "ed25519", DATA, &not_after);
        let approval = |key| format!(" --approval {not_after}={}", base64(&ssh_sign(key, "approve@sigsh", text.as_bytes(), &[])));
        let grant = format!("critical:grant@sigsh=host={HOST};max=1");
        let words = ["-I", "b 1", "-n", "build@ed25519", "-V", "-5m:+2h", "-z", "7", "-O", "clear", "-O", &grant];
        let endorsement = base64(&ssh_sign(&certify(&ca, &build, &words), "artifact@sigsh", DATA, &[]));
        let both = [approval(&alice), approval(&carol)].concat();
        for request in [
            format!("{request} --endorsement {endorsement}{both}"),
            format!("{request} --name haste{}", emergency(&erin, "ed25519", DATA, &after(1700))),
        ] {
            let outcome = Session::new(&own.config).client("build1").request(&request).run(DATA);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
        }
        let records = lines(&own.bytes()).into_iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        Honest { own, people, records }
    }

    /// A ledger of these records, each with the hash of the one before: as its host could have written it.
    fn remade(&self, mut records: Vec<Record>) -> String {
        let (mut all, mut prev) = (Vec::new(), "0".repeat(64));
        for (seq, record) in (1..).zip(&mut records) {
            record.insert("seq".to_owned(), Value::from(seq));
            record.insert("prev".to_owned(), Value::from(prev));
            let line = serde_json::to_vec(record).unwrap();
            prev = hex::encode(hash(&line));
            all.extend(joined(&[&line]));
        }
        let path = format!("{}/ledger", scratch());
        fs::write(&path, all).unwrap();
        path
    }

    fn verify(&self, arguments: &[&str]) -> Report {
        self.own.admin(&[&["ledger", "verify"], arguments].concat())
    }
}

#[test]
fn what_was_vouched_for_verifies_once_more() {
    let honest = Honest::new();
    let report = honest.verify(&["--approvals"]);
    let found = "of 2 requests for what is endorsed or approved, 3 approvals and 1 endorsements verify";
    assert_eq!((report.code, report.err.as_str()), (Some(0), ""), "{report:#?}");
    assert!(report.said("ok: ").contains(&found), "{report:#?}");
    assert_eq!(report.said("warning: "), ["line 8: break-glass, by erin: key ed25519, client build1, file haste"]);
    // The table says whose each is, and none of its bytes.
    for (event, what) in [("endorsement", vec!["b%201"]), ("approval", vec!["alice", "carol", "erin"])] {
        let report = honest.own.admin(&["ledger", "show", "--event", event]);
        let rows = report.out.lines().skip(1).map(|row| row.rsplit(' ').next().unwrap()).collect::<Vec<_>>();
        assert_eq!(rows, what);
        assert!(report.out.lines().all(|row| row.chars().count() <= 100), "{report:#?}");
    }
    // As somebody else does elsewhere, with nothing but the ledger and a list: who has broken the glass is not on that.
    let path = honest.remade(honest.records.clone());
    let people = format!("{}/people", scratch());
    fs::copy(&honest.people, &people).unwrap();
    let mut auditor = Command::new("setpriv");
    let list = format!("--approvals={people}");
    let words =
        ["--reuid", "65534", "--regid", "65534", "--clear-groups", "sigsh-admin", "--config", "/nowhere", "ledger", "verify"];
    let report = Report::of(auditor.args(words).args([&list, &path]));
    assert_eq!(report.code, Some(1));
    assert_eq!(
        report.said("error: "),
        [
            "line 7: an approval does not count: one is by nobody on the list",
            "line 8: it says that erin approved it, and shows nothing of it"
        ],
        "{report:#?}"
    );
    assert!(report.said("warning: ").contains(&"1 endorsements were not looked at: that takes the configuration"), "{report:#?}");
    // With a list of other people none of it is worth anything.
    let stranger = list_of_a_stranger();
    let report = honest.verify(&[&format!("--approvals={stranger}")]);
    assert!(report.said("error: ").contains(&"line 5: 0 of 2 approvals"), "{report:#?}");
    for wrong in ["/nowhere", "/etc/passwd"] {
        honest.verify(&[&format!("--approvals={wrong}")]).fails(wrong);
    }
}

fn list_of_a_stranger() -> String {
    list(&[("mallory", &new_key("ed25519"))])
}

#[test]
fn what_a_host_invents_does_not_verify() {
    let honest = Honest::new();
    let good = &honest.records;
    let events = good.iter().map(|record| record["event"].as_str().unwrap()).collect::<Vec<_>>();
    let expected = ["init", "endorsement", "approval", "approval", "intent", "signed", "approval", "intent", "signed"];
    assert_eq!(events, expected);
    let same = honest.remade(good.clone());
    assert_eq!(honest.verify(&["--approvals", &same]).code, Some(0));
    assert_eq!(fs::read(&same).unwrap(), honest.own.bytes());

    type Invention = (fn(&mut Vec<Record>), &'static [&'static str]);
    fn set(record: &mut Record, name: &str, value: &str) {
        assert_ne!(record.insert(name.to_owned(), Value::from(value)), Some(Value::from(value)), "{name}");
    }
    /// In all lines of the first session, or of the second.
    fn in_session(records: &mut [Record], of: usize, name: &str, value: &str) {
        let session = records[of]["session"].clone();
        records.iter_mut().filter(|record| record.get("session") == Some(&session)).for_each(|record| set(record, name, value));
    }
    const OTHER: &str = "one is of another artifact, key, host, time or requester";
    const ZEROS: &str = concat!(
        "00000000000000000000000000000000",
        "00000000000000000000000000000000",
        "00000000000000000000000000000000",
        "00000000000000000000000000000000"
    );
    /// The first signature as if nobody had vouched for it.
    fn bare(records: &mut Vec<Record>, key: &str) {
        in_session(records, 4, "key", key);
        for name in ["permits", "approvers", "endorsed"] {
            records[4].remove(name);
        }
        records.drain(1..4);
    }
    let inventions: [Invention; 24] = [
        // What is signed by a key that demands something is another's by its name alone.
        (
            |all| bare(all, "rsa2048"),
            &[
                "line 2: its key is rsa2048, and its fingerprint that of key ed25519",
                "line 2: 0 of 2",
                "line 2: it was not endorsed",
            ],
        ),
        (|all| bare(all, "nobody"), &["line 2: its key is nobody, and its fingerprint that of key ed25519", "line 2: 0 of 2"]),
        (
            |all| {
                bare(all, "rsa2048");
                set(&mut all[1], "fingerprint", &fingerprint("rsa2048"));
            },
            &["line 3: its intent is another key's"],
        ),
        (|all| all[2]["evidence"] = all[3]["evidence"].clone(), &["it is by carol for host", "1 of 2"]),
        (|all| set(&mut all[2], "approvers", "bob"), &["line 3: an approval does not count: it is by alice for host"]),
        (|all| set(&mut all[4], "approvers", "alice bob"), &["it says that bob approved it, and shows nothing of it"]),
        (|all| drop(all.remove(3)), &["line 4: 1 of 2 approvals", "it says that carol approved it"]),
        (|all| all[3] = all[2].clone(), &["alice approved twice", "line 5: 1 of 2 approvals", "it says that carol approved it"]),
        (|all| set(&mut all[3], "session", "00"), &["is of another session", "1 of 2 approvals"]),
        (|all| set(&mut all[2], "evidence", "AAAA"), &["one is no signature of ssh-keygen", "1 of 2"]),
        (
            |all| {
                let mut bytes = Base64::decode_vec(all[2]["evidence"].as_str().unwrap()).unwrap();
                let last = bytes.len() - 50;
                bytes[last] ^= 1;
                set(&mut all[2], "evidence", &base64(&bytes));
            },
            &["an approval does not count", "1 of 2"],
        ),
        (|all| set(&mut all[2], "not_after", "2099-01-01T00:00:00Z"), &[OTHER, "1 of 2"]),
        (|all| set(&mut all[2], "place", "fleet release"), &["it is by alice for host", "1 of 2"]),
        (|all| in_session(all, 2, "sha512", ZEROS), &["is of another artifact", OTHER, "0 of 2"]),
        (|all| in_session(all, 2, "size", "9"), &[OTHER, "0 of 2"]),
        (|all| in_session(all, 2, "client", "build2"), &[OTHER, "0 of 2"]),
        (|all| in_session(all, 2, "fingerprint", &ZEROS[..40]), &[OTHER, "0 of 2"]),
        (|all| set(&mut all[5], "sha512", ZEROS), &["line 6: its sha512 is not that of its intent, line 5"]),
        (|all| set(&mut all[5], "key", "rsa2048"), &["line 6: its key is not that of its intent, line 5"]),
        (|all| drop(all.remove(1)), &["it was not endorsed"]),
        (|all| set(&mut all[4], "permit_serial", "8"), &["the endorsement has another permit_serial than is recorded"]),
        (|all| set(&mut all[4], "permits", "ssh:SHA256:x:8"), &["what permits it is not counted: ssh:SHA256:"]),
        // An emergency that was none, and one that comes twice.
        (|all| in_session(all, 6, "break_glass", "no"), &["line 8: 0 of 2 approvals", "line 8: it was not endorsed"]),
        (
            |all| {
                let again = all[1..6].iter().chain(&all[6..9]).cloned().collect::<Vec<_>>();
                all.extend(again);
            },
            &[
                "what permits it was good for 1, and this is number 2: ssh:",
                "what permits it was good for 1, and this is number 2: break-glass:",
            ],
        ),
    ];
    let same_time = good.last().unwrap()["time"].clone();
    for (number, (invent, words)) in inventions.into_iter().enumerate() {
        let mut records = good.clone();
        invent(&mut records);
        // What is told again is told later.
        records.iter_mut().skip(9).for_each(|record| drop(record.insert("time".to_owned(), same_time.clone())));
        let report = honest.verify(&["--approvals", &honest.remade(records)]);
        assert_eq!((report.code, report.err.as_str()), (Some(1), ""), "{number}: {report:#?}");
        let errors = report.said("error: ");
        for word in words {
            assert!(errors.iter().any(|error| error.contains(word)), "{number} {word}: {errors:#?}");
        }
        assert!(report.said("proved: ").is_empty());
    }
    // A key that is not known here demands nothing that could be known. It is told; and an end that failed is one.
    let mut records = good.clone();
    bare(&mut records, "nobody");
    in_session(&mut records, 1, "fingerprint", &ZEROS[..40]);
    for (event, entry) in [("intent", ""), ("failed", ""), ("intent", "1"), ("signed", "1")] {
        let from = if entry.is_empty() { &good[4] } else { &records[1] };
        let mut record = from.clone();
        record.insert("event".to_owned(), Value::from(event));
        record.insert("entry".to_owned(), Value::from(entry));
        record.insert("session".to_owned(), Value::from("00"));
        record.insert("time".to_owned(), same_time.clone());
        records.push(record);
    }
    let report = honest.verify(&["--approvals", &honest.remade(records)]);
    const STRANGE: &str =
        "requests are for keys whose fingerprints no configured certificate has: what they demand, only their names tell";
    assert!(report.said("warning: ").contains(&format!("2 {STRANGE}").as_str()), "{report:#?}");
    assert!(!report.out.contains("is not that of its intent"), "{report:#?}");
    // At another time: approvals and the permit had expired, or were not yet.
    for (time, word) in [("2099-01-01T00:00:00.000000000Z", "expired"), ("2000-01-01T00:00:00.000000000Z", "holds for longer than")]
    {
        let mut records = good.clone();
        for record in &mut records {
            set(record, "time", time);
        }
        let errors = honest.verify(&["--approvals", &honest.remade(records)]).out;
        assert!(errors.contains(word) && errors.contains("0 of 2 approvals"), "{errors}");
    }
}
