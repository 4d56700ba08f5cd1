//! Smartcards: OpenSC, a pcscd of the test's own, and virtual cards in its readers (tests/tokens/card.sh).

use super::{Key, Lab, suite};
use crate::world::{succeed, world};
use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once};

/// The factory's PIN.
const PIN: &str = "123456";
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";
const CONF: &str = "/etc/sigsh/opensc.conf";

/// Both readers; one test at a time has them, and they are empty.
struct Readers(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Readers {
    fn take() -> Readers {
        static START: Once = Once::new();
        static TURN: Mutex<()> = Mutex::new(());
        world();
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        START.call_once(|| {
            script(&["start"]);
            fs::copy("sshd/opensc.conf", CONF).unwrap();
        });
        Readers(turn)
    }
}

fn script(arguments: &[&str]) -> String {
    let output = succeed(Command::new("sh").arg("tests/tokens/card.sh").args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

/// The table of the OpenPGP card in this reader: of its two PINs, that of the signature key.
fn openpgp(reader: usize) -> String {
    table(&format!("serial=00000000{:04x};token=OpenPGP%20card%20(User%20PIN%20(sig))", 35963 + reader))
}

fn table(uri: &str) -> String {
    format!(
        "module = \"{MODULE}\"\nuri = \"pkcs11:{uri}\"\nsandbox = \"pcsc\"\nsessions = 1\nenvironment = {{ OPENSC_CONF = \"{CONF}\" }}\n"
    )
}

/// A key that is on the card already.
fn present(name: &'static str, id: &str) -> Key {
    Key { generate: None, ..Key::new(name, &format!("pkcs11:id=%{id}"), name) }
}

#[test]
#[ignore = "programs of its own, and slow: just tokens"]
fn an_openpgp_card_passes() {
    let _readers = Readers::take();
    script(&["insert", "0", "openpgp"]);
    script(&["key", "0", "ed25519"]);
    suite(&Lab::new("card", openpgp(0), PIN, vec![present("ed25519", "01")]));
}
