//! What a claim sees of the queue: eligible jobs in order, from a low-water mark on.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::cap::{self, FrequencyCap};
use crate::domain::job::{Job, PRIORITY_MAX};
use crate::domain::{Phone, RunId, TenantId, Timestamp};
use crate::store::db::Tx;
use crate::store::db::sql::{Row, args, statement};
use crate::store::jobs::row::{JobRow, ReadyKey, job_columns};
use crate::store::runs::row::RunRow;
use crate::store::{Result, jobs};

/// Jobs scanned beyond what is wanted, for those that may not be dialed now.
const SCAN_MARGIN: usize = 64;
/// The whole queue of a run is looked at again after this, whatever the mark says.
const FULL_RESCAN: Duration = Duration::from_secs(5);
/// Marks kept; beyond it all are dropped, which costs one full scan each.
const MARKS_MAX: usize = 10_000;

/// A job that a claim may take.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Where it stands in the queue.
    pub key: ReadyKey,
    /// The job.
    pub row: JobRow,
    /// The number to dial.
    pub phone: Phone,
    /// The callee's zone, if known.
    pub time_zone: Option<String>,
}

impl Candidate {
    /// Reads a queued job with its `phone` and `time_zone`.
    fn read(row: &Row) -> Result<Self> {
        let job = JobRow::read(row)?;
        Ok(Self {
            key: ReadyKey::of(&job),
            row: job,
            phone: Phone::from_stored(row.text("phone")?),
            time_zone: row.opt_text("time_zone")?,
        })
    }
}

/// What a scan found.
pub struct Scan {
    /// In the order in which they are due.
    pub candidates: Vec<Candidate>,
    /// Whether these are all that are eligible.
    pub exhausted: bool,
    /// When the next becomes eligible; meaningful when exhausted.
    pub next_eligible_at: Timestamp,
}

/// How far each run's queue was emptied, so that a scan does not wade through rows that are deleted
/// but not vacuumed. Only a hint: a mark is dropped every few seconds.
#[derive(Default)]
pub struct LowWater(Mutex<HashMap<(RunId, u8), Mark>>);

struct Mark {
    eligible_at: Timestamp,
    job_id: Uuid,
    since: Instant,
}

impl LowWater {
    fn get(&self, run: RunId, priority: u8) -> (Timestamp, Uuid) {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match marks.get(&(run, priority)) {
            Some(mark) if mark.since.elapsed() < FULL_RESCAN => (mark.eligible_at, mark.job_id),
            _ => (Timestamp(i64::MIN), Uuid::nil()),
        }
    }

    /// These jobs left the queue, committed; everything before them had left it already.
    pub fn advance(&self, gone: &[ReadyKey]) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.len() > MARKS_MAX {
            marks.clear();
        }
        for key in gone {
            let mark = marks.entry((key.run_id, key.priority)).or_insert_with(|| Mark {
                eligible_at: key.eligible_at,
                job_id: key.job_id.0,
                since: Instant::now(),
            });
            if mark.since.elapsed() >= FULL_RESCAN {
                mark.since = Instant::now();
            }
            (mark.eligible_at, mark.job_id) = (key.eligible_at, key.job_id.0);
        }
    }
}

/// Eligible jobs of the run, highest priority first, then by time.
pub async fn scan(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &RunRow,
    now: Timestamp,
    wanted: usize,
    low_water: &LowWater,
) -> Result<Scan> {
    statement!(SCAN, concat!(
        "SELECT ",
        job_columns!(),
        ", j.phone, j.time_zone
          FROM (SELECT job_id, eligible_at FROM ready_jobs
                WHERE tenant_id = $1 AND run_id = $2 AND priority = $3 AND (eligible_at, job_id) > ($4, $5)
                    AND eligible_at <= $6
                ORDER BY eligible_at, job_id LIMIT $7) q
          JOIN jobs j ON j.tenant_id = $1 AND j.job_id = q.job_id
          ORDER BY q.eligible_at, q.job_id"
    ));
    let limit = wanted + SCAN_MARGIN;
    let mut candidates: Vec<Candidate> = Vec::with_capacity(limit);
    for priority in levels(run) {
        let (after, after_job) = low_water.get(run.id, priority);
        let left = i64::try_from(limit - candidates.len()).unwrap_or(i64::MAX);
        let rows = tx
            .fetch(&SCAN, args![tenant, run.id.0, i64::from(priority), after, after_job, now, left])
            .await?;
        for row in &rows {
            candidates.push(Candidate::read(row)?);
        }
        if candidates.len() >= limit {
            return Ok(Scan { candidates, exhausted: false, next_eligible_at: now });
        }
    }
    let next_eligible_at = next_eligible(tx, tenant, run, now).await?;
    Ok(Scan { candidates, exhausted: true, next_eligible_at })
}

