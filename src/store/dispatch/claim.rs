//! The claim: one ready tenant, one transaction, intents committed before anything is sent.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::intents::commit_intents;
use crate::domain::job::{self, JobState, PHONE_BUSY_DEFER};
use crate::domain::pace::{self, Meter};
use crate::domain::share::{self, Demand};
use crate::domain::tenant::{Tenant, TenantState};
use crate::domain::{Phone, RunId, TenantId, Timestamp, WorkerId};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::jobs::queue::Candidate;
use crate::store::jobs::row::ReadyKey;
use crate::store::runs::opening::Openings;
use crate::store::runs::row::RunRow;
use crate::store::{
    Claim, ClaimLimits, ClaimedCall, Result, Store, TenantView, jobs, runs, suppressions, tenants,
};

/// Runs of a tenant that one claim looks at.
const RUNS_PER_CLAIM: i64 = 16;
/// A claim is made this share of the horizon before the next call's turn, so that at a high pace
/// one claim takes most of a horizon's calls instead of one.
const LEAD_SHARE: u32 = 5;

/// What the dispatch row and its neighbours say.
pub(super) struct Dispatch {
    pub(super) tenant: Tenant,
    pub(super) now: Timestamp,
    pub(super) virtual_time: i64,
    /// Whose turn it is in the pool of caller ids.
    pub(super) caller_turn: i64,
    /// The tenant's and its account's.
    pub(super) meters: [Meter; 2],
    /// The account's circuit breaker.
    pub(super) breaker_open_until: Option<Timestamp>,
}

/// A probe that is not heard of for this long is followed by another: longer than a request can
/// take.
pub(in crate::store) const PROBE_EVERY: Duration = Duration::from_secs(20);

impl Store {
    /// Picks the tenant that has waited longest and commits intents for what it may dial now.
    pub async fn claim(&self, worker: &WorkerId, limits: ClaimLimits) -> Result<Claim> {
        let mut tx = self.db.begin(Scope::Scheduler).await?;
        let Some(Ready { tenant: tenant_id, now, next_call_at, virtual_time, caller_turn }) =
            pick(&mut tx).await?
        else {
            let (now, next_ready_at) = next_ready(&mut tx).await?;
            return Ok(Claim { now, tenant: None, calls: Vec::new(), next_ready_at });
        };
        tx.become_tenant(&tenant_id).await?;
        let TenantView { tenant, state, .. } = tenants::access::tenant(&mut tx, &tenant_id).await?;
        let (account_meter, breaker_open_until) = lock_account(&mut tx, &tenant).await?;
        let meters = [Meter::new(tenant.calls_per_second, next_call_at)?, account_meter];
        let mut dispatch =
            Dispatch { tenant, now, virtual_time, caller_turn, meters, breaker_open_until };
        let taken = match state {
            TenantState::Active => take(self, &mut tx, &mut dispatch, worker, limits).await?,
            // Enabling it wakes it.
            TenantState::Disabled => Taken { ready_at: Timestamp::NEVER, ..Taken::default() },
        };
        save_dispatch(&mut tx, &dispatch, taken.ready_at).await?;
        tx.commit(&self.wakes).await?;
        if !taken.calls.is_empty() {
            tracing::debug!(event = "claimed", tenant = %tenant_id, worker_id = %worker, calls = taken.calls.len());
        }
        self.low_water.advance(&taken.gone);
        Ok(Claim {
            now,
            tenant: Some(tenant_id),
            calls: taken.calls,
            next_ready_at: taken.ready_at,
        })
    }
}

#[derive(Default)]
struct Taken {
    calls: Vec<ClaimedCall>,
    /// When the tenant is to be looked at again.
    ready_at: Timestamp,
    /// Jobs that left their place in the queue.
    gone: Vec<ReadyKey>,
}

