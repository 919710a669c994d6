//! Transfers: rows that are locked, changed by the domain's word, and saved with the log of what
//! happened.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::call::CallState;
use crate::domain::task::TaskKind;
use crate::domain::transfer::{
    self, Action, Event, Fact, Method, Mode, Outcome, Rejection, State, Step, StepError, Transfer,
};
use crate::domain::webhook::Told;
use crate::domain::{CallId, IncidentId, Phone, TenantId, Timestamp, TransferId};
use crate::metrics::{self, StepResult};
use crate::store::db::Tx;
use crate::store::db::sql::{Row, args, statement, to_json};
use crate::store::tasks::{self, NewTask};
use crate::store::{Error, Result, Store, TransferView};

/// Once a transfer is over its caller leaves the queue; what is not empty after this is looked at
/// again.
const QUEUE_EMPTY_AFTER: Duration = Duration::from_secs(5);

/// A transfer, locked.
#[derive(Debug, Clone)]
pub struct TransferRow {
    /// As it stands.
    pub view: TransferView,
    /// The number from which the caller is expected to dial in.
    pub awaited: Option<Phone>,
    /// Somebody is at the carrier for it until then.
    pub acting_until: Option<Timestamp>,
    /// What happened in this transaction.
    events: Vec<Event>,
    /// The same once it is saved: to be told once it is committed.
    saved: Vec<Event>,
    /// As it was when it was read.
    was: Transfer,
}

macro_rules! transfer_columns {
    () => {
        "t.transfer_id, t.incident_id, t.call_id, t.caller_phone, t.mode, t.settings, t.progress, t.revision, \
         t.acting_until, t.created_at, t.updated_at, t.ended_at"
    };
}
pub(in crate::store) use transfer_columns;

impl TransferRow {
    /// One that is not in the table yet.
    pub fn new(
        incident: Option<IncidentId>,
        awaited: Option<Phone>,
        transfer: Transfer,
        now: Timestamp,
    ) -> Self {
        let created =
            Event::Created { mode: transfer.mode, targets: transfer.settings.targets.len() };
        let view = TransferView {
            id: TransferId(Uuid::now_v7()),
            incident,
            transfer: transfer.clone(),
            revision: 0,
            created_at: now,
            updated_at: now,
            ended_at: None,
        };
        Self {
            view,
            awaited,
            acting_until: None,
            events: vec![created],
            saved: Vec::new(),
            was: transfer,
        }
    }

    /// Reads [`transfer_columns`].
    pub fn read(row: &Row) -> Result<Self> {
        let transfer = Transfer {
            mode: row.word("mode", Mode::from_word)?,
            settings: row.json("settings")?,
            caller: row.opt_uuid("call_id")?.map(CallId),
            progress: row.json("progress")?,
        };
        let view = TransferView {
            id: TransferId(row.uuid("transfer_id")?),
            incident: row.opt_uuid("incident_id")?.map(IncidentId),
            transfer: transfer.clone(),
            revision: row.int("revision")?,
            created_at: Timestamp(row.int("created_at")?),
            updated_at: Timestamp(row.int("updated_at")?),
            ended_at: row.opt_int("ended_at")?.map(Timestamp),
        };
        Ok(Self {
            view,
            awaited: row.opt_text("caller_phone")?.map(Phone::from_stored),
            acting_until: row.opt_int("acting_until")?.map(Timestamp),
            events: Vec::new(),
            saved: Vec::new(),
            was: transfer,
        })
    }

    /// Takes a fact in.
    pub fn take(&mut self, fact: &Fact, now: Timestamp) -> Result<(), Rejection> {
        for event in transfer::decide(&self.view.transfer, fact)? {
            self.view.transfer.apply(&event, now);
            self.events.push(event);
        }
        Ok(())
    }

    /// Whether something happened.
    pub fn has_changed(&self) -> bool {
        !self.events.is_empty()
    }

    /// The call to a target that is of no use any more.
    fn useless_leg(&self) -> Option<CallId> {
        let (was, is) = (self.was.progress.leg, &self.view.transfer);
        let ended_in_vain = is.outcome().is_some_and(|outcome| outcome != Outcome::Bridged);
        was.filter(|leg| is.progress.leg != Some(*leg) || ended_in_vain)
    }
}

/// The transfer, locked.
pub async fn lock(tx: &mut Tx, tenant: &TenantId, transfer: TransferId) -> Result<TransferRow> {
    statement!(
        LOCK,
        concat!(
            "SELECT ",
            transfer_columns!(),
            " FROM transfers t WHERE t.tenant_id = $1 AND t.transfer_id = $2 {for_update}"
        )
    );
    let row = tx.fetch_optional(&LOCK, args![tenant, transfer.0]).await?;
    TransferRow::read(&row.ok_or(Error::NotFound("transfer"))?)
}