/// Up to `limit` jobs of the run that claims put off, in the order of their ids, after one.
pub async fn put_off(
    tx: &mut Tx,
    tenant: &TenantId,
    run: RunId,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Candidate>> {
    statement!(SELECT, concat!(
        "SELECT ",
        job_columns!(),
        ", j.phone, j.time_zone
          FROM (SELECT job_id FROM ready_jobs WHERE tenant_id = $1 AND run_id = $2 AND job_id > $3 AND put_off
                ORDER BY job_id LIMIT $4) q
          JOIN jobs j ON j.tenant_id = $1 AND j.job_id = q.job_id
          ORDER BY q.job_id"
    ));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    tx.fetch(&SELECT, args![tenant, run.0, after, limit])
        .await?
        .iter()
        .map(Candidate::read)
        .collect()
}

/// The priorities that the run's jobs ever had, highest first.
fn levels(run: &RunRow) -> impl Iterator<Item = u8> + use<> {
    let bits = run.job_priorities;
    (0..=PRIORITY_MAX).rev().filter(move |priority| bits & (1 << priority) != 0)
}

async fn next_eligible(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &RunRow,
    now: Timestamp,
) -> Result<Timestamp> {
    statement!(
        NEXT,
        "SELECT min(eligible_at) AS eligible_at FROM ready_jobs
         WHERE tenant_id = $1 AND run_id = $2 AND priority = $3 AND eligible_at > $4"
    );
    let mut next = Timestamp::NEVER;
    for priority in levels(run) {
        let row = tx.fetch_one(&NEXT, args![tenant, run.id.0, i64::from(priority), now]).await?;
        next = next.min(row.opt_int("eligible_at")?.map_or(Timestamp::NEVER, Timestamp));
    }
    Ok(next)
}

/// Which of the candidates' phones have a live call. Exact under the dispatch lock: only its holder
/// makes calls.
pub async fn live_phones(
    tx: &mut Tx,
    tenant: &TenantId,
    candidates: &[Candidate],
) -> Result<HashSet<Phone>> {
    statement!(LIVE, "SELECT phone_to FROM call_log
         WHERE tenant_id = $1 AND ended_at IS NULL AND direction <> 'inbound' AND phone_to {any 2 text}");
    if candidates.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = tx.fetch(&LIVE, args![tenant, phones(candidates)]).await?;
    rows.iter().map(|row| Ok(Phone::from_stored(row.text("phone_to")?))).collect()
}

/// The candidates' phones.
pub fn phones(candidates: &[Candidate]) -> Vec<String> {
    candidates.iter().map(|candidate| candidate.phone.expose().to_owned()).collect()
}

/// When the candidates' phones were tried, the newest first, as far back as a cap looks. Asks
/// nothing where there is no cap.
pub async fn attempts(
    tx: &mut Tx,
    tenant: &TenantId,
    caps: &[FrequencyCap],
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<HashMap<Phone, Vec<Timestamp>>> {
    attempts_to(tx, tenant, caps, phones(candidates), now).await
}

/// The same for any phones.
pub async fn attempts_to(
    tx: &mut Tx,
    tenant: &TenantId,
    caps: &[FrequencyCap],
    phones: Vec<String>,
    now: Timestamp,
) -> Result<HashMap<Phone, Vec<Timestamp>>> {
    // What the carrier refused or was never sent rang nowhere. What was given up may have rung. How
    // many rows there are is bounded by how often a phone can be tried in the caps' time.
    statement!(ATTEMPTS, "SELECT c.phone_to, c.created_at FROM call_log c
         WHERE c.tenant_id = $1 AND c.phone_to {any 2 text} AND c.created_at >= $3 AND c.job_id IS NOT NULL
             AND NOT (c.state = 'failed' AND c.call_sid IS NULL AND NOT c.presumed)
         ORDER BY c.created_at DESC");
    let mut attempts: HashMap<Phone, Vec<Timestamp>> = HashMap::new();
    if caps.is_empty() || phones.is_empty() {
        return Ok(attempts);
    }
    let since = cap::looks_back_to(caps, now);
    for row in tx.fetch(&ATTEMPTS, args![tenant, phones, since]).await? {
        let phone = Phone::from_stored(row.text("phone_to")?);
        attempts.entry(phone).or_default().push(Timestamp(row.int("created_at")?));
    }
    Ok(attempts)
}

/// Moves queued jobs to when they may be dialed.
pub async fn defer(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &mut RunRow,
    deferred: Vec<(Candidate, Timestamp)>,
    now: Timestamp,
) -> Result<()> {
    let old: Vec<ReadyKey> = deferred.iter().map(|(candidate, _)| candidate.key).collect();
    let mut jobs = Vec::with_capacity(deferred.len());
    for (candidate, eligible_at) in deferred {
        let mut row = candidate.row;
        let moved = Job { eligible_at, ..row.job };
        row.move_to(run, moved);
        jobs.push(row);
    }
    let new: Vec<ReadyKey> = jobs.iter().map(ReadyKey::of).collect();
    jobs::row::dequeue(tx, tenant, &old).await?;
    jobs::row::put_off(tx, tenant, &new).await?;
    jobs::row::save(tx, tenant, &jobs.iter().collect::<Vec<_>>(), now).await
}

/// Ends queued jobs undialed, as `ended` says.
pub async fn skip(
    tx: &mut Tx,
    tenant: &TenantId,
    run: &mut RunRow,
    skipped: Vec<Candidate>,
    ended: impl Fn(&Job) -> Job,
    now: Timestamp,
) -> Result<()> {
    if skipped.is_empty() {
        return Ok(());
    }
    let keys: Vec<ReadyKey> = skipped.iter().map(|candidate| candidate.key).collect();
    let mut jobs = Vec::with_capacity(skipped.len());
    for candidate in skipped {
        let mut row = candidate.row;
        let next = ended(&row.job);
        row.move_to(run, next);
        jobs.push(row);
    }
    run.settle(now);
    jobs::row::dequeue(tx, tenant, &keys).await?;
    jobs::row::save(tx, tenant, &jobs.iter().collect::<Vec<_>>(), now).await
}
