//! The use cases of administration: tenants, keys, carrier accounts, the audit log.

use async_trait::async_trait;
use secrecy::SecretString;

use super::engine::Engine;
use super::usecases::{accounts, audit, keys, tenants};
use super::{
    AccountAccess, AccountPatch, AccountView, AuditEvent, AuditFilter, KeyCreated, KeyView,
    NewAccount, NewKey, Page, Paged, RequestKey, Resealed, Result, TenantPatch, TenantView,
};
use crate::domain::tenant::{Tenant, TenantState};
use crate::domain::{AccountSid, TenantId, Timestamp};

/// What an administrator does, across tenants. Every change stands in the audit log in its own
/// transaction.
#[async_trait]
pub trait Admin: Send + Sync + 'static {
    /// Creates a tenant. [`Error::Exists`](super::Error::Exists) if there is one of this id.
    async fn create_tenant(&self, tenant: Tenant, key: Option<RequestKey>) -> Result<TenantView>;
    /// The tenant.
    async fn tenant_view(&self, tenant: &TenantId) -> Result<TenantView>;
    /// By id. Empty `states` means all.
    async fn list_tenants(
        &self,
        states: &[TenantState],
        page: Page<String>,
    ) -> Result<Paged<TenantView, String>>;
    /// Changes settings of a tenant; from then on settings of a process do not replace them.
    async fn update_tenant(
        &self,
        tenant: &TenantId,
        patch: TenantPatch,
        key: Option<RequestKey>,
    ) -> Result<TenantView>;
    /// Disables or enables a tenant. Once it returns, no claim of a disabled tenant commits.
    async fn set_tenant_state(
        &self,
        tenant: &TenantId,
        state: TenantState,
        key: Option<RequestKey>,
    ) -> Result<TenantView>;

    /// Makes a key of a tenant that has none, with these scopes, and with `admin` if nobody has a
    /// key. None if the tenant has one.
    async fn first_key(
        &self,
        tenant: &TenantId,
        scopes: &[&str],
        admin: &str,
    ) -> Result<Option<SecretString>>;
    /// Makes a key; only the hash of its secret is kept.
    async fn create_key(&self, new: NewKey, key: Option<RequestKey>) -> Result<KeyCreated>;
    /// By id, those that have ended included.
    async fn list_keys(
        &self,
        tenant: &TenantId,
        page: Page<String>,
    ) -> Result<Paged<KeyView, String>>;
    /// Lets a key end at `expires_at`, or revokes it now.
    async fn end_key(
        &self,
        tenant: &TenantId,
        key_id: &str,
        expires_at: Option<Timestamp>,
        key: Option<RequestKey>,
    ) -> Result<KeyView>;
    /// Notes that these keys were used within the last minute or so.
    async fn keys_used(&self, key_ids: Vec<String>) -> Result<()>;

    /// Creates a carrier account, its credentials sealed.
    /// [`Error::NoMasterKey`](super::Error::NoMasterKey) without a key to seal them with.
    async fn create_account(&self, new: NewAccount, key: Option<RequestKey>)
    -> Result<AccountView>;
    /// The account, without its credentials.
    async fn account(&self, account: &AccountSid) -> Result<AccountView>;
    /// By SID.
    async fn list_accounts(&self, page: Page<String>) -> Result<Paged<AccountView, String>>;
    /// Changes an account; from then on settings of a process do not replace its pace.
    async fn update_account(
        &self,
        account: &AccountSid,
        patch: AccountPatch,
        key: Option<RequestKey>,
    ) -> Result<AccountView>;
    /// How to reach the account; none if the store has no credentials of it. For this process only:
    /// no answer of the API holds it.
    async fn account_access(&self, account: &AccountSid) -> Result<Option<AccountAccess>>;
    /// Seals what other master keys sealed with the current one.
    async fn reseal_accounts(&self) -> Result<Resealed>;

    /// Newest first.
    async fn list_audit_events(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: Page,
    ) -> Result<Paged<AuditEvent>>;
}

#[async_trait]
impl Admin for Engine {
    async fn create_tenant(&self, tenant: Tenant, key: Option<RequestKey>) -> Result<TenantView> {
        tenants::create(self, tenant, key).await
    }

    async fn tenant_view(&self, tenant: &TenantId) -> Result<TenantView> {
        tenants::get(self, tenant).await
    }

    async fn list_tenants(
        &self,
        states: &[TenantState],
        page: Page<String>,
    ) -> Result<Paged<TenantView, String>> {
        tenants::list(self, states, page).await
    }

    async fn update_tenant(
        &self,
        tenant: &TenantId,
        patch: TenantPatch,
        key: Option<RequestKey>,
    ) -> Result<TenantView> {
        tenants::update(self, tenant, patch, key).await
    }

    async fn set_tenant_state(
        &self,
        tenant: &TenantId,
        state: TenantState,
        key: Option<RequestKey>,
    ) -> Result<TenantView> {
        tenants::set_state(self, tenant, state, key).await
    }

    async fn first_key(
        &self,
        tenant: &TenantId,
        scopes: &[&str],
        admin: &str,
    ) -> Result<Option<SecretString>> {
        keys::first(self, tenant, scopes, admin).await
    }

    async fn create_key(&self, new: NewKey, key: Option<RequestKey>) -> Result<KeyCreated> {
        keys::create(self, new, key).await
    }

    async fn list_keys(
        &self,
        tenant: &TenantId,
        page: Page<String>,
    ) -> Result<Paged<KeyView, String>> {
        keys::list(self, tenant, page).await
    }

    async fn end_key(
        &self,
        tenant: &TenantId,
        key_id: &str,
        expires_at: Option<Timestamp>,
        key: Option<RequestKey>,
    ) -> Result<KeyView> {
        keys::end(self, tenant, key_id, expires_at, key).await
    }

    async fn keys_used(&self, key_ids: Vec<String>) -> Result<()> {
        keys::used(self, key_ids).await
    }

    async fn create_account(
        &self,
        new: NewAccount,
        key: Option<RequestKey>,
    ) -> Result<AccountView> {
        accounts::create(self, new, key).await
    }

    async fn account(&self, account: &AccountSid) -> Result<AccountView> {
        accounts::get(self, account).await
    }

    async fn list_accounts(&self, page: Page<String>) -> Result<Paged<AccountView, String>> {
        accounts::list(self, page).await
    }

    async fn update_account(
        &self,
        account: &AccountSid,
        patch: AccountPatch,
        key: Option<RequestKey>,
    ) -> Result<AccountView> {
        accounts::update(self, account, patch, key).await
    }

    async fn account_access(&self, account: &AccountSid) -> Result<Option<AccountAccess>> {
        accounts::access(self, account).await
    }

    async fn reseal_accounts(&self) -> Result<Resealed> {
        accounts::reseal(self).await
    }

    async fn list_audit_events(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: Page,
    ) -> Result<Paged<AuditEvent>> {
        audit::list(self, tenant, filter, page).await
    }
}
