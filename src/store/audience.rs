//! The use cases of who is called: suppressions, opt-outs, runs of leads, forecasts.

use async_trait::async_trait;

use super::engine::Engine;
use super::usecases::{forecast, opt_out, populate, runs, suppression_list, suppressions};
use super::{
    ForecastFacts, ForecastOf, ImportStand, ImportStep, LeadFilter, NewRun, Page, Paged,
    RequestKey, Result, RunCreated, SuppressionAdded, SuppressionFilter, SuppressionView, Task,
};
use crate::domain::opt_out::OptOut;
use crate::domain::run::RunSettings;
use crate::domain::suppression::NewSuppression;
use crate::domain::{CallId, Phone, TenantId};

/// Who may be called, and who must not.
#[async_trait]
pub trait Audience: Send + Sync + 'static {
    /// Suppresses up to [`BATCH_MAX`](super::BATCH_MAX) phones; the answer is in their order. It
    /// holds from its commit on: no claim that commits later dials them, and calls that were
    /// committed before are told.
    async fn add_suppressions(
        &self,
        tenant: &TenantId,
        new: Vec<NewSuppression>,
        key: Option<RequestKey>,
    ) -> Result<Vec<SuppressionAdded>>;
    /// Lets up to [`BATCH_MAX`](super::BATCH_MAX) phones be dialed again. Tells of each whether it
    /// was suppressed.
    async fn remove_suppressions(
        &self,
        tenant: &TenantId,
        phones: Vec<Phone>,
        key: Option<RequestKey>,
    ) -> Result<Vec<bool>>;
    /// In order of creation. A page of a filtered list may be short, even empty, and have a next
    /// one.
    async fn list_suppressions(
        &self,
        tenant: &TenantId,
        filter: &SuppressionFilter,
        page: Page,
    ) -> Result<Paged<SuppressionView>>;
    /// How far an import of suppressions got; nowhere if it is new.
    async fn suppression_import_stand(
        &self,
        tenant: &TenantId,
        import_id: &str,
    ) -> Result<ImportStand>;
    /// Stores a batch of an import of suppressions (at most [`BATCH_MAX`](super::BATCH_MAX)) and
    /// moves the import on by `taken`, in one transaction. The answer is in the order of `new`.
    async fn import_suppressions(
        &self,
        tenant: &TenantId,
        step: ImportStep<'_>,
        new: Vec<NewSuppression>,
    ) -> Result<(Vec<SuppressionAdded>, ImportStand)>;
    /// What the callee of `call` hears who pressed a key; if it was the opt-out's, its phone is
    /// suppressed. May be repeated.
    async fn opt_out(&self, tenant: &TenantId, call: CallId, pressed: bool) -> Result<OptOut>;
    /// Creates a run of the leads that pass a filter now; leads that come later are not taken. Its
    /// jobs are added page by page by a task, which waits while the tenant's queue is full;
    /// `new.seal` holds after the last.
    async fn create_run_from_leads(
        &self,
        tenant: &TenantId,
        new: NewRun,
        filter: LeadFilter,
        key: Option<RequestKey>,
    ) -> Result<RunCreated>;
    /// Does a [`PopulateRun`](crate::domain::task::TaskKind::PopulateRun) task: one page.
    async fn populate_run(&self, task: &Task) -> Result<()>;
    /// What a run's forecast is made from. `settings` may be left out for a run that is there.
    async fn forecast_facts(
        &self,
        tenant: &TenantId,
        of: ForecastOf,
        settings: Option<RunSettings>,
    ) -> Result<ForecastFacts>;
}

#[async_trait]
impl Audience for Engine {
    async fn add_suppressions(
        &self,
        tenant: &TenantId,
        new: Vec<NewSuppression>,
        key: Option<RequestKey>,
    ) -> Result<Vec<SuppressionAdded>> {
        suppressions::add(self, tenant, new, key).await
    }

    async fn remove_suppressions(
        &self,
        tenant: &TenantId,
        phones: Vec<Phone>,
        key: Option<RequestKey>,
    ) -> Result<Vec<bool>> {
        suppressions::remove(self, tenant, phones, key).await
    }

    async fn list_suppressions(
        &self,
        tenant: &TenantId,
        filter: &SuppressionFilter,
        page: Page,
    ) -> Result<Paged<SuppressionView>> {
        suppression_list::list(self, tenant, filter, page).await
    }

    async fn suppression_import_stand(
        &self,
        tenant: &TenantId,
        import_id: &str,
    ) -> Result<ImportStand> {
        suppressions::import_stand(self, tenant, import_id).await
    }

    async fn import_suppressions(
        &self,
        tenant: &TenantId,
        step: ImportStep<'_>,
        new: Vec<NewSuppression>,
    ) -> Result<(Vec<SuppressionAdded>, ImportStand)> {
        suppressions::import(self, tenant, step, new).await
    }

    async fn opt_out(&self, tenant: &TenantId, call: CallId, pressed: bool) -> Result<OptOut> {
        opt_out::take(self, tenant, call, pressed).await
    }

    async fn create_run_from_leads(
        &self,
        tenant: &TenantId,
        new: NewRun,
        filter: LeadFilter,
        key: Option<RequestKey>,
    ) -> Result<RunCreated> {
        runs::create(self, tenant, new, Some(filter), key).await
    }

    async fn populate_run(&self, task: &Task) -> Result<()> {
        populate::page(self, task).await
    }

    async fn forecast_facts(
        &self,
        tenant: &TenantId,
        of: ForecastOf,
        settings: Option<RunSettings>,
    ) -> Result<ForecastFacts> {
        forecast::facts(self, tenant, of, settings).await
    }
}
