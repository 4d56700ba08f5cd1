//! What a build endorses by an ssh key that an operator has certified for it.

use crate::identity;
use crate::vouched::{
    LONG, MOST, admit_guarded, after, base64, certify, dearmor, declare, ends_in_time, guarded, new_key, print, reading, ssh_sign,
};
use crate::world::{HOST, Outcome, Session, field, finish, finish_child, scratch, succeed, verify, world};
use std::fs;
use std::path::Path;
use std::process::Command;

const KEY: &str = "ed25519";
pub const NAMESPACE: &str = "artifact@sigsh";

/// What an operator types, but for the authority and the build's key; `changes` are made in it.
fn words(key: &str, changes: &[(&str, &str)]) -> Vec<String> {
    let words =
        format!("-I|build-1234 by=alice|-n|build@{key}|-V|-5m:+2h|-z|1234|-O|clear|-O|critical:grant@sigsh=host={HOST};max=64");
    let words = changes.iter().fold(words, |words, (from, to)| {
        assert!(words.contains(from), "{from}");
        words.replace(from, to)
    });
    words.split('|').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

pub fn permit(ca: &str, build: &str, key: &str, changes: &[(&str, &str)]) -> String {
    let words = words(key, changes);
    certify(ca, build, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

pub fn endorsers(ca: &str) -> String {
    format!("endorsement = {{ ssh-ca = [\"{}\"] }}", print(ca))
}

fn session(config: &Path, endorsement: &[u8]) -> Session {
    let request = format!("{} --endorsement {}", declare(KEY, "sha512", b"data"), base64(endorsement));
    Session::new(config).client("build1").request(&request)
}

fn run(config: &Path, endorsement: &[u8]) -> Outcome {
    session(config, endorsement).run(b"data")
}

/// Demands a signature.
#[track_caller]
fn signs(outcome: &Outcome) {
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify(KEY, &outcome.out, b"data");
}

/// Demands a refusal that says why, and its record.
#[track_caller]
fn refuses(outcome: &Outcome, why: &str) {
    let line = format!("the endorsement {why}");
    outcome.fails(77, &line, "refused", &line);
    assert_eq!((outcome.records.len(), outcome.err.lines().count()), (1, 1), "{outcome:#?}");
}

/// The lines of the manual, as they stand there but for names, through a real sshd.
#[test]
fn through_sshd() {
    let (directory, ca) = (scratch(), new_key("ed25519"));
    admit_guarded("vouched-ssh", "rsa2048", &endorsers(&ca));
    fs::write(format!("{directory}/FILE"), "data").unwrap();
    let script = format!(
        "cd {directory}\nssh-keygen -q -t ed25519 -N '' -f bk\n\
         ssh-keygen -s {ca} -I 'build-1234 by=alice' -n build@vouched-ssh -V -5m:+2h -z 1234 -O clear \
         -O critical:grant@sigsh='host={HOST};max=64' bk.pub\n\
         ssh-keygen -Y sign -f bk-cert.pub -n artifact@sigsh FILE\n\
         echo sign vouched-ssh --size $(stat -c %s FILE) --digest sha512:$(sha512sum <FILE | cut -d' ' -f1) \
         --endorsement $(base64 -w0 FILE.sig) >request\n"
    );
    succeed(Command::new("sh").args(["-ec", &script]));
    let request = fs::read_to_string(format!("{directory}/request")).unwrap();
    let outcome = world().ssh("vouched-ssh", request.trim_end(), b"data");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
    verify("rsa2048", &outcome.out, b"data");
    let without = declare("vouched-ssh", "sha512", b"data");
    let line = "the endorsement is missing: this key signs what a build has endorsed";
    world().ssh("vouched-ssh", &without, b"data").fails_quietly(77, line);
    let other = request.replace(&without, &declare("vouched-ssh", "sha512", b"Data"));
    let line = "the endorsement is of another artifact, or not by the key of its certificate";
    world().ssh("vouched-ssh", other.trim_end(), b"Data").fails_quietly(77, line);
}

/// Nobody logs in by a permit: sshd knows no critical option of this name.
#[test]
fn a_permit_lets_nobody_in() {
    let port = identity::over_ssh();
    for (changes, code) in [(&[][..], Some(255)), (&[("-O|critical:grant@sigsh=", "-O|extension:grant@sigsh=")][..], Some(0))] {
        let build = new_key("ed25519");
        permit(&identity::authority("ed25519"), &build, KEY, &[changes, &[("-n|build@", "-n|build,build@")]].concat());
        let options = ["-o", "PubkeyAcceptedAlgorithms=*cert*"];
        let outcome = finish(identity::ssh(port, &build, &options, "sign"), b"data");
        assert_eq!(outcome.code, code, "{outcome:#?}");
    }
}

#[test]
fn each_word_of_the_operator_counts() {
    let (ca, other, build) = (new_key("ed25519"), new_key("ed25519"), new_key("ed25519"));
    let config = guarded(KEY, &endorsers(&ca));
    let (max, for_ever) = ("is by a certificate that is valid for more than 1 day", ("-5m:+2h", "always:forever"));
    let (another, options) =
        ("is by a certificate for another key", "is by a certificate with other critical options than grant@sigsh");
    let terms = "is by a certificate whose grant@sigsh is not 'host=HOST;max=NUMBER'";
    let grant = format!("critical:grant@sigsh=host={HOST};max=64");
    for (change, why) in [
        (("-z", "-z"), ""),
        (("-n|", "-n|other,"), ""),
        (("-z|1234", "-z|18446744073709551615"), ""),
        (("-5m:+2h", "-5m:+23h"), ""),
        (("max=64", "max=65"), ""),
        (("-O|clear", "-O|clear|-O|extension:more@example.org=x"), ""),
        (("-O|clear|", ""), ""),
        (("build@", "Build@"), another),
        (("build@", "build@x"), another),
        (("build@ed25519", "build@ed2551"), another),
        (("build@ed25519", "build@ed255199"), another),
        (("build@ed25519", "build@*"), another),
        (("build@ed25519", "*"), another),
        (("build@ed25519", "ed25519"), another),
        (("build@ed25519", "build@ed25519 "), another),
        (("build@ed25519", "build@rsa2048"), another),
        (("-n|build@ed25519|", ""), "is by a certificate for no key: it has no principals"),
        (("-z|1234|", ""), "is by a certificate without a serial"),
        (("-z|1234", "-z|0"), "is by a certificate without a serial"),
        (("-5m:+2h", "-5m:-90s"), "is by a certificate that expired 1 minute ago"),
        (("-5m:+2h", "-5d:-3d"), "is by a certificate that expired 3 days ago"),
        (("-5m:+2h", "+150s:+1h"), "is by a certificate that becomes valid in 2 minutes"),
        (for_ever, max),
        (("-5m:+2h", "always:+2h"), max),
        (("-5m:+2h", "-5m:forever"), max),
        (("-5m:+2h", "-5m:+25h"), max),
        (("-5m:+2h", "-23h:+2h"), max),
        (("-O|clear", "-h|-O|clear"), "is by a certificate of a host"),
        ((&grant, "clear"), "is by a certificate that endorses nothing: it has no critical option grant@sigsh"),
        (("critical:", "extension:"), "is by a certificate that endorses nothing: it has no critical option grant@sigsh"),
        (("grant@sigsh", "grant@sigsg"), options),
        (("-O|clear", "-O|clear|-O|critical:other@example.org=x"), options),
        (("-O|clear", "-O|clear|-O|force-command=true"), options),
        (("-O|clear", "-O|clear|-O|source-address=0.0.0.0/0"), options),
        (("-O|clear", "-O|clear|-O|verify-required"), options),
        ((HOST, "sign2.example.org"), "is for another host"),
        ((HOST, "*"), "is for another host"),
        ((HOST, "Sign1.example.org"), "is for another host"),
        ((HOST, ""), "is for another host"),
        ((HOST, "release"), "is for another host"),
        (("max=64", "max=0"), terms),
        (("max=64", "max=-1"), terms),
        (("max=64", "max=064"), terms),
        (("max=64", "max=64;more=1"), terms),
        ((";max=64", ""), terms),
        (("host=", "hosts="), terms),
        ((&format!("=host={HOST};max=64"), ""), terms),
    ] {
        let outcome = run(&config, &ssh_sign(&permit(&ca, &build, KEY, &[change]), NAMESPACE, b"data", &[]));
        if why.is_empty() { signs(&outcome) } else { refuses(&outcome, why) }
    }
    let foreign = ssh_sign(&permit(&other, &build, KEY, &[]), NAMESPACE, b"data", &[]);
    refuses(&run(&config, &foreign), "is by a certificate of an authority that this key does not know");
    // The right authority's key beside the other's signature: both have 32 bytes.
    let point = |key: &str| {
        let line = fs::read_to_string(format!("{key}.pub")).unwrap();
        let blob = <base64ct::Base64 as base64ct::Encoding>::decode_vec(line.split(' ').nth(1).unwrap()).unwrap();
        blob[blob.len() - 32..].to_vec()
    };
    let (mut claims, ours) = (dearmor(&foreign), point(&ca));
    let at = claims.windows(32).position(|window| window == point(&other)).unwrap();
    claims[at..at + 32].copy_from_slice(&ours);
    refuses(&run(&config, &claims), "is by a certificate that its authority has not signed");
}

#[test]
fn each_word_of_the_build_and_of_the_request_counts() {
    let (ca, build, other) = (new_key("ed25519"), new_key("ed25519"), new_key("ed25519"));
    let config = guarded(KEY, &endorsers(&ca));
    let (certificate, another) = (permit(&ca, &build, KEY, &[]), permit(&ca, &other, KEY, &[]));
    let good = ssh_sign(&certificate, NAMESPACE, b"data", &[]);
    let outcome = run(&config, &good);
    signs(&outcome);
    for record in &outcome.records {
        let names = ["SIGSH_ENDORSED", "SIGSH_PERMIT_BY", "SIGSH_PERMIT_SERIAL", "SIGSH_PERMIT_ID", "SIGSH_PERMITS"];
        let expected = ["ssh", &print(&ca), "1234", "build-1234%20by=alice", &format!("ssh:{}:1234", print(&ca))];
        assert_eq!(names.map(|name| field(record, name)), expected, "{record:#?}");
    }
    // Binary, too.
    signs(&run(&config, &dearmor(&good)));
    let purpose = "was made for another purpose: ssh-keygen -Y sign -n artifact@sigsh";
    let other_artifact = "is of another artifact, or not by the key of its certificate";
    let broken = "is no ssh signature that is understood";
    let plain = new_key("ed25519");
    let swapped = {
        let (mut swapped, donor) = (dearmor(&good), dearmor(&ssh_sign(&another, NAMESPACE, b"data", &[])));
        let length = swapped.len();
        swapped[length - 64..].copy_from_slice(&donor[length - 64..]);
        swapped
    };
    for (endorsement, why) in [
        (ssh_sign(&certificate, "file", b"data", &[]), purpose),
        (ssh_sign(&certificate, "approve@sigsh", b"data", &[]), purpose),
        (ssh_sign(&certificate, "artifact@sigshx", b"data", &[]), purpose),
        (ssh_sign(&certificate, NAMESPACE, b"Data", &[]), other_artifact),
        (ssh_sign(&certificate, NAMESPACE, b"", &[]), other_artifact),
        (swapped, other_artifact),
        (
            ssh_sign(&certificate, NAMESPACE, b"data", &["-O", "hashalg=sha256"]),
            "is by another hash than the key's: ssh-keygen -Y sign -O hashalg=sha512",
        ),
        (ssh_sign(&plain, NAMESPACE, b"data", &[]), "is by an ssh key without a certificate"),
        (ssh_sign(&ca, NAMESPACE, b"data", &[]), "is by an ssh key without a certificate"),
        (b"SSHSIG".to_vec(), broken),
        (good[..good.len() - 40].to_vec(), broken),
        ([&dearmor(&good), &b"\0"[..]].concat(), broken),
    ] {
        refuses(&run(&config, &endorsement), why);
    }
    let ask = |request: &str, data: &[u8]| Session::new(&config).client("build1").request(request).run(data);
    let missing = "is missing: this key signs what a build has endorsed";
    refuses(&ask(&declare(KEY, "sha512", b"data"), b"data"), missing);
    // What was endorsed is declared, and something else sent.
    let request = format!("{} --endorsement {}", declare(KEY, "sha512", b"data"), base64(&good));
    ask(&request, b"Data").fails(65, "the input has not the declared digest", "failed", "");
    ask(&request.replace("--size 4", "--size 5"), b"data").fails(
        65,
        "the input has 4 bytes, not the declared number",
        "failed",
        "",
    );
    let guarded = "this key signs what is endorsed or approved: one artifact at a time, its bytes, with --size and --digest";
    for (from, to) in [(" --size 4", ""), ("--size", "--type text --size"), ("sign ", "sign --cleartext ")] {
        ask(&request.replace(from, to), b"data").fails(77, guarded, "refused", guarded);
    }
    // A key that demands nothing takes nothing.
    let unguarded = "this key wants neither endorsement nor approvals";
    ask(&request.replace("sign ed25519", "sign rsa2048"), b"data").fails(64, unguarded, "refused", unguarded);
}

#[test]
fn keys_of_every_kind_but_the_weak() {
    let ed25519 = new_key("ed25519");
    for kind in ["ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048", "rsa-3072"] {
        let strange = new_key(kind);
        for (ca, build) in [(&ed25519, &strange), (&strange, &ed25519)] {
            let config = guarded(KEY, &endorsers(ca));
            signs(&run(&config, &ssh_sign(&permit(ca, build, KEY, &[]), NAMESPACE, b"data", &[])));
        }
    }
    let short = new_key("rsa-1024");
    let (config, by_short) = (guarded(KEY, &endorsers(&ed25519)), guarded(KEY, &endorsers(&short)));
    let endorsed = |ca: &str, build: &str| ssh_sign(&permit(ca, build, KEY, &[]), NAMESPACE, b"data", &[]);
    refuses(&run(&config, &endorsed(&ed25519, &short)), "is by a key of a kind that is not taken");
    let taken = "is by a certificate of an authority whose key is not taken";
    refuses(&run(&by_short, &endorsed(&short, &ed25519)), taken);
    // SHA-1, which ssh-keygen still makes for old servers.
    let rsa = new_key("rsa-2048");
    let old = ssh_sign(&permit(&rsa, &new_key("ed25519"), KEY, &[("-z|", "-t|ssh-rsa|-z|")]), NAMESPACE, b"data", &[]);
    refuses(&run(&guarded(KEY, &endorsers(&rsa)), &old), "is by a certificate that its authority has not signed");
}

#[test]
fn the_hash_is_the_keys_own() {
    let (ca, build) = (new_key("ed25519"), new_key("ed25519"));
    let config = guarded(KEY, &format!("hash = \"sha256\"\n{}", endorsers(&ca)));
    let certificate = permit(&ca, &build, KEY, &[]);
    let ask = |hash: &str| {
        let endorsement = ssh_sign(&certificate, NAMESPACE, b"data", &["-O", &format!("hashalg={hash}")]);
        let request = format!("{} --endorsement {}", declare(KEY, "sha256", b"data"), base64(&endorsement));
        Session::new(&config).client("build1").request(&request).run(b"data")
    };
    signs(&ask("sha256"));
    refuses(&ask("sha512"), "is by another hash than the key's: ssh-keygen -Y sign -O hashalg=sha256");
}

#[test]
fn a_permit_ends_with_its_second() {
    let (ca, build) = (new_key("ed25519"), new_key("ed25519"));
    let config = guarded(KEY, &endorsers(&ca));
    let late = ends_in_time(&config, |seconds| {
        // ssh-keygen of Debian 12 knows no zone: its own is UTC here.
        let (begin, end) = (after(-600), after(seconds as i64));
        let validity = [&begin, &end].map(|time| time.replace(['-', ':', 'T', 'Z'], "")).join(":");
        let endorsement = ssh_sign(&permit(&ca, &build, KEY, &[("-5m:+2h", &validity)]), NAMESPACE, LONG, &[]);
        let request = format!("{} --endorsement {}", declare(KEY, "sha512", LONG), base64(&endorsement));
        (request, humantime::parse_rfc3339(&end).unwrap())
    });
    late.fails(77, late.err.trim_start_matches("sigsh: error: ").trim_end(), "refused", "is by a certificate that expired ");
}

#[test]
fn what_is_revoked_endorses_nothing() {
    let (ca, build, other) = (new_key("ed25519"), new_key("ed25519"), new_key("ed25519"));
    let endorsement = ssh_sign(&permit(&ca, &build, KEY, &[]), NAMESPACE, b"data", &[]);
    let path = format!("/etc/sigsh/permits-{}", scratch().rsplit('h').next().unwrap());
    let table = format!("endorsement = {{ ssh-ca = [\"{}\"], revoked = \"{path}\" }}", print(&ca));
    let config = guarded(KEY, &table);
    let [serial, id, key, authority] = ["serial", "key id", "key", "key of the certificate authority"].map(|what| match what {
        "key of the certificate authority" => format!("is by a certificate that is revoked (the {what})"),
        what => format!("is by a certificate that is revoked (the {what} of the ssh certificate)"),
    });
    for (line, of, why) in [
        ("", &ca, ""),
        ("serial: 1234", &ca, &*serial),
        ("serial: 1000-1300", &ca, &serial),
        ("serial: 1233", &ca, ""),
        ("id: build-1234 by=alice", &ca, &id),
        ("id: build-1234", &ca, ""),
        (&format!("hash: {}", print(&build)), &ca, &key),
        (&format!("hash: {}", print(&ca)), &ca, &authority),
        (&format!("sha1: {}", fs::read_to_string(format!("{build}.pub")).unwrap()), &ca, &key),
        ("serial: 1234", &other, ""),
        ("id: build-1234 by=alice", &other, ""),
    ] {
        // The text counts for all authorities; the KRL made of it for one.
        fs::write(&path, format!("{line}\n")).unwrap();
        if of == &ca {
            let outcome = run(&config, &endorsement);
            if why.is_empty() { signs(&outcome) } else { refuses(&outcome, why) }
        }
        let krl = format!("{path}.krl");
        succeed(Command::new("ssh-keygen").args(["-q", "-k", "-f", &krl, "-s", &format!("{of}.pub"), &path]));
        fs::rename(&krl, &path).unwrap();
        let outcome = run(&config, &endorsement);
        if why.is_empty() { signs(&outcome) } else { refuses(&outcome, why) }
    }
    // Half a KRL is none, and a list that is not there is no empty one.
    let krl = fs::read(&path).unwrap();
    fs::write(&path, &krl[..krl.len() - 1]).unwrap();
    let not_set_up = "sigsh is not set up properly on this host";
    let reason = format!("{path}:1:1: this KRL is broken, signed, or has sections that are not known");
    run(&config, &endorsement).fails(78, not_set_up, "refused", &reason);
    fs::remove_file(&path).unwrap();
    run(&config, &endorsement).fails(78, not_set_up, "refused", &format!("cannot open {path}: no such file or directory"));
    // One that changes during the session.
    fs::write(&path, "serial: 1\n").unwrap();
    let endorsement = ssh_sign(&permit(&ca, &build, KEY, &[]), NAMESPACE, LONG, &[]);
    let (child, is_read) = reading(&config, &format!("{} --endorsement {}", declare(KEY, "sha512", LONG), base64(&endorsement)));
    assert!(is_read);
    fs::write(&path, "serial: 2\n").unwrap();
    let changed = "what says who may endorse or approve has changed";
    finish_child(child, &LONG[MOST..]).fails(75, changed, "refused", changed);
}
