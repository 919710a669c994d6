//! Calls: rows of `call_log`, changed under their run's lock.

use uuid::Uuid;

use crate::domain::amd::Intervention;
use crate::domain::call::{self, AnsweredBy, Call, CallState, Direction};
use crate::domain::event::Event;
use crate::domain::{CallId, JobId, Phone, RunId, TenantId, Timestamp, TransferId};
use crate::store::db::Tx;
use crate::store::db::sql::{Row, Rows, args, statement};
use crate::store::{CallView, Result};

/// A call, its run locked.
#[derive(Debug, Clone)]
pub struct CallRow {
    /// Its id.
    pub id: CallId,
    /// Its run, if it has one.
    pub run_id: Option<RunId>,
    /// Who called whom.
    pub direction: Direction,
    /// Its job, if it has one.
    pub job_id: Option<JobId>,
    /// The transfer that it was made for, if any.
    pub transfer_id: Option<TransferId>,
    /// Which attempt at the job.
    pub attempt: u32,
    /// How long it may last once answered, in seconds.
    pub time_limit_s: u32,
    /// What is to be done to it at the carrier.
    pub intervention: Option<Intervention>,
    /// What is known of it.
    pub call: Call,
}

macro_rules! call_columns {
    () => {
        "c.call_id, c.direction, c.run_id, c.job_id, c.transfer_id, c.attempt, c.state, c.call_sid, c.sequence, \
         c.presumed, c.answered_at, \
         c.duration_s, c.answered_by, c.error_code, c.error_message, c.orphaned, c.time_limit_s, \
         c.intervention"
    };
}
pub(in crate::store) use call_columns;

impl CallRow {
    /// Reads [`call_columns`].
    pub fn read(row: &Row) -> Result<Self> {
        let call = Call {
            state: row.word("state", CallState::from_word)?,
            sid: row.opt_text("call_sid")?.map(|sid| sid.parse()).transpose()?,
            sequence: row.opt_int("sequence")?.and_then(|sequence| u32::try_from(sequence).ok()),
            presumed: row.bool("presumed")?,
            answered_at: row.opt_int("answered_at")?.map(Timestamp),
            duration_s: row.opt_int("duration_s")?.and_then(|seconds| u32::try_from(seconds).ok()),
            answered_by: row.opt_text("answered_by")?.and_then(|word| AnsweredBy::from_word(&word)),
            error_code: row.opt_text("error_code")?,
            error_message: row.opt_text("error_message")?,
            orphaned: row.bool("orphaned")?,
        };
        Ok(Self {
            id: CallId(row.uuid("call_id")?),
            direction: row.word("direction", Direction::from_word)?,
            run_id: row.opt_uuid("run_id")?.map(RunId),
            job_id: row.opt_uuid("job_id")?.map(JobId),
            transfer_id: row.opt_uuid("transfer_id")?.map(TransferId),
            attempt: row.narrow("attempt")?,
            time_limit_s: row.narrow("time_limit_s")?,
            intervention: row
                .opt_text("intervention")?
                .and_then(|word| Intervention::from_word(&word)),
            call,
        })
    }

    /// The call as clients see it, from a row with phones and times as well.
    pub fn view(row: &Row) -> Result<CallView> {
        let read = Self::read(row)?;
        Ok(CallView {
            id: read.id,
            direction: read.direction,
            run_id: read.run_id,
            job_id: read.job_id,
            transfer_id: read.transfer_id,
            attempt: read.attempt,
            call: read.call,
            from: Phone::from_stored(row.text("phone_from")?),
            to: Phone::from_stored(row.text("phone_to")?),
            created_at: Timestamp(row.int("created_at")?),
            ended_at: row.opt_int("ended_at")?.map(Timestamp),
        })
    }

    /// What is still to be done to it: an orphan until its end is known, any other call while it is
    /// live.
    fn open_intervention(&self) -> Option<Intervention> {
        match (self.call.orphaned && self.call.presumed, self.call.state.is_live()) {
            (true, _) => Some(Intervention::HangUpOrphan),
            (false, true) => self.intervention,
            (false, false) => None,
        }
    }

    /// What the log says of it now, if it belongs to a job.
    pub fn event(&self) -> Option<Event> {
        Some(Event::CallChanged {
            call_id: self.id,
            job_id: self.job_id?,
            attempt: self.attempt,
            state: self.call.state,
            call_sid: self.call.sid.clone(),
            duration_s: self.call.duration_s,
            answered_by: self.call.answered_by,
            error_code: self.call.error_code.clone(),
        })
    }
}

