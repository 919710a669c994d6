//! The store that both databases share: [`Store`] over a [`Database`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::database::{Database, Scope};
use super::sql::Sql;
use super::usecases::queue::LowWater;
use super::usecases::{
    access, apply, calls, census, claim, cleanup, explain, follow_up, inbound, jobs, keys,
    lead_calls, lead_erase, lead_import, lead_list, leads, reconcile, reschedule, retry, runs,
    sweep, takeover, tasks, transfer_steps, trim,
};
use super::wake::Wakes;
use super::*;
use crate::domain::Phone;
use crate::domain::job::JobState;
use crate::domain::plan::Plans;

/// An open store, on behalf of somebody. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) db: Arc<Database>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) low_water: Arc<LowWater>,
    /// Seals what must not be read in the database.
    pub(super) keyring: Arc<Keyring>,
    /// On whose behalf this handle acts.
    pub(super) actor: Actor,
    /// How many jobs a tenant may have queued.
    pub(super) plans: Arc<Plans>,
    epoch: Arc<str>,
}

impl Engine {
    /// Opens `sqlite://…` or `postgres://…` and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_with(url, Keyring::default()).await
    }

    /// The same with master keys, so that it can keep credentials.
    pub async fn open_with(url: &str, keyring: Keyring) -> Result<Self> {
        static EPOCH: Sql = Sql::new("SELECT value FROM meta WHERE name = 'log_epoch'");
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
}

#[async_trait]
impl Store for Engine {
    fn acting(&self, actor: Actor) -> Arc<dyn Store> {
        Arc::new(Self { actor, ..self.clone() })
    }

    async fn ping(&self) -> Result<()> {
        self.now().await.map(drop)
    }

    fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    fn epoch(&self) -> &str {
        &self.epoch
    }

    async fn put_account(&self, account: &AccountSid, calls_per_second: f64) -> Result<bool> {
        access::put_account(self, account, calls_per_second).await
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool> {
        access::put_tenant(self, tenant).await
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Tenant> {
        access::get_tenant(self, tenant).await
    }

    async fn put_key(&self, key: &ApiKey) -> Result<()> {
        keys::put(self, key).await
    }

    async fn key(&self, key_id: &str) -> Result<Option<KnownKey>> {
        keys::find(self, key_id).await
    }

    async fn create_run(
        &self,
        tenant: &TenantId,
        new: NewRun,
        key: Option<RequestKey>,
    ) -> Result<RunCreated> {
        runs::create(self, tenant, new, None, key).await
    }

    async fn update_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        patch: RunPatch,
        key: Option<RequestKey>,
    ) -> Result<RunView> {
        runs::update(self, tenant, run, patch, key).await
    }

    async fn command_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        command: Command,
        key: Option<RequestKey>,
    ) -> Result<RunView> {
        runs::command(self, tenant, run, command, key).await
    }

    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<RunView> {
        runs::get(self, tenant, run).await
    }

    async fn list_runs(
        &self,
        tenant: &TenantId,
        states: &[RunState],
        page: Page,
    ) -> Result<Paged<RunView>> {
        runs::list(self, tenant, states, page).await
    }

    async fn in_flight(&self, tenant: &TenantId, run: RunId) -> Result<InFlight> {
        runs::in_flight(self, tenant, run).await
    }

