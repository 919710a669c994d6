//! The circuit breakers of the accounts: this worker counts, the store tells every worker.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Intent;
use crate::carrier::breaker::{Breaker, Decision, Settings};
use crate::domain::AccountSid;
use crate::store::Store;

/// Failures in a row that open a breaker, and how long it stays open.
const SETTINGS: Settings = Settings { failures_to_open: 5, open_for: Duration::from_secs(10) };

/// One breaker for each account.
#[derive(Default)]
pub struct Breakers(Mutex<HashMap<AccountSid, Breaker>>);

impl Breakers {
    /// Whether a request may be sent now; one that may is to be followed by [`Breakers::report`].
    pub fn may_send(&self, account: &AccountSid) -> bool {
        match self.with(account, |breaker| breaker.ask(Instant::now())) {
            Decision::Allow | Decision::Probe => true,
            Decision::Refuse { .. } => false,
        }
    }

    /// The same of a request that is no create: it counts, and probes nothing.
    pub async fn report_update(&self, store: &Store, account: &AccountSid, answered: bool) {
        self.count(store, account, answered, None).await;
    }

    /// The carrier answered, or did not; tells the store where that opens or closes the breaker.
    pub async fn report(&self, store: &Store, intent: Intent<'_>, answered: bool) {
        self.count(store, intent.account, answered, Some(intent).filter(|intent| intent.probe))
            .await;
    }

    async fn count(
        &self,
        store: &Store,
        account: &AccountSid,
        answered: bool,
        probe: Option<Intent<'_>>,
    ) {
        let (before, after) = self.with(account, |breaker| {
            let before = breaker.is_open();
            if answered {
                breaker.succeeded();
            } else {
                breaker.failed(Instant::now());
            }
            (before, breaker.is_open())
        });
        let told = match (before, after) {
            (false, true) => {
                let open_for_ms = SETTINGS.open_for.as_millis();
                let failures = SETTINGS.failures_to_open;
                tracing::warn!(event = "breaker_opened", %account, failures, open_for_ms, "the carrier fails");
                store.open_breaker(account, SETTINGS.open_for).await
            }
            // Failed probes of other workers' breakers come here as well.
            (_, true) if probe.is_some() => {
                let call_id = probe.map(|intent| intent.call_id.to_string());
                tracing::info!(event = "breaker_probe_failed", %account, call_id);
                store.open_breaker(account, SETTINGS.open_for).await
            }
            (true, false) => {
                tracing::info!(event = "breaker_closed", %account, "the carrier answers again");
                store.close_breaker(account).await
            }
            (false, false) if probe.is_some() && answered => store.close_breaker(account).await,
            (false, false) if probe.is_some() => {
                store.open_breaker(account, SETTINGS.open_for).await
            }
            (false, false) | (true, true) => return,
        };
        if let Err(error) = told {
            tracing::warn!(%account, %error, "cannot tell of the breaker; this worker obeys it alone");
        }
    }

    fn with<T>(&self, account: &AccountSid, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(breakers.entry(account.clone()).or_insert_with(|| Breaker::new(SETTINGS)))
    }
}