/// Calls by id; those that the tenant does not have are left out.
pub async fn by_ids(tx: &mut Tx, tenant: &TenantId, calls: Vec<Uuid>) -> Result<Vec<CallRow>> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            call_columns!(),
            " FROM call_log c WHERE c.tenant_id = $1 AND c.call_id {any 2 uuid}"
        )
    );
    tx.fetch(&SELECT, args![tenant, calls]).await?.iter().map(CallRow::read).collect()
}

/// The runs of calls, and whether any of them has none.
pub async fn runs_of(
    tx: &mut Tx,
    tenant: &TenantId,
    calls: Vec<Uuid>,
) -> Result<(Vec<Uuid>, bool)> {
    statement!(
        SELECT,
        "SELECT DISTINCT run_id FROM call_log WHERE tenant_id = $1 AND call_id {any 2 uuid}"
    );
    let rows = tx.fetch(&SELECT, args![tenant, calls]).await?;
    let runs = rows.iter().map(|row| row.opt_uuid("run_id")).collect::<Result<Vec<_>>>()?;
    let without = runs.iter().any(Option::is_none);
    Ok((runs.into_iter().flatten().collect(), without))
}

/// Locks those of the calls that no run's lock stands for: inbound ones, and those of transfers.
pub async fn lock_without_run(tx: &mut Tx, tenant: &TenantId, calls: Vec<Uuid>) -> Result<()> {
    statement!(LOCK, "SELECT call_id FROM call_log WHERE tenant_id = $1 AND call_id {any 2 uuid} AND run_id IS NULL
         ORDER BY call_id {for_update}");
    tx.fetch(&LOCK, args![tenant, calls]).await?;
    Ok(())
}

/// Saves calls that changed. A call's `ended_at` is set once, with its first ending.
pub async fn save(
    tx: &mut Tx,
    tenant: &TenantId,
    calls: &[&CallRow],
    now: Timestamp,
) -> Result<()> {
    statement!(UPDATE, "UPDATE call_log SET call_sid = r.call_sid, state = r.state, presumed = r.presumed, sequence = r.sequence,
             answered_at = r.answered_at, duration_s = r.duration_s, answered_by = r.answered_by,
             error_code = r.error_code, error_message = r.error_message, orphaned = r.orphaned, intervention = r.intervention,
             check_at = r.check_at,
             ended_at = COALESCE(call_log.ended_at, r.ended_at), updated_at = $2
         FROM {rows 3 r: call_id uuid, call_sid text, state text, presumed boolean, sequence bigint, answered_at bigint, duration_s bigint, answered_by text, error_code text, error_message text, orphaned boolean, intervention text, check_at bigint, ended_at bigint}
         WHERE call_log.tenant_id = $1 AND call_log.call_id = r.call_id");
    if calls.is_empty() {
        return Ok(());
    }
    let calls: Vec<(&CallRow, &Call)> = calls.iter().map(|row| (*row, &row.call)).collect();
    let rows = Rows::new()
        .uuids(calls.iter().map(|(row, _)| row.id.0))
        .texts(calls.iter().map(|(_, call)| call.sid.as_ref().map(|sid| sid.as_str().to_owned())))
        .texts(calls.iter().map(|(_, call)| call.state.as_str().to_owned()))
        .bools(calls.iter().map(|(_, call)| call.presumed))
        .ints(calls.iter().map(|(_, call)| call.sequence.map(i64::from)))
        .ints(calls.iter().map(|(_, call)| call.answered_at.map(|at| at.0)))
        .ints(calls.iter().map(|(_, call)| call.duration_s.map(i64::from)))
        .texts(calls.iter().map(|(_, call)| call.answered_by.map(|by| by.as_str().to_owned())))
        .texts(calls.iter().map(|(_, call)| call.error_code.clone()))
        .texts(calls.iter().map(|(_, call)| call.error_message.clone()))
        .bools(calls.iter().map(|(_, call)| call.orphaned))
        .texts(
            calls.iter().map(|(row, _)| row.open_intervention().map(|it| it.as_str().to_owned())),
        )
        .ints(
            calls
                .iter()
                .map(|(row, call)| call::check_at(call, row.time_limit_s, now).map(|at| at.0)),
        )
        .ints(calls.iter().map(|(_, call)| (!call.state.is_live()).then_some(now.0)));
    tx.execute(&UPDATE, args![tenant, now, rows]).await?;
    Ok(())
}
