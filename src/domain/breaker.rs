//! An account's circuit breaker as everybody sees it. When it opens and closes is the carrier's
//! business.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The carrier failed too often in a row, so nothing is dialed through the account but single
/// probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBreaker {
    /// Nothing is dialed before.
    pub until: Timestamp,
    /// Whether that has passed, so that the next call is a probe: it closes the breaker or opens it
    /// again.
    pub probing: bool,
}

/// The breaker that was opened until `open_until`; none if it is closed.
pub fn seen(open_until: Option<Timestamp>, now: Timestamp) -> Option<OpenBreaker> {
    open_until.map(|until| OpenBreaker { until, probing: until <= now })
}
