//! What a build endorses by an ssh key that an operator has certified for it.

use crate::vouched::{admit_guarded, base64, certify, declare, guarded, new_key, print, ssh_sign};
use crate::world::{HOST, Session, field, verify, world};

/// What an operator types, but for who, which key and how long.
fn permit(ca: &str, build: &str, key: &str) -> String {
    let grant = format!("critical:grant@sigsh=host={HOST};max=64");
    let words = ["-I", "build-1234 by=alice", "-n", &format!("build@{key}"), "-V", "-5m:+2h", "-z", "1234", "-O", "clear"];
    certify(ca, build, &[&words[..], &["-O", &grant]].concat())
}

#[test]
fn what_a_permitted_build_has_endorsed_is_signed() {
    let (ca, build) = (new_key("ed25519"), new_key("ed25519"));
    let config = guarded("ed25519", &format!("endorsement = {{ ssh-ca = [\"{}\"] }}", print(&ca)));
    let endorsement = ssh_sign(&permit(&ca, &build, "ed25519"), "artifact@sigsh", b"data", &[]);
    let request = format!("{} --endorsement {}", declare("ed25519", "sha512", b"data"), base64(&endorsement));
    let outcome = Session::new(&config).client("build1").request(&request).run(b"data");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify("ed25519", &outcome.out, b"data");
    let signed = outcome.records.last().unwrap();
    let names = ["SIGSH_EVENT", "SIGSH_ENDORSED", "SIGSH_PERMIT_BY", "SIGSH_PERMIT_SERIAL", "SIGSH_PERMIT_ID"];
    assert_eq!(names.map(|name| field(signed, name)), ["signed", "ssh", &print(&ca), "1234", "build-1234%20by=alice"]);
}

#[test]
fn through_sshd() {
    let (ca, build) = (new_key("ed25519"), new_key("ed25519"));
    admit_guarded("vouched-ssh", "rsa2048", &format!("endorsement = {{ ssh-ca = [\"{}\"] }}", print(&ca)));
    let endorsement = ssh_sign(&permit(&ca, &build, "vouched-ssh"), "artifact@sigsh", b"data", &[]);
    let request = format!("{} --endorsement {}", declare("vouched-ssh", "sha512", b"data"), base64(&endorsement));
    let outcome = world().ssh("vouched-ssh", &request, b"data");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify("rsa2048", &outcome.out, b"data");
    let line = "the endorsement is missing: this key signs what a build has endorsed";
    world().ssh("vouched-ssh", &declare("vouched-ssh", "sha512", b"data"), b"data").fails_quietly(77, line);
}
