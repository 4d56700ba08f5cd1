//! Smartcards: OpenSC, a pcscd of the test's own, and virtual cards in its readers (`tests/tokens/card.sh`), as docs/SMARTCARD.md says.

use super::{Daemon, Key, Lab, p11kit, prepares, suite, suite_by_both, table_of};
use crate::batch::{END, Running, files, half_a_batch, signatures};
use crate::sandbox::misfits;
use crate::world::{Outcome, blocks, field, finish_child, patient, secret, succeed, world};
use sigsh::sandbox::Profile;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The factory's PIN.
const PIN: &str = "123456";
const GUIDE: &str = "docs/SMARTCARD.md";
const CONF: &str = "/etc/sigsh/opensc.conf";
const BUSY: &str = "the token is busy";
const FAILED: &str = "the token failed";
const MISSING: &str = "the signing key is not in the token, or not alone";
const REFUSED: &str = "the token does not accept its PIN";

/// Both readers, empty; one test at a time has them.
pub struct Readers {
    _turn: MutexGuard<'static, ()>,
}

impl Readers {
    fn take() -> Readers {
        static START: Once = Once::new();
        static TURN: Mutex<()> = Mutex::new(());
        world();
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        START.call_once(|| {
            script("start");
            fs::copy("sshd/opensc.conf", CONF).unwrap();
        });
        script("empty");
        Readers { _turn }
    }

    /// With an OpenPGP card in the first, that has a key of this kind.
    pub fn with(kind: &'static str) -> (Readers, Lab) {
        let readers = Readers::take();
        script("insert 0 openpgp");
        script(&format!("key 0 {kind}"));
        (readers, openpgp(0, kind))
    }
}

