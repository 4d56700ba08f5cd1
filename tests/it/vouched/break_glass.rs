//! What is signed in an emergency: by another list, under another namespace, on this host, once, and loudly.

use crate::ledger::Own;
use crate::vouched::approvals::{DATA, ask, ledger, list, refused, signed, word};
use crate::vouched::{admit_guarded, after, declare, guarded, new_key, print, ssh_sign, text};
use crate::world::{FLEET, HOST, changed, field, verify, world};

const EVENTS: [&str; 3] = ["approval", "intent", "signed"];
const NAMESPACE: &str = "break-glass@sigsh";

/// What somebody types in an emergency. It is good once, and all tests have one ledger: each has people of its own.
fn emergency(not_after: &str) -> String {
    text("break-glass-v1", "rsa2048", DATA, not_after)
}

fn breaks(key: &str, text: &str, not_after: &str) -> String {
    word(not_after, &ssh_sign(key, NAMESPACE, text.as_bytes(), &[])).replace("--approval", "--break-glass")
}

#[test]
fn it_stands_in_for_endorsement_and_approvals_and_is_crit() {
    let [ca, alice, erin] = ["ed25519"; 3].map(new_key);
    let (approvers, emergencies) = (list(&[("alice", &alice)]), list(&[("erin", &erin)]));
    let config = guarded(
        "rsa2048",
        &format!(
            "endorsement = {{ ssh-ca = [\"{}\"] }}\napprovals = {{ need = 1, approvers = \"{approvers}\" }}\n\
             break-glass = {{ need = 1, approvers = \"{emergencies}\" }}",
            print(&ca)
        ),
    );
    let not_after = after(1800);
    let outcome = ask(&config, "rsa2048", &breaks(&erin, &emergency(&not_after), &not_after));
    let records = signed(&outcome, "rsa2048", &EVENTS);
    let names = ["PRIORITY", "SIGSH_APPROVERS", "SIGSH_BREAK_GLASS", "SIGSH_NOT_AFTER", "SIGSH_PLACE"];
    let own = records.iter().map(|record| names.map(|name| field(record, name))).collect::<Vec<_>>();
    assert_eq!(own[0], ["6", "erin", "yes", &not_after, &format!("host {HOST}")]);
    assert_eq!((own[1], own[2]), (["2", "erin", "yes", "", ""], ["2", "erin", "yes", "", ""]));
    let messages = records.iter().map(|record| field(record, "MESSAGE")).collect::<Vec<_>>();
    assert_eq!(messages[1], "break-glass: asking the token to sign for client build1 with key rsa2048");
    assert!(
        messages[2].starts_with("break-glass: signed an artifact of 21 bytes for client build1 with key rsa2048"),
        "{messages:?}"
    );
    let lines = ledger(records[0]);
    assert_eq!(lines.iter().map(|line| field(line, "event")).collect::<Vec<_>>(), EVENTS);
    assert!(lines.iter().all(|line| field(line, "break_glass") == "yes") && !field(&lines[0], "evidence").is_empty());
    let permits = field(&lines[1], "permits");
    assert!(permits.starts_with("break-glass:") && permits.len() == 12 + 64, "{permits}");

    // Nobody can use it twice.
    let again = ask(&config, "rsa2048", &breaks(&erin, &emergency(&not_after), &not_after));
    let used_up = "what permits this is used up: it was good for 1 signature, made or tried";
    again.fails(77, used_up, "refused", used_up);
    let names = ["PRIORITY", "SIGSH_BREAK_GLASS", "MESSAGE"].map(|name| field(&again.records[0], name));
    assert_eq!(names, ["2", "yes", &format!("break-glass: refused client build1 with key rsa2048: {used_up}")]);
    // Another time is another approval.
    let later = after(1900);
    signed(&ask(&config, "rsa2048", &breaks(&erin, &emergency(&later), &later)), "rsa2048", &EVENTS);
}

