//! How often a build's permit may be used, by sessions: as often as its operator has said, of whichever kind it is.

use crate::ledger::Own;
use crate::vouched::counts::DATA;
use crate::vouched::mac::Build;
use crate::vouched::openpgp::{Gpg, operators};
use crate::vouched::{admit_guarded, base64, declare, guarded_own, mac, new_key, openpgp, ssh, ssh_sign};
use crate::world::{Outcome, Session, all_of, calls, field, verify, world};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

const KEY: &str = "ed25519";

/// A key with a ledger of its own that signs what a build has endorsed, and what asks for one signature by its permit.
pub struct Permitted {
    pub own: Own,
    pub request: String,
    /// How the name begins that it is counted by.
    pub kind: &'static str,
}

impl Permitted {
    fn new(kind: &'static str, table: &str, endorsement: &[u8]) -> Permitted {
        let own = guarded_own(Own::bare("/run/systemd/journal/socket"), table);
        Permitted { own, request: format!("{} --endorsement {}", declare(KEY, "sha512", DATA), base64(endorsement)), kind }
    }

    fn run(&self) -> Outcome {
        Session::new(&self.own.config).client("build1").request(&self.request).run(DATA)
    }
}

/// By ssh-keygen, good for so many.
pub fn by_ssh(max: u64) -> Permitted {
    let (ca, build) = (new_key("ed25519"), new_key("ed25519"));
    let certificate = ssh::permit(&ca, &build, KEY, &[("max=64", &format!("max={max}"))]);
    Permitted::new("ssh:", &ssh::endorsers(&ca), &ssh_sign(&certificate, ssh::NAMESPACE, DATA, &[]))
}

fn by_gpg(max: u64) -> Permitted {
    let gpg = Gpg::new();
    let (operator, build) = (gpg.key("Alice", "ed25519", "cert"), gpg.key("build", "ed25519", "sign"));
    gpg.certify(&operator, &build, &openpgp::grant(KEY).replace("=64", &format!("={max}")), "7200");
    let endorsement = [gpg.export(&build), gpg.sign(&build, DATA, &[])].concat();
    Permitted::new("openpgp:", &openpgp::table(&operators(&gpg.export(&operator))), &endorsement)
}

fn by_mac(max: u64) -> Permitted {
    let mut build = Build::new(3600).of(DATA);
    build.max = max.to_string();
    Permitted::new("mac:", &mac::table("permits", mac::MASTER), build.endorsement().as_bytes())
}

#[test]
fn a_permit_for_two_makes_two() {
    for permitted in [by_ssh(2), by_gpg(2), by_mac(2)] {
        let Permitted { own, kind, .. } = &permitted;
        for _ in 0..2 {
            let outcome = permitted.run();
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{kind} {outcome:#?}");
            verify(KEY, &outcome.out, DATA);
            assert!(outcome.records.iter().all(|record| field(record, "SIGSH_PERMITS").starts_with(kind)), "{outcome:#?}");
        }
        let before = own.bytes();
        let used_up = "what permits this is used up: it was good for 2 signatures, made or tried";
        let third = permitted.run();
        third.fails(77, used_up, "refused", used_up);
        // Of a signature over the bytes nothing is said before they have come.
        let endorsed = if *kind == "openpgp:" { "" } else { kind.trim_end_matches(':') };
        assert_eq!((third.records.len(), field(&third.records[0], "SIGSH_ENDORSED")), (1, endorsed), "{kind}");
        assert_eq!((own.bytes(), calls(&own.count, "C_SignInit")), (before, 2), "{kind}");
    }
}

/// Endorsements of every kind, as an auditor finds them in the ledger: MACs show that host nothing but its own secret.
#[test]
fn an_auditor_verifies_what_can_be_verified() {
    let mac = "warning: 1 endorsements are MACs, which nobody can verify without this host's secret";
    for (permitted, verified, warning) in [(by_ssh(1), 1, None), (by_gpg(1), 1, None), (by_mac(1), 0, Some(mac))] {
        let Permitted { own, kind, .. } = &permitted;
        assert_eq!(permitted.run().code, Some(0), "{kind}");
        let report = own.admin(&["ledger", "verify", "--approvals"]);
        assert_eq!((report.code, report.err.as_str()), (Some(0), ""), "{kind} {report:#?}");
        let found = format!("of 1 requests for what is endorsed or approved, 0 approvals and {verified} endorsements verify");
        assert!(report.said("ok: ").contains(&found.as_str()), "{kind} {report:#?}");
        assert!(warning.is_none_or(|warning| report.out.lines().any(|line| line == warning)), "{kind} {report:#?}");
    }
}

/// Twenty ssh sessions of a build whose permit is good for one.
#[test]
fn many_builds_over_ssh_make_one_signature() {
    let (ca, build, client) = (new_key("ed25519"), new_key("ed25519"), "permits-ssh");
    admit_guarded(client, "rsa2048", &ssh::endorsers(&ca));
    let certificate = ssh::permit(&ca, &build, client, &[("max=64", "max=1")]);
    let endorsement = base64(&ssh_sign(&certificate, ssh::NAMESPACE, DATA, &[]));
    let request = format!("{} --endorsement {endorsement}", declare(client, "sha512", DATA));
    let (signed, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    all_of(0..20, |_| {
        let outcome = world().ssh(client, &request, DATA);
        if outcome.code == Some(0) {
            verify("rsa2048", &outcome.out, DATA);
            signed.fetch_add(1, Ordering::Relaxed);
        } else {
            outcome.fails_quietly(77, "what permits this is used up: it was good for 1 signature, made or tried");
            refused.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!((signed.into_inner(), refused.into_inner()), (1, 19));
    let ledger = fs::read_to_string("/var/lib/sigsh/ledger.jsonl").unwrap();
    let intents = ledger.lines().filter(|line| line.contains("\"event\":\"intent\"") && line.contains(&crate::vouched::print(&ca)));
    assert_eq!(intents.count(), 1);
}
