//! Reconciling: runs held against the facts, and what differs put right.
//!
//! Pages of runs are looked at without locks, in a handful of statements each. What looks wrong
//! there may only have moved in between, so a run is looked at again under its lock before anything
//! is done to it.

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::job::{Context, JobState};
use crate::domain::repair::{self, Recorded, Repair, RepairKind};
use crate::domain::run::{self, RunState};
use crate::domain::{JobId, RunId, TenantId, Timestamp};
use crate::store::audit::{self, Maintenance};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::jobs::row::{JobRow, ReadyKey};
use crate::store::runs::row::{RunRow, run_columns};
use crate::store::runs::{self, reconcile_facts as facts};
use crate::store::{
    BATCH_MAX, Error, RECONCILE_RUNS_MAX, REPAIRED_RUNS_MAX, Reconciled, Result, RunRepaired,
    Store, calls, jobs,
};

/// Runs looked at in one transaction.
const RUNS_PER_PAGE: i64 = 100;

impl Store {
    /// Holds runs of the tenant (at most [`RECONCILE_RUNS_MAX`]; none named: all that have not
    /// ended) against their jobs and calls, and puts right what differs, each run in transactions
    /// of its own. [`Error::TooSoon`] within
    /// [`MAINTENANCE_INTERVAL`](crate::store::MAINTENANCE_INTERVAL), whichever process did it last.
    pub async fn reconcile_runs(&self, tenant: &TenantId, named: &[RunId]) -> Result<Reconciled> {
        if named.len() > RECONCILE_RUNS_MAX {
            return Err(Error::Invalid(crate::domain::Violation::new(
                "run_ids",
                "has more than 100 items",
            )));
        }
        let mut named: Vec<Uuid> = named.iter().map(|run| run.0).collect();
        named.sort_unstable();
        named.dedup();
        begin(self, tenant, &named).await?;
        let mut done = Reconciled::default();
        let mut after = Uuid::nil();
        loop {
            let (page, wrong) = look(self, tenant, &named, after).await?;
            for run in &wrong {
                note(&mut done, repair_run(self, tenant, *run).await?);
            }
            done.unchanged_count += number(page.len() - wrong.len());
            match page.last() {
                Some(last) if named.is_empty() => after = last.0,
                Some(_) | None => return Ok(done),
            }
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Refuses runs that the tenant does not have, and a second time within the minute.
async fn begin(store: &Store, tenant: &TenantId, named: &[Uuid]) -> Result<()> {
    statement!(
        COUNT,
        "SELECT count(*) AS runs FROM runs WHERE tenant_id = $1 AND run_id {any 2 uuid}"
    );
    let mut tx = store.db.begin(Scope::Tenant(tenant)).await?;
    if tx.fetch_one(&COUNT, args![tenant, named.to_vec()]).await?.narrow::<usize>("runs")?
        < named.len()
    {
        return Err(Error::NotFound("run"));
    }
    audit::once_a_minute(&mut tx, tenant, Maintenance::ReconcileRuns).await?;
    let now = tx.now().await?;
    let detail = json!({ "runs": named });
    audit::write(&mut tx, &store.actor, tenant, format!("tenant {tenant}"), &detail, now).await?;
    tx.commit(&store.wakes).await
}

fn note(done: &mut Reconciled, repaired: Option<RunRepaired>) {
    match repaired {
        None => done.unchanged_count += 1,
        Some(run) => {
            done.repaired_count += 1;
            if done.repaired.len() < REPAIRED_RUNS_MAX {
                done.repaired.push(run);
            }
        }
    }
}

/// A page of runs, and which of them look wrong.
async fn look(
    store: &Store,
    tenant: &TenantId,
    named: &[Uuid],
    after: Uuid,
) -> Result<(Vec<RunId>, Vec<RunId>)> {
    statement!(
        NAMED,
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs r WHERE r.tenant_id = $1 AND r.run_id {any 2 uuid} ORDER BY r.run_id"
        )
    );
    statement!(
        OPEN,
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs r WHERE r.tenant_id = $1 AND r.ended_at IS NULL AND r.run_id > $2 ORDER BY r.run_id LIMIT $3"
        )
    );
    let mut tx = store.db.read(Scope::Tenant(tenant)).await?;
    let rows = if named.is_empty() {
        tx.fetch(&OPEN, args![tenant, after, RUNS_PER_PAGE]).await?
    } else {
        tx.fetch(&NAMED, args![tenant, named.to_vec()]).await?
    };
    let page: Vec<RunRow> = rows.iter().map(RunRow::read).collect::<Result<_>>()?;
    let open: Vec<Uuid> =
        page.iter().filter(|run| !run.state.is_ended()).map(|run| run.id.0).collect();
    let facts = facts::read(&mut tx, tenant, open).await?;
    let now = tx.now().await?;
    let is_wrong = |run: &&RunRow| {
        facts
            .get(&run.id)
            .is_some_and(|facts| !repair::diagnose(&recorded(run), facts, now).is_empty())
    };
    let wrong = page.iter().filter(is_wrong).map(|run| run.id).collect();
    Ok((page.iter().map(|run| run.id).collect(), wrong))
}

fn recorded(run: &RunRow) -> Recorded<'_> {
    Recorded {
        state: run.state,
        sealed: run.sealed,
        counts: &run.counts,
        outcomes: &run.outcomes,
        claimable_at: run.claimable_at,
        job_priorities: run.job_priorities,
        expires_at: run.expires_at,
    }
}

