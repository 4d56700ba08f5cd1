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
    let modern = Key::new("modern", "pkcs11:object=modern", "ed25519").v6();
    let keys = ["ed25519", "rsa2048", "nistp256"].map(Key::named).into_iter().chain([modern]).collect();
    suite(&Lab::new("suite", table("suite"), PIN, keys));
}
