//! Leads, listed: by key, and never looking at more than it may for one page.

use uuid::Uuid;

use crate::domain::lead::{LeadSource, LeadStatus};
use crate::domain::{TenantId, Timestamp};
use crate::store::db::sql::{Row, Value, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::leads::row::{first_id, lead_columns};
use crate::store::{LeadFilter, LeadView, Page, Paged, Result, Store, leads};

/// Leads that one page of a filtered list looks at. A filter that few pass gives short pages, maybe
/// empty ones, with a token to go on: each costs about the same however many leads there are.
const SCAN_MAX: i64 = 20_000;

/// What a filter asks of a lead `l`, with parameters 4 to 10: see [`filter_values`].
macro_rules! filtered {
    () => {
        "AND l.status {any 4 text} AND l.source {any 5 text} AND l.tags LIKE $6 ESCAPE '\\'
             AND l.phone LIKE $7 AND (lower(l.name) LIKE $8 ESCAPE '\\' OR lower(l.attributes) LIKE $8 ESCAPE '\\')
             AND l.created_at >= $9 AND l.created_at < $10"
    };
}
pub(in crate::store) use filtered;

impl Store {
    /// In order of creation, to the millisecond. A page of a filtered list may be short, even
    /// empty, and have a next one.
    pub async fn list_leads(
        &self,
        tenant: &TenantId,
        filter: &LeadFilter,
        page: Page,
    ) -> Result<Paged<LeadView>> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        list_in(&mut tx, tenant, filter, page).await
    }
}

/// A page, in a transaction.
pub async fn list_in(
    tx: &mut Tx,
    tenant: &TenantId,
    filter: &LeadFilter,
    page: Page,
) -> Result<Paged<LeadView>> {
    statement!(
        ALL,
        concat!(
            "SELECT ",
            lead_columns!(),
            " FROM leads l WHERE l.tenant_id = $1 AND l.lead_id > $2 AND l.lead_id < $3 ORDER BY l.lead_id LIMIT $4"
        )
    );
    statement!(
        ONE,
        concat!(
            "SELECT ",
            lead_columns!(),
            " FROM leads l WHERE l.tenant_id = $1 AND l.lead_id > $2 AND l.phone = $4 ORDER BY l.lead_id LIMIT $3"
        )
    );
    let after = page.after.unwrap_or(Uuid::nil()).max(bound(filter.created_from, Uuid::nil()));
    let until = bound(filter.created_until.map(next_milli), Uuid::max());
    if let Some(phone) = &filter.phone {
        let rows = tx.fetch(&ONE, args![tenant, after, page.limit(), phone.expose()]).await?;
        let items = rows.iter().map(leads::row::read).collect::<Result<Vec<_>>>()?;
        return Ok(page.cut(items.into_iter().filter(|lead| fits(filter, lead)).collect(), key));
    }
    if *filter == LeadFilter::default() {
        let rows = tx.fetch(&ALL, args![tenant, after, until, page.limit()]).await?;
        return Ok(page.cut(rows.iter().map(leads::row::read).collect::<Result<_>>()?, key));
    }
    let edge = edge(tx, tenant, after, until).await?;
    let rows = scan(tx, tenant, filter, after, edge.unwrap_or(until), page.limit()).await?;
    let found = page.cut(rows.iter().map(leads::row::read).collect::<Result<_>>()?, key);
    Ok(Paged { next: found.next.or(edge), ..found })
}

fn key(lead: &LeadView) -> Uuid {
    lead.id.0
}

/// Ids know milliseconds.
fn next_milli(at: Timestamp) -> Timestamp {
    Timestamp(at.micros().saturating_add(1_000))
}

fn bound(at: Option<Timestamp>, otherwise: Uuid) -> Uuid {
    at.map_or(otherwise, first_id)
}

/// The last lead that this page may look at; none if there are fewer.
async fn edge(tx: &mut Tx, tenant: &TenantId, after: Uuid, until: Uuid) -> Result<Option<Uuid>> {
    statement!(
        SELECT,
        "SELECT lead_id FROM leads WHERE tenant_id = $1 AND lead_id > $2 AND lead_id < $3
         ORDER BY lead_id LIMIT 1 OFFSET $4"
    );
    let row = tx.fetch_optional(&SELECT, args![tenant, after, until, SCAN_MAX - 1]).await?;
    row.map(|row| row.uuid("lead_id")).transpose()
}

async fn scan(
    tx: &mut Tx,
    tenant: &TenantId,
    filter: &LeadFilter,
    after: Uuid,
    to: Uuid,
    limit: i64,
) -> Result<Vec<Row>> {
    statement!(
        SCAN,
        concat!(
            "SELECT ",
            lead_columns!(),
            " FROM leads l WHERE l.tenant_id = $1 AND l.lead_id > $2 AND l.lead_id <= $3 ",
            filtered!(),
            " ORDER BY l.lead_id LIMIT $11"
        )
    );
    let mut values: Vec<Value> = args![tenant, after, to];
    values.extend(filter_values(filter));
    values.extend(args![limit]);
    tx.fetch(&SCAN, values).await
}

/// The parameters of [`filtered`].
pub fn filter_values(filter: &LeadFilter) -> Vec<Value> {
    let words = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let statuses = if filter.statuses.is_empty() { LeadStatus::ALL } else { &filter.statuses };
    let sources = if filter.sources.is_empty() { LeadSource::ALL } else { &filter.sources };
    let tag = filter.tag.as_ref().map_or("%".to_owned(), |tag| format!("%\"{}\"%", escaped(tag)));
    let text = filter.text.as_ref().map(|text| escaped(&text.to_ascii_lowercase()));
    let prefix = format!("{}%", filter.phone_prefix.as_deref().unwrap_or_default());
    args![
        words(statuses.iter().map(|status| status.as_str()).collect()),
        words(sources.iter().map(|source| source.as_str()).collect()),
        tag,
        filter.phone.as_ref().map_or(prefix, |phone| phone.expose().to_owned()),
        text.map_or("%".to_owned(), |text| format!("%{text}%")),
        filter.created_from.unwrap_or(Timestamp(i64::MIN)),
        filter.created_until.unwrap_or(Timestamp::NEVER),
    ]
}

/// A text for LIKE that stands for itself.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// The same filter for a lead in hand.
fn fits(filter: &LeadFilter, lead: &LeadView) -> bool {
    let text = |text: &String| {
        let text = text.to_ascii_lowercase();
        let attributes = serde_json::to_string(&lead.facts.attributes).unwrap_or_default();
        lead.facts.name.to_ascii_lowercase().contains(&text)
            || attributes.to_ascii_lowercase().contains(&text)
    };
    (filter.statuses.is_empty() || filter.statuses.contains(&lead.contact.status))
        && (filter.sources.is_empty() || filter.sources.contains(&lead.source))
        && filter.tag.as_ref().is_none_or(|tag| lead.facts.tags.contains(tag))
        && filter
            .phone_prefix
            .as_ref()
            .is_none_or(|prefix| lead.facts.phone.expose().starts_with(prefix))
        && filter.text.as_ref().is_none_or(text)
        && filter.created_from.is_none_or(|from| lead.created_at >= from)
        && filter.created_until.is_none_or(|until| lead.created_at < until)
}
