//! The ledger: a line is one in its only form, or none; and a whole file is walked over to its first bad line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::audit::ledger::chain::Walk;
use sigsh::audit::ledger::line::{Line, MAX_LINE};

fuzz_target!(|bytes: &[u8]| {
    if let Some(line) = Line::parse(bytes) {
        assert!(bytes.len() <= MAX_LINE && line.seq > 0 && !line.event().is_empty() && !line.time().is_empty());
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|value| value.to_string().as_bytes() == bytes));
    }
    let (mut walk, mut lines) = (Walk::default(), 0);
    if walk.file(bytes, |_| lines += 1).is_ok() {
        assert!(walk.place().is_some_and(|place| place.seq >= lines));
    }
});
