//! What Trunkline decides, and nothing else: no I/O, no clock, no randomness, no SQL.
//!
//! Every time is handed in as [`Timestamp`]; every random draw is handed in as a number.

/// Declares a state enum whose variants have one word each, the same in SQL, JSON and logs.
macro_rules! state_words {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value that `word` names, or none.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_word(&word)
                    .ok_or_else(|| serde::de::Error::custom(concat!("unknown ", stringify!($name))))
            }
        }
    };
}
pub(crate) use state_words;

pub mod access;
pub mod amd;
pub mod breaker;
pub mod call;
pub mod cap;
pub mod event;
pub mod explain;
pub mod forecast;
pub mod ids;
pub mod job;
pub mod lead;
pub mod opt_out;
pub mod pace;
pub mod phone;
pub mod plan;
pub mod repair;
pub mod retry;
pub mod rule;
pub mod run;
pub mod schedule;
pub mod script;
pub mod share;
pub mod suppression;
pub mod task;
pub mod tenant;
pub mod time;
pub mod transfer;
pub mod unknown;
pub mod webhook;
pub mod window;

pub use breaker::OpenBreaker;
pub use ids::{
    AccountSid, CARRIER_ID_RULE, CallId, CallSid, DeliveryId, IncidentId, JobId, LeadId, QueueSid,
    RunId, SuppressionId, TaskId, TenantId, TransferId, WebhookId, WorkerId, is_carrier_id,
};
pub use phone::Phone;
pub use time::Timestamp;

/// A value that the caller gave and the domain refuses: which field, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Violation {
    /// The field's path in the request, for example `window.opens_at`.
    pub field: String,
    /// What is wrong and what would be right; never contains the value of a phone or a secret.
    pub reason: String,
}

impl Violation {
    /// A violation of `field` for `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// The same violation seen from the message that contains the field.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}
