//! A tenant: the business that owns everything else, and the limits it dials under.

use serde::{Deserialize, Serialize};

use super::plan::{self, Plans};
use super::script::Script;
use super::window::CallingWindow;
use super::{AccountSid, Phone, TenantId, Timestamp, Violation, pace, phone, run, window};

/// Live calls at most, unless told otherwise.
pub const DEFAULT_MAX_CONCURRENT_CALLS: u32 = 3;
/// Creates a second at most, unless told otherwise: Twilio's own default for an account.
/// <https://support.twilio.com/hc/en-us/articles/223180028>
pub const DEFAULT_CALLS_PER_SECOND: f64 = 1.0;
/// The plan of a tenant that names none.
pub const DEFAULT_PLAN: &str = plan::STANDARD;
/// The largest pool: each claim reads it whole.
pub const CALLER_IDS_MAX: usize = 100;
/// The longest name, in characters.
pub const NAME_MAX_CHARS: usize = 200;

super::state_words! {
    /// Whether a tenant may do anything.
    pub enum TenantState {
        /// It may.
        Active = "active",
        /// Its keys are refused and nothing of it is dialed.
        Disabled = "disabled",
    }
}

super::state_words! {
    /// What an administrator can change by itself; the word is its field mask path.
    pub enum TenantField {
        /// [`Tenant::name`].
        Name = "name",
        /// [`Tenant::account_sid`].
        AccountSid = "account_sid",
        /// [`Tenant::max_concurrent_calls`].
        MaxConcurrentCalls = "max_concurrent_calls",
        /// [`Tenant::calls_per_second`].
        CallsPerSecond = "calls_per_second",
        /// [`Tenant::caller_ids`].
        CallerIds = "caller_ids",
        /// [`Tenant::time_zone`].
        TimeZone = "time_zone",
        /// [`Tenant::window`].
        Window = "window",
        /// [`Tenant::region`].
        Region = "region",
        /// [`Tenant::plan`].
        Plan = "plan",
        /// [`Tenant::greeting`].
        Greeting = "greeting",
    }
}

/// What a tenant dials under.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Leads every key.
    pub id: TenantId,
    /// For people; up to 200 characters.
    pub name: String,
    /// Live calls at most, 1 to 10,000, over all runs and workers.
    pub max_concurrent_calls: u32,
    /// Creates a second at most, 1/3600 to 10,000.
    pub calls_per_second: f64,
    /// The carrier account dialed through.
    pub account_sid: AccountSid,
    /// The numbers shown to callees, 1 to 100: in turn, call by call, unless a run fixes one of
    /// them.
    pub caller_ids: Vec<Phone>,
    /// IANA name; for leads that name none and whose number has none.
    pub time_zone: String,
    /// When callees may be called, for runs that name no window.
    pub window: CallingWindow,
    /// ISO 3166-1 alpha-2; what national phones are read with where the client names no region.
    pub region: Option<String>,
    /// The name of the limits on requests, one of [`Plans`].
    pub plan: String,
    /// What those hear who call one of the caller ids; none for an apology.
    pub greeting: Option<Script>,
}

impl Tenant {
    /// A tenant with the defaults for all else.
    pub fn new(id: TenantId, account_sid: AccountSid, caller_id: Phone) -> Self {
        Self {
            id,
            name: String::new(),
            max_concurrent_calls: DEFAULT_MAX_CONCURRENT_CALLS,
            calls_per_second: DEFAULT_CALLS_PER_SECOND,
            account_sid,
            caller_ids: vec![caller_id],
            time_zone: "UTC".to_owned(),
            window: CallingWindow::default(),
            region: None,
            plan: DEFAULT_PLAN.to_owned(),
            greeting: None,
        }
    }

