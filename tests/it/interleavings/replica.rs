//! Invariant 9: whoever replays a run's log from its first revision on sees every revision once and
//! arrives at what the rows say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::facts::{Facts, JOB_STATES, Run};

/// A run as its log tells it.
#[derive(Default)]
pub struct Replica {
    pub revision: i64,
    state: String,
    sealed: bool,
    ended: bool,
    total: i64,
    /// State, attempt and outcome of the jobs that ever moved.
    jobs: BTreeMap<String, (String, i64, String)>,
    /// State and SID.
    calls: BTreeMap<String, (String, String)>,
}

fn text(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_default().to_owned()
}

impl Replica {
    /// One commit.
    pub fn take(&mut self, revision: i64, progress: &Value, events: &Value) -> Result<(), String> {
        if revision != self.revision + 1 {
            return Err(format!("revision {revision} follows {}", self.revision));
        }
        if self.ended {
            return Err(format!("revision {revision} follows the end"));
        }
        self.revision = revision;
        let events = events.as_array().filter(|events| !events.is_empty());
        for event in events.ok_or_else(|| format!("revision {revision} says nothing"))? {
            self.apply(event)?;
        }
        let mut counts = BTreeMap::from([("queued", self.total)]);
        for (state, ..) in self.jobs.values() {
            let state = JOB_STATES.iter().find(|known| *known == state).ok_or("no such state")?;
            *counts.entry("queued").or_default() -= 1;
            *counts.entry(state).or_default() += 1;
        }
        for state in JOB_STATES {
            let told = progress["counts"][state].as_i64();
            let (told, seen) = (told.unwrap_or(-1), counts.get(state).copied().unwrap_or(0));
            if told != seen {
                return Err(format!(
                    "revision {revision} says {told} {state}, its events say {seen}"
                ));
            }
        }
        if progress["state"] != self.state.as_str() {
            return Err(format!(
                "revision {revision} is {}, its events say {}",
                progress["state"], self.state
            ));
        }
        Ok(())
    }

    fn apply(&mut self, event: &Value) -> Result<(), String> {
        if self.ended {
            return Err(format!("{event} follows the end"));
        }
        match event["type"].as_str().unwrap_or_default() {
            "run_created" => self.state = text(event, "state"),
            "run_state_changed" => {
                if text(event, "from") != self.state {
                    return Err(format!("{event} where it was {}", self.state));
                }
                self.state = text(event, "to");
                self.ended = ["completed", "canceled", "stopped", "failed", "expired"]
                    .contains(&self.state.as_str());
            }
            "run_sealed" => self.sealed = true,
            "jobs_added" => self.total += event["count"].as_i64().unwrap_or_default(),
            "job_changed" => {
                let attempt = event["attempt"].as_i64().unwrap_or_default();
                let job = (text(event, "state"), attempt, text(event, "outcome"));
                self.jobs.insert(text(event, "job_id"), job);
            }
            "call_changed" => {
                let call = (text(event, "state"), text(event, "call_sid"));
                self.calls.insert(text(event, "call_id"), call);
            }
            "run_updated" | "orphan_call" => {}
            // The clock alone can leave a run that is over, or a hint that is behind, until
            // somebody looks.
            "repaired" if ["settled", "hints"].contains(&text(event, "repair").as_str()) => {}
            // Nothing here breaks anything else, so there is nothing else to repair.
            _ => return Err(format!("unexpected: {event}")),
        }
        Ok(())
    }

    /// Whether the rows say the same.
    pub fn equals(&self, id: &str, run: &Run, facts: &Facts) -> Result<(), String> {
        let (told, found) = (
            (self.revision, self.state.as_str(), self.sealed, self.ended, self.total),
            (run.revision, run.state.as_str(), run.sealed, run.ended, run.total),
        );
        if told != found {
            return Err(format!("the log says {told:?}, the row {found:?}"));
        }
        for (job_id, job) in facts.jobs.iter().filter(|(_, job)| job.run == *id) {
            let never_moved = ("queued".to_owned(), 0, String::new());
            let told = self.jobs.get(job_id).unwrap_or(&never_moved);
            if *told != (job.state.clone(), job.attempt, job.outcome.clone()) {
                return Err(format!(
                    "the log says {told:?} of job {job_id}, the row is {}",
                    job.state
                ));
            }
        }
        for (call_id, call) in facts.calls.iter().filter(|(_, call)| call.run == *id) {
            let told = self
                .calls
                .get(call_id)
                .ok_or_else(|| format!("call {call_id} is not in the log"))?;
            // News that comes after a run's end changes the call's row alone.
            if !run.ended && *told != (call.state.clone(), call.sid.clone()) {
                return Err(format!(
                    "the log says {told:?} of call {call_id}, the row is {}",
                    call.state
                ));
            }
        }
        Ok(())
    }
}
