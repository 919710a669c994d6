//! The use cases of transfers, and what they take and give.

use std::time::Duration;

use async_trait::async_trait;

use super::engine::Engine;
use super::usecases::{transfer_legs, transfer_steps, transfers};
use super::{InboundCall, LogPage, Page, Paged, RequestKey, Result, Task};
use crate::domain::transfer::{Event, Fact, Mode, Purpose, Settings, State, Step, Transfer};
use crate::domain::{
    AccountSid, CallId, CallSid, IncidentId, Phone, TenantId, Timestamp, TransferId, WorkerId,
};

/// Whoever is to do something at the carrier has done it, or is dead, after this: longer than a
/// task may take.
pub const ACTING_MAX: Duration = Duration::from_secs(28);

/// Who is transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The tenant's call of this id.
    Call(CallId),
    /// The tenant's call that the carrier names so.
    Sid(CallSid),
    /// Whoever dials in from this number; warm transfers only.
    Awaited(Phone),
}

/// A transfer to be started.
#[derive(Debug, Clone)]
pub struct NewTransfer {
    /// Which story.
    pub mode: Mode,
    /// The client's own id of it; warm transfers have one.
    pub incident: Option<IncidentId>,
    /// Who is transferred.
    pub caller: Caller,
    /// What the client decided.
    pub settings: Settings,
}

/// A transfer as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// Its id.
    pub id: TransferId,
    /// The client's own id of it.
    pub incident: Option<IncidentId>,
    /// What it is, and how far.
    pub transfer: Transfer,
    /// Grows by one with every commit.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What one transaction did to a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferCommit {
    /// Without gaps, from 1.
    pub revision: i64,
    /// When.
    pub at: Timestamp,
    /// Where it stood afterwards.
    pub state: State,
    /// What happened.
    pub events: Vec<Event>,
}

/// The caller's call, as the carrier has to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerCall {
    /// The carrier's name for it.
    pub sid: CallSid,
    /// The account that it runs on.
    pub account: AccountSid,
}

/// How far a transfer is, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advanced {
    /// As it stands.
    pub view: TransferView,
    /// What to do now; to wait, while somebody else does something.
    pub step: Step,
    /// The caller's call, if there is one.
    pub caller: Option<CallerCall>,
    /// Whether somebody was given it before, and never brought what came of it.
    pub again: bool,
    /// Somebody else is at it: look again after this, for they may be dead.
    pub later: Option<Duration>,
}

/// What came of asking for a call to a transfer's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegIntent {
    /// It is committed: to be sent once, by whoever asked.
    Call(LegCall),
    /// Not now; ask again after this long.
    Later(Duration),
    /// The transfer does not want it any more.
    Stale,
}

/// A committed intent of a call to a transfer's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegCall {
    /// Its id.
    pub call_id: CallId,
    /// The number to dial.
    pub to: Phone,
    /// The number to show.
    pub from: Phone,
    /// The account to dial through.
    pub account: AccountSid,
    /// How long to let it ring, in seconds.
    pub ring_timeout_s: u32,
    /// How long it may last once answered, in seconds.
    pub time_limit_s: u32,
    /// Not to be sent sooner than after this.
    pub send_in: Duration,
    /// Whether it probes an account whose circuit breaker is half open.
    pub probe: bool,
}

