//! What the targets in `fuzz/` reach of this module's parsers. No part of the API.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::{auth, page};

/// Key id and secret of an `authorization` header.
pub fn api_key(header: &[u8]) -> Option<(String, String)> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_bytes(header).ok()?);
    let (key_id, secret) = auth::credentials(&headers)?;
    Some((key_id.to_owned(), secret.to_owned()))
}

/// Reads a page token of this filter and writes it again, with each kind of key.
pub fn page_token(filter: [u8; 8], token: &str) -> [Option<String>; 2] {
    page::reread(filter, token)
}
