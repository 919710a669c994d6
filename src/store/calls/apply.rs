//! News of calls: many pieces, one transaction, each call and job moved by the domain's word.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::domain::call::{self, CallState, Direction, News, RejectClass};
use crate::domain::event::Event;
use crate::domain::job::{self, Context, JobState};
use crate::domain::run::RunState;
use crate::domain::{CallId, TenantId, Timestamp};
use crate::store::calls::row::CallRow;
use crate::store::db::{Scope, Tx};
use crate::store::jobs::row::{JobRow, ReadyKey};
use crate::store::runs::row::RunRow;
use crate::store::{
    Applied, BATCH_MAX, Error, Result, Store, calls, jobs, leads, runs, tasks, transfers,
};

impl Store {
    /// Applies up to [`BATCH_MAX`] pieces of news of one tenant's calls in one transaction; the
    /// answer is in the order of `news`. News of one call is applied in the order given.
    pub async fn apply(&self, tenant: &TenantId, news: &[(CallId, News)]) -> Result<Vec<Applied>> {
        if news.len() > BATCH_MAX {
            return Err(Error::Internal("too much news for one batch".to_owned()));
        }
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let applied = apply_in(&mut tx, tenant, news).await?;
        tx.commit(&self.wakes).await?;
        Ok(applied)
    }
}

/// The same inside a transaction.
pub async fn apply_in(
    tx: &mut Tx,
    tenant: &TenantId,
    news: &[(CallId, News)],
) -> Result<Vec<Applied>> {
    let mut batch = Batch::load(tx, tenant, news).await?;
    let applied = news.iter().map(|(call, news)| batch.take(*call, news)).collect();
    batch.save(tx, tenant).await?;
    Ok(applied)
}

/// The calls that the news is about, with their jobs and locked runs.
struct Batch {
    tenant: TenantId,
    now: Timestamp,
    runs: Vec<RunRow>,
    calls: HashMap<CallId, CallRow>,
    jobs: HashMap<Uuid, JobRow>,
    changed_calls: BTreeSet<CallId>,
    changed_jobs: BTreeSet<Uuid>,
    /// Calls whose ending is new, and of which the carrier knew: their leads are to hear of them.
    ended: BTreeSet<Uuid>,
    /// Calls that ended in this batch.
    counted: Vec<(Direction, CallState)>,
    /// From when on the tenant has work because of this.
    work_at: Timestamp,
}

impl Batch {
    async fn load(tx: &mut Tx, tenant: &TenantId, news: &[(CallId, News)]) -> Result<Self> {
        let mut ids: Vec<Uuid> = news.iter().map(|(call, _)| call.0).collect();
        ids.sort_unstable();
        ids.dedup();
        // A call's run never changes, so it can be read before the lock; all else is read after it.
        let (runs, without_run) = calls::row::runs_of(tx, tenant, ids.clone()).await?;
        let runs = runs::row::lock(tx, tenant, runs).await?;
        if without_run {
            calls::row::lock_without_run(tx, tenant, ids.clone()).await?;
        }
        let now = tx.now().await?;
        let calls = calls::row::by_ids(tx, tenant, ids).await?;
        let jobs = calls.iter().filter_map(|row| row.job_id).map(|job| job.0).collect();
        let jobs = jobs::row::by_ids(tx, tenant, jobs).await?;
        Ok(Self {
            tenant: tenant.clone(),
            now,
            runs,
            calls: calls.into_iter().map(|row| (row.id, row)).collect(),
            jobs: jobs.into_iter().map(|row| (row.id.0, row)).collect(),
            changed_calls: BTreeSet::new(),
            changed_jobs: BTreeSet::new(),
            ended: BTreeSet::new(),
            counted: Vec::new(),
            work_at: Timestamp::NEVER,
        })
    }

    fn take(&mut self, call: CallId, news: &News) -> Applied {
        let Some(row) = self.calls.get_mut(&call) else { return Applied::NoSuchCall };
        let next = match call::decide(&row.call, news, self.now) {
            Err(call::Rejection::OtherSid) => {
                let recorded = row.call.sid.as_ref().map(ToString::to_string);
                tracing::warn!(
                    event = "dedup_conflict", key = "call_sid", tenant = %self.tenant, call_id = %call,
                    recorded, given = news.sid().map(ToString::to_string), "two call SIDs for one call"
                );
                return Applied::OtherSid;
            }
            Ok(None) => return Applied::Unchanged(row.call.state),
            Ok(Some(next)) => next,
        };
        let ended = row.call.state.is_live() && !next.state.is_live();
        let orphaned = next.orphaned && !row.call.orphaned;
        // Targets of transfers are no leads.
        let person = row.transfer_id.is_none();
        if person && !next.state.is_live() && next.state != row.call.state && next.sid.is_some() {
            self.ended.insert(call.0);
        }
        row.call = next;
        self.changed_calls.insert(call);
        if ended {
            self.counted.push((row.direction, row.call.state));
            self.work_at = self.now;
        }
        let state = row.call.state;
        if orphaned {
            self.log_orphan(call);
        }
        self.move_job(call, news);
        Applied::Changed(state)
    }