    async fn add_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        jobs: Vec<NewJob>,
        key: Option<RequestKey>,
    ) -> Result<Vec<JobAdded>> {
        jobs::add(self, tenant, run, jobs, key).await
    }

    async fn import_offset(&self, tenant: &TenantId, run: RunId, import_id: &str) -> Result<u64> {
        jobs::import_offset(self, tenant, run, import_id).await
    }

    async fn import_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        step: ImportStep<'_>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<JobAdded>> {
        jobs::import(self, tenant, run, step, jobs).await
    }

    async fn list_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        states: &[JobState],
        page: Page,
    ) -> Result<Paged<JobView>> {
        jobs::list(self, tenant, run, states, page).await
    }

    async fn job(&self, tenant: &TenantId, job: JobId) -> Result<JobView> {
        jobs::get(self, tenant, job).await
    }

    async fn cancel_jobs(
        &self,
        tenant: &TenantId,
        run: RunId,
        jobs: Vec<JobId>,
        key: Option<RequestKey>,
    ) -> Result<JobsCanceled> {
        jobs::cancel(self, tenant, run, jobs, key).await
    }

    async fn list_calls(
        &self,
        tenant: &TenantId,
        of: CallsOf,
        page: Page,
    ) -> Result<Paged<CallView>> {
        calls::list(self, tenant, of, page).await
    }

    async fn call(&self, tenant: &TenantId, call: CallId) -> Result<CallView> {
        calls::get(self, tenant, call).await
    }

    async fn call_by_sid(&self, tenant: &TenantId, sid: &CallSid) -> Result<CallView> {
        calls::get_by_sid(self, tenant, sid).await
    }

    async fn reconcile_runs(&self, tenant: &TenantId, runs: &[RunId]) -> Result<Reconciled> {
        reconcile::reconcile(self, tenant, runs).await
    }

    async fn cleanup_stale_calls(&self, tenant: &TenantId) -> Result<CleanedUp> {
        cleanup::cleanup(self, tenant).await
    }

    async fn begin_retry(
        &self,
        tenant: &TenantId,
        retry: NewRetry,
        key: Option<RequestKey>,
    ) -> Result<RunId> {
        retry::begin(self, tenant, retry, key).await
    }

    async fn fill_retry(&self, tenant: &TenantId, run: RunId) -> Result<RetryFilled> {
        retry::fill(self, tenant, run).await
    }

    async fn explain_job(&self, tenant: &TenantId, job: JobId) -> Result<JobExplained> {
        explain::explain(self, tenant, job).await
    }

    async fn create_leads(
        &self,
        tenant: &TenantId,
        leads: Vec<LeadFacts>,
        key: Option<RequestKey>,
    ) -> Result<Vec<LeadCreated>> {
        leads::create(self, tenant, leads, key).await
    }

    async fn lead(&self, tenant: &TenantId, lead: LeadId) -> Result<LeadView> {
        leads::get(self, tenant, lead).await
    }

    async fn list_leads(
        &self,
        tenant: &TenantId,
        filter: &LeadFilter,
        page: Page,
    ) -> Result<Paged<LeadView>> {
        lead_list::list(self, tenant, filter, page).await
    }

    async fn update_lead(
        &self,
        tenant: &TenantId,
        lead: LeadId,
        patch: LeadPatch,
        key: Option<RequestKey>,
    ) -> Result<LeadView> {
        leads::update(self, tenant, lead, patch, key).await
    }

    async fn delete_lead(
        &self,
        tenant: &TenantId,
        lead: LeadId,
        seen: Option<i64>,
        key: Option<RequestKey>,
    ) -> Result<LeadErased> {
        lead_erase::delete(self, tenant, lead, seen, key).await
    }

    async fn lead_events(
        &self,
        tenant: &TenantId,
        lead: LeadId,
        page: Page,
    ) -> Result<Paged<LeadEventView>> {
        leads::events(self, tenant, lead, page).await
    }

    async fn lead_import_stand(&self, tenant: &TenantId, import_id: &str) -> Result<ImportStand> {
        lead_import::stand(self, tenant, import_id).await
    }

    async fn import_leads(
        &self,
        tenant: &TenantId,
        step: ImportStep<'_>,
        leads: Vec<LeadFacts>,
    ) -> Result<(Vec<LeadImported>, ImportStand)> {
        lead_import::import(self, tenant, step, leads).await
    }

    async fn lead_from_call(&self, tenant: &TenantId, sid: &CallSid) -> Result<LeadCreated> {
        lead_calls::from_call(self, tenant, sid).await
    }

    async fn tenant_of_number(
        &self,
        account: &AccountSid,
        number: &Phone,
    ) -> Result<Option<TenantId>> {
        inbound::tenant_of_number(self, account, number).await
    }

    async fn record_inbound(
        &self,
        tenant: &TenantId,
        call: &InboundCall,
        news: News,
    ) -> Result<(CallId, Applied)> {
        inbound::record(self, tenant, call, news).await
    }

    async fn claim_tasks(
        &self,
        worker: &WorkerId,
        lane: Lane,
        limit: u32,
        holds: Duration,
    ) -> Result<TasksClaimed> {
        tasks::claim(self, worker, lane, limit, holds).await
    }

    async fn fail_task(&self, task: &Task, error: &str, draw: f64) -> Result<TaskFate> {
        tasks::fail(self, task, error, draw).await
    }

    async fn list_tasks(
        &self,
        tenant: &TenantId,
        states: &[TaskState],
        page: Page,
    ) -> Result<Paged<TaskView>> {
        tasks::list(self, tenant, states, page).await
    }

    async fn retry_task(&self, tenant: &TenantId, task: TaskId) -> Result<()> {
        tasks::retry(self, tenant, task).await
    }

    async fn reschedule(&self, task: &Task) -> Result<()> {
        reschedule::page(self, task).await
    }

    async fn leads_from_calls(&self, task: &Task) -> Result<()> {
        lead_calls::from_calls(self, task).await
    }

    async fn erase_lead_again(&self, task: &Task) -> Result<()> {
        lead_erase::again(self, task).await
    }

    async fn finish_task(&self, task: &Task, again: Option<Duration>) -> Result<()> {
        transfer_steps::finish_task(self, task, again).await
    }

    async fn commits_after(
        &self,
        tenant: &TenantId,
        run: RunId,
        revision: i64,
        limit: u32,
    ) -> Result<LogPage> {
        calls::commits_after(self, tenant, run, revision, limit).await
    }

    async fn heartbeat(&self, worker: &WorkerId, lives_for: Duration) -> Result<()> {
        sweep::heartbeat(self, worker, lives_for).await
    }

    async fn claim(&self, worker: &WorkerId, limits: ClaimLimits) -> Result<Claim> {
        claim::claim(self, worker, limits).await
    }

    async fn open_breaker(&self, account: &AccountSid, open_for: Duration) -> Result<()> {
        access::set_breaker(self, account, Some(open_for)).await
    }

    async fn close_breaker(&self, account: &AccountSid) -> Result<()> {
        access::set_breaker(self, account, None).await
    }

    async fn apply(&self, tenant: &TenantId, news: &[(CallId, News)]) -> Result<Vec<Applied>> {
        apply::apply(self, tenant, news).await
    }

    async fn sweep(&self) -> Result<bool> {
        sweep::sweep(self).await
    }

    async fn trim_logs(&self, keep: std::time::Duration) -> Result<u64> {
        trim::logs(self, keep).await
    }

    async fn take_due_calls(&self, limit: u32) -> Result<Vec<DueCall>> {
        follow_up::take_due(self, limit).await
    }

    async fn resolve_unknown(&self, due: &DueCall, found: Vec<Candidate>) -> Result<Verdict> {
        follow_up::resolve_unknown(self, due, found).await
    }

    async fn take_hangups(&self, limit: u32) -> Result<Vec<Hangup>> {
        sweep::take_hangups(self, limit).await
    }

    async fn lose_abandoned_intents(&self, older_than: Duration) -> Result<u64> {
        takeover::lose_abandoned_intents(self, older_than).await
    }

    async fn presume_stale(&self, older_than: Duration) -> Result<u64> {
        takeover::presume_stale(self, older_than).await
    }

    async fn census(&self) -> Result<Census> {
        census::take(self).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.db.read(Scope::Scheduler).await?.now().await
    }
}
