//! How sigsh is started, and the text of the request. Arguments are separated by zeros; the last piece is SSH_ORIGINAL_COMMAND, unless
//! it is empty.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::request::{Request, Start};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fn is_plain(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fuzz_target!(|data: &[u8]| {
    let mut pieces = data.split(|byte| *byte == 0).map(|piece| OsString::from_vec(piece.to_vec())).collect::<Vec<_>>();
    let original = pieces.pop().filter(|text| !text.is_empty());
    let start = Start::read([OsString::from("sigsh")].into_iter().chain(pieces), original);
    assert!(is_plain(&start.raw(), 512), "{}", start.raw());
    let Ok(text) = start.text() else { return };
    match Request::parse(&text) {
        Ok(Request::Sign(sign)) => assert!(sign.name.is_none_or(|name| is_plain(name.as_str(), 512))),
        Ok(Request::Help) => assert!(Request::help().len() < 8192),
        Ok(_) => {}
        Err(error) => assert!(is_plain(&error.to_string(), 80), "{error}"),
    }
});
