//! The callback form parser: reads or refuses any form, and what it says prints no phone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::carrier::callback::{AmdCallback, StatusCallback};

fuzz_target!(|data: &[u8]| {
    let params: Vec<(String, String)> = url::form_urlencoded::parse(data).into_owned().collect();
    match StatusCallback::parse(&params) {
        Ok(callback) => {
            let printed = format!("{callback:?}");
            for phone in [&callback.from, &callback.to].into_iter().flatten() {
                assert!(!printed.contains(phone.expose()), "{printed}");
            }
        }
        // What is told names a field of ours and nothing that was sent.
        Err(violation) => assert!(violation.to_string().len() < 200, "{violation}"),
    }
    if let Err(violation) = AmdCallback::parse(&params) {
        assert!(violation.to_string().len() < 200, "{violation}");
    }
});
