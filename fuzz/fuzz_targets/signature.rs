//! The signature check: nothing but the right signature passes, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secrecy::SecretString;
use trunkline::carrier::signature::{Body, sign, verify};

const TOKEN: &str = "12345678901234567890123456789012";

// A URL, a header, and a form or a raw body, each on a line of its own.
fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (url, header, body) = (text(), text(), text());
    let params: Vec<(String, String)> =
        url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let (token, other) = (SecretString::from(TOKEN), SecretString::from("another"));
    // The fuzzer cannot invert HMAC: whatever it made up is refused.
    assert!(!verify(&[&token], &url, Body::Form(&params), &header));
    assert!(!verify(&[&token], &url, Body::Raw(body.as_bytes()), &header));
    let right = sign(TOKEN, &url, &params);
    assert!(verify(&[&other, &token], &url, Body::Form(&params), &right));
    assert!(!verify(&[&other], &url, Body::Form(&params), &right));
    let mut more = params;
    more.push(("Added".into(), "1".into()));
    assert!(!verify(&[&token], &url, Body::Form(&more), &right));
});
