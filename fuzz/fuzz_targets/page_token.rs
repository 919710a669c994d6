//! Page tokens: what is taken for one is one that this server gives out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::grpc::fuzzing;

fuzz_target!(|data: &[u8]| {
    let Some((filter, token)) = data.split_first_chunk::<8>() else { return };
    let Ok(token) = std::str::from_utf8(token) else { return };
    for filter in [*filter, [0; 8]] {
        for again in fuzzing::page_token(filter, token).into_iter().flatten() {
            assert_eq!(again, token);
        }
    }
});