fn script(arguments: &str) -> String {
    let output = succeed(Command::new("sh").arg("tests/tokens/card.sh").args(arguments.split(' ')));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The guide's configuration, with this uri.
fn table(uri: &str) -> String {
    let table = table_of(GUIDE);
    let rest = table.lines().filter(|line| !line.starts_with("uri")).map(|line| format!("{line}\n"));
    rest.chain([format!("uri = \"pkcs11:{uri}\"\n")]).collect()
}

/// Of an OpenPGP card's two PINs, that of the signature key.
const SIGNING: &str = "token=OpenPGP%20card%20(User%20PIN%20(sig))";

fn serial(reader: usize) -> String {
    format!("serial=00000000{:04x};{SIGNING}", 35963 + reader)
}

/// The OpenPGP card in this reader, with its certificate made.
fn openpgp(reader: usize, kind: &'static str) -> Lab {
    let name = ["card0", "card1"][reader];
    ready(Lab::new(name, table(&serial(reader)), PIN, vec![present(kind, "01")]))
}

fn ready(lab: Lab) -> Lab {
    secret(&lab.pin_file(), lab.pin);
    let _ = fs::remove_file(format!("/var/lib/sigsh/state/pin.{}", lab.name));
    for key in &lab.keys {
        let _ = fs::remove_file(lab.certificate(key));
    }
    prepares(&lab, &lab.config(&[]));
    lab
}

/// A key that is on the card already.
fn present(name: &'static str, id: &str) -> Key {
    Key::new(name, &format!("pkcs11:id=%{id}"), name).present()
}

fn sign(lab: &Lab, config: &Path) -> Outcome {
    lab.session(config, "sign").run(b"artifact")
}

fn tar(number: usize) -> Vec<u8> {
    [files(number), END.to_vec()].concat()
}

/// Another program that has a card for itself.
fn hold(reader: usize, how: &str) -> Daemon {
    let mut command = Command::new("python3");
    command.args(["tests/tokens/hold.py", &format!("Virtual PCD 00 0{reader}"), how]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    Daemon(child)
}

#[test]
#[ignore = "smartcards: just tokens"]
fn an_openpgp_card_passes() {
    let (_readers, lab) = Readers::with("ed25519");
    let lab = Lab { forgive: Some(|| forgive(0)), ..lab };
    fs::remove_file(lab.certificate(&lab.keys[0])).unwrap();
    suite(&lab);
}

/// The operator gives the right PIN to the card, by its own tool.
fn forgive(reader: usize) {
    script(&format!("verify {reader} {PIN}"));
}

#[test]
#[ignore = "smartcards: just tokens"]
fn other_keys_of_openpgp_cards_sign() {
    for kind in ["nistp256", "rsa2048"] {
        let (_readers, lab) = Readers::with(kind);
        for forced in ["on", "off"] {
            script(&format!("forced 0 {forced}"));
            lab.signs(&lab.config(&[]));
            let outcome = lab.session(&lab.config(&[]), &format!("sign-tar {kind}")).run(&tar(30));
            assert_eq!((outcome.code, signatures(&outcome.out).len()), (Some(0), 30), "{kind} {forced} {outcome:#?}");
        }
    }
}

/// The key 9C of a PIV card wants the PIN before each signature: so often it is given, and no more.
#[test]
#[ignore = "smartcards: just tokens"]
fn a_piv_card_passes() {
    let _readers = Readers::take();
    script("insert 1 piv");
    script("key 1");
    let lab = ready(Lab::new("piv", table("token=release"), PIN, vec![present("nistp256", "02")]));
    for (request, signed) in [("sign", 1), ("sign-tar", 5)] {
        let before = script("verified 1").parse::<usize>().unwrap();
        let outcome = lab.session(&lab.config(&[]), request).run(&tar(5));
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        assert_eq!(script("verified 1").parse::<usize>().unwrap(), before + 1 + signed, "{request}");
    }
    fs::remove_file(lab.certificate(&lab.keys[0])).unwrap();
    suite(&Lab { forgive: Some(|| forgive(1)), ..lab });
}

/// A build that loads no module reaches cards so.
#[test]
#[ignore = "smartcards: just tokens"]
fn cards_behind_a_p11_kit_server_pass() {
    const MODULE: &str = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";
    let _readers = Readers::take();
    script("insert 0 openpgp");
    script("key 0 ed25519");
    script("insert 1 piv");
    script("key 1");
    let lab = |name, uri: &str, key| {
        let (server, table) = p11kit::by_hand_for(Path::new(MODULE), &format!("pkcs11:{uri}"), &[("OPENSC_CONF", CONF)]);
        (server, Lab::new(name, table + "sessions = 1\n", PIN, vec![key]))
    };
    let (_server, openpgp) = lab("served-card", &serial(0), present("ed25519", "01"));
    suite_by_both(Lab { forgive: Some(|| forgive(0)), ..openpgp }, "static-card");
    let (_server, piv) = lab("served-piv", "token=release", present("nistp256", "02"));
    suite_by_both(Lab { forgive: Some(|| forgive(1)), ..piv }, "static-piv");
}

/// Three tries has the card, and four sessions the wrong PIN.
#[test]
#[ignore = "smartcards: just tokens"]
fn a_wrong_pin_costs_one_try() {
    let (_readers, lab) = Readers::with("nistp256");
    let config = lab.config(&[]);
    assert_eq!(script("tries 0"), "03");
    secret(&lab.pin_file(), "654321");
    let sessions = [(); 4].map(|()| lab.session(&config, "sign").start());
    let outcomes = sessions.map(|child| finish_child(child, b"artifact"));
    let wrong = outcomes.iter().filter(|outcome| field(outcome.records.last().unwrap(), "SIGSH_REASON") == "the PIN is wrong");
    assert_eq!((wrong.count(), script("tries 0").as_str()), (1, "02"));
    for outcome in &outcomes {
        outcome.fails(69, REFUSED, "failed", "PIN");
    }
}

/// A card's last try is not sigsh's to spend, nor is a locked card asked.
#[test]
#[ignore = "smartcards: just tokens"]
fn a_last_try_and_a_locked_card_are_left_alone() {
    let (_readers, lab) = Readers::with("nistp256");
    let config = lab.config(&[]);
    for (tries, reason) in [("01", "one try of its PIN is left"), ("00", "its PIN is locked")] {
        while script("tries 0") != tries {
            script("verify 0 999999");
        }
        sign(&lab, &config).fails(69, REFUSED, "failed", &format!("the token says that {reason}; it is not tried"));
        assert_eq!(script("tries 0"), tries);
    }
    script("unblock 0");
    lab.signs(&config);
}

#[test]
#[ignore = "smartcards: just tokens"]
fn a_card_that_is_removed_signs_again_when_it_is_back() {
    let (_readers, lab) = Readers::with("ed25519");
    let config = lab.config(&[]);
    lab.signs(&config);
    script("remove 0");
    sign(&lab, &config).fails(69, MISSING, "failed", "the token's uri selects 0 tokens instead of one");
    script("insert 0 openpgp");
    lab.signs(&config);

    // With a session under way: its module has seen the card.
    let mut running = Running::of(lab.session(&config, "sign"));
    running.send(b"arti");
    std::thread::sleep(std::time::Duration::from_secs(1));
    script("remove 0");
    let outcome = running.end_with(b"fact");
    outcome.fails(69, MISSING, "failed", "the token's uri selects 0 tokens instead of one");
    script("insert 0 openpgp");
    lab.signs(&config);
}

#[test]
#[ignore = "smartcards: just tokens"]
fn a_card_that_is_removed_in_mid_batch() {
    let (_readers, lab) = Readers::with("ed25519");
    let config = lab.config(&[]);
    let (running, rest) = half_a_batch(lab.session(&config, "sign-tar ed25519"));
    script("remove 0");
    let outcome = running.end_with(&rest);
    let last = outcome.records.last().unwrap();
    let reason = field(last, "SIGSH_REASON");
    assert_eq!((outcome.code, reason), (Some(69), "the module failed: C_Sign returned CKR_DEVICE_REMOVED"), "{outcome:#?}");
    assert_eq!(outcome.err.lines().next(), Some(format!("sigsh: error: {FAILED}").as_str()));
    script("insert 0 openpgp");
    lab.signs(&config);
}

#[test]
#[ignore = "smartcards: just tokens"]
fn of_two_cards_the_uri_selects_one() {
    let (_readers, first) = Readers::with("ed25519");
    script("insert 1 openpgp");
    script("key 1 ed25519");
    let second = openpgp(1, "ed25519");
    for lab in [&first, &second] {
        lab.signs(&lab.config(&[]));
    }
    // Each card is two tokens: one for each of its PINs.
    let both = |uri: &str| first.config(&[(&serial(0), uri)]);
    for (uri, found) in [(SIGNING, 2), ("serial=000000008c7b", 2), ("manufacturer=test%20card", 4)] {
        let reason = format!("the token's uri selects {found} tokens instead of one");
        sign(&first, &both(uri)).fails(69, MISSING, "failed", &reason);
    }
    // The other card has another key than the certificate's.
    let other = sign(&first, &both(&serial(1)));
    other.fails(78, "the key's certificate cannot be used", "refused", "not that of the key in the token");
}

#[test]
#[ignore = "smartcards: just tokens"]
fn a_card_that_another_program_keeps() {
    let (_readers, lab) = Readers::with("ed25519");
    let config = lab.config(&[("sandbox =", "timeout = \"3s\"\nsandbox =")]);
    let held = hold(0, "exclusive");
    sign(&lab, &config).fails(75, BUSY, "refused", "another program may keep its card to itself");
    drop(held);
    lab.signs(&config);
    let held = hold(0, "transaction");
    sign(&lab, &config).fails(69, "the token did not answer in time", "failed", "timeout");
    drop(held);
    lab.signs(&config);
}

/// See `sandbox::every_row_is_needed`.
#[test]
#[ignore = "smartcards: just tokens"]
fn every_row_of_the_profile_is_needed() {
    let (_readers, lab) = Readers::with("nistp256");
    let config = lab.config(&[]);
    let archive = tar(2);
    let single = (lab.session(&config, "sign"), &b"file"[..]);
    let batch = (lab.session(&config, "sign-tar nistp256"), archive.as_slice());
    assert_eq!(misfits(Profile::Pcsc, vec![single, batch]), [""; 0]);
}

/// Where pcscd asks polkit (not in Debian 12): the account may, by the guide's rule, and nobody else.
#[test]
#[ignore = "smartcards: just tokens"]
fn polkit_lets_the_account_use_cards() {
    world();
    let actions = ["access_pcsc", "access_card"].map(|action| {
        format!(
            "<action id=\"org.debian.pcsc-lite.{action}\"><message>m</message><defaults><allow_any>no</allow_any>\
             <allow_inactive>no</allow_inactive><allow_active>yes</allow_active></defaults></action>"
        )
    });
    let policy = format!("<policyconfig>{}</policyconfig>", actions.concat());
    fs::write("/usr/share/polkit-1/actions/org.debian.pcsc-lite.policy", policy).unwrap();
    fs::create_dir_all("/run/dbus").unwrap();
    let _bus = Daemon(Command::new("dbus-daemon").args(["--system", "--nofork", "--nopidfile"]).spawn().unwrap());
    patient(|| Path::new("/run/dbus/system_bus_socket").exists());
    let _polkitd = Daemon(Command::new("/usr/lib/polkit-1/polkitd").arg("--no-debug").stderr(Stdio::null()).spawn().unwrap());
    let may = |user: &str, action: &str| {
        let mut sleeper = Daemon(Command::new("setpriv").args(["--reuid", user, "--clear-groups", "sleep", "60"]).spawn().unwrap());
        let id = sleeper.0.id().to_string();
        let asked = Command::new("pkcheck").args(["--action-id", action, "--process", &id]).output().unwrap();
        sleeper.0.kill().unwrap();
        asked.status.success()
    };
    let action = |name: &str| format!("org.debian.pcsc-lite.{name}");
    patient(|| may("root", &action("access_pcsc")));
    assert!(!may("signer", &action("access_card")) && !may("sigsh-token", &action("access_card")));
    fs::copy("/usr/share/doc/sigsh/pcsc.rules", "/etc/polkit-1/rules.d/50-sigsh.rules").unwrap();
    patient(|| may("signer", &action("access_card")));
    assert!(may("signer", &action("access_pcsc")));
    // The module's account behind p11-kit.
    assert!(may("sigsh-token", &action("access_pcsc")) && may("sigsh-token", &action("access_card")));
    assert!(!may("nobody", &action("access_card")) && !may("nobody", &action("access_pcsc")));
}

/// The guide's own commands make a key that signs.
#[test]
#[ignore = "smartcards: just tokens"]
fn the_guide_makes_a_key_that_signs() {
    let _readers = Readers::take();
    script("insert 0 openpgp");
    fs::write("/root/pin", "a-long-PIN").unwrap();
    fs::write("/root/admin-pin", "12345678").unwrap();
    for block in blocks(GUIDE, "```sh\n") {
        succeed(Command::new("sh").args(["-euc", &block]));
    }
    suite(&Lab {
        forgive: Some(|| drop(script("verify 0 a-long-PIN"))),
        ..Lab::new("guide", table(&serial(0)), "a-long-PIN", vec![present("nistp256", "01")])
    });
}
