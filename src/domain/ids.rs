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

/// The longest id that a carrier gives, in characters. Twilio's have 34 and UUIDs 36; twice that
/// leaves room, and still bounds what a stranger's callback can make us store and log.
pub const CARRIER_ID_MAX_LEN: usize = 64;

/// What is said of a text that is no id of a carrier's.
pub const CARRIER_ID_RULE: &str = "must be 1 to 64 letters, digits, - and _ of ASCII; \
                                   copy it unchanged from the carrier";

/// Whether a carrier may have given this id. Carriers differ in how theirs look, so nothing is read
/// out of one; these characters are safe in a URL's path, in SQL and in a log line.
pub fn is_carrier_id(text: &str) -> bool {
    (1..=CARRIER_ID_MAX_LEN).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

macro_rules! carrier_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as the carrier wrote it.
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
                if is_carrier_id(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Violation::new($field, CARRIER_ID_RULE))
                }
            }
        }
    };
}

carrier_id!(
    /// A call's id at the carrier, opaque: at Twilio `CA` and 32 hexadecimal digits, elsewhere a
    /// UUID.
    CallSid, "call_sid"
);
carrier_id!(
    /// A queue's id at the carrier, opaque.
    QueueSid, "queue_sid"
);
carrier_id!(
    /// An account's id at the carrier, opaque: at Twilio `AC` and 32 hexadecimal digits, elsewhere a
    /// UUID.
    AccountSid, "account_sid"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_carriers_ids_are_opaque() {
        for good in [
            "CA0123456789abcdef0123456789abcdef",
            "b3877c40-da60-4998-90ad-b792e98472af",
            "A_b-9",
            &"x".repeat(CARRIER_ID_MAX_LEN),
        ] {
            assert_eq!(good.parse::<CallSid>().unwrap().as_str(), good);
            assert_eq!(good.parse::<AccountSid>().unwrap().to_string(), good);
            assert_eq!(good.parse::<QueueSid>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_is_unsafe_in_a_path_is_no_id_of_a_carriers() {
        let long = "x".repeat(CARRIER_ID_MAX_LEN + 1);
        for bad in ["", " ", "a b", "..", "a/b", "a.json", "a%2Fb", "a?b", "a\nb", "é", &long] {
            let error = bad.parse::<CallSid>().unwrap_err();
            assert_eq!(
                (error.field.as_ref(), error.reason.as_ref()),
                ("call_sid", CARRIER_ID_RULE)
            );
        }
        assert!(CARRIER_ID_RULE.contains(&CARRIER_ID_MAX_LEN.to_string()));
    }

    proptest! {
        #[test]
        fn a_carriers_id_is_one_segment_of_a_path(text in "\\PC{0,70}") {
            if let Ok(sid) = text.parse::<CallSid>() {
                let mut url = url::Url::parse("https://a.test/b").unwrap();
                url.path_segments_mut().unwrap().push(sid.as_str());
                prop_assert_eq!(url.path(), format!("/b/{text}"));
            }
        }
    }
}