#[test]
fn it_is_for_others_than_approvals_are_and_for_this_host() {
    let [alice, frank, grace] = ["ed25519"; 3].map(new_key);
    let (approvers, emergencies) = (list(&[("alice", &alice)]), list(&[("frank", &frank), ("grace", &grace)]));
    let approvals = format!("approvals = {{ need = 1, approvers = \"{approvers}\" }}");
    let config = guarded("rsa2048", &format!("{approvals}\nbreak-glass = {{ need = 2, approvers = \"{emergencies}\" }}"));
    let not_after = after(1700);
    let right = emergency(&not_after);
    let (none, one) = ("0 of 2 approvals", "1 of 2 approvals");
    let other = "break-glass: one is of another artifact, key, host, time or requester";
    let approval = text("approve-v1", "rsa2048", DATA, &not_after);
    for (words, line, hint) in [
        (breaks(&alice, &right, &not_after), none, "break-glass: one is by nobody on the list"),
        (breaks(&frank, &right, &not_after), one, "another --break-glass TIME=BASE64 brings one more"),
        (breaks(&frank, &right, &not_after).repeat(2), one, "break-glass: frank approved twice"),
        (breaks(&frank, &right.replace(&format!("host {HOST}"), &format!("fleet {FLEET}")), &not_after), none, other),
        (breaks(&frank, &approval, &not_after), none, other),
        (
            word(&not_after, &ssh_sign(&frank, "approve@sigsh", right.as_bytes(), &[])).replace("--approval", "--break-glass"),
            none,
            "break-glass: one was not signed with -n break-glass@sigsh",
        ),
        (
            breaks(&frank, &right, &not_after).replace("--break-glass", "--approval"),
            "0 of 1 approvals",
            "one was not signed with -n approve@sigsh",
        ),
    ] {
        refused(&ask(&config, "rsa2048", &words), line, hint);
    }
    let late = after(3605);
    let hint = "break-glass: frank's holds for longer than 1h";
    refused(&ask(&config, "rsa2048", &breaks(&frank, &emergency(&late), &late)), none, hint);
    // Two of them do, and what else came does not matter.
    let both = [breaks(&frank, &right, &not_after), breaks(&grace, &right, &not_after)].concat();
    let outcome = ask(&config, "rsa2048", &both);
    let records = signed(&outcome, "rsa2048", &["approval", "approval", "intent", "signed"]);
    assert_eq!(field(records[3], "SIGSH_APPROVERS"), "frank grace");
    assert_eq!(field(records[3], "SIGSH_PERMITS").split(' ').count(), 2);
    let usual = ssh_sign(&alice, "approve@sigsh", approval.as_bytes(), &[]);
    let outcome = ask(&config, "rsa2048", &word(&not_after, &usual));
    assert_eq!(field(signed(&outcome, "rsa2048", &EVENTS)[2], "SIGSH_BREAK_GLASS"), "");
    // A key that knows no emergency says so.
    let calm = guarded("rsa2048", &approvals);
    ask(&calm, "rsa2048", &both).fails_quietly(64, "this key has no break-glass");
}

#[test]
fn it_does_not_pass_the_audit_by() {
    let [alice, heidi] = ["ed25519"; 2].map(new_key);
    let (approvers, emergencies) = (list(&[("alice", &alice)]), list(&[("heidi", &heidi)]));
    let certificate = "certificate = \"/etc/sigsh/rsa2048.pgp\"\n";
    let table = format!(
        "{certificate}approvals = {{ need = 1, approvers = \"{approvers}\" }}\nbreak-glass = {{ need = 1, approvers = \"{emergencies}\" }}\n"
    );
    let not_after = after(1600);
    let words = breaks(&heidi, &emergency(&not_after), &not_after);
    for (journal, ledger, code) in
        [("/run/nobody", "/var/lib/sigsh/ledger.jsonl", 74), ("/run/systemd/journal/socket", "/var/lib/sigsh/none", 74)]
    {
        let audit = format!("[audit]\njournal = \"{journal}\"\nledger = \"{ledger}\"\n");
        let config = changed(&[(certificate, &table), ("[audit]\njournal = \"/run/systemd/journal/socket\"\n", &audit)]);
        let outcome = ask(&config, "rsa2048", &words);
        assert_eq!((outcome.code, outcome.out.len()), (Some(code), 0), "{outcome:#?}");
    }
    let config = changed(&[(certificate, &table)]);
    signed(&ask(&config, "rsa2048", &words), "rsa2048", &EVENTS);
}

/// Nobody tries it unseen, however often: where other refusals are left out, these are not.
#[test]
fn what_is_refused_is_as_loud() {
    let [alice, erin] = ["ed25519"; 2].map(new_key);
    let (approvers, emergencies) = (list(&[("alice", &alice)]), list(&[("erin", &erin)]));
    let certificate = "certificate = \"/etc/sigsh/rsa2048.pgp\"\n";
    let table = format!(
        "{certificate}approvals = {{ need = 1, approvers = \"{approvers}\" }}\nbreak-glass = {{ need = 1, approvers = \"{emergencies}\" }}\n"
    );
    let more = [("refusals = \"1000000/s\"", "refusals = \"1/d\""), (certificate, &*table)];
    let own = Own::faulty("/run/systemd/journal/socket", "", &more);
    own.init();
    let not_after = after(1600);
    let by_nobody = breaks(&alice, &emergency(&not_after), &not_after);
    let seen = ["", "", &by_nobody, &by_nobody].map(|words| {
        let outcome = ask(&own.config, "rsa2048", words);
        assert_eq!(outcome.code, Some(77), "{outcome:#?}");
        outcome.records.iter().map(|record| field(record, "PRIORITY").to_owned()).collect::<String>()
    });
    assert_eq!(seen, ["4", "", "2", "2"]);
}

#[test]
fn through_sshd() {
    let [alice, ivan] = ["ed25519"; 2].map(new_key);
    let (approvers, emergencies) = (list(&[("alice", &alice)]), list(&[("ivan", &ivan)]));
    admit_guarded(
        "emergency",
        "rsa2048",
        &format!(
            "approvals = {{ need = 1, approvers = \"{approvers}\" }}\nbreak-glass = {{ need = 1, approvers = \"{emergencies}\" }}"
        ),
    );
    let not_after = after(1500);
    let right = emergency(&not_after).replace("requester build1", "requester emergency");
    let request = format!("{}{}", declare("emergency", "sha512", DATA), breaks(&ivan, &right, &not_after));
    let outcome = world().ssh("emergency", &request, DATA);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify("rsa2048", &outcome.out, DATA);
    let again = world().ssh("emergency", &request, DATA);
    again.fails_quietly(77, "what permits this is used up: it was good for 1 signature, made or tried");
}
