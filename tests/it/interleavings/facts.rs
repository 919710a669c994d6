//! What the rows say, and whether it may be so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::replica::Replica;
use crate::support::raw::Raw;

/// Words of job states, in the order of the columns that count them.
pub const JOB_STATES: [&str; 8] =
    ["queued", "dialing", "in_call", "completed", "failed", "canceled", "skipped", "expired"];
const LIVE: [&str; 5] = ["intent", "unknown", "submitted", "ringing", "answered"];

pub struct Run {
    pub state: String,
    pub revision: i64,
    pub concurrency: i64,
    pub ended: bool,
    pub sealed: bool,
    pub total: i64,
    /// By [`JOB_STATES`].
    pub counts: Vec<i64>,
    outcomes: BTreeMap<String, i64>,
}

pub struct Job {
    pub run: String,
    pub state: String,
    pub attempt: i64,
    pub outcome: String,
    /// Priority and time.
    place: (String, String),
}

pub struct Call {
    pub tenant: String,
    pub run: String,
    job: String,
    attempt: i64,
    pub state: String,
    pub sid: String,
    phone: String,
}

impl Call {
    pub fn is_live(&self) -> bool {
        LIVE.contains(&self.state.as_str())
    }
}

/// One committed state.
#[derive(Default)]
pub struct Facts {
    /// Live calls allowed by tenant.
    limits: BTreeMap<String, i64>,
    pub runs: BTreeMap<String, Run>,
    pub jobs: BTreeMap<String, Job>,
    /// Run, priority, time, job.
    ready: BTreeSet<(String, String, String, String)>,
    pub calls: BTreeMap<String, Call>,
    /// Run, revision, progress, events.
    log: Vec<(String, i64, Value, Value)>,
}