/// Inserts a new transfer. False if its caller has one, or there is such an incident.
pub async fn insert(tx: &mut Tx, tenant: &TenantId, row: &TransferRow) -> Result<bool> {
    statement!(INSERT, "INSERT INTO transfers (tenant_id, transfer_id, incident_id, call_id, caller_phone, mode, state, settings,
             progress, revision, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $10) ON CONFLICT DO NOTHING");
    let TransferView { id, incident, transfer, created_at, .. } = &row.view;
    let values = args![
        tenant,
        id.0,
        incident.map(|id| id.0),
        transfer.caller.map(|call| call.0),
        row.awaited.as_ref().map(|phone| phone.expose().to_owned()),
        transfer.mode.as_str(),
        transfer.state().as_str(),
        to_json(&transfer.settings)?,
        to_json(&transfer.progress)?,
        *created_at,
    ];
    Ok(tx.execute(&INSERT, values).await? > 0)
}

/// Saves a transfer with what happened, under its next revision; without that, only who is at the
/// carrier for it. A call to a target that is of no use any more is to be hung up; at the deadline
/// somebody is to look.
pub async fn save(
    tx: &mut Tx,
    tenant: &TenantId,
    row: &mut TransferRow,
    now: Timestamp,
) -> Result<()> {
    statement!(
        ACTING,
        "UPDATE transfers SET acting_until = $3 WHERE tenant_id = $1 AND transfer_id = $2"
    );
    statement!(SAVE, "UPDATE transfers SET call_id = $3, caller_phone = $4, state = $5, outcome = $6, progress = $7, acting_until = $8,
             wants_leg = $9, revision = revision + 1, updated_at = $10, ended_at = $11
         WHERE tenant_id = $1 AND transfer_id = $2 AND ended_at IS NULL");
    statement!(
        LOG,
        "INSERT INTO transfer_events (tenant_id, transfer_id, revision, at, state, events)
         VALUES ($1, $2, $3, $4, $5, $6)"
    );
    let id = row.view.id;
    if !row.has_changed() {
        tx.execute(&ACTING, args![tenant, id.0, row.acting_until]).await?;
        return Ok(());
    }
    let transfer = &row.view.transfer;
    let (state, ended) = (transfer.state(), transfer.state().is_ended());
    if transfer.caller.is_some() || ended {
        row.awaited = None;
    }
    let values = args![
        tenant,
        id.0,
        transfer.caller.map(|call| call.0),
        row.awaited.as_ref().map(|phone| phone.expose().to_owned()),
        state.as_str(),
        transfer.outcome().map(|outcome| outcome.as_str().to_owned()),
        to_json(&transfer.progress)?,
        row.acting_until,
        matches!(transfer::next_step(transfer), Step::Call(_)),
        now,
        ended.then_some(now),
    ];
    if tx.execute(&SAVE, values).await? == 0 {
        return Err(Error::Internal("a transfer ended twice".to_owned()));
    }
    let revision = row.view.revision + 1;
    tx.execute(&LOG, args![tenant, id.0, revision, now, state.as_str(), to_json(&row.events)?])
        .await?;
    if let Some(outcome) = transfer.outcome() {
        let words = (state.as_str(), outcome.as_str());
        tx.tell(tenant, [Told::transfer_ended(id, transfer.caller, words, revision)]);
    }
    if let Some(leg) = row.useless_leg() {
        hang_up(tx, tenant, leg, now).await?;
    }
    if ended && transfer.progress.queued {
        tasks::enqueue(tx, tenant, task(TaskKind::CloseQueue, id, now + QUEUE_EMPTY_AFTER), now)
            .await?;
    }
    if !ended && transfer.progress.deadline != row.was.progress.deadline || revision == 1 {
        tasks::enqueue(tx, tenant, step_task(id, transfer.progress.deadline), now).await?;
    }
    tx.transfer_changed(tenant, id);
    (row.view.revision, row.view.updated_at) = (revision, now);
    row.view.ended_at = ended.then_some(now);
    row.was = row.view.transfer.clone();
    row.saved.append(&mut row.events);
    Ok(())
}

async fn hang_up(tx: &mut Tx, tenant: &TenantId, leg: CallId, now: Timestamp) -> Result<()> {
    statement!(
        MARK,
        "UPDATE call_log SET intervention = 'hang_up_leg', updated_at = $3
         WHERE tenant_id = $1 AND call_id = $2 AND ended_at IS NULL"
    );
    tx.execute(&MARK, args![tenant, leg.0, now]).await?;
    Ok(())
}

/// Commits, and tells of what happened to the transfer.
pub async fn commit(store: &Store, tx: Tx, tenant: &TenantId, row: &TransferRow) -> Result<()> {
    tx.commit(&store.wakes).await?;
    row.saved.iter().for_each(|event| tell(tenant, &row.view, event));
    Ok(())
}

/// The one place where what happens to transfers is told to log and metrics; ids only.
fn tell(tenant: &TenantId, view: &TransferView, event: &Event) {
    let (transfer, mode) = (view.id, view.transfer.mode.as_str());
    let way = view.transfer.progress.method.as_str();
    match event {
        Event::Redirected { target } => {
            metrics::transfer_step(way, StepResult::Done);
            tracing::info!(event = "transfer_call_redirected", %tenant, %transfer, mode, target);
        }
        Event::ActionFailed { action: Action::Redirect, error } => {
            let (code, class) = (&error.code, &error.class);
            metrics::transfer_step(Method::Redirect.as_str(), result_of(error));
            tracing::warn!(event = "transfer_redirect_twilio_error", %tenant, %transfer, mode, code, class);
        }
        Event::ActionFailed { action, error } => {
            let way = match action {
                Action::Enqueue => Method::Dequeue,
                Action::Move => Method::Conference,
                Action::Hold | Action::Redirect | Action::Return | Action::Check => {
                    Method::Redirect
                }
            };
            let (way, action, code, class) =
                (way.as_str(), action.as_str(), &error.code, &error.class);
            metrics::transfer_step(way, result_of(error));
            tracing::warn!(event = "transfer_error", %tenant, %transfer, mode, action, code, class);
        }
        Event::FellBack { to: Method::Dequeue } => {
            tracing::warn!(event = "falling_back_to_dequeue_method", %tenant, %transfer, mode);
        }
        Event::Ended { state, outcome } => {
            let outcome = outcome.as_str();
            let took = view.updated_at.since(view.created_at);
            metrics::transfer_ended(way, outcome);
            if *state == State::Bridged {
                metrics::transfer_bridged(way, took);
            }
            let (state, took_ms) = (state.as_str(), took.as_millis());
            tracing::info!(event = "transfer_complete", %tenant, %transfer, mode, state, outcome, took_ms);
        }
        Event::Created { .. } => {
            metrics::transfer_started(mode);
            tracing::info!(event = "transfer_requested", %tenant, %transfer, mode);
        }
        Event::CallerJoined { .. }
        | Event::CallerWaiting
        | Event::Moved { .. }
        | Event::FellBack { .. }
        | Event::LegStarted { .. }
        | Event::TargetAnswered { .. }
        | Event::Accepted { .. }
        | Event::TargetMissed { .. }
        | Event::TakingBack { .. } => tracing::debug!(%tenant, %transfer, mode, ?event),
    }
}

fn result_of(error: &StepError) -> StepResult {
    if error.class == "unavailable" { StepResult::Unavailable } else { StepResult::Refused }
}

/// The task that looks at the transfer at `run_at`.
pub fn step_task(id: TransferId, run_at: Timestamp) -> NewTask {
    task(TaskKind::TransferStep, id, run_at)
}

fn task(kind: TaskKind, id: TransferId, run_at: Timestamp) -> NewTask {
    NewTask { kind, subject: format!("transfer {id}"), payload: tasks::payload(&[id.0]), run_at }
}

/// Has somebody look at the live transfers that these calls are part of: `callers` that ended, and
/// `legs`' own.
pub async fn nudge(
    tx: &mut Tx,
    tenant: &TenantId,
    callers: Vec<Uuid>,
    legs: Vec<TransferId>,
    now: Timestamp,
) -> Result<()> {
    statement!(
        OF,
        "SELECT transfer_id FROM transfers WHERE tenant_id = $1 AND call_id {any 2 uuid} AND ended_at IS NULL"
    );
    let mut concerned = legs;
    if !callers.is_empty() {
        for row in tx.fetch(&OF, args![tenant, callers]).await? {
            concerned.push(TransferId(row.uuid("transfer_id")?));
        }
    }
    concerned.sort_unstable();
    concerned.dedup();
    for id in concerned {
        tasks::enqueue(tx, tenant, step_task(id, now), now).await?;
    }
    Ok(())
}

/// Whether a caller in this state can be transferred.
pub fn check_caller(
    direction: crate::domain::call::Direction,
    state: CallState,
) -> Result<(), Rejection> {
    use crate::domain::call::Direction;
    match direction {
        Direction::Transfer => Err(Rejection::PartOfTransfer),
        _ if !state.is_live() => Err(Rejection::CallerGone),
        // Calls to us are answered by our TwiML, and the carrier does not tell.
        Direction::Inbound => Ok(()),
        Direction::Outbound if state == CallState::Answered => Ok(()),
        Direction::Outbound => Err(Rejection::NotAnswered),
    }
}
