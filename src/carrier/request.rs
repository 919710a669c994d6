//! What is asked of the carrier, and what a create request can come to.

use secrecy::SecretString;

use crate::domain::call::{CarrierStatus, RejectClass};
use crate::domain::{AccountSid, CallSid, Phone, Timestamp};

use super::wire::iso_seconds;

/// Twilio's largest page of a list.
/// <https://www.twilio.com/docs/usage/twilios-response#response-formats-list-paging-information>
pub const PAGE_SIZE_MAX: u16 = 1_000;

/// The login of the REST API: HTTP Basic.
/// <https://www.twilio.com/docs/iam/api-keys>
#[derive(Clone)]
pub struct Credential {
    /// The account SID, or the SID of an API key (`SK…`).
    pub username: String,
    /// The auth token, or the API key's secret.
    pub password: SecretString,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential([redacted])")
    }
}

/// The carrier account that a request is made for.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account's SID.
    pub sid: AccountSid,
    /// Its login.
    pub credential: Credential,
}

/// What the call does once answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Inline TwiML, at most 4,000 characters.
    Twiml(String),
    /// TwiML that the carrier fetches when the call is answered.
    Url {
        /// Where it is fetched.
        url: String,
        /// Where it is fetched when `url` fails.
        fallback_url: Option<String>,
    },
}

/// How answering machines are treated.
/// <https://www.twilio.com/docs/voice/answering-machine-detection>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmdMode {
    /// Report as soon as it is known who answered.
    Enable,
    /// With a machine, report when its greeting has ended.
    DetectMessageEnd,
}

impl AmdMode {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enable => "Enable",
            Self::DetectMessageEnd => "DetectMessageEnd",
        }
    }
}

/// Asynchronous answering machine detection: the call goes on while the carrier listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amd {
    /// When to report.
    pub mode: AmdMode,
    /// Where to report, a full URL.
    pub callback_url: String,
}

/// One outbound call. <https://www.twilio.com/docs/voice/api/call-resource#create-a-call-resource>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateCall {
    /// Who is called.
    pub to: Phone,
    /// The caller id, a number of the account's.
    pub from: Phone,
    /// What the callee hears.
    pub answer: Answer,
    /// Where the call's progress is reported: a full URL, which may end in a connection override
    /// (`#rc=…`).
    pub status_callback: String,
    /// How long it may ring, in seconds, 5 to 600.
    pub ring_timeout_s: u32,
    /// How long it may last once answered, in seconds, at most 86,400.
    pub time_limit_s: u32,
    /// Answering machine detection, or none.
    pub amd: Option<Amd>,
}

impl CreateCall {
    /// The form of the request, as Twilio names its fields.
    pub(crate) fn form(&self) -> Vec<(&'static str, String)> {
        let mut form = vec![
            ("To", self.to.expose().to_owned()),
            ("From", self.from.expose().to_owned()),
            ("StatusCallback", self.status_callback.clone()),
            ("StatusCallbackMethod", "POST".to_owned()),
            ("Timeout", self.ring_timeout_s.to_string()),
            ("TimeLimit", self.time_limit_s.to_string()),
        ];
        // Without a list Twilio reports only `completed`.
        for event in ["initiated", "ringing", "answered", "completed"] {
            form.push(("StatusCallbackEvent", event.to_owned()));
        }
        match &self.answer {
            Answer::Twiml(twiml) => form.push(("Twiml", twiml.clone())),
            Answer::Url { url, fallback_url } => {
                form.push(("Url", url.clone()));
                if let Some(fallback_url) = fallback_url {
                    form.push(("FallbackUrl", fallback_url.clone()));
                }
            }
        }
        if let Some(amd) = &self.amd {
            form.push(("MachineDetection", amd.mode.as_str().to_owned()));
            form.push(("AsyncAmd", "true".to_owned()));
            form.push(("AsyncAmdStatusCallback", amd.callback_url.clone()));
            form.push(("AsyncAmdStatusCallbackMethod", "POST".to_owned()));
        }
        form
    }
}

/// `url` with Twilio's connection override: up to five retries after a failed connection, a timeout
/// or a 5xx. The fragment is not signed.
/// <https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>
pub fn connection_override(url: &str) -> String {
    format!("{url}#rc=5&rp=ct,rt,5xx")
}

