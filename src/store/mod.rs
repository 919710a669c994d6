//! Where everything durable lives. [`Store`] is one struct of use cases: one method, one
//! transaction.
//!
//! Each room holds a subject: its rows, its statements, and its methods in `impl Store` blocks
//! beside them. They are written once, over SQL that both databases understand; `db` supplies
//! connections, locks and dialect (ADR 2). Database time is the only clock here.

mod audit;
mod calls;
mod db;
mod dispatch;
mod error;
mod jobs;
mod keys;
mod leads;
mod model;
mod runs;
mod suppressions;
mod tasks;
mod tenants;
mod transfers;
mod webhooks;

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::Timestamp;
use crate::domain::event::Commit;
use crate::domain::plan::Plans;
use crate::store::db::sql::statement;
use db::wake::Wakes;
use db::{Database, Scope};
use jobs::queue::LowWater;

pub use calls::recorder::Recorder;
pub use db::prepare::StatementRefused;
pub use dispatch::{Applied, Claim, ClaimLimits, ClaimedCall, DueCall, Hangup};
pub use error::{Error, Result};
pub use keys::seal::Keyring;
pub use leads::model::{
    ImportStand, InboundCall, LeadCreated, LeadErased, LeadEventView, LeadFilter, LeadImported,
    LeadPatch, LeadView,
};
pub use model::{
    CallView, CallsOf, ImportStep, InFlight, JobAdded, JobView, JobsCanceled, NewJob, NewRun, Page,
    Paged, PopulationView, RequestKey, RunCreated, RunPatch, RunView, Wake, Who, WorkerView,
};
pub use runs::maintenance::{
    AHEAD_MAX, CleanedUp, EXPLAINED_CALLS_MAX, JobExplained, MAINTENANCE_INTERVAL, NewRetry,
    RECONCILE_RUNS_MAX, REPAIRED_RUNS_MAX, Reconciled, RetryFilled, RunRepaired,
};
pub use suppressions::model::{
    ForecastFacts, ForecastOf, SuppressionAdded, SuppressionFilter, SuppressionView,
};
pub use tasks::model::{Task, TaskFate, TaskView, TasksClaimed};
pub use tenants::account_cache::AccountCache;
pub use tenants::model::{
    AccountAccess, AccountPatch, AccountView, Actor, ApiKey, AuditEvent, AuditFilter,
    CarrierApiKey, CarrierSecrets, Client, Hints, KeyCreated, KeyView, KnownKey, NewAccount,
    NewKey, Resealed, TenantPatch, TenantView,
};
pub use transfers::model::{
    ACTING_MAX, Advanced, Caller, CallerCall, LegCall, LegIntent, NewTransfer, TransferCommit,
    TransferView,
};
pub use webhooks::model::{
    DeliveryTried, DeliveryView, DueDelivery, ROUND_MAX, Round, RoundEnd, WebhookPatch,
    WebhookSettings, WebhookTarget, WebhookView, WebhookWithSecret, test_body, test_message_id,
};

/// The most items in one batch: jobs added, leads created, news applied, jobs ended by a sweep.
pub const BATCH_MAX: usize = 1_000;
/// The largest page.
pub const PAGE_MAX: u32 = 1_000;

/// A page of a log: a run's, or a transfer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage<C = Commit> {
    /// In order, without gaps.
    pub commits: Vec<C>,
    /// The revision of what the log is of, at the moment of reading.
    pub latest: i64,
    /// The oldest revision still in the log.
    pub oldest: i64,
    /// Whether that has ended, so that `latest` is its last revision.
    pub ended: bool,
}

/// An open store, on behalf of somebody. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Arc<Database>,
    wakes: Arc<Wakes>,
    low_water: Arc<LowWater>,
    /// Seals what must not be read in the database.
    keyring: Arc<Keyring>,
    /// On whose behalf this handle acts.
    actor: Actor,
    /// How many jobs a tenant may have queued.
    plans: Arc<Plans>,
    epoch: Arc<str>,
}

impl Store {
    /// Opens `sqlite://…` or `postgres://…` and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_with(url, Keyring::default()).await
    }

    /// The same with master keys, so that it can keep credentials.
    pub async fn open_with(url: &str, keyring: Keyring) -> Result<Self> {
        statement!(EPOCH, "SELECT value FROM meta WHERE name = 'log_epoch'");
        let db = Database::open(url).await?;
        let wakes = Arc::new(Wakes::new());
        if let Database::Postgres(postgres) = &db {
            postgres.spawn_wakes(&wakes);
        }
        let mut tx = db.read(Scope::Scheduler).await?;
        let epoch = tx.fetch_one(&EPOCH, Vec::new()).await?.text("value")?;
        drop(tx);
        Ok(Self {
            db: Arc::new(db),
            wakes,
            low_water: Arc::default(),
            keyring: Arc::new(keyring),
            actor: Actor::System,
            plans: Arc::default(),
            epoch: epoch.into(),
        })
    }

    /// The same store under other plans.
    #[must_use]
    pub fn with_plans(self, plans: Plans) -> Self {
        Self { plans: Arc::new(plans), ..self }
    }

    /// The same store on behalf of `actor`, whom the audit log names for each change.
    pub fn acting(&self, actor: Actor) -> Self {
        Self { actor, ..self.clone() }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.now().await.map(drop)
    }

    /// Who to tell when something changed: runs that got a revision, tenants that have work.
    pub fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    /// Identifies this log; changes when a log can no longer be trusted to continue.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Database time.
    pub async fn now(&self) -> Result<Timestamp> {
        self.db.read(Scope::Scheduler).await?.now().await
    }
}