/// Puts a run right, page by page. None if it needed nothing after all.
async fn repair_run(store: &Store, tenant: &TenantId, run: RunId) -> Result<Option<RunRepaired>> {
    let mut cursor = Cursor::start(run);
    let mut whole: Option<RunRepaired> = None;
    while let Some(page) = repair_page(store, tenant, run, &mut cursor).await? {
        whole = Some(match whole {
            None => page,
            Some(before) => join(before, page),
        });
        if cursor.is_done() {
            break;
        }
    }
    Ok(whole)
}

fn join(mut before: RunRepaired, page: RunRepaired) -> RunRepaired {
    for repair in page.repairs {
        match before.repairs.iter_mut().find(|known| known.kind == repair.kind) {
            Some(known) => known.count += repair.count,
            None => before.repairs.push(repair),
        }
    }
    RunRepaired { new_state: page.new_state, counts_after: page.counts_after, ..before }
}

/// How far a run was gone through; none where there is nothing more. Without it each page would
/// wade through all that the pages before have put right.
struct Cursor {
    /// The first page recounts; after it the counters are kept as ever.
    recounted: bool,
    stray: Option<ReadyKey>,
    missing: Option<JobId>,
    without_call: Option<JobId>,
}

impl Cursor {
    fn start(run: RunId) -> Self {
        let first = JobId(Uuid::nil());
        let key =
            ReadyKey { run_id: run, priority: 0, eligible_at: Timestamp(i64::MIN), job_id: first };
        Self { recounted: false, stray: Some(key), missing: Some(first), without_call: Some(first) }
    }

    const fn is_done(&self) -> bool {
        self.stray.is_none() && self.missing.is_none() && self.without_call.is_none()
    }
}

/// Where to go on after a page; none after the last.
fn after_page<T, K>(page: &[T], key: impl Fn(&T) -> K) -> Option<K> {
    if page.len() < BATCH_MAX { None } else { page.last().map(key) }
}

/// What the audit log says of a page.
#[derive(Serialize)]
struct Detail<'a> {
    old_state: RunState,
    new_state: RunState,
    repairs: &'a [Repair],
}

/// Puts a page right in one transaction. None if all fits.
async fn repair_page(
    store: &Store,
    tenant: &TenantId,
    id: RunId,
    cursor: &mut Cursor,
) -> Result<Option<RunRepaired>> {
    let mut tx = store.db.begin(Scope::Tenant(tenant)).await?;
    let mut run = runs::row::lock_one(&mut tx, tenant, id).await?;
    let now = tx.now().await?;
    if run.state.is_ended() {
        return Ok(None);
    }
    let (old_state, counts_before) = (run.state, run.counts);
    let mut page = Page { now, repairs: Vec::new() };
    if !std::mem::replace(&mut cursor.recounted, true) {
        page.correct_row(&mut tx, tenant, &mut run).await?;
    }
    page.correct_queue(&mut tx, tenant, &mut run, cursor).await?;
    page.move_jobs(&mut tx, tenant, &mut run, cursor).await?;
    if run::settle(run.state, run.sealed, &run.counts, run.expires_at, now).is_some() {
        // The terminal event is the log's last.
        page.done(&mut run, RepairKind::Settled, 1);
        run.settle(now);
    }
    if page.repairs.is_empty() {
        return Ok(None);
    }
    let repaired = RunRepaired {
        id,
        old_state,
        new_state: run.state,
        repairs: page.repairs,
        counts_before,
        counts_after: run.counts,
    };
    runs::finish(&mut tx, tenant, run, now).await?;
    let detail = Detail { old_state, new_state: repaired.new_state, repairs: &repaired.repairs };
    audit::write(&mut tx, &store.actor, tenant, format!("run {id}"), &detail, now).await?;
    tx.commit(&store.wakes).await?;
    for Repair { kind, count } in &repaired.repairs {
        let actor = store.actor.name();
        tracing::warn!(event = "run_repaired", %tenant, run_id = %id, kind = kind.as_str(), count, actor);
    }
    Ok(Some(repaired))
}

