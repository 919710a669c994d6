//! A tenant: the business that owns everything else, and the limits it dials under.

use serde::{Deserialize, Serialize};

use super::window::CallingWindow;
use super::{AccountSid, Phone, TenantId, Violation, pace, run, window};

/// Live calls at most, unless told otherwise.
pub const DEFAULT_MAX_CONCURRENT_CALLS: u32 = 3;
/// Creates a second at most, unless told otherwise: Twilio's own default for an account.
/// <https://support.twilio.com/hc/en-us/articles/223180028>
pub const DEFAULT_CALLS_PER_SECOND: f64 = 1.0;

/// What a tenant dials under.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Leads every key.
    pub id: TenantId,
    /// Live calls at most, 1 to 10,000, over all runs and workers.
    pub max_concurrent_calls: u32,
    /// Creates a second at most, 1/3600 to 10,000.
    pub calls_per_second: f64,
    /// The carrier account dialed through.
    pub account_sid: AccountSid,
    /// The number shown to callees when a run names none.
    pub caller_id: Phone,
    /// IANA name; for leads that name none and whose number has none.
    pub time_zone: String,
    /// When callees may be called, for runs that name no window.
    pub window: CallingWindow,
}

impl Tenant {
    /// Checks every range; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if !(1..=run::CONCURRENCY_MAX).contains(&self.max_concurrent_calls) {
            return Err(Violation::new("max_concurrent_calls", "must be 1 to 10000"));
        }
        pace::Meter::new(self.calls_per_second, super::Timestamp(0))?;
        window::zone(&self.time_zone)?;
        self.window.check().map_err(|violation| violation.under("window"))
    }
}
