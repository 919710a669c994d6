//! What use cases of leads take and give.

use serde::{Deserialize, Serialize};

use crate::domain::lead::{Contact, LeadChange, LeadFacts, LeadField, LeadSource, LeadStatus};
use crate::domain::{AccountSid, CallSid, LeadId, Phone, Timestamp};

/// A lead as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadView {
    /// Its id.
    pub id: LeadId,
    /// What the client said.
    pub facts: LeadFacts,
    /// How far it got, and its latest call.
    pub contact: Contact,
    /// Where it came from first.
    pub source: LeadSource,
    /// Grows with every change of what a client may change.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A lead that was created, or was there.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadCreated {
    /// The lead.
    pub lead: LeadView,
    /// False if the phone had one already.
    pub created: bool,
}

/// Which leads. Every part that is given must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LeadFilter {
    /// Exactly this phone.
    pub phone: Option<Phone>,
    /// One of these; empty for any.
    pub statuses: Vec<LeadStatus>,
    /// One of these; empty for any.
    pub sources: Vec<LeadSource>,
    /// Has this tag.
    pub tag: Option<String>,
    /// The phone begins so: `+` and digits.
    pub phone_prefix: Option<String>,
    /// The name, or the JSON of the attributes, holds it; ASCII letters in either case.
    pub text: Option<String>,
    /// Created at this instant or later.
    pub created_from: Option<Timestamp>,
    /// Created before this instant.
    pub created_until: Option<Timestamp>,
}

/// New values for some of a lead's fields.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadPatch {
    /// Holds the new values; its phone is not looked at.
    pub facts: LeadFacts,
    /// The new status, if that is among the fields.
    pub status: LeadStatus,
    /// Which of them to take.
    pub fields: Vec<LeadField>,
    /// Attributes to set (or, with none, to remove) one by one.
    pub attributes: Vec<(String, Option<serde_json::Value>)>,
    /// The revision that the client saw, if it cares.
    pub seen: Option<i64>,
}

/// What was erased with a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeadErased {
    /// Queued jobs that are skipped now.
    pub jobs_skipped: u32,
    /// Jobs whose phone, zone and metadata are gone.
    pub jobs_erased: u32,
    /// Calls whose phone is gone.
    pub calls_erased: u32,
}

/// One entry of a lead's history.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadEventView {
    /// Orders the history.
    pub id: uuid::Uuid,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: LeadChange,
}

/// What became of a row of an import of leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadImported {
    /// It is new.
    Created,
    /// The lead that has the phone says more now.
    Updated,
    /// The lead that has the phone says all of it already.
    Unchanged,
    /// What was there and what came do not fit together.
    Rejected(crate::domain::Violation),
}

/// How far an import of leads or suppressions got, over all of its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportStand {
    /// Rows stored or rejected: where to go on.
    pub offset: u64,
    /// New ones.
    pub created: u64,
    /// Leads that say more now; suppressions that hold for longer.
    pub updated: u64,
    /// Those that said it already.
    pub unchanged: u64,
    /// Rows that were refused.
    pub rejected: u64,
}

/// A call to us, as the carrier tells of it.
#[derive(Debug, Clone)]
pub struct InboundCall {
    /// The carrier's name for it.
    pub sid: CallSid,
    /// Through which account.
    pub account: AccountSid,
    /// Who calls; none when the carrier hides it, or it is no telephone number.
    pub from: Option<Phone>,
    /// The number that was called.
    pub to: Phone,
}
