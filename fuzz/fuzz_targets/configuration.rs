//! The configuration's text: taken, or an error of one line with a place in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::config::Config;
use std::path::Path;

fuzz_target!(|text: &str| {
    match Config::parse(Path::new("/x"), text) {
        Ok(config) => {
            for (name, key) in config.keys() {
                assert!(config.key(name).is_some() && !config.token_name(key).is_empty());
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("/x:") && !error.contains('\n'), "{error}");
        }
    }
});