async fn take(
    store: &Store,
    tx: &mut Tx,
    dispatch: &mut Dispatch,
    worker: &WorkerId,
    limits: ClaimLimits,
) -> Result<Taken> {
    let (tenant, now) = (dispatch.tenant.id.clone(), dispatch.now);
    let probe = match dispatch.breaker_open_until {
        Some(open_until) if open_until > now => {
            return Ok(Taken { ready_at: open_until, ..Taken::default() });
        }
        half_open => half_open.is_some(),
    };
    let limits = if probe { ClaimLimits { max_calls: 1, ..limits } } else { limits };
    let live = live_calls(tx, &tenant).await?;
    let free = (dispatch.tenant.max_concurrent_calls as usize).saturating_sub(live.values().sum());
    if free == 0 {
        // The end of a call wakes the tenant.
        return Ok(Taken { ready_at: Timestamp::NEVER, ..Taken::default() });
    }
    let mut meters = dispatch.meters;
    let slots = pace::reserve(&mut meters, now, limits.horizon, free.min(limits.max_calls)).len();
    if slots == 0 {
        return Ok(Taken {
            ready_at: next_turn(&dispatch.meters, now, limits),
            ..Taken::default()
        });
    }
    let demands = demands(tx, &tenant, now, &live).await?;
    let mut wants: Vec<Demand> = demands.iter().map(|(_, demand)| demand.clone()).collect();
    let (given, virtual_time) = share::share(&mut wants, slots, dispatch.virtual_time);
    dispatch.virtual_time = virtual_time;
    let chosen: Vec<Uuid> = demands
        .iter()
        .zip(&given)
        .filter(|(_, given)| **given > 0)
        .map(|((id, _), _)| id.0)
        .collect();
    let mut runs = runs::row::lock(tx, &tenant, chosen).await?;
    let mut claimed = Vec::new();
    let mut gone = Vec::new();
    let mut phones = HashSet::new();
    for run in runs.iter_mut().filter(|run| run.state.is_dialing() && now < run.expires_at) {
        let Some(i) = demands.iter().position(|(id, _)| *id == run.id) else { continue };
        run.pass = wants[i].pass;
        // The settings may have changed between the look and the lock.
        let live = live.get(&Some(run.id)).copied().unwrap_or(0);
        let wanted = given[i].min((run.settings.concurrency as usize).saturating_sub(live));
        let picked = pick_jobs(store, tx, dispatch, run, wanted, &mut phones).await?;
        gone.extend(picked.gone);
        claimed.extend(picked.jobs);
    }
    let slots = pace::reserve(&mut dispatch.meters, now, limits.horizon, claimed.len());
    let mut calls = commit_intents(tx, dispatch, &mut runs, claimed, &slots, worker).await?;
    if probe && !calls.is_empty() {
        dispatch.breaker_open_until = Some(now + PROBE_EVERY);
        calls.iter_mut().for_each(|call| call.probe = true);
    }
    runs::row::save_hints(tx, &tenant, &runs).await?;
    runs::row::save(tx, &tenant, &mut runs, now).await?;
    let ready_at = if free > calls.len() {
        ready_again(tx, dispatch, limits, !gone.is_empty()).await?
    } else {
        Timestamp::NEVER
    };
    Ok(Taken { calls, ready_at, gone })
}

/// A tenant's dispatch row, locked, and the time then.
struct Ready {
    tenant: TenantId,
    now: Timestamp,
    next_call_at: Timestamp,
    virtual_time: i64,
    caller_turn: i64,
}

