//! Identifiers as types, so that a job id never stands where a run id belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Violation;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Violation;

            fn from_str(text: &str) -> Result<Self, Violation> {
                Uuid::try_parse(text).map(Self).map_err(|_| {
                    Violation::new($field, if text.is_empty() { "is required" } else { "must be a UUID" })
                })
            }
        }
    };
}

uuid_id!(
    /// One campaign.
    RunId, "run_id"
);
uuid_id!(
    /// One lead in one run.
    JobId, "job_id"
);
uuid_id!(
    /// A person to call.
    LeadId, "lead_id"
);
uuid_id!(
    /// One row of `call_log`. Rides in every callback URL.
    CallId, "call_id"
);

uuid_id!(
    /// A phone that must not be dialed, from when on and why.
    SuppressionId, "suppression_id"
);
uuid_id!(
    /// A piece of durable background work.
    TaskId, "task_id"
);

uuid_id!(
    /// The moving of one live caller to a human.
    TransferId, "transfer_id"
);
uuid_id!(
    /// What a warm transfer is about; the client's own id.
    IncidentId, "incident_id"
);
uuid_id!(
    /// A tenant's endpoint that is told what happens.
    WebhookId, "webhook_id"
);
uuid_id!(
    /// One event to be told to one endpoint.
    DeliveryId, "delivery_id"
);

/// The longest tenant id.
pub const TENANT_ID_MAX_LEN: usize = 40;

/// The business that owns everything: 1–40 characters of `a-z`, `0-9` and inner `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TenantId(std::sync::Arc<str>);

impl TenantId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TenantId {
    type Err = Violation;

    fn from_str(text: &str) -> Result<Self, Violation> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let fits = text.len() <= TENANT_ID_MAX_LEN && text.chars().all(inner);
        if fits && edge(text.chars().next()) && edge(text.chars().last()) {
            Ok(Self(text.into()))
        } else {
            Err(Violation::new(
                "tenant_id",
                "must be 1 to 40 characters of a-z, 0-9 and -, with a letter or digit at both ends",
            ))
        }
    }
}

/// One process's dialer pool: `hostname:pid:boot-uuid`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! sid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The SID as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Violation;

            fn from_str(text: &str) -> Result<Self, Violation> {
                let digits = text.strip_prefix($prefix).unwrap_or_default();
                if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Violation::new($field, concat!("must be ", $prefix, " and 32 hexadecimal digits")))
                }
            }
        }
    };
}

sid!(
    /// A Twilio call SID: `CA` and 32 hexadecimal digits.
    CallSid, "CA", "call_sid"
);
sid!(
    /// A Twilio queue SID: `QU` and 32 hexadecimal digits.
    QueueSid, "QU", "queue_sid"
);
sid!(
    /// A Twilio account SID: `AC` and 32 hexadecimal digits.
    AccountSid, "AC", "account_sid"
);
