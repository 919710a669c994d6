//! Intents: committed by a claim before anything is sent.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::claim::Dispatch;
use crate::domain::call::CallState;
use crate::domain::event::Event;
use crate::domain::job::{Job, JobState};
use crate::domain::run::RunState;
use crate::domain::script::Script;
use crate::domain::tenant::Tenant;
use crate::domain::{CallId, Phone, RunId, Timestamp, WorkerId};
use crate::store::db::Tx;
use crate::store::db::sql::{Rows, args, statement};
use crate::store::jobs::queue::Candidate;
use crate::store::jobs::row::{JobRow, ReadyKey};
use crate::store::runs::row::RunRow;
use crate::store::{ClaimedCall, Error, Result, jobs};

/// Moves the jobs out of the queue and writes an intent for each.
pub(super) async fn commit_intents(
    tx: &mut Tx,
    dispatch: &mut Dispatch,
    runs: &mut [RunRow],
    claimed: Vec<Candidate>,
    slots: &[Timestamp],
    worker: &WorkerId,
) -> Result<Vec<ClaimedCall>> {
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let (tenant, now) = (&dispatch.tenant, dispatch.now);
    let caller_turn = &mut dispatch.caller_turn;
    let scripts: HashMap<RunId, Arc<Script>> =
        runs.iter().map(|run| (run.id, Arc::new(run.settings.script.clone()))).collect();
    let mut calls = Vec::with_capacity(claimed.len());
    let mut jobs: Vec<JobRow> = Vec::with_capacity(claimed.len());
    let keys: Vec<ReadyKey> = claimed.iter().map(|candidate| candidate.key).collect();
    for (candidate, send_at) in claimed.into_iter().zip(slots) {
        let Some(run) = runs.iter_mut().find(|run| run.id == candidate.key.run_id) else {
            continue;
        };
        let mut row = candidate.row;
        let attempt = row.job.attempt + 1;
        let call_id = CallId(Uuid::now_v7());
        run.move_to(RunState::Running, None, now);
        run.started_at = run.started_at.or(Some(now));
        run.worker_id = Some(worker.0.clone());
        row.move_to(run, Job { state: JobState::Dialing, attempt, ..row.job });
        run.log(Event::CallChanged {
            call_id,
            job_id: row.id,
            attempt,
            state: CallState::Intent,
            call_sid: None,
            duration_s: None,
            answered_by: None,
            error_code: None,
        });
        calls.push(ClaimedCall {
            call_id,
            run_id: run.id,
            job_id: row.id,
            attempt,
            to: candidate.phone,
            from: caller_id(tenant, run, caller_turn)?,
            script: scripts[&run.id].clone(),
            opt_out: run.settings.opt_out.clone().map(Arc::new),
            amd: run.settings.amd.as_ref().map(|amd| amd.mode),
            account: tenant.account_sid.clone(),
            ring_timeout_s: run.settings.ring_timeout_s,
            time_limit_s: run.settings.time_limit_s,
            send_at: *send_at,
            probe: false,
        });
        jobs.push(row);
    }
    jobs::row::dequeue(tx, &tenant.id, &keys).await?;
    jobs::row::save(tx, &tenant.id, &jobs.iter().collect::<Vec<_>>(), now).await?;
    insert_intents(tx, tenant, &calls, worker, now).await?;
    Ok(calls)
}

/// The number to show: the run's own, or the next of the tenant's pool.
fn caller_id(tenant: &Tenant, run: &RunRow, turn: &mut i64) -> Result<Phone> {
    if let Some(fixed) = &run.settings.caller_id {
        return Ok(fixed.clone());
    }
    let next = tenant.caller_id_at(*turn).cloned();
    *turn = turn.wrapping_add(1);
    next.ok_or_else(|| Error::Internal(format!("tenant {} has no caller id", tenant.id)))
}

async fn insert_intents(
    tx: &mut Tx,
    tenant: &Tenant,
    calls: &[ClaimedCall],
    worker: &WorkerId,
    now: Timestamp,
) -> Result<()> {
    statement!(INSERT, "INSERT INTO call_log (tenant_id, call_id, direction, run_id, job_id, attempt, account_sid, worker_id, state,
             phone_from, phone_to, time_limit_s, created_at, updated_at)
         SELECT $1, r.call_id, 'outbound', r.run_id, r.job_id, r.attempt, $2, $3, 'intent', r.phone_from,
             r.phone_to, r.time_limit_s, $4, $4
         FROM {rows 5 r: call_id uuid, run_id uuid, job_id uuid, attempt bigint, phone_from text, phone_to text, time_limit_s bigint}");
    let rows = Rows::new()
        .uuids(calls.iter().map(|call| call.call_id.0))
        .uuids(calls.iter().map(|call| call.run_id.0))
        .uuids(calls.iter().map(|call| call.job_id.0))
        .ints(calls.iter().map(|call| i64::from(call.attempt)))
        .texts(calls.iter().map(|call| call.from.expose().to_owned()))
        .texts(calls.iter().map(|call| call.to.expose().to_owned()))
        .ints(calls.iter().map(|call| i64::from(call.time_limit_s)));
    tx.execute(
        &INSERT,
        args![&tenant.id, tenant.account_sid.as_str(), worker.0.as_str(), now, rows],
    )
    .await?;
    Ok(())
}
