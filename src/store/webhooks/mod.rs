//! A tenant's endpoints for webhooks: created, changed, deleted; their secrets sealed, rotated,
//! opened.

pub(super) mod deliveries;
pub(super) mod enqueue;
pub(super) mod model;

use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::domain::webhook::{
    self, DisabledReason, ENDPOINTS_MAX, EventType, WebhookField, WebhookState,
};
use crate::domain::{TenantId, Timestamp, Violation, WebhookId};
use crate::store::db::sql::{Row, args, statement, to_json};
use crate::store::db::{Scope, Tx};
use crate::store::keys::seal::{Keyring, Sealed};
use crate::store::{
    Error, Page, Paged, RequestKey, Resealed, Result, Store, WebhookPatch, WebhookSettings,
    WebhookTarget, WebhookView, WebhookWithSecret, audit, keys, tenants, webhooks,
};

/// Endpoints sealed anew in one transaction.
const RESEALED_PER_PAGE: i64 = 100;

macro_rules! webhook_columns {
    () => {
        "webhook_id, url, event_types, description, state, disabled_reason, failing_since, failures, retry_at, \
         previous_until, secret_sealed, sealed_with, revision, created_at, updated_at"
    };
}
pub(in crate::store) use webhook_columns;

/// What is sealed, as JSON.
#[derive(Serialize, Deserialize)]
struct Plain {
    secret: String,
    previous: Option<String>,
}

/// What a sealed row opens for: itself and no other.
fn context(tenant: &TenantId, id: WebhookId) -> String {
    format!("webhook {id} of {tenant}")
}

fn seal(keyring: &Keyring, tenant: &TenantId, id: WebhookId, plain: &Plain) -> Result<Sealed> {
    let json = Zeroizing::new(to_json(plain)?);
    keyring.seal(&context(tenant, id), json.as_bytes())
}

fn open(keyring: &Keyring, tenant: &TenantId, row: &Row) -> Result<Plain> {
    let context = context(tenant, WebhookId(row.uuid("webhook_id")?));
    let sealed = row.opt_bytes("secret_sealed")?.unwrap_or_default();
    let opened = keyring.open(&context, &row.text("sealed_with")?, &sealed)?;
    // The error would quote what it could not read.
    serde_json::from_slice(&opened)
        .map_err(|_| Error::Internal(format!("{context}: not what was sealed")))
}