/// The repairs of one transaction.
struct Page {
    now: Timestamp,
    repairs: Vec<Repair>,
}

impl Page {
    fn done(&mut self, run: &mut RunRow, kind: RepairKind, count: u32) {
        if count > 0 {
            run.log(Event::Repaired { repair: kind, count });
            self.repairs.push(Repair { kind, count });
        }
    }

    /// Counters and hints, from the facts.
    async fn correct_row(
        &mut self,
        tx: &mut Tx,
        tenant: &TenantId,
        run: &mut RunRow,
    ) -> Result<()> {
        let facts =
            facts::read(tx, tenant, vec![run.id.0]).await?.remove(&run.id).unwrap_or_default();
        let found = repair::diagnose(&recorded(run), &facts, self.now);
        run.counts = facts.counts;
        run.outcomes = facts.outcomes;
        run.claimable_at = run.claimable_at.min(facts.first_eligible_at);
        run.job_priorities |= facts.priorities;
        for repair in found {
            if matches!(repair.kind, RepairKind::Counts | RepairKind::Outcomes | RepairKind::Hints)
            {
                self.done(run, repair.kind, repair.count);
            }
        }
        Ok(())
    }

    /// The queue holds exactly the queued jobs.
    async fn correct_queue(
        &mut self,
        tx: &mut Tx,
        tenant: &TenantId,
        run: &mut RunRow,
        cursor: &mut Cursor,
    ) -> Result<()> {
        // Both are read before either is written.
        let stray = match cursor.stray {
            Some(after) => facts::stray_page(tx, tenant, run.id, after).await?,
            None => Vec::new(),
        };
        let missing = match cursor.missing {
            Some(after) => facts::missing_page(tx, tenant, run.id, after).await?,
            None => Vec::new(),
        };
        cursor.stray = after_page(&stray, |key| *key);
        cursor.missing = after_page(&missing, |row| row.id);
        let keys: Vec<ReadyKey> = missing.iter().map(ReadyKey::of).collect();
        jobs::row::dequeue(tx, tenant, &stray).await?;
        jobs::row::enqueue(tx, tenant, &keys).await?;
        for row in &missing {
            run.has_queued(row.priority, row.job.eligible_at);
        }
        self.done(run, RepairKind::QueueStray, number(stray.len()));
        self.done(run, RepairKind::QueueMissing, number(missing.len()));
        Ok(())
    }

    /// Jobs in flight have a live call, or are moved.
    async fn move_jobs(
        &mut self,
        tx: &mut Tx,
        tenant: &TenantId,
        run: &mut RunRow,
        cursor: &mut Cursor,
    ) -> Result<()> {
        let Some(after) = cursor.without_call else { return Ok(()) };
        let page = facts::without_call_page(tx, tenant, run.id, after).await?;
        cursor.without_call = after_page(&page, |(job, _)| job.id);
        let (mut by_call, mut without) = (0, 0);
        let mut moved = Vec::with_capacity(page.len());
        for (mut job, call) in page {
            let context = Context {
                run: run.state,
                expires_at: run.expires_at,
                retry: &run.settings.retry,
                amd: run.settings.amd.as_ref(),
                now: self.now,
                draw: call.as_ref().map_or(0.5, |(id, _)| calls::apply::draw(*id)),
            };
            let next =
                repair::without_live_call(&job.job, call.as_ref().map(|(_, call)| call), context);
            let Some(next) = next else { continue };
            *(if call.is_some() { &mut by_call } else { &mut without }) += 1;
            job.move_to(run, next);
            moved.push(job);
        }
        let queued = moved.iter().filter(|row| row.job.state == JobState::Queued);
        let keys: Vec<ReadyKey> = queued.map(ReadyKey::of).collect();
        jobs::row::save(tx, tenant, &moved.iter().collect::<Vec<&JobRow>>(), self.now).await?;
        jobs::row::enqueue(tx, tenant, &keys).await?;
        self.done(run, RepairKind::CallEnded, by_call);
        self.done(run, RepairKind::CallMissing, without);
        Ok(())
    }
}