/// The use cases of transfers. As with [`Store`](super::Store): each is a transaction, and sees one
/// tenant's rows only.
#[async_trait]
pub trait Transfers: Send + Sync {
    /// Starts a transfer. [`Error::Transfer`](super::Error::Transfer) if its caller's call does not
    /// allow it, [`Error::Exists`](super::Error::Exists) if there is such an incident.
    async fn start_transfer(
        &self,
        tenant: &TenantId,
        new: NewTransfer,
        key: Option<RequestKey>,
    ) -> Result<TransferView>;
    /// The transfer, with its revision, from one statement.
    async fn transfer(&self, tenant: &TenantId, transfer: TransferId) -> Result<TransferView>;
    /// Newest first. Empty `states` means all.
    async fn list_transfers(
        &self,
        tenant: &TenantId,
        states: &[State],
        page: Page,
    ) -> Result<Paged<TransferView>>;
    /// Cancels a transfer; a caller who was moved is taken back first.
    async fn cancel_transfer(
        &self,
        tenant: &TenantId,
        transfer: TransferId,
        key: Option<RequestKey>,
    ) -> Result<TransferView>;
    /// Records what the carrier told of a transfer, and gives the transfer as it is then. What says
    /// nothing new changes nothing.
    async fn transfer_fact(
        &self,
        tenant: &TenantId,
        transfer: TransferId,
        fact: Fact,
    ) -> Result<TransferView>;
    /// Records a call to us, if its caller is awaited, as the caller of that transfer.
    async fn join_awaited(
        &self,
        tenant: &TenantId,
        call: &InboundCall,
    ) -> Result<Option<TransferView>>;
    /// Takes in what the rows of its calls, the time, and `fact` say of the transfer that the task
    /// is about, and says what to do next. Whoever is given something to do at the carrier brings
    /// the fact that comes of it; until then, but not for longer than [`ACTING_MAX`], nobody else
    /// is given anything. Who `may_act` no more only learns it.
    async fn advance_transfer(
        &self,
        task: &Task,
        fact: Option<Fact>,
        may_act: bool,
    ) -> Result<Advanced>;
    /// Commits the intent of a call to the transfer's target, under the tenant's and the account's
    /// limits.
    async fn transfer_leg(
        &self,
        task: &Task,
        purpose: Purpose,
        worker: &WorkerId,
        horizon: Duration,
    ) -> Result<LegIntent>;
    /// Up to `limit` commits after `revision`, in order, and how far the log reaches.
    async fn transfer_commits_after(
        &self,
        tenant: &TenantId,
        transfer: TransferId,
        revision: i64,
        limit: u32,
    ) -> Result<LogPage<TransferCommit>>;
}

#[async_trait]
impl Transfers for Engine {
    async fn start_transfer(
        &self,
        tenant: &TenantId,
        new: NewTransfer,
        key: Option<RequestKey>,
    ) -> Result<TransferView> {
        transfers::start(self, tenant, new, key).await
    }

    async fn transfer(&self, tenant: &TenantId, transfer: TransferId) -> Result<TransferView> {
        transfers::get(self, tenant, transfer).await
    }

    async fn list_transfers(
        &self,
        tenant: &TenantId,
        states: &[State],
        page: Page,
    ) -> Result<Paged<TransferView>> {
        transfers::list(self, tenant, states, page).await
    }

    async fn cancel_transfer(
        &self,
        tenant: &TenantId,
        transfer: TransferId,
        key: Option<RequestKey>,
    ) -> Result<TransferView> {
        transfers::cancel(self, tenant, transfer, key).await
    }

    async fn transfer_fact(
        &self,
        tenant: &TenantId,
        transfer: TransferId,
        fact: Fact,
    ) -> Result<TransferView> {
        transfers::fact(self, tenant, transfer, &fact).await
    }

    async fn join_awaited(
        &self,
        tenant: &TenantId,
        call: &InboundCall,
    ) -> Result<Option<TransferView>> {
        transfers::join(self, tenant, call).await
    }

    async fn advance_transfer(
        &self,
        task: &Task,
        fact: Option<Fact>,
        may_act: bool,
    ) -> Result<Advanced> {
        transfer_steps::advance(self, task, fact, may_act).await
    }

    async fn transfer_leg(
        &self,
        task: &Task,
        purpose: Purpose,
        worker: &WorkerId,
        horizon: Duration,
    ) -> Result<LegIntent> {
        transfer_legs::intent(self, task, purpose, worker, horizon).await
    }

    async fn transfer_commits_after(
        &self,
        tenant: &TenantId,
        transfer: TransferId,
        revision: i64,
        limit: u32,
    ) -> Result<LogPage<TransferCommit>> {
        transfers::commits_after(self, tenant, transfer, revision, limit).await
    }
}
