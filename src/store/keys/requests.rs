//! Request ids: the answer to a mutating request, kept in the transaction that made it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::time::micros;
use crate::domain::{TenantId, Timestamp};
use crate::store::db::Tx;
use crate::store::db::sql::{args, statement, to_json};
use crate::store::{Actor, Error, RequestKey, Result};

/// How long an answer is kept.
pub const KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// The answer given to the same request before, if any. [`Error::RequestReused`] for another
/// request.
pub async fn replay<T: DeserializeOwned>(
    tx: &mut Tx,
    tenant: &TenantId,
    key: Option<&RequestKey>,
) -> Result<Option<T>> {
    statement!(
        SELECT,
        "SELECT payload_hash, answer FROM request_ids
         WHERE tenant_id = $1 AND method = $2 AND request_id = $3 AND created_at > {now} - $4"
    );
    let Some(key) = key else { return Ok(None) };
    let values = args![tenant, key.method, key.request_id.as_str(), micros(KEPT)];
    let Some(row) = tx.fetch_optional(&SELECT, values).await? else {
        return Ok(None);
    };
    if row.text("payload_hash")? != hex::encode(key.payload_hash) {
        tracing::info!(event = "dedup_conflict", key = "request_id", %tenant, method = key.method, "reused");
        return Err(Error::RequestReused);
    }
    row.json("answer").map(Some)
}

/// [`replay`] for what belongs to no tenant: request ids are unique among the actor's own tenant's.
pub async fn replay_own<T: DeserializeOwned>(
    tx: &mut Tx,
    actor: &Actor,
    key: Option<&RequestKey>,
) -> Result<Option<T>> {
    match actor.client() {
        Some(client) => replay(tx, &client.tenant, key).await,
        None => Ok(None),
    }
}

/// [`keep`] for what belongs to no tenant.
pub async fn keep_own<T: Serialize>(
    tx: &mut Tx,
    actor: &Actor,
    key: Option<&RequestKey>,
    answer: &T,
    now: Timestamp,
) -> Result<()> {
    match actor.client() {
        Some(client) => keep(tx, &client.tenant, key, answer, now).await,
        None => Ok(()),
    }
}

/// Keeps the answer. A concurrent request with the same id makes this one fail, to be tried again.
pub async fn keep<T: Serialize>(
    tx: &mut Tx,
    tenant: &TenantId,
    key: Option<&RequestKey>,
    answer: &T,
    now: Timestamp,
) -> Result<()> {
    statement!(INSERT, "INSERT INTO request_ids (tenant_id, method, request_id, payload_hash, answer, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, method, request_id) DO UPDATE SET payload_hash = excluded.payload_hash,
             answer = excluded.answer, created_at = excluded.created_at
         WHERE request_ids.created_at <= $7");
    let Some(key) = key else { return Ok(()) };
    let values = args![
        tenant,
        key.method,
        key.request_id.as_str(),
        hex::encode(key.payload_hash),
        to_json(answer)?,
        now,
        now - KEPT,
    ];
    match tx.execute(&INSERT, values).await? {
        0 => Err(Error::Unavailable("the same request is being answered".to_owned())),
        _ => Ok(()),
    }
}
