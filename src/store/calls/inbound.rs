//! Calls to us: a row with the first word of them, and then like any other call.

use uuid::Uuid;

use crate::domain::call::{Call, CallState, News, check_at};
use crate::domain::{AccountSid, CallId, Phone, TenantId, Timestamp};
use crate::store::db::sql::{args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::{Applied, InboundCall, Result, Store, calls};

/// Twilio ends a call after at most this, in seconds.
/// <https://www.twilio.com/docs/voice/api/call-resource#create-a-call-resource>
const TIME_LIMIT_S: u32 = 14_400;

impl Store {
    /// The tenant whose caller id `number` is, if it is one's alone.
    pub async fn tenant_of_number(
        &self,
        account: &AccountSid,
        number: &Phone,
    ) -> Result<Option<TenantId>> {
        statement!(
            SELECT,
            "SELECT tenant_id FROM tenants WHERE account_sid = $1 AND caller_ids LIKE $2 AND state = 'active' LIMIT 2"
        );
        let mut tx = self.db.read(Scope::Owner).await?;
        let rows = tx
            .fetch(&SELECT, args![account.as_str(), format!("%\"{}\"%", number.expose())])
            .await?;
        match rows.as_slice() {
            [row] => Ok(Some(row.text("tenant_id")?.parse()?)),
            [] => Ok(None),
            _ => {
                tracing::error!(%account, "a number is the caller id of several tenants; its calls belong to none");
                Ok(None)
            }
        }
    }
}

impl Store {
    /// Records an inbound call, or news of it.
    pub async fn record_inbound(
        &self,
        tenant: &TenantId,
        inbound: &InboundCall,
        news: News,
    ) -> Result<(CallId, Applied)> {
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let now = tx.now().await?;
        let call = insert(&mut tx, tenant, inbound, now).await?;
        let applied = calls::apply::apply_in(&mut tx, tenant, &[(call, news)]).await?.pop();
        tx.commit(&self.wakes).await?;
        Ok((call, applied.unwrap_or(Applied::NoSuchCall)))
    }
}

/// Inserts the call, unless it is there.
pub(in crate::store) async fn insert(
    tx: &mut Tx,
    tenant: &TenantId,
    inbound: &InboundCall,
    now: Timestamp,
) -> Result<CallId> {
    statement!(INSERT, "INSERT INTO call_log (tenant_id, call_id, call_sid, direction, account_sid, state, phone_from, phone_to,
             time_limit_s, check_at, created_at, updated_at)
         VALUES ($1, $2, $3, 'inbound', $4, 'ringing', $5, $6, $7, $8, $9, $9)
         ON CONFLICT (tenant_id, call_sid) WHERE call_sid IS NOT NULL DO NOTHING");
    statement!(KNOWN, "SELECT call_id FROM call_log WHERE tenant_id = $1 AND call_sid = $2");
    let ringing = Call { state: CallState::Ringing, ..Call::intent() };
    let values = args![
        tenant,
        Uuid::now_v7(),
        inbound.sid.as_str(),
        inbound.account.as_str(),
        inbound.from.as_ref().map_or("", Phone::expose),
        inbound.to.expose(),
        i64::from(TIME_LIMIT_S),
        check_at(&ringing, TIME_LIMIT_S, now),
        now,
    ];
    tx.execute(&INSERT, values).await?;
    let known = tx.fetch_one(&KNOWN, args![tenant, inbound.sid.as_str()]).await?;
    Ok(CallId(known.uuid("call_id")?))
}
