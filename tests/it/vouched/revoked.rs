//! The list of revoked keys that nobody logs in by is that of approvers and of builds' authorities, too.

use crate::vouched::approvals::list;
use crate::vouched::{after, base64, certify, declare, guarded, new_key, print, ssh_sign};
use crate::world::{HOST, Session, field};
use std::fs;

const KEY: &str = "ed25519";
const DATA: &[u8] = b"artifact";

#[test]
fn neither_an_approver_nor_an_authority_goes_on() {
    let [alice, ca, build, other] = ["ed25519"; 4].map(new_key);
    let people = list(&[("alice", &alice)]);
    let config = guarded(
        KEY,
        &format!(
            "approvals = {{ need = 1, approvers = \"{people}\" }}\nendorsement = {{ ssh-ca = [\"{}\"], revoked = \"/etc/sigsh/own\" }}",
            print(&ca)
        ),
    );
    fs::write("/etc/sigsh/own", "serial: 6\n").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let revoked = "/etc/sigsh/revoked.also";
    fs::write(&config, format!("revoked-keys = \"{revoked}\"\n{text}")).unwrap();
    let (request, not_after) = (declare(KEY, "sha512", DATA), after(1800));
    let text = crate::vouched::text("approve-v1", KEY, DATA, &not_after);
    let approval = base64(&ssh_sign(&alice, "approve@sigsh", text.as_bytes(), &[]));
    let signs = |serial: &str| {
        let grant = format!("critical:grant@sigsh=host={HOST};max=9");
        let principal = format!("build@{KEY}");
        let words = ["-I", "b", "-n", &principal, "-V", "-5m:+2h", "-z", serial, "-O", "clear", "-O", &grant];
        let endorsement = base64(&ssh_sign(&certify(&ca, &build, &words), "artifact@sigsh", DATA, &[]));
        let request = format!("{request} --endorsement {endorsement} --approval {not_after}={approval}");
        Session::new(&config).client("build1").request(&request).run(DATA)
    };
    let key = |key: &str| fs::read_to_string(format!("{key}.pub")).unwrap();
    for (lines, serial, reason) in [
        (key(&other), "7", None),
        (key(&alice), "7", Some("0 of 1 approvals; alice's key is revoked")),
        (key(&ca), "7", Some("is revoked (the key of the certificate authority)")),
        (key(&build), "7", Some("is revoked (the key of the ssh certificate)")),
        ("serial: 7\n".to_owned(), "7", Some("is revoked (the serial of the ssh certificate)")),
        // That of the key's table counts as before.
        (key(&other), "6", Some("is revoked (the serial of the ssh certificate)")),
    ] {
        fs::write(revoked, &lines).unwrap();
        let outcome = signs(serial);
        let code = if reason.is_some() { 77 } else { 0 };
        assert_eq!(outcome.code, Some(code), "{lines}: {outcome:#?}");
        if let Some(reason) = reason {
            assert!(field(outcome.records.last().unwrap(), "SIGSH_REASON").contains(reason), "{lines}: {outcome:#?}");
        }
    }
}