    fn log_orphan(&mut self, call: CallId) {
        let row = &self.calls[&call];
        tracing::warn!(event = "orphan_call_terminated", tenant = %self.tenant, call_id = %call, "a call turned up after it was given up; hanging up");
        let run = self.runs.iter_mut().find(|run| Some(run.id) == row.run_id);
        if let (Some(run), Some(job_id), Some(call_sid)) = (run, row.job_id, row.call.sid.clone())
            && !run.state.is_ended()
        {
            run.log(Event::OrphanCall { call_id: row.id, job_id, attempt: row.attempt, call_sid });
        }
    }

    /// Takes the news on to the call's job and run.
    fn move_job(&mut self, call: CallId, news: &News) {
        let Some(row) = self.calls.get_mut(&call) else { return };
        let Some(run) = self.runs.iter_mut().find(|run| Some(run.id) == row.run_id) else { return };
        if let News::AnsweredBy { answered_by, .. } = news {
            row.intervention =
                run.settings.amd.as_ref().and_then(|amd| amd.intervention(*answered_by));
        }
        if run.state.is_ended() {
            // The terminal event is the log's last; the call's row keeps the facts.
            return;
        }
        if let Some(event) = row.event() {
            run.log(event);
        }
        if let News::Rejected { class: RejectClass::Configuration, code, message } = news
            && row.call.state == CallState::Failed
        {
            pause_for(run, code, message, self.now);
        }
        let Some(job) = row.job_id.and_then(|job| self.jobs.get_mut(&job.0)) else { return };
        let context = Context {
            run: run.state,
            expires_at: run.expires_at,
            retry: &run.settings.retry,
            amd: run.settings.amd.as_ref(),
            now: self.now,
            draw: draw(call),
        };
        let Some(next) = job::after_call(&job.job, row.attempt, &row.call, news, context) else {
            return;
        };
        if next.state == JobState::Queued {
            self.work_at = self.work_at.min(next.eligible_at);
        }
        job.move_to(run, next);
        self.changed_jobs.insert(job.id.0);
    }

    async fn save(mut self, tx: &mut Tx, tenant: &TenantId) -> Result<()> {
        let calls: Vec<&CallRow> =
            self.changed_calls.iter().map(|call| &self.calls[call]).collect();
        calls::row::save(tx, tenant, &calls, self.now).await?;
        let jobs: Vec<&JobRow> = self.changed_jobs.iter().map(|job| &self.jobs[job]).collect();
        jobs::row::save(tx, tenant, &jobs, self.now).await?;
        let queued: Vec<ReadyKey> = jobs
            .iter()
            .filter(|row| row.job.state == JobState::Queued)
            .map(|row| ReadyKey::of(row))
            .collect();
        jobs::row::enqueue(tx, tenant, &queued).await?;
        for run in &mut self.runs {
            run.settle(self.now);
        }
        runs::row::save(tx, tenant, &mut self.runs, self.now).await?;
        if !self.ended.is_empty() {
            // One task for all of them: a row a call would cost the queue more than the calls' own.
            let ended: Vec<Uuid> = self.ended.into_iter().collect();
            tasks::enqueue(tx, tenant, leads::from_calls::task(&ended, self.now), self.now).await?;
        }
        // What these are to a transfer, somebody finds out at once; the rows say what happened.
        let callers = calls_over(&calls);
        let legs = calls.iter().filter_map(|row| row.transfer_id).collect();
        transfers::row::nudge(tx, tenant, callers, legs, self.now).await?;
        for (direction, state) in self.counted {
            tx.call_ended(direction, state);
        }
        if self.work_at < Timestamp::NEVER {
            tx.has_work(tenant, self.work_at);
        }
        Ok(())
    }
}

/// Those of the calls that have ended, and may be a transfer's caller.
fn calls_over(calls: &[&CallRow]) -> Vec<Uuid> {
    let over = |row: &&&CallRow| row.transfer_id.is_none() && !row.call.state.is_live();
    calls.iter().filter(over).map(|row| row.id.0).collect()
}

/// The account or the run is set up wrongly: dialing on would only fail on.
fn pause_for(run: &mut RunRow, code: &str, message: &str, now: Timestamp) {
    if run.state.is_dialing() {
        let reason = format!("{code}: {message}");
        run.last_error = Some(reason.clone());
        run.move_to(RunState::Paused, Some(reason), now);
    }
}

/// A number in 0.0..1.0 that the call's random id holds anyway.
pub(in crate::store) fn draw(call: CallId) -> f64 {
    let bits = u32::from_le_bytes([
        call.0.as_bytes()[12],
        call.0.as_bytes()[13],
        call.0.as_bytes()[14],
        0,
    ]);
    f64::from(bits) / f64::from(1 << 24)
}