/// The tenant that has waited longest. Its row's lock, held to commit, makes this its only claim.
async fn pick(tx: &mut Tx) -> Result<Option<Ready>> {
    statement!(PICK, "SELECT tenant_id, next_call_at, virtual_time, caller_turn, {now} AS now FROM tenant_dispatch
         WHERE ready_at <= {now} ORDER BY ready_at LIMIT 1 {for_update_skip_locked}");
    let Some(row) = tx.fetch_optional(&PICK, Vec::new()).await? else { return Ok(None) };
    Ok(Some(Ready {
        tenant: row.text("tenant_id")?.parse()?,
        now: Timestamp(row.int("now")?),
        next_call_at: Timestamp(row.int("next_call_at")?),
        virtual_time: row.int("virtual_time")?,
        caller_turn: row.int("caller_turn")?,
    }))
}

async fn next_ready(tx: &mut Tx) -> Result<(Timestamp, Timestamp)> {
    statement!(NEXT, "SELECT min(ready_at) AS ready_at, {now} AS now FROM tenant_dispatch");
    let row = tx.fetch_one(&NEXT, Vec::new()).await?;
    Ok((Timestamp(row.int("now")?), row.opt_int("ready_at")?.map_or(Timestamp::NEVER, Timestamp)))
}

/// After the tenant's row: the account's, shared with other tenants, so that its pace is exact as
/// well.
pub(in crate::store) async fn lock_account(
    tx: &mut Tx,
    tenant: &Tenant,
) -> Result<(Meter, Option<Timestamp>)> {
    statement!(
        LOCK,
        "SELECT calls_per_second, next_call_at, breaker_open_until FROM carrier_accounts
         WHERE account_sid = $1 {for_update}"
    );
    let row = tx.fetch_one(&LOCK, args![tenant.account_sid.as_str()]).await?;
    let meter = Meter::new(row.float("calls_per_second")?, Timestamp(row.int("next_call_at")?))?;
    Ok((meter, row.opt_int("breaker_open_until")?.map(Timestamp)))
}

/// Live calls by run; derived from the index of live calls, never from a counter. A transfer that
/// waits for a slot for its call counts as having it: somebody is on the line, and jobs can wait.
async fn live_calls(tx: &mut Tx, tenant: &TenantId) -> Result<HashMap<Option<RunId>, usize>> {
    statement!(COUNT, "SELECT run_id, count(*) AS live FROM call_log
         WHERE tenant_id = $1 AND ended_at IS NULL AND direction <> 'inbound' GROUP BY run_id
         UNION ALL
         SELECT NULL, count(*) FROM transfers WHERE tenant_id = $1 AND wants_leg HAVING count(*) > 0");
    let mut live = HashMap::new();
    for row in tx.fetch(&COUNT, args![tenant]).await? {
        *live.entry(row.opt_uuid("run_id")?.map(RunId)).or_insert(0) +=
            row.narrow::<usize>("live")?;
    }
    Ok(live)
}

/// What each run that may dial now could use.
async fn demands(
    tx: &mut Tx,
    tenant: &TenantId,
    now: Timestamp,
    live: &HashMap<Option<RunId>, usize>,
) -> Result<Vec<(RunId, Demand)>> {
    statement!(SELECT, "SELECT run_id, concurrency, weight, priority, pass, queued FROM runs
         WHERE tenant_id = $1 AND ended_at IS NULL AND state IN ('pending', 'running') AND starts_at <= $2
             AND expires_at > $2 AND claimable_at <= $2 AND queued > 0 AND dialing + in_call < concurrency
         ORDER BY pass, priority DESC, run_id LIMIT $3");
    let rows = tx.fetch(&SELECT, args![tenant, now, RUNS_PER_CLAIM]).await?;
    rows.iter()
        .map(|row| {
            let id = RunId(row.uuid("run_id")?);
            let headroom = row
                .narrow::<usize>("concurrency")?
                .saturating_sub(live.get(&Some(id)).copied().unwrap_or(0));
            let demand = Demand {
                weight: row.narrow("weight")?,
                priority: row.narrow("priority")?,
                pass: row.int("pass")?,
                wanted: headroom.min(row.narrow("queued")?),
            };
            Ok((id, demand))
        })
        .collect()
}

#[derive(Default)]
struct Picked {
    jobs: Vec<Candidate>,
    /// Jobs that left their place in the queue, in the order of the queue.
    gone: Vec<ReadyKey>,
}

/// Takes up to `wanted` of the run's eligible jobs; those that may not be dialed now move once to
/// when they may, and those whose phone is suppressed end. `phones` are those that this claim dials
/// already, whatever the run.
async fn pick_jobs(
    store: &Store,
    tx: &mut Tx,
    dispatch: &Dispatch,
    run: &mut RunRow,
    wanted: usize,
    phones: &mut HashSet<Phone>,
) -> Result<Picked> {
    let (tenant, now) = (&dispatch.tenant, dispatch.now);
    let scan = jobs::queue::scan(tx, &tenant.id, run, now, wanted, &store.low_water).await?;
    let busy = jobs::queue::live_phones(tx, &tenant.id, &scan.candidates).await?;
    let mut openings = Openings::read(tx, tenant, run, &scan.candidates, now).await?;
    let suppressed =
        suppressions::among(tx, &tenant.id, jobs::queue::phones(&scan.candidates), now).await?;
    let mut picked = Picked::default();
    let mut deferred = Vec::new();
    let (mut passed_over, mut busy_jobs) = (false, 0_u32);
    let (mut erased, mut unwanted) = (Vec::new(), Vec::new());
    for candidate in scan.candidates {
        let opening = openings.of(&candidate)?;
        let key = candidate.key;
        if candidate.phone.expose().is_empty() {
            // Its lead was deleted while a call of the job's went on, which was to be followed by
            // another.
            erased.push(candidate);
        } else if suppressed.contains_key(&candidate.phone) {
            unwanted.push(candidate);
        } else if opening > now {
            deferred.push((candidate, opening));
        } else if busy.contains(&candidate.phone) || phones.contains(&candidate.phone) {
            busy_jobs += 1;
            deferred.push((candidate, now + PHONE_BUSY_DEFER));
        } else if picked.jobs.len() < wanted {
            phones.insert(candidate.phone.clone());
            picked.jobs.push(candidate);
        } else {
            passed_over = true;
            break;
        }
        picked.gone.push(key);
    }
    if scan.exhausted && !passed_over {
        run.claimable_at = scan.next_eligible_at;
    }
    if busy_jobs > 0 {
        let (tenant, run_id) = (&tenant.id, run.id);
        tracing::info!(event = "dedup_conflict", key = "phone", %tenant, %run_id, jobs = busy_jobs, "put off");
    }
    jobs::queue::defer(tx, &tenant.id, run, deferred, now).await?;
    jobs::queue::skip(
        tx,
        &tenant.id,
        run,
        erased,
        |job| job::called_off(job, JobState::Skipped),
        now,
    )
    .await?;
    jobs::queue::skip(tx, &tenant.id, run, unwanted, job::suppressed, now).await?;
    Ok(picked)
}

fn next_turn(meters: &[Meter], now: Timestamp, limits: ClaimLimits) -> Timestamp {
    (pace::next_slot(meters, now) - limits.horizon / LEAD_SHARE).max(now)
}

/// When the tenant has work again: at the next turn if jobs wait, when the next becomes eligible,
/// or never until somebody says so. A claim that `moved` nothing found every run with eligible jobs
/// at its cap, so only the future can bring work: the end of a call wakes the tenant.
async fn ready_again(
    tx: &mut Tx,
    dispatch: &Dispatch,
    limits: ClaimLimits,
    moved: bool,
) -> Result<Timestamp> {
    statement!(NEXT, "SELECT min(CASE WHEN claimable_at > starts_at THEN claimable_at ELSE starts_at END) AS ready_at FROM runs
         WHERE tenant_id = $1 AND ended_at IS NULL AND state IN ('pending', 'running') AND queued > 0
             AND (claimable_at > $2 OR starts_at > $2)");
    let after = if moved { Timestamp(i64::MIN) } else { dispatch.now };
    let row = tx.fetch_one(&NEXT, args![&dispatch.tenant.id, after]).await?;
    Ok(match row.opt_int("ready_at")?.map(Timestamp) {
        None | Some(Timestamp::NEVER) => Timestamp::NEVER,
        Some(eligible) => eligible.max(next_turn(&dispatch.meters, dispatch.now, limits)),
    })
}

async fn save_dispatch(tx: &mut Tx, dispatch: &Dispatch, ready_at: Timestamp) -> Result<()> {
    statement!(TENANT, "UPDATE tenant_dispatch SET ready_at = $2, next_call_at = $3, virtual_time = $4, caller_turn = $5
         WHERE tenant_id = $1");
    statement!(
        ACCOUNT,
        "UPDATE carrier_accounts SET next_call_at = $2, breaker_open_until = $3 WHERE account_sid = $1"
    );
    let [tenant_meter, account_meter] = dispatch.meters;
    let Dispatch { tenant, virtual_time, caller_turn, .. } = dispatch;
    tx.execute(
        &TENANT,
        args![&tenant.id, ready_at, tenant_meter.next, *virtual_time, *caller_turn],
    )
    .await?;
    tx.execute(
        &ACCOUNT,
        args![
            dispatch.tenant.account_sid.as_str(),
            account_meter.next,
            dispatch.breaker_open_until
        ],
    )
    .await?;
    Ok(())
}
