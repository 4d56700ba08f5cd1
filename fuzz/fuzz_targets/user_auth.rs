//! The file that SSH_USER_AUTH names, and the text of SSH_CONNECTION.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::identity::{Identity, peer};

fuzz_target!(|text: &str| {
    if let Ok(identity) = Identity::parse(text) {
        let fingerprint = identity.ssh_key.to_string();
        assert!(fingerprint.starts_with("SHA256:") && fingerprint.len() == 50, "{fingerprint}");
    }
    if let Some(peer) = peer(Some(text.into())) {
        assert!(peer.len() <= 60 && peer.is_ascii(), "{peer}");
    }
});
