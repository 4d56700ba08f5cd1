//! A guarded key signs one artifact at a time, its bytes, declared in full: nobody goes round what it demands by another mode.

use crate::batch::{END, entry, signatures};
use crate::v6;
use crate::vouched::mac::{self, Build};
use crate::vouched::{after, base64, declare, new_key, ssh, ssh_sign, text};
use crate::world::{Outcome, Session, calls, faulty, field, verify, world};
use sha2::{Digest, Sha256};
use sigsh::config::{Config, Revoked};
use sigsh::hash_state::HashAlgorithm;
use sigsh::identity::{Environment, Identity};
use sigsh::openpgp::SigningKey;
use sigsh::policy;
use sigsh::request::Request;
use sigsh::warrant::{Demands, WarrantError};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const KEY: &str = "ed25519";
const DATA: &[u8] = b"data";
const GUARDED: &str = "this key signs what is endorsed or approved: one artifact at a time, its bytes, with --size and --digest";
const HELLO: &str = include_str!("../../../fuzz/corpus/state_document/client-short");

/// A configuration in which [`KEY`], by this certificate, demands this, with the module that counts calls; and the client's table says
/// this besides.
fn counting(certificate: &str, table: &str, client: &str) -> (PathBuf, PathBuf) {
    world();
    let (old, new) = (format!("certificate = \"/etc/sigsh/{KEY}.pgp\"\n"), format!("certificate = \"{certificate}\"\n{table}\n"));
    let all = format!("[client.build1]\ninputs = [\"artifact\", \"tar\", \"state\"]\n{client}");
    faulty("", &[(&old, &new), ("[client.build1]\n", &all)])
}

fn own() -> String {
    format!("/etc/sigsh/{KEY}.pgp")
}

/// This code and line, one record, no signature, nothing asked of the token.
#[track_caller]
fn refuses(outcome: &Outcome, count: &Path, code: i32, line: &str) {
    // A block that no tar takes for a good one.
    let is_of_tar = outcome.out.len() == 512 && signatures(&outcome.out).is_empty();
    assert!(outcome.code == Some(code) && (outcome.out.is_empty() || is_of_tar), "{outcome:#?}");
    assert_eq!(outcome.err.lines().next(), Some(format!("sigsh: error: {line}").as_str()), "{outcome:#?}");
    let [record] = outcome.records.as_slice() else { panic!("{outcome:#?}") };
    assert_eq!((field(record, "SIGSH_EVENT"), field(record, "SIGSH_CODE")), ("refused", code.to_string().as_str()), "{record:#?}");
    assert_eq!((calls(count, "C_Initialize"), calls(count, "C_SignInit")), (0, 0), "{outcome:#?}");
}

#[test]
fn no_other_mode_goes_round_it() {
    let (ca, build) = (new_key("ed25519"), new_key("ed25519"));
    let table = ssh::endorsers(&ca);
    let endorsement = base64(&ssh_sign(&ssh::permit(&ca, &build, KEY, &[]), ssh::NAMESPACE, DATA, &[]));
    let good = format!("{} --endorsement {endorsement}", declare(KEY, "sha512", DATA));
    let digest = good.split(' ').find(|word| word.starts_with("sha512:")).unwrap().to_owned();
    let other = format!("sha256:{}", hex::encode(Sha256::digest(DATA)));
    let extra = "the request has an unknown option or a word too many";
    let tar = [entry(b"a", DATA), END.to_vec()].concat();
    let (config, count) = counting(&own(), &table, "");
    for (request, input, code, line) in [
        ("sign-tar ed25519", &*tar, 77, GUARDED),
        ("sign-tar ed25519 rsa2048", &tar, 77, GUARDED),
        ("sign-tar rsa2048 ed25519", &tar, 77, GUARDED),
        ("sign-tar rsa2048 rsa3072 ed25519 --type text", &tar, 77, GUARDED),
        (&format!("sign-tar ed25519 --endorsement {endorsement}"), &tar, 64, extra),
        ("sign-state ed25519", HELLO.as_bytes(), 77, GUARDED),
        (&format!("sign-state ed25519 --endorsement {endorsement}"), HELLO.as_bytes(), 64, extra),
        ("sign ed25519", DATA, 77, GUARDED),
        (&good.replace(" --size 4", ""), DATA, 77, GUARDED),
        (&good.replace(&format!(" --digest {digest}"), ""), DATA, 77, GUARDED),
        (&format!("{good} --type text"), DATA, 77, GUARDED),
        (&format!("{good} --cleartext"), DATA, 77, GUARDED),
        (&good.replace(&digest, &other), DATA, 64, "the key signs sha512; declare the digest by that hash"),
    ] {
        refuses(&Session::new(&config).client("build1").request(request).run(input), &count, code, line);
    }
    for (default, input) in [("sign ed25519", DATA), ("sign-tar ed25519", &tar), ("sign-state ed25519", HELLO.as_bytes())] {
        let (config, count) = counting(&own(), &table, &format!("request = \"{default}\"\n"));
        refuses(&Session::new(&config).client("build1").run(input), &count, 77, GUARDED);
    }
    // What is asked for as it must be is signed, and so is a tar by another key.
    let outcome = Session::new(&config).client("build1").request(&good).run(DATA);
    assert_eq!((outcome.code, calls(&count, "C_SignInit")), (Some(0), 1), "{outcome:#?}");
    verify(KEY, &outcome.out, DATA);
    let outcome = Session::new(&config).client("build1").request("sign-tar rsa2048").run(&tar);
    assert_eq!((outcome.code, signatures(&outcome.out).len()), (Some(0), 1), "{outcome:#?}");
}

