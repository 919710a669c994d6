//! Resume tokens: which log, which run, which revision. Opaque to clients, and not secret: a token
//! opens nothing, because reads are keyed by the caller's tenant.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use uuid::Uuid;

use crate::domain::RunId;

/// The longest token read, in characters.
pub const TOKEN_MAX_LEN: usize = 512;
/// Leads every token, so that another layout can follow one day.
const VERSION: u8 = 1;
const UUID_LEN: usize = 16;
const REVISION_LEN: usize = 8;

/// Where a watcher stands: everything up to `revision` was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The log's epoch, as [`crate::store::Store::epoch`] gave it.
    pub epoch: String,
    /// The run.
    pub run: RunId,
    /// The last revision seen; 0 before the first.
    pub revision: i64,
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than any token of ours.
    #[error("is longer than {TOKEN_MAX_LEN} characters")]
    TooLong,
    /// Not of the form that this server gives out.
    #[error("is not a resume token of this server")]
    Malformed,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(1 + UUID_LEN + REVISION_LEN + self.epoch.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(self.run.0.as_bytes());
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.extend_from_slice(self.epoch.as_bytes());
        f.write_str(&BASE64.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > TOKEN_MAX_LEN {
            return Err(Error::TooLong);
        }
        let bytes = BASE64.decode(text).map_err(|_| Error::Malformed)?;
        let (version, rest) = bytes.split_first().ok_or(Error::Malformed)?;
        let (run, rest) = rest.split_first_chunk::<UUID_LEN>().ok_or(Error::Malformed)?;
        let (revision, epoch) = rest.split_first_chunk::<REVISION_LEN>().ok_or(Error::Malformed)?;
        let revision = i64::from_be_bytes(*revision);
        let epoch = std::str::from_utf8(epoch).map_err(|_| Error::Malformed)?;
        if *version != VERSION || revision < 0 {
            return Err(Error::Malformed);
        }
        Ok(Self { epoch: epoch.to_owned(), run: RunId(Uuid::from_bytes(*run)), revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(epoch in "\\PC{0,64}", run in any::<[u8; 16]>(), revision in 0..=i64::MAX) {
            let cursor = Cursor { epoch, run: RunId(Uuid::from_bytes(run)), revision };
            let token = cursor.to_string();
            prop_assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
            prop_assert_eq!(token.parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn garbage_is_refused_and_never_panics(text in "\\PC{0,600}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let text = BASE64.encode(bytes);
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn long_and_negative_are_refused() {
        assert_eq!("A".repeat(TOKEN_MAX_LEN + 1).parse::<Cursor>(), Err(Error::TooLong));
        let negative = Cursor { epoch: "e".into(), run: RunId(Uuid::nil()), revision: -1 };
        assert_eq!(negative.to_string().parse::<Cursor>(), Err(Error::Malformed));
        assert_eq!("".parse::<Cursor>(), Err(Error::Malformed));
    }
}