    /// Checks every range; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if self.name.chars().count() > NAME_MAX_CHARS || self.name.chars().any(char::is_control) {
            return Err(Violation::new(
                "name",
                "must be at most 200 characters, none of them a control character",
            ));
        }
        if !(1..=run::CONCURRENCY_MAX).contains(&self.max_concurrent_calls) {
            return Err(Violation::new("max_concurrent_calls", "must be 1 to 10000"));
        }
        pace::Meter::new(self.calls_per_second, Timestamp(0))?;
        if !(1..=CALLER_IDS_MAX).contains(&self.caller_ids.len()) {
            return Err(Violation::new("caller_ids", "must hold 1 to 100 numbers"));
        }
        for (i, phone) in self.caller_ids.iter().enumerate() {
            if self.caller_ids[..i].contains(phone) {
                return Err(Violation::new(format!("caller_ids[{i}]"), "is there twice"));
            }
        }
        window::zone(&self.time_zone)?;
        self.window.check().map_err(|violation| violation.under("window"))?;
        if let Some(region) = &self.region {
            phone::check_region(region)?;
        }
        if !Plans::is_known(&self.plan) {
            return Err(Violation::new("plan", "must be standard or high_volume"));
        }
        if let Some(greeting) = &self.greeting {
            greeting
                .check()
                .map_err(|violation| Violation::new("greeting", violation.to_string()))?;
        }
        Ok(())
    }

    /// These settings with `fields` taken from `other`.
    #[must_use]
    pub fn with(mut self, fields: &[TenantField], other: &Self) -> Self {
        for field in fields {
            match field {
                TenantField::Name => self.name.clone_from(&other.name),
                TenantField::AccountSid => self.account_sid = other.account_sid.clone(),
                TenantField::MaxConcurrentCalls => {
                    self.max_concurrent_calls = other.max_concurrent_calls
                }
                TenantField::CallsPerSecond => self.calls_per_second = other.calls_per_second,
                TenantField::CallerIds => self.caller_ids.clone_from(&other.caller_ids),
                TenantField::TimeZone => self.time_zone.clone_from(&other.time_zone),
                TenantField::Window => self.window = other.window,
                TenantField::Region => self.region.clone_from(&other.region),
                TenantField::Plan => self.plan.clone_from(&other.plan),
                TenantField::Greeting => self.greeting.clone_from(&other.greeting),
            }
        }
        self
    }

    /// The number that a run shows whose settings fix `fixed`.
    ///
    /// # Errors
    /// When it is none of the tenant's.
    pub fn check_caller_id(&self, fixed: Option<&Phone>) -> Result<(), Violation> {
        match fixed {
            Some(phone) if !self.caller_ids.contains(phone) => {
                Err(Violation::new("caller_id", "is none of the tenant's caller ids"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// When callees may be called, for runs and leads that say nothing of their own: the window,
    /// and the zone's name.
    pub fn hours(&self) -> (CallingWindow, &str) {
        (self.window, &self.time_zone)
    }

    /// The number to show on the `turn`th call of the pool: each in turn, so that all are shown as
    /// often.
    pub fn caller_id_at(&self, turn: i64) -> Option<&Phone> {
        let len = i64::try_from(self.caller_ids.len()).ok().filter(|len| *len > 0)?;
        self.caller_ids.get(usize::try_from(turn.rem_euclid(len)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(caller_ids: &[&str]) -> Tenant {
        let caller_ids = caller_ids.iter().map(|phone| phone.parse().unwrap()).collect();
        let one =
            Tenant::new("acme".parse().unwrap(), format!("AC{:032}", 1).parse().unwrap(), phone());
        Tenant { caller_ids, ..one }
    }

    fn phone() -> Phone {
        "+15005550006".parse().unwrap()
    }

    #[test]
    fn names_what_is_wrong() {
        let good = tenant(&["+15005550006"]);
        assert_eq!(good.check(), Ok(()));
        let field = |tenant: Tenant| tenant.check().unwrap_err().field;
        assert_eq!(field(tenant(&[])), "caller_ids");
        assert_eq!(
            field(tenant(&["+15005550006", "+12125550100", "+15005550006"])),
            "caller_ids[2]"
        );
        assert_eq!(field(Tenant { region: Some("XX1".into()), ..good.clone() }), "region");
        assert_eq!(field(Tenant { plan: "Gold!".into(), ..good.clone() }), "plan");
        assert_eq!(field(Tenant { name: "a\nb".into(), ..good.clone() }), "name");
        assert_eq!(field(Tenant { time_zone: "Mars".into(), ..good }), "time_zone");
    }

    #[test]
    fn the_pool_is_shown_in_turn() {
        let pool = ["+12125550100", "+12125550101", "+12125550102"];
        let tenant = tenant(&pool);
        let shown: Vec<_> =
            (7..13).map(|turn| tenant.caller_id_at(turn).unwrap().expose()).collect();
        assert_eq!(shown, [pool[1], pool[2], pool[0], pool[1], pool[2], pool[0]]);
        assert!(tenant.caller_id_at(i64::MIN).is_some());
        assert_eq!(self::tenant(&[]).caller_id_at(1), None);
    }

    #[test]
    fn a_run_fixes_one_of_the_pool_only() {
        let tenant = tenant(&["+12125550100"]);
        assert!(tenant.check_caller_id(None).is_ok());
        assert!(tenant.check_caller_id(Some(&"+12125550100".parse().unwrap())).is_ok());
        let refused = tenant.check_caller_id(Some(&phone())).unwrap_err();
        assert_eq!(refused.field, "caller_id");
    }

    #[test]
    fn a_patch_takes_what_it_names() {
        let (old, other) = (tenant(&["+12125550100"]), tenant(&["+12125550101"]));
        let other = Tenant { name: "new".into(), plan: "gold".into(), ..other };
        let patched = old.clone().with(&[TenantField::Name, TenantField::CallerIds], &other);
        assert_eq!(
            patched,
            Tenant { name: "new".into(), caller_ids: other.caller_ids.clone(), ..old }
        );
        assert_eq!(patched.clone().with(TenantField::ALL, &other), other);
    }
}
