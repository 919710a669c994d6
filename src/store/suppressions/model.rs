//! What use cases of suppressions and forecasts take and give.

use serde::{Deserialize, Serialize};

use crate::domain::suppression::{SuppressionChange, SuppressionReason, SuppressionSource};
use crate::domain::{CallId, LeadId, Phone, RunId, SuppressionId, Timestamp, Violation};
use crate::store::LeadFilter;

/// A suppression as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuppressionView {
    /// Its id.
    pub id: SuppressionId,
    /// Which phone.
    pub phone: Phone,
    /// Why.
    pub reason: SuppressionReason,
    /// How it came.
    pub source: SuppressionSource,
    /// For people; may be empty.
    pub note: String,
    /// The call during which the callee asked for it.
    pub call: Option<CallId>,
    /// It holds until then; none for good.
    pub expires_at: Option<Timestamp>,
    /// Since when.
    pub created_at: Timestamp,
    /// The id of the key that did it, or `system`.
    pub created_by: String,
}

/// What became of a phone to be suppressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SuppressionAdded {
    /// It is suppressed.
    Kept {
        /// By this.
        id: SuppressionId,
        /// What that took.
        change: SuppressionChange,
        /// A call to the phone that was committed before, and goes on: it is the last.
        live_call: Option<CallId>,
    },
    /// It makes no sense.
    Rejected {
        /// Which field.
        field: String,
        /// Why.
        reason: String,
    },
}

impl From<Violation> for SuppressionAdded {
    fn from(violation: Violation) -> Self {
        Self::Rejected { field: violation.field, reason: violation.reason }
    }
}

/// Which suppressions. Every part that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SuppressionFilter {
    /// Exactly this phone.
    pub phone: Option<Phone>,
    /// The phone begins so: `+` and digits.
    pub phone_prefix: Option<String>,
    /// One of these; empty for any.
    pub reasons: Vec<SuppressionReason>,
    /// One of these; empty for any.
    pub sources: Vec<SuppressionSource>,
    /// Created at this instant or later.
    pub created_from: Option<Timestamp>,
    /// Created before this instant.
    pub created_until: Option<Timestamp>,
    /// Those that have expired as well.
    pub expired: bool,
}

/// Whom a forecast is about.
#[derive(Debug, Clone)]
pub enum ForecastOf {
    /// Leads that pass a filter now.
    Leads(LeadFilter),
    /// Leads by id; those that the tenant lacks are not counted.
    Ids(Vec<LeadId>),
    /// The queued jobs of a run.
    Run(RunId),
}

/// What a forecast is made from.
#[derive(Debug, Clone)]
pub struct ForecastFacts {
    /// People in all, of whom the next three are left out of `facts`.
    pub total: u64,
    /// Their phones are suppressed.
    pub suppressed: u64,
    /// Frequency caps hold them for as long as the run lives.
    pub capped: u64,
    /// Their leads were erased.
    pub invalid: u64,
    /// The rest.
    pub facts: crate::domain::forecast::Facts,
}