/// What became of a create request.
///
/// Only [`Created::NotSent`] and [`Created::Rejected`] prove that no call was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The carrier took the call.
    Submitted {
        /// The call's name at the carrier.
        sid: CallSid,
        /// Its first status, `queued` as a rule.
        status: CarrierStatus,
    },
    /// The carrier refused; no call was made.
    Rejected {
        /// What has to happen next.
        class: RejectClass,
        /// Twilio's error code, when the answer had one.
        code: Option<u32>,
        /// The HTTP status.
        http_status: u16,
        /// Twilio's words, phone numbers masked, at most 300 characters.
        message: String,
    },
    /// No connection was made, so not a byte was sent; no call was made.
    NotSent {
        /// What happened, phone numbers masked.
        reason: String,
    },
    /// A call may have been made. The request must never be sent again.
    Unknown {
        /// What happened, phone numbers masked.
        reason: String,
    },
}

/// A change to a call. <https://www.twilio.com/docs/voice/api/call-resource#update-a-call-resource>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateCall {
    /// End the call whatever it does (`Status=completed`).
    Hangup,
    /// End the call unless it was answered (`Status=canceled`).
    Cancel,
    /// Go on with this TwiML.
    Twiml(String),
    /// Go on with the TwiML at this URL.
    Url(String),
}

impl UpdateCall {
    pub(crate) fn form(&self) -> [(&'static str, &str); 1] {
        match self {
            Self::Hangup => [("Status", "completed")],
            Self::Cancel => [("Status", "canceled")],
            Self::Twiml(twiml) => [("Twiml", twiml)],
            Self::Url(url) => [("Url", url)],
        }
    }
}

/// Which calls to list.
///
/// Twilio documents the start time filters for whole days only, and a call that was not dialed yet
/// has no start time: take them as a way to read less, and judge by
/// [`CallResource::date_created`](super::CallResource).
/// <https://www.twilio.com/docs/voice/api/call-resource#read-multiple-call-resources>
#[derive(Clone, PartialEq, Eq)]
pub struct ListCalls {
    /// Only legs of this call.
    pub parent: Option<CallSid>,
    /// Only calls to this number.
    pub to: Option<Phone>,
    /// Only calls from this number.
    pub from: Option<Phone>,
    /// Only calls in this status.
    pub status: Option<CarrierStatus>,
    /// Only calls started at or after this instant; rounded down to the second.
    pub started_after: Option<Timestamp>,
    /// Only calls started at or before this instant; rounded up to the second.
    pub started_before: Option<Timestamp>,
    /// Calls on a page, 1 to [`PAGE_SIZE_MAX`]; clamped.
    pub page_size: u16,
    /// The `next_page` of the page before; the filters above are then ignored, it contains them.
    pub page: Option<String>,
}

/// The page is left out: it repeats the filters, phone numbers among them, as plain text.
impl std::fmt::Debug for ListCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListCalls")
            .field("parent", &self.parent)
            .field("to", &self.to)
            .field("from", &self.from)
            .field("status", &self.status)
            .field("started_after", &self.started_after)
            .field("started_before", &self.started_before)
            .field("page_size", &self.page_size)
            .finish_non_exhaustive()
    }
}

impl Default for ListCalls {
    fn default() -> Self {
        Self {
            parent: None,
            to: None,
            from: None,
            status: None,
            started_after: None,
            started_before: None,
            page_size: 50,
            page: None,
        }
    }
}

impl ListCalls {
    /// The query. Twilio's inequality filters have the sign in the *name*: `StartTime>=x` is
    /// `StartTime>` = `x`.
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        const SECOND: i64 = 1_000_000;
        let mut query = vec![("PageSize", self.page_size.clamp(1, PAGE_SIZE_MAX).to_string())];
        if let Some(parent) = &self.parent {
            query.push(("ParentCallSid", parent.to_string()));
        }
        if let Some(to) = &self.to {
            query.push(("To", to.expose().to_owned()));
        }
        if let Some(from) = &self.from {
            query.push(("From", from.expose().to_owned()));
        }
        if let Some(status) = self.status {
            query.push(("Status", status.as_str().to_owned()));
        }
        if let Some(after) = self.started_after {
            query.push(("StartTime>", iso_seconds(after.micros().div_euclid(SECOND))));
        }
        if let Some(before) = self.started_before {
            let up = before.micros().saturating_add(SECOND - 1).div_euclid(SECOND);
            query.push(("StartTime<", iso_seconds(up)));
        }
        query
    }
}