fn int(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

impl Facts {
    /// Reads one snapshot: `tenants` is a list for IN; of the logs only what `known` has not seen.
    pub async fn read(raw: &mut Raw, tenants: &str, known: &BTreeMap<String, Replica>) -> Self {
        raw.begin_snapshot().await;
        let mut facts = Self::default();
        let sql =
            "SELECT tenant_id, CAST(max_concurrent_calls AS TEXT) FROM tenants WHERE tenant_id IN";
        for row in raw.rows(&format!("{sql} ({tenants})")).await {
            facts.limits.insert(row[0].clone(), int(&row[1]));
        }
        facts.read_runs(raw, tenants).await;
        let sql = "SELECT CAST(job_id AS TEXT), CAST(run_id AS TEXT), state, CAST(attempt AS TEXT), outcome,
                       CAST(priority AS TEXT), CAST(eligible_at AS TEXT) FROM jobs WHERE tenant_id IN";
        for row in raw.rows(&format!("{sql} ({tenants})")).await {
            let [id, run, state, attempt, outcome, priority, at] = row.try_into().unwrap();
            let job = Job { run, state, attempt: int(&attempt), outcome, place: (priority, at) };
            facts.jobs.insert(id, job);
        }
        let sql = "SELECT CAST(run_id AS TEXT), CAST(priority AS TEXT), CAST(eligible_at AS TEXT),
                       CAST(job_id AS TEXT) FROM ready_jobs WHERE tenant_id IN";
        for row in raw.rows(&format!("{sql} ({tenants})")).await {
            let [run, priority, at, job] = row.try_into().unwrap();
            facts.ready.insert((run, priority, at, job));
        }
        let sql = "SELECT CAST(call_id AS TEXT), tenant_id, CAST(run_id AS TEXT), CAST(job_id AS TEXT),
                       CAST(attempt AS TEXT), state, call_sid, phone_to FROM call_log WHERE tenant_id IN";
        for row in raw.rows(&format!("{sql} ({tenants})")).await {
            let [id, tenant, run, job, attempt, state, sid, phone] = row.try_into().unwrap();
            facts
                .calls
                .insert(id, Call { tenant, run, job, attempt: int(&attempt), state, sid, phone });
        }
        facts.read_log(raw, tenants, known).await;
        raw.end_snapshot().await;
        facts
    }

    async fn read_runs(&mut self, raw: &mut Raw, tenants: &str) {
        let counts: Vec<_> =
            JOB_STATES.iter().map(|state| format!("CAST({state} AS TEXT)")).collect();
        let sql = format!(
            "SELECT CAST(run_id AS TEXT), state, CAST(revision AS TEXT), CAST(concurrency AS TEXT),
                 CAST(ended_at AS TEXT), CASE WHEN sealed THEN 'yes' END, outcomes, CAST(jobs_total AS TEXT), {}
             FROM runs WHERE tenant_id IN ({tenants})",
            counts.join(", ")
        );
        for row in raw.rows(&sql).await {
            let run = Run {
                state: row[1].clone(),
                revision: int(&row[2]),
                concurrency: int(&row[3]),
                ended: !row[4].is_empty(),
                sealed: !row[5].is_empty(),
                outcomes: serde_json::from_str(&row[6]).unwrap(),
                total: int(&row[7]),
                counts: row[8..].iter().map(|count| int(count)).collect(),
            };
            self.runs.insert(row[0].clone(), run);
        }
    }

    async fn read_log(&mut self, raw: &mut Raw, tenants: &str, known: &BTreeMap<String, Replica>) {
        for (id, run) in &self.runs {
            let seen = known.get(id).map_or(0, |replica| replica.revision);
            if seen == run.revision {
                continue;
            }
            let sql = format!(
                "SELECT CAST(revision AS TEXT), progress, events FROM run_events
                 WHERE tenant_id IN ({tenants}) AND run_id = '{id}' AND revision > {seen} ORDER BY run_events.revision"
            );
            for row in raw.rows(&sql).await {
                let json = |text: &str| serde_json::from_str(text).unwrap();
                self.log.push((id.clone(), int(&row[0]), json(&row[1]), json(&row[2])));
            }
        }
    }

    /// Every invariant of one state, given the one before and how many calls anybody asked to allow
    /// since.
    pub fn check(
        &self,
        before: &Self,
        asked: i64,
        known: &mut BTreeMap<String, Replica>,
    ) -> Result<(), String> {
        self.one_live_call_per_phone()?;
        self.concurrency(before, asked)?;
        self.nothing_lost()?;
        self.calls_fit_jobs()?;
        for (run, revision, progress, events) in &self.log {
            let replica = known.entry(run.clone()).or_default();
            replica
                .take(*revision, progress, events)
                .map_err(|why| format!("log of {run}: {why}"))?;
        }
        for (id, run) in &self.runs {
            let replica = known.get(id).ok_or_else(|| format!("run {id} has no log"))?;
            replica.equals(id, run, self).map_err(|why| format!("replay of {id}: {why}"))?;
        }
        Ok(())
    }

    /// Invariant 2.
    fn one_live_call_per_phone(&self) -> Result<(), String> {
        let mut taken = BTreeSet::new();
        for call in self.calls.values().filter(|call| call.is_live()) {
            if !taken.insert((&call.tenant, &call.phone)) {
                return Err(format!("two live calls to one phone of {}", call.tenant));
            }
        }
        Ok(())
    }

    fn live(&self, counts: impl Fn(&Call) -> bool) -> i64 {
        i64::try_from(self.calls.values().filter(|call| call.is_live() && counts(call)).count())
            .unwrap()
    }

    /// Invariant 3. A limit that was lowered ends no call; above it, live calls may only become
    /// fewer.
    fn concurrency(&self, before: &Self, asked: i64) -> Result<(), String> {
        for (tenant, limit) in &self.limits {
            let (live, was) =
                (self.live(|c| c.tenant == *tenant), before.live(|c| c.tenant == *tenant));
            let allowed = limit.max(before.limits.get(tenant).unwrap_or(&0));
            if live > *allowed.max(&was.max(asked)) {
                return Err(format!("tenant {tenant} has {live} live calls, allowed {allowed}"));
            }
        }
        for (id, run) in &self.runs {
            let (live, was) = (self.live(|c| c.run == *id), before.live(|c| c.run == *id));
            let allowed = before.runs.get(id).map_or(0, |run| run.concurrency).max(run.concurrency);
            if live > allowed.max(was).max(asked) {
                return Err(format!("run {id} has {live} live calls, allowed {allowed}"));
            }
        }
        Ok(())
    }

    /// Invariant 5, and that the queue holds exactly the queued jobs.
    fn nothing_lost(&self) -> Result<(), String> {
        for (id, run) in &self.runs {
            let mut counts = vec![0; JOB_STATES.len()];
            let mut outcomes = BTreeMap::new();
            for job in self.jobs.values().filter(|job| job.run == *id) {
                let state = JOB_STATES.iter().position(|state| *state == job.state).unwrap();
                counts[state] += 1;
                if state > 2 {
                    *outcomes.entry(job.outcome.clone()).or_insert(0) += 1;
                }
            }
            if counts != run.counts || counts.iter().sum::<i64>() != run.total {
                return Err(format!(
                    "run {id} counts {:?} of {}, has {counts:?}",
                    run.counts, run.total
                ));
            }
            let counted: BTreeMap<_, _> = run.outcomes.iter().filter(|(_, n)| **n != 0).collect();
            if counted != outcomes.iter().collect() {
                return Err(format!("run {id} counts outcomes {counted:?}, has {outcomes:?}"));
            }
            if run.ended && counts[..3] != [0, 0, 0] {
                return Err(format!("run {id} is {} with open jobs {counts:?}", run.state));
            }
        }
        let queued: BTreeSet<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.state == "queued")
            .map(|(id, job)| {
                (job.run.clone(), job.place.0.clone(), job.place.1.clone(), id.clone())
            })
            .collect();
        if queued != self.ready {
            let differ: Vec<_> = queued.symmetric_difference(&self.ready).collect();
            return Err(format!("queued jobs and the queue differ: {differ:?}"));
        }
        Ok(())
    }

    /// A job is in flight exactly while the call of its last attempt is live.
    fn calls_fit_jobs(&self) -> Result<(), String> {
        let in_flight = |job: &Job| job.state == "dialing" || job.state == "in_call";
        let mut carried = BTreeSet::new();
        for (id, call) in self.calls.iter().filter(|(_, call)| call.is_live()) {
            match self.jobs.get(&call.job) {
                Some(job) if in_flight(job) && job.attempt == call.attempt => {
                    carried.insert(&call.job)
                }
                _ => {
                    return Err(format!(
                        "call {id} is {} and its job is not in flight",
                        call.state
                    ));
                }
            };
        }
        match self.jobs.iter().find(|(id, job)| in_flight(job) && !carried.contains(id)) {
            Some((id, job)) => Err(format!("job {id} is {} without a live call", job.state)),
            None => Ok(()),
        }
    }
}
