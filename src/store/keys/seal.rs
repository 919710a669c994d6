//! Sealing: secrets are stored encrypted and authenticated under a master key that the database
//! never sees (ADR 10).

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::Violation;
use crate::store::{Error, Result};

/// The first byte of what is sealed: which form the rest has.
const FORM: u8 = 1;
/// Random nonces of this length may be drawn for ever without meeting again.
const NONCE_LEN: usize = 24;
const KEY_LEN: usize = 32;
/// The most master keys in use at a time: the current one, and those that a rotation leaves behind.
const KEYS_MAX: usize = 16;
/// The longest name of a master key.
const KEY_ID_MAX_LEN: usize = 32;

/// The master keys. The first seals, all open.
#[derive(Default)]
pub struct Keyring {
    keys: Vec<(String, XChaCha20Poly1305)>,
}

/// What was sealed, and with which master key.
pub(in crate::store) struct Sealed {
    /// The master key's id.
    pub key_id: String,
    /// Form, nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl Keyring {
    /// The keys of `text`: `<id>:<64 hexadecimal digits>`, separated by commas; the first seals.
    ///
    /// # Errors
    /// A violation that says what is wrong and repeats nothing of the text.
    pub fn parse(text: &SecretString) -> Result<Self, Violation> {
        let wrong = |why| Violation::new("sealing.keys", why);
        let mut keys: Vec<(String, XChaCha20Poly1305)> = Vec::new();
        for item in text.expose_secret().split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (id, digits) = item.split_once(':').ok_or_else(|| {
                wrong("must be <id>:<64 hexadecimal digits>, separated by commas")
            })?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !(1..=KEY_ID_MAX_LEN).contains(&id.len()) || !id.bytes().all(plain) {
                return Err(wrong("an id must be 1 to 32 letters, digits, -, _ or ."));
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err(wrong("an id is there twice"));
            }
            let mut key = Zeroizing::new([0; KEY_LEN]);
            hex::decode_to_slice(digits, &mut *key).map_err(|_| {
                wrong("a key must be 64 hexadecimal digits, for example from openssl rand -hex 32")
            })?;
            keys.push((id.to_owned(), XChaCha20Poly1305::new((&*key).into())));
        }
        if keys.len() > KEYS_MAX {
            return Err(wrong("holds more than 16 keys"));
        }
        Ok(Self { keys })
    }

    /// The id of the key that seals, if there is one.
    pub fn current(&self) -> Option<&str> {
        self.keys.first().map(|(id, _)| id.as_str())
    }

    /// Seals `plain`. It opens for the same `context` only, so that a row cannot pass for another.
    pub(in crate::store) fn seal(&self, context: &str, plain: &[u8]) -> Result<Sealed> {
        let (id, cipher) = self.keys.first().ok_or(Error::NoMasterKey)?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Error::Internal("cannot seal".to_owned()))?;
        Ok(Sealed { key_id: id.clone(), bytes: [&[FORM][..], &nonce, &sealed].concat() })
    }

    /// Opens what `key_id` sealed for `context`.
    pub(in crate::store) fn open(
        &self,
        context: &str,
        key_id: &str,
        bytes: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let damaged =
            || Error::Internal(format!("{context}: the sealed secrets are damaged or not its own"));
        let (_, cipher) = self.keys.iter().find(|(id, _)| id == key_id).ok_or_else(|| {
            Error::Internal(format!(
                "{context}: sealed with master key {key_id}, which sealing.keys does not hold"
            ))
        })?;
        let rest = bytes.strip_prefix(&[FORM]).ok_or_else(damaged)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let payload = Payload { msg: sealed, aad: context.as_bytes() };
        cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| damaged())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> Keyring {
        Keyring::parse(&text.into()).unwrap()
    }

    fn one(id: &str, digit: &str) -> String {
        format!("{id}:{}", digit.repeat(64))
    }

    #[test]
    fn what_is_sealed_opens_for_its_own_context_only() {
        let ring = ring(&one("a", "1"));
        let sealed = ring.seal("account AC1", b"token").unwrap();
        assert_eq!(ring.open("account AC1", "a", &sealed.bytes).unwrap().as_slice(), b"token");
        assert!(!sealed.bytes.windows(5).any(|part| part == b"token"));
        assert!(ring.open("account AC2", "a", &sealed.bytes).is_err());
        for at in 0..sealed.bytes.len() {
            let mut damaged = sealed.bytes.clone();
            damaged[at] ^= 1;
            assert!(ring.open("account AC1", "a", &damaged).is_err(), "byte {at}");
        }
        assert!(ring.open("account AC1", "a", &[]).is_err());
        // Nobody learns that two rows hold the same.
        assert_ne!(sealed.bytes, ring.seal("account AC1", b"token").unwrap().bytes);
    }

    #[test]
    fn a_rotation_opens_the_old_and_seals_with_the_new() {
        let old = ring(&one("a", "1"));
        let sealed = old.seal("c", b"x").unwrap();
        let both = ring(&format!("{}, {}", one("b", "2"), one("a", "1")));
        assert_eq!(both.open("c", &sealed.key_id, &sealed.bytes).unwrap().as_slice(), b"x");
        assert_eq!(both.seal("c", b"x").unwrap().key_id, "b");
        let new = ring(&one("b", "2"));
        let error = new.open("c", "a", &sealed.bytes).unwrap_err().to_string();
        assert!(error.contains("master key a"), "{error}");
        // The same id with another key is no key to it.
        assert!(ring(&one("a", "2")).open("c", "a", &sealed.bytes).is_err());
        assert!(matches!(Keyring::default().seal("c", b"x"), Err(Error::NoMasterKey)));
    }

    #[test]
    fn keys_are_checked_and_never_repeated() {
        assert_eq!(ring("").current(), None);
        assert_eq!(ring(&one("2026-a", "f")).current(), Some("2026-a"));
        let long = one(&"a".repeat(33), "1");
        let twice = format!("{},{}", one("a", "1"), one("a", "2"));
        let many = (0..17).map(|n| one(&n.to_string(), "1")).collect::<Vec<_>>().join(",");
        for bad in ["1234", "a:1234", "a:zz", &one("", "1"), &one("a b", "1"), &long, &twice, &many]
        {
            let error = Keyring::parse(&bad.into()).err().unwrap().to_string();
            assert!(!error.contains("1111") && !error.contains("1234"), "{error}");
        }
    }
}
