//! When a queued job may be dialed, by all that the clock decides: windows, holidays, rules and
//! caps.

use std::collections::HashMap;

use crate::domain::cap::{self, FrequencyCap};
use crate::domain::schedule::Schedule;
use crate::domain::tenant::Tenant;
use crate::domain::{Phone, Timestamp, window};
use crate::store::db::Tx;
use crate::store::jobs::queue::Candidate;
use crate::store::runs::row::RunRow;
use crate::store::{Result, jobs};

/// Openings of one run's jobs, seen from one instant.
pub struct Openings<'a> {
    now: Timestamp,
    schedule: Schedule,
    caps: Vec<FrequencyCap>,
    attempts: HashMap<Phone, Vec<Timestamp>>,
    time_zone: &'a str,
    /// Of those whom no cap holds: there are few zones, and a year of holidays takes long to look
    /// through.
    by_zone: HashMap<String, Timestamp>,
}

impl<'a> Openings<'a> {
    /// Reads how often the candidates' phones were tried, if there is a cap.
    pub async fn read(
        tx: &mut Tx,
        tenant: &'a Tenant,
        run: &RunRow,
        candidates: &[Candidate],
        now: Timestamp,
    ) -> Result<Self> {
        let caps = run.settings.caps();
        let attempts = jobs::queue::attempts(tx, &tenant.id, &caps, candidates, now).await?;
        let schedule = run.settings.schedule(tenant.window);
        Ok(Self {
            now,
            schedule,
            caps,
            attempts,
            time_zone: &tenant.time_zone,
            by_zone: HashMap::new(),
        })
    }

    /// The first instant from now on.
    pub fn of(&mut self, candidate: &Candidate) -> Result<Timestamp> {
        let zone =
            window::zone_of(candidate.time_zone.as_deref(), &candidate.phone, self.time_zone)?;
        let tried = self.attempts.get(&candidate.phone).map_or(&[][..], Vec::as_slice);
        if let Some((_, until)) = cap::holds(&self.caps, tried, self.now, &zone) {
            return Ok(self.schedule.next_opening(until, &zone));
        }
        let name = zone.iana_name().unwrap_or_default();
        if let Some(known) = self.by_zone.get(name) {
            return Ok(*known);
        }
        let opening = self.schedule.next_opening(self.now, &zone);
        if let Some(name) = zone.iana_name() {
            self.by_zone.insert(name.to_owned(), opening);
        }
        Ok(opening)
    }
}
