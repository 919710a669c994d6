//! Resume tokens: what is taken for one is one that this server gives out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkline::progress::Cursor;

fuzz_target!(|data: &[u8]| {
    let Ok(token) = std::str::from_utf8(data) else { return };
    if let Ok(cursor) = token.parse::<Cursor>() {
        assert!(cursor.revision >= 0);
        assert_eq!(cursor.to_string(), token);
    }
});
