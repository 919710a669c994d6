//! The key parser: what it takes for key id and secret is bounded, and was there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::grpc::fuzzing;

fuzz_target!(|data: &[u8]| {
    if let Some((key_id, secret)) = fuzzing::api_key(data) {
        assert!(!key_id.contains('.') && !key_id.is_empty() && key_id.len() <= 64);
        assert!(!secret.is_empty() && secret.len() <= 256);
        let whole = format!("{key_id}.{secret}");
        assert!(data.windows(whole.len()).any(|window| window == whole.as_bytes()));
    }
});