/// Were policy to let them through: whoever judges what is demanded demands one key and what it is to sign.
#[test]
fn a_grant_that_should_not_be_is_refused_once_more() {
    let (path, _) = counting(&own(), &ssh::endorsers(&new_key("ed25519")), "");
    let all = fs::read_to_string(path).unwrap()
        + "[client.here]\nunix-user = \"0\"\ninputs = [\"tar\"]\nkeys = [\"rsa2048\", \"ed25519\"]\n";
    let config = Config::parse(Path::new("/sigsh.toml"), &all).unwrap();
    let identity = Identity::establish(Environment::default(), Revoked::default()).unwrap();
    let client = policy::recognise(&config, &identity).unwrap();
    for (names, is_guarded) in
        [(&["rsa2048"][..], false), (&["rsa2048"; 2], false), (&[KEY], true), (&[KEY, "rsa2048"], true), (&["rsa2048", KEY], true)]
    {
        let Ok(Request::SignTar(tar)) = Request::parse("sign-tar rsa2048") else { panic!() };
        let mut grant = client.may_sign_tar(&tar).unwrap();
        grant.keys = names.iter().map(|name| client.key(Some(name)).unwrap()).collect();
        let read = |name: &&str| {
            let bytes = fs::read(format!("/etc/sigsh/{name}.pgp")).unwrap();
            SigningKey::read(&bytes, HashAlgorithm::Sha512, SystemTime::now()).unwrap()
        };
        let keys = names.iter().map(read).collect::<Vec<_>>();
        let demands = Demands::open(&config, &grant, &identity).unwrap();
        let judged = demands.judge(&grant, &keys, SystemTime::now(), |_| Ok::<_, WarrantError>(true));
        assert_eq!(matches!(judged, Err(WarrantError::Key)), is_guarded, "{names:?}");
        assert!(is_guarded || judged.is_ok());
    }
}

/// A salt stands before the bytes: no build and no person can speak of what a key of version 6 signs.
#[test]
fn a_key_of_version_6_signs_nothing_that_is_guarded() {
    v6::config();
    let certificate = v6::certificate(KEY);
    let key = SigningKey::read(&fs::read(&certificate).unwrap(), HashAlgorithm::Sha512, SystemTime::now()).unwrap();
    let [ca, build, alice] = ["ed25519"; 3].map(new_key);
    let by_ssh = base64(&ssh_sign(&ssh::permit(&ca, &build, KEY, &[]), ssh::NAMESPACE, DATA, &[]));
    let mut by_mac = Build::new(3600).of(DATA);
    by_mac.key = key.fingerprint();
    let not_after = after(600);
    let approval = text("approve-v1", KEY, DATA, &not_after).replace(&crate::vouched::fingerprint(KEY), &key.fingerprint());
    let approval = base64(&ssh_sign(&alice, "approve@sigsh", approval.as_bytes(), &[]));
    let approvers = crate::vouched::approvals::list(&[("alice", &alice)]);
    for (table, words) in [
        (ssh::endorsers(&ca), format!("--endorsement {by_ssh}")),
        (mac::table("v6", mac::MASTER), format!("--endorsement {}", base64(by_mac.endorsement().as_bytes()))),
        (format!("approvals = {{ need = 1, approvers = \"{approvers}\" }}"), format!("--approval {not_after}={approval}")),
    ] {
        let (config, count) = counting(&certificate, &table, "");
        let request = format!("{} {words}", declare(KEY, "sha512", DATA));
        let outcome = Session::new(&config).client("build1").request(&request).run(DATA);
        let not_set_up = "sigsh is not set up properly on this host";
        outcome.fails(78, not_set_up, "refused", "the certificate has several signing keys, or one of version 6");
        assert_eq!((outcome.records.len(), calls(&count, "C_SignInit")), (1, 0), "{outcome:#?}");
    }
}
