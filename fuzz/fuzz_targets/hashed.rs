//! What the hasher says of an artifact, as far as the monitor takes it: a name that stays where it is used, and sizes that fit each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::channel::decode;
use sigsh::config::Input;
use sigsh::hash_state::{Form, HashState};
use sigsh::hasher::{Go, Report, Start, import};

fuzz_target!(|packet: &[u8]| {
    let Ok((start, Go(wanted), Report::Artifact { name, states, text })) = decode::<(Start, Go, Report)>(packet) else { return };
    let wanted = wanted.into_iter().flatten().collect::<Vec<_>>();
    let Ok(hashed) = import(&start, name, &wanted, &states, None, text) else { return };
    assert!(hashed.states.iter().map(|(wanted, _)| wanted).eq(&wanted));
    let size = |state: &HashState| state.size().unwrap();
    let bytes = hashed.states.iter().find(|(wanted, _)| wanted.is_plain()).map(|(_, state)| size(state)).unwrap();
    assert!(bytes <= start.limit && (text == 0 || start.form == Form::Cleartext));
    for (wanted, state) in hashed.states {
        assert_eq!(state.algorithm(), wanted.algorithm);
        let salt = wanted.salt.map_or(0, |salt| salt.bytes(wanted.algorithm).len() as u64);
        assert!(size(&state) <= 2 * bytes + salt && (wanted.form != Form::Binary || size(&state) == bytes + salt));
        assert_eq!(state.finish().len(), wanted.algorithm.digest_len());
    }
    let name = hashed.name.as_slice();
    match start.input {
        Input::Artifact => assert!(name.is_empty()),
        Input::State => assert!(name.len() <= 4000),
        Input::Tar => {
            assert!(
                !name.is_empty() && name.len() <= 4000 && !name.contains(&0) && !name.starts_with(b"/") && !name.ends_with(b"/")
            );
            assert!(name.split(|byte| *byte == b'/').all(|part| part != b".."));
        }
    }
});
