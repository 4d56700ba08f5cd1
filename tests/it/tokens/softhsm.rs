//! SoftHSM 2, as Debian has it.

use super::{Key, Lab, suite};
use crate::world::{PIN, softhsm, world};

/// The table of a SoftHSM token of this name in the account's store.
pub fn table(name: &str) -> String {
    format!(
        "module = \"/usr/lib/softhsm/libsofthsm2.so\"\nuri = \"pkcs11:token={name}\"\nsandbox = \"softhsm\"\n\
         read = [\"/var/lib/sigsh/tokens\"]\nenvironment = {{ SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\" }}\n"
    )
}

#[test]
fn softhsm_passes() {
    world();
    softhsm("suite");
    let key = |name: &'static str| Key::new(name, &format!("pkcs11:object={name}"), name);
    let modern = Key::new("modern", "pkcs11:object=modern", "ed25519").v6();
    suite(&Lab::new("suite", table("suite"), PIN, vec![key("ed25519"), key("rsa2048"), key("nistp256"), modern]));
}
