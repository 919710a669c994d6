//! `X-Twilio-Signature`: who really sent a webhook.
//!
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security>

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The query parameter that holds the digest of a JSON body.
const BODY_SHA256: &str = "bodySHA256";
/// HMAC-SHA1 gives 20 bytes.
const MAC_BYTES: usize = 20;

/// What was sent along with the URL.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Decoded form parameters, in any order.
    Form(&'a [(String, String)]),
    /// The raw bytes of any other body; the URL must carry their `bodySHA256`.
    Raw(&'a [u8]),
}

/// Twilio's signature of a form posted to `url`; a fragment is not signed.
pub fn sign(token: &str, url: &str, params: &[(String, String)]) -> String {
    STANDARD.encode(mac(token, without_fragment(url), &canonical(params)))
}

/// Whether one of `tokens` (the account's current and previous) signed this request.
///
/// `url` is the address that Twilio was given, never one built from the request's `Host`. It is
/// accepted with and without its port, as Twilio signs both ways. All tokens are tried, in constant
/// time.
pub fn verify(tokens: &[&SecretString], url: &str, body: Body<'_>, header: &str) -> bool {
    let url = without_fragment(url);
    let (params, digest_fits) = match body {
        Body::Form(params) => (canonical(params), true),
        Body::Raw(bytes) => (String::new(), body_digest_fits(url, bytes)),
    };
    let Ok(given) = STANDARD.decode(header.trim()) else { return false };
    if given.len() != MAC_BYTES || !digest_fits {
        return false;
    }
    let mut matched = Choice::from(0);
    for token in tokens {
        for candidate in [Cow::Borrowed(url), without_port(url), with_port(url)] {
            let expected = mac(token.expose_secret(), &candidate, &params);
            matched |= expected.as_slice().ct_eq(&given);
        }
    }
    matched.into()
}

fn mac(token: &str, url: &str, params: &str) -> [u8; MAC_BYTES] {
    // HMAC takes a key of any length (RFC 2104), so this cannot fail.
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).expect("HMAC takes any key");
    mac.update(url.as_bytes());
    mac.update(params.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Names and values run together: sorted by name, then value; equal pairs once.
fn canonical(params: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = params.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.into_iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect()
}

fn body_digest_fits(url: &str, body: &[u8]) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let named = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == BODY_SHA256);
    let expected = hex::encode(Sha256::digest(body));
    named.is_some_and(|(_, given)| {
        expected.as_bytes().ct_eq(given.to_ascii_lowercase().as_bytes()).into()
    })
}

fn without_fragment(url: &str) -> &str {
    url.split_once('#').map_or(url, |(before, _)| before)
}

/// Splits into scheme, `user@host`, port and the rest, byte for byte: a URL library would rewrite
/// the query, and the signature is over the bytes.
fn split(url: &str) -> Option<(&str, &str, Option<&str>, &str)> {
    let (scheme, after) = url.split_once("://")?;
    let (authority, rest) = after.split_at(after.find(['/', '?']).unwrap_or(after.len()));
    // A colon inside `[…]` belongs to an IPv6 address, one before `@` to a password.
    let host_at = authority.rfind(['@', ']']).map_or(0, |at| at + 1);
    match authority[host_at..].find(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(host_at + colon);
            Some((scheme, host, Some(&port[1..]), rest))
        }
        None => Some((scheme, authority, None, rest)),
    }
}

fn without_port(url: &str) -> Cow<'_, str> {
    match split(url) {
        Some((scheme, host, Some(_), rest)) => Cow::Owned(format!("{scheme}://{host}{rest}")),
        Some((_, _, None, _)) | None => Cow::Borrowed(url),
    }
}

fn with_port(url: &str) -> Cow<'_, str> {
    match split(url) {
        Some((scheme, host, None, rest)) => {
            let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
            Cow::Owned(format!("{scheme}://{host}:{port}{rest}"))
        }
        Some((_, _, Some(_), _)) | None => Cow::Borrowed(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vectors {
        auth_token: String,
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        url: String,
        signed_url: String,
        content_type: String,
        params: Vec<(String, String)>,
        body: String,
        signature: String,
        expect_valid: bool,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../../tests/data/signature_vectors.json")).unwrap()
    }

    #[test]
    fn agrees_with_twilios_library() {
        let all = vectors();
        let token = SecretString::from(all.auth_token.clone());
        let other = SecretString::from("ffffffffffffffffffffffffffffffff");
        assert!(all.vectors.len() >= 7);
        for vector in &all.vectors {
            let body = match vector.content_type.as_str() {
                "application/json" => Body::Raw(vector.body.as_bytes()),
                _ => Body::Form(&vector.params),
            };
            let valid =
                |tokens: &[&SecretString]| verify(tokens, &vector.url, body, &vector.signature);
            assert_eq!(valid(&[&token]), vector.expect_valid, "{}", vector.name);
            assert_eq!(
                valid(&[&other, &token]),
                vector.expect_valid,
                "{}: as previous token",
                vector.name
            );
            assert!(!valid(&[&other]), "{}: with another token", vector.name);
            assert!(!valid(&[]), "{}: without a token", vector.name);
            if vector.expect_valid {
                assert_eq!(
                    sign(&all.auth_token, &vector.signed_url, &vector.params),
                    vector.signature
                );
            }
        }
    }

    #[test]
    fn the_form_reads_as_it_was_sent() {
        for vector in vectors().vectors.iter().filter(|v| v.content_type.ends_with("urlencoded")) {
            let read: Vec<(String, String)> =
                url::form_urlencoded::parse(vector.body.as_bytes()).into_owned().collect();
            assert_eq!(read, vector.params, "{}", vector.name);
        }
    }

    #[test]
    fn a_changed_json_body_is_refused() {
        let all = vectors();
        let vector = all.vectors.iter().find(|v| v.name == "json_bodysha256").unwrap();
        let token = SecretString::from(all.auth_token.clone());
        let valid = |url: &str, body: &str| {
            verify(&[&token], url, Body::Raw(body.as_bytes()), &vector.signature)
        };
        assert!(valid(&vector.url, &vector.body));
        assert!(!valid(&vector.url, "{}"));
        assert!(!valid("https://voice.example.test/twilio/events?tenant=acme", &vector.body));
    }

    #[test]
    fn ports_come_and_go() {
        let token = SecretString::from("t");
        for (signed, received) in [
            ("https://a.test:443/x?y=1:2", "https://a.test/x?y=1:2"),
            ("http://a.test:80/x", "http://a.test/x"),
            ("https://a.test?y", "https://a.test:8443?y"),
            ("https://[::1]/x", "https://[::1]:8443/x"),
            ("https://u:p@a.test/x", "https://u:p@a.test:1/x#rc=2"),
        ] {
            let signature = sign("t", signed, &[]);
            assert!(verify(&[&token], received, Body::Form(&[]), &signature), "{received}");
        }
        for odd in ["", "nothing", "https://", "://:::@]["] {
            assert!(!verify(&[&token], odd, Body::Form(&[]), "AAAA"), "{odd}");
        }
    }
}
