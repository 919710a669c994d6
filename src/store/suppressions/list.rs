//! Suppressions, listed: by key, and never looking at more than it may for one page.

use uuid::Uuid;

use crate::domain::suppression::{SuppressionReason, SuppressionSource};
use crate::domain::{CallId, Phone, SuppressionId, TenantId, Timestamp};
use crate::store::db::sql::{Row, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::leads::row::first_id;
use crate::store::{Page, Paged, Result, Store, SuppressionFilter, SuppressionView};

/// Suppressions that one page looks at: see [`crate::store::leads::list`].
const SCAN_MAX: i64 = 20_000;

macro_rules! suppression_columns {
    () => {
        "s.suppression_id, s.phone, s.reason, s.source, s.note, s.call_id, s.expires_at, s.created_at, s.created_by"
    };
}
pub(in crate::store) use suppression_columns;

/// Reads [`suppression_columns`].
pub fn read(row: &Row) -> Result<SuppressionView> {
    Ok(SuppressionView {
        id: SuppressionId(row.uuid("suppression_id")?),
        phone: Phone::from_stored(row.text("phone")?),
        reason: row.word("reason", SuppressionReason::from_word)?,
        source: row.word("source", SuppressionSource::from_word)?,
        note: row.text("note")?,
        call: row.opt_uuid("call_id")?.map(CallId),
        expires_at: row.opt_int("expires_at")?.map(Timestamp),
        created_at: Timestamp(row.int("created_at")?),
        created_by: row.text("created_by")?,
    })
}

impl Store {
    /// In order of creation, to the millisecond. A page of a filtered list may be short, even
    /// empty, and have a next one.
    pub async fn list_suppressions(
        &self,
        tenant: &TenantId,
        filter: &SuppressionFilter,
        page: Page,
    ) -> Result<Paged<SuppressionView>> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let now = tx.now().await?;
        let after = page
            .after
            .unwrap_or(Uuid::nil())
            .max(filter.created_from.map_or(Uuid::nil(), first_id));
        // A phone has one at most, which its key finds.
        let edge = if filter.phone.is_some() { None } else { edge(&mut tx, tenant, after).await? };
        let rows =
            scan(&mut tx, tenant, filter, (after, edge.unwrap_or(Uuid::max())), page.limit(), now)
                .await?;
        let items = rows.iter().map(read).collect::<Result<_>>()?;
        let found = page.cut(items, |view: &SuppressionView| view.id.0);
        Ok(Paged { next: found.next.or(edge), ..found })
    }
}

/// The last one that this page may look at; none if there are fewer.
async fn edge(tx: &mut Tx, tenant: &TenantId, after: Uuid) -> Result<Option<Uuid>> {
    statement!(
        SELECT,
        "SELECT suppression_id FROM suppressions WHERE tenant_id = $1 AND suppression_id > $2
         ORDER BY suppression_id LIMIT 1 OFFSET $3"
    );
    let row = tx.fetch_optional(&SELECT, args![tenant, after, SCAN_MAX - 1]).await?;
    row.map(|row| row.uuid("suppression_id")).transpose()
}

async fn scan(
    tx: &mut Tx,
    tenant: &TenantId,
    filter: &SuppressionFilter,
    (after, to): (Uuid, Uuid),
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Row>> {
    macro_rules! scan {
        ($phone:literal) => {
            concat!(
                "SELECT ",
                suppression_columns!(),
                " FROM suppressions s WHERE s.tenant_id = $1 AND s.suppression_id > $2 AND s.suppression_id <= $3
                     AND s.reason {any 4 text} AND s.source {any 5 text} AND s.phone ",
                $phone,
                " $6 AND s.created_at >= $7 AND s.created_at < $8
                     AND (s.expires_at IS NULL OR s.expires_at > $9)
                 ORDER BY s.suppression_id LIMIT $10"
            )
        };
    }
    statement!(BY_PHONE, scan!("="));
    statement!(BY_PREFIX, scan!("LIKE"));
    let reasons = if filter.reasons.is_empty() { SuppressionReason::ALL } else { &filter.reasons };
    let sources = if filter.sources.is_empty() { SuppressionSource::ALL } else { &filter.sources };
    let prefix = || format!("{}%", filter.phone_prefix.as_deref().unwrap_or_default());
    let (sql, phone) = match &filter.phone {
        Some(phone) => (&BY_PHONE, phone.expose().to_owned()),
        None => (&BY_PREFIX, prefix()),
    };
    let values = args![
        tenant,
        after,
        to,
        reasons.iter().map(|reason| reason.as_str().to_owned()).collect::<Vec<String>>(),
        sources.iter().map(|source| source.as_str().to_owned()).collect::<Vec<String>>(),
        phone,
        filter.created_from.unwrap_or(Timestamp(i64::MIN)),
        filter.created_until.unwrap_or(Timestamp::NEVER),
        if filter.expired { Timestamp(i64::MIN) } else { now },
        limit,
    ];
    tx.fetch(sql, values).await
}