/// Reads [`webhook_columns`].
pub(in crate::store) fn read(row: &Row) -> Result<WebhookView> {
    let reason = row.opt_text("disabled_reason")?;
    Ok(WebhookView {
        id: WebhookId(row.uuid("webhook_id")?),
        settings: WebhookSettings {
            url: row.text("url")?,
            event_types: row.json("event_types")?,
            description: row.text("description")?,
        },
        state: row.word("state", WebhookState::from_word)?,
        disabled_reason: reason.and_then(|word| DisabledReason::from_word(&word)),
        failing_since: row.opt_int("failing_since")?.map(Timestamp),
        previous_until: row.opt_int("previous_until")?.map(Timestamp),
        revision: row.int("revision")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

/// Where the endpoint of a row of [`webhook_columns`] is, and what signs for it at `now`.
pub(in crate::store) fn target(
    store: &Store,
    tenant: &TenantId,
    row: &Row,
    now: Timestamp,
) -> Result<WebhookTarget> {
    let plain = open(&store.keyring, tenant, row)?;
    let counts = row.opt_int("previous_until")?.is_some_and(|until| now < Timestamp(until));
    let previous = plain.previous.filter(|_| counts);
    Ok(WebhookTarget {
        revision: row.int("revision")?,
        id: WebhookId(row.uuid("webhook_id")?),
        url: row.text("url")?,
        secrets: [Some(plain.secret), previous]
            .into_iter()
            .flatten()
            .map(SecretString::from)
            .collect(),
        now,
    })
}

async fn find(tx: &mut Tx, tenant: &TenantId, id: WebhookId) -> Result<Row> {
    statement!(
        SELECT,
        concat!(
            "SELECT ",
            webhook_columns!(),
            " FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2 AND state <> 'deleted'"
        )
    );
    tx.fetch_optional(&SELECT, args![tenant, id.0]).await?.ok_or(Error::NotFound("webhook"))
}

async fn lock(tx: &mut Tx, tenant: &TenantId, id: WebhookId) -> Result<Row> {
    statement!(
        LOCK,
        concat!(
            "SELECT ",
            webhook_columns!(),
            " FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2 AND state <> 'deleted' {for_update}"
        )
    );
    tx.fetch_optional(&LOCK, args![tenant, id.0]).await?.ok_or(Error::NotFound("webhook"))
}

/// Refuses what cannot be kept. Whether the URL may be called is for whoever calls it to say.
fn check(settings: &WebhookSettings) -> Result<(), Violation> {
    if settings.url.is_empty() || settings.url.len() > webhook::URL_MAX_BYTES {
        return Err(Violation::new("url", "must be 1 to 1,000 bytes"));
    }
    if settings.description.chars().count() > webhook::DESCRIPTION_MAX_CHARS {
        return Err(Violation::new("description", "is longer than 200 characters"));
    }
    webhook::check_filters(&settings.event_types)
}

impl Store {
    /// Creates an endpoint with `secret`, which is sealed.
    /// [`Error::NoMasterKey`](super::Error::NoMasterKey) without a key to seal it with.
    pub async fn create_webhook(
        &self,
        tenant: &TenantId,
        settings: WebhookSettings,
        secret: SecretString,
        key: Option<RequestKey>,
    ) -> Result<WebhookWithSecret> {
        statement!(
            COUNT,
            "SELECT count(*) AS n FROM webhooks WHERE tenant_id = $1 AND state <> 'deleted'"
        );
        statement!(INSERT, "INSERT INTO webhooks (tenant_id, webhook_id, url, event_types, description, state, secret_sealed, sealed_with,
                 created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, 'enabled', $6, $7, $8, $8)");
        check(&settings)?;
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay::<WebhookId>(&mut tx, tenant, key.as_ref()).await?
        {
            return Ok(WebhookWithSecret {
                webhook: read(&find(&mut tx, tenant, id).await?)?,
                secret: None,
            });
        }
        // One at a time, so that they are counted.
        tenants::access::lock_dispatch(&mut tx, tenant).await?;
        if tx.fetch_one(&COUNT, args![tenant]).await?.int("n")? >= ENDPOINTS_MAX {
            return Err(Error::Invalid(Violation::new(
                "url",
                "the tenant has 10 webhooks already: delete one",
            )));
        }
        let (now, id) = (tx.now().await?, WebhookId(Uuid::now_v7()));
        let plain = Plain { secret: secret.expose_secret().to_owned(), previous: None };
        let sealed = seal(&self.keyring, tenant, id, &plain)?;
        let values = args![
            tenant,
            id.0,
            settings.url.as_str(),
            to_json(&settings.event_types)?,
            settings.description.as_str(),
            Some(sealed.bytes),
            sealed.key_id,
            now,
        ];
        tx.execute(&INSERT, values).await?;
        let detail = json!({ "event_types": settings.event_types });
        audit::write(&mut tx, &self.actor, tenant, format!("webhook {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        let webhook = read(&find(&mut tx, tenant, id).await?)?;
        tx.commit(&self.wakes).await?;
        Ok(WebhookWithSecret { webhook, secret: Some(secret) })
    }
}

impl Store {
    /// The endpoint.
    pub async fn webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookView> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        read(&find(&mut tx, tenant, id).await?)
    }
}

impl Store {
    /// In order of creation.
    pub async fn list_webhooks(&self, tenant: &TenantId, page: Page) -> Result<Paged<WebhookView>> {
        statement!(
            SELECT,
            concat!(
                "SELECT ",
                webhook_columns!(),
                " FROM webhooks WHERE tenant_id = $1 AND webhook_id > $2 AND state <> 'deleted' ORDER BY webhook_id LIMIT $3"
            )
        );
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let rows = tx
            .fetch(&SELECT, args![tenant, page.after.unwrap_or(Uuid::nil()), page.limit()])
            .await?;
        let items = rows.iter().map(read).collect::<Result<_>>()?;
        Ok(page.cut(items, |webhook: &WebhookView| webhook.id.0))
    }
}

impl Store {
    /// Changes an endpoint. Enabled again, what waits for it goes on at once.
    pub async fn update_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        patch: WebhookPatch,
        key: Option<RequestKey>,
    ) -> Result<WebhookView> {
        statement!(UPDATE, "UPDATE webhooks SET url = $3, event_types = $4, description = $5, state = $6, disabled_reason = $7,
                 failing_since = $8, failures = 0, retry_at = 0, revision = revision + 1, updated_at = $9
             WHERE tenant_id = $1 AND webhook_id = $2");
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay(&mut tx, tenant, key.as_ref()).await? {
            return read(&find(&mut tx, tenant, id).await?);
        }
        let before = read(&lock(&mut tx, tenant, id).await?)?;
        if patch.revision.is_some_and(|revision| revision != before.revision) {
            return Err(Error::Changed);
        }
        let mut next = before.clone();
        for field in &patch.fields {
            match field {
                WebhookField::Url => next.settings.url.clone_from(&patch.settings.url),
                WebhookField::EventTypes => {
                    next.settings.event_types.clone_from(&patch.settings.event_types)
                }
                WebhookField::Description => {
                    next.settings.description.clone_from(&patch.settings.description)
                }
                WebhookField::Enabled if patch.enabled => {
                    (next.state, next.disabled_reason, next.failing_since) =
                        (WebhookState::Enabled, None, None);
                }
                WebhookField::Enabled => {
                    next.state = WebhookState::Disabled;
                    next.disabled_reason = next.disabled_reason.or(Some(DisabledReason::Client));
                }
            }
        }
        check(&next.settings)?;
        let now = tx.now().await?;
        let values = args![
            tenant,
            id.0,
            next.settings.url.as_str(),
            to_json(&next.settings.event_types)?,
            next.settings.description.as_str(),
            next.state.as_str(),
            next.disabled_reason.map(|reason| reason.as_str().to_owned()),
            next.failing_since,
            now,
        ];
        tx.execute(&UPDATE, values).await?;
        let fields: Vec<&str> = patch.fields.iter().map(|field| field.as_str()).collect();
        let detail = json!({ "fields": fields, "state": next.state });
        audit::write(&mut tx, &self.actor, tenant, format!("webhook {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        let view = read(&find(&mut tx, tenant, id).await?)?;
        webhooks::enqueue::wake(&mut tx, tenant, &[id.0], now).await?;
        tx.commit(&self.wakes).await?;
        Ok(view)
    }
}

impl Store {
    /// Deletes an endpoint; its deliveries follow, page by page.
    pub async fn delete_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        key: Option<RequestKey>,
    ) -> Result<()> {
        statement!(
            DELETE,
            "UPDATE webhooks SET state = 'deleted', disabled_reason = NULL, updated_at = $3
             WHERE tenant_id = $1 AND webhook_id = $2"
        );
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if keys::requests::replay::<WebhookId>(&mut tx, tenant, key.as_ref()).await?.is_some() {
            return Ok(());
        }
        lock(&mut tx, tenant, id).await?;
        let now = tx.now().await?;
        tx.execute(&DELETE, args![tenant, id.0, now]).await?;
        let detail = json!({ "state": WebhookState::Deleted });
        audit::write(&mut tx, &self.actor, tenant, format!("webhook {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        // Its rows are deleted by its task.
        webhooks::enqueue::wake(&mut tx, tenant, &[id.0], now).await?;
        tx.commit(&self.wakes).await
    }
}

impl Store {
    /// Makes `secret` the endpoint's; the one before signs, too, for `keep`.
    pub async fn rotate_webhook_secret(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        secret: SecretString,
        keep: Duration,
        key: Option<RequestKey>,
    ) -> Result<WebhookWithSecret> {
        statement!(ROTATE, "UPDATE webhooks SET secret_sealed = $3, sealed_with = $4, previous_until = $5, revision = revision + 1,
                 updated_at = $6
             WHERE tenant_id = $1 AND webhook_id = $2");
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        if let Some(id) = keys::requests::replay::<WebhookId>(&mut tx, tenant, key.as_ref()).await?
        {
            return Ok(WebhookWithSecret {
                webhook: read(&find(&mut tx, tenant, id).await?)?,
                secret: None,
            });
        }
        let row = lock(&mut tx, tenant, id).await?;
        let now = tx.now().await?;
        let before = open(&self.keyring, tenant, &row)?;
        let plain =
            Plain { secret: secret.expose_secret().to_owned(), previous: Some(before.secret) };
        let sealed = seal(&self.keyring, tenant, id, &plain)?;
        tx.execute(
            &ROTATE,
            args![tenant, id.0, Some(sealed.bytes), sealed.key_id, now + keep, now],
        )
        .await?;
        let detail = json!({ "old_valid_s": keep.as_secs() });
        audit::write(&mut tx, &self.actor, tenant, format!("webhook {id}"), &detail, now).await?;
        keys::requests::keep(&mut tx, tenant, key.as_ref(), &id, now).await?;
        let webhook = read(&find(&mut tx, tenant, id).await?)?;
        tx.commit(&self.wakes).await?;
        Ok(WebhookWithSecret { webhook, secret: Some(secret) })
    }
}

impl Store {
    /// Where the endpoint is, for a test that the actor makes.
    pub async fn webhook_to_test(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookTarget> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let row = find(&mut tx, tenant, id).await?;
        let now = tx.now().await?;
        let detail = json!({ "event_type": EventType::Test });
        audit::write(&mut tx, &self.actor, tenant, format!("webhook {id}"), &detail, now).await?;
        tx.commit(&self.wakes).await?;
        target(self, tenant, &row, now)
    }
}

/// Seals what other master keys sealed with the current one, of all tenants; see
/// [`Store::reseal_accounts`].
pub async fn reseal(store: &Store, done: &mut Resealed) -> Result<()> {
    statement!(
        PAGE,
        concat!(
            "SELECT tenant_id, ",
            webhook_columns!(),
            " FROM webhooks WHERE (tenant_id, webhook_id) > ($1, $2) ORDER BY tenant_id, webhook_id LIMIT $3 {for_update}"
        )
    );
    statement!(
        PUT,
        "UPDATE webhooks SET secret_sealed = $3, sealed_with = $4 WHERE tenant_id = $1 AND webhook_id = $2"
    );
    let current = store.keyring.current().ok_or(Error::NoMasterKey)?;
    let mut after = (String::new(), Uuid::nil());
    loop {
        let mut tx = store.db.begin(Scope::Owner).await?;
        let rows = tx.fetch(&PAGE, args![after.0.as_str(), after.1, RESEALED_PER_PAGE]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = (last.text("tenant_id")?, last.uuid("webhook_id")?);
        for row in &rows {
            let (tenant, id): (TenantId, _) =
                (row.text("tenant_id")?.parse()?, WebhookId(row.uuid("webhook_id")?));
            if row.text("sealed_with")? == current {
                done.unchanged += 1;
                continue;
            }
            match open(&store.keyring, &tenant, row) {
                Ok(plain) => {
                    let sealed = seal(&store.keyring, &tenant, id, &plain)?;
                    tx.execute(&PUT, args![&tenant, id.0, Some(sealed.bytes), sealed.key_id])
                        .await?;
                    done.resealed += 1;
                }
                Err(error) => {
                    tracing::error!(%tenant, webhook = %id, %error, "cannot be sealed anew");
                    done.unreadable += 1;
                }
            }
        }
        tx.commit(&store.wakes).await?;
    }
}
