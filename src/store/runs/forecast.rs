//! What a forecast is made from: people counted by zone and by what holds them, and how calls went
//! lately.
//!
//! The database counts; what comes back is some thousand rows at most, however many people there
//! are.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::cap::{self, FrequencyCap};
use crate::domain::forecast::{Facts, Group, Observed, Share, span};
use crate::domain::run::RunSettings;
use crate::domain::time::micros;
use crate::domain::{Phone, TenantId, Timestamp, window};
use crate::store::db::sql::{Row, Rows, Value, args, statement};
use crate::store::db::{Scope, Tx};
use crate::store::{
    Error, ForecastFacts, ForecastOf, Result, Store, TenantView, leads, runs, tenants,
};

/// The most rows that people are counted in. A tenant's leads are in some hundred areas, and held
/// until one of some hundred hours and quarters of a day; what is beyond is not forecast, but
/// refused.
const ROWS_MAX: i64 = 50_000;
/// The latest calls that are looked at.
const CALLS_OBSERVED: i64 = 10_000;
/// Fewer say nothing.
const CALLS_MIN: u64 = 20;

/// When somebody may be called, rounded down: to the hour within the next two days, to a quarter of
/// a day after them.
macro_rules! rounded {
    ($from:expr) => {
        concat!(
            "CASE WHEN ",
            $from,
            " < $2 + 172800000000 THEN ",
            $from,
            " - ",
            $from,
            " % 3600000000 ELSE ",
            $from,
            " - ",
            $from,
            " % 21600000000 END"
        )
    };
}
/// People counted: `$1` the tenant, `$2` now, `$3` when the run expires. Who names no zone is
/// counted by the first characters of the number: five hold a country and its area, or as good as.
macro_rules! counted {
    ($held:literal, $from:literal, $of:literal) => {
        concat!(
            "SELECT l.time_zone, CASE WHEN l.time_zone IS NULL THEN substr(l.phone, 1, 5) ELSE '' END AS head, min(l.phone) AS sample, count(*) AS people,
                 CASE WHEN s.phone IS NOT NULL THEN 'suppressed' WHEN ",
            $held,
            " >= $3 THEN 'capped' ELSE 'free' END AS fate, ",
            rounded!($from),
            " AS may_be_called_at FROM ",
            $of,
            " LEFT JOIN suppressions s ON s.tenant_id = $1 AND s.phone = l.phone
                 AND (s.expires_at IS NULL OR s.expires_at > $2) ",
        )
    };
}
/// Phones that caps hold, and until when: `$N` since when attempts are looked at, and the caps
/// after it.
macro_rules! held {
    ($since:literal, $caps:literal) => {
        concat!(
            "LEFT JOIN (SELECT a.phone, max(a.at + k.span) AS until FROM
                 (SELECT c.phone_to AS phone, c.created_at AS at,
                      row_number() OVER (PARTITION BY c.phone_to ORDER BY c.created_at DESC) AS n
                  FROM call_log c
                  WHERE c.tenant_id = $1 AND c.created_at >= $",
            $since,
            " AND c.job_id IS NOT NULL AND NOT (c.state = 'failed' AND c.call_sid IS NULL AND NOT c.presumed)) a
                 JOIN {rows ",
            $caps,
            " k: n bigint, span bigint} ON k.n = a.n GROUP BY a.phone) t ON t.phone = l.phone "
        )
    };
}
macro_rules! grouped {
    () => {
        " GROUP BY 1, 2, 5, 6 LIMIT 50001"
    };
}

impl Store {
    /// What a run's forecast is made from. `settings` may be left out for a run that is there.
    pub async fn forecast_facts(
        &self,
        tenant: &TenantId,
        of: ForecastOf,
        settings: Option<RunSettings>,
    ) -> Result<ForecastFacts> {
        let mut tx = self.db.read(Scope::Tenant(tenant)).await?;
        let now = tx.now().await?;
        let (settings, starts_at, expires_at) = match (&of, settings) {
            (ForecastOf::Run(run), None) => {
                let run = runs::view(&mut tx, tenant, *run).await?;
                if run.progress.state.is_ended() {
                    return Err(Error::Over(run.progress.state));
                }
                let starts_at = run.settings.starts_at.unwrap_or(now);
                (run.settings, starts_at, run.expires_at)
            }
            (ForecastOf::Run(run), Some(settings)) => {
                runs::view(&mut tx, tenant, *run).await?;
                settings.check(now)?;
                let (starts_at, expires_at) =
                    (settings.starts_at.unwrap_or(now), settings.expiry(now));
                (settings, starts_at, expires_at)
            }
            (ForecastOf::Leads(_) | ForecastOf::Ids(_), Some(settings)) => {
                settings.check(now)?;
                let (starts_at, expires_at) =
                    (settings.starts_at.unwrap_or(now), settings.expiry(now));
                (settings, starts_at, expires_at)
            }
            (ForecastOf::Leads(_) | ForecastOf::Ids(_), None) => {
                return Err(Error::Invalid(crate::domain::Violation::new(
                    "settings",
                    "is required",
                )));
            }
        };
        let owner = tenants::access::tenant(&mut tx, tenant).await?;
        let caps = settings.caps();
        let rows = count(&mut tx, tenant, &of, &caps, (now, expires_at)).await?;
        if rows.len() > usize::try_from(ROWS_MAX).unwrap_or(usize::MAX) {
            let why = "are in too many places to be forecast at once; narrow the filter";
            return Err(Error::Invalid(crate::domain::Violation::new("leads", why)));
        }
        let counted = sort(&rows, &owner)?;
        let calls_per_second = pace(&mut tx, tenant).await?.min(owner.tenant.calls_per_second);
        let observed = observed(&mut tx, tenant).await?;
        Ok(ForecastFacts {
            total: counted.total,
            suppressed: counted.suppressed,
            capped: counted.capped,
            invalid: counted.invalid,
            facts: Facts {
                now,
                starts_at,
                expires_at,
                schedule: settings.schedule(owner.tenant.window),
                groups: counted.groups,
                calls_per_second,
                concurrency: settings.concurrency.min(owner.tenant.max_concurrent_calls),
                retry: settings.retry,
                caps,
                observed,
            },
        })
    }
}

/// Counts people.
async fn count(
    tx: &mut Tx,
    tenant: &TenantId,
    of: &ForecastOf,
    caps: &[FrequencyCap],
    (now, expires_at): (Timestamp, Timestamp),
) -> Result<Vec<Row>> {
    // Where there is no cap the log of calls is not read at all.
    statement!(
        LEADS,
        concat!(
            counted!("0", "$2", "leads l"),
            "WHERE l.tenant_id = $1 ",
            leads::list::filtered!(),
            grouped!()
        )
    );
    statement!(
        CAPPED_LEADS,
        concat!(
            counted!(
                "COALESCE(t.until, 0)",
                "(CASE WHEN t.until > $2 THEN t.until ELSE $2 END)",
                "leads l"
            ),
            held!("11", "12"),
            "WHERE l.tenant_id = $1 ",
            leads::list::filtered!(),
            grouped!()
        )
    );
    statement!(
        IDS,
        concat!(
            counted!("0", "$2", "leads l"),
            "WHERE l.tenant_id = $1 AND l.lead_id {any 4 uuid}",
            grouped!()
        )
    );
    statement!(
        CAPPED_IDS,
        concat!(
            counted!(
                "COALESCE(t.until, 0)",
                "(CASE WHEN t.until > $2 THEN t.until ELSE $2 END)",
                "leads l"
            ),
            held!("5", "6"),
            "WHERE l.tenant_id = $1 AND l.lead_id {any 4 uuid}",
            grouped!()
        )
    );
    statement!(
        JOBS,
        concat!(
            counted!("0", "l.eligible_at", "jobs l"),
            "WHERE l.tenant_id = $1 AND l.run_id = $4 AND l.state = 'queued'",
            grouped!()
        )
    );
    statement!(
        CAPPED_JOBS,
        concat!(
            counted!(
                "COALESCE(t.until, 0)",
                "(CASE WHEN t.until > l.eligible_at THEN t.until ELSE l.eligible_at END)",
                "jobs l"
            ),
            held!("5", "6"),
            "WHERE l.tenant_id = $1 AND l.run_id = $4 AND l.state = 'queued'",
            grouped!()
        )
    );
    let mut values: Vec<Value> = args![tenant, now, expires_at];
    let (plain, capped) = match of {
        ForecastOf::Leads(filter) => {
            values.extend(leads::list::filter_values(filter));
            (&LEADS, &CAPPED_LEADS)
        }
        ForecastOf::Ids(ids) => {
            values.extend(args![ids.iter().map(|id| id.0).collect::<Vec<_>>()]);
            (&IDS, &CAPPED_IDS)
        }
        ForecastOf::Run(run) => {
            values.extend(args![run.0]);
            (&JOBS, &CAPPED_JOBS)
        }
    };
    if caps.is_empty() {
        return tx.fetch(plain, values).await;
    }
    let rows = Rows::new()
        .ints(caps.iter().map(|cap| i64::from(cap.max_attempts)))
        .ints(caps.iter().map(|cap| micros(span(cap))));
    values.extend(args![cap::looks_back_to(caps, now), rows]);
    tx.fetch(capped, values).await
}

#[derive(Default)]
struct Counted {
    total: u64,
    suppressed: u64,
    capped: u64,
    invalid: u64,
    groups: Vec<Group>,
}

/// Puts what was counted under the clocks that it goes by.
fn sort(rows: &[Row], owner: &TenantView) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut groups: BTreeMap<(String, Timestamp), Group> = BTreeMap::new();
    for row in rows {
        let people: u64 = row.narrow("people")?;
        counted.total += people;
        let phone = Phone::from_stored(row.text("sample")?);
        match row.text("fate")?.as_str() {
            "suppressed" => counted.suppressed += people,
            "capped" => counted.capped += people,
            // Its lead was erased.
            _ if phone.expose().is_empty() => counted.invalid += people,
            _ => {
                let zone = window::zone_of(
                    row.opt_text("time_zone")?.as_deref(),
                    &phone,
                    &owner.tenant.time_zone,
                )?;
                let from = Timestamp(row.int("may_be_called_at")?);
                let name = zone.iana_name().unwrap_or_default().to_owned();
                let group = groups.entry((name, from)).or_insert(Group { zone, people: 0, from });
                group.people += people;
            }
        }
    }
    counted.groups = groups.into_values().collect();
    Ok(counted)
}

/// The account's pace.
async fn pace(tx: &mut Tx, tenant: &TenantId) -> Result<f64> {
    statement!(SELECT, "SELECT a.calls_per_second FROM tenants t JOIN carrier_accounts a ON a.account_sid = t.account_sid
         WHERE t.tenant_id = $1");
    tx.fetch_one(&SELECT, args![tenant]).await?.float("calls_per_second")
}

/// How the tenant's latest calls went.
async fn observed(tx: &mut Tx, tenant: &TenantId) -> Result<Observed> {
    statement!(SELECT, "SELECT x.state, count(*) AS calls, CAST(avg(x.takes) AS BIGINT) AS takes FROM
             (SELECT c.state, c.ended_at - c.created_at AS takes FROM call_log c
              WHERE c.tenant_id = $1 AND c.direction = 'outbound' AND c.job_id IS NOT NULL AND c.ended_at IS NOT NULL
                  AND c.state IN ('completed', 'busy', 'no_answer', 'failed')
              ORDER BY c.call_id DESC LIMIT $2) x
         GROUP BY x.state");
    let rows = tx.fetch(&SELECT, args![tenant, CALLS_OBSERVED]).await?;
    let mut known: BTreeMap<String, (u64, Duration)> = BTreeMap::new();
    for row in &rows {
        let takes = Duration::from_micros(row.narrow("takes")?);
        known.insert(row.text("state")?, (row.narrow("calls")?, takes));
    }
    let calls: u64 = known.values().map(|(calls, _)| calls).sum();
    if calls < CALLS_MIN {
        return Ok(Observed::ASSUMED);
    }
    let share = |state: &str, assumed: Share| match known.get(state) {
        // At most ten thousand.
        #[allow(clippy::cast_precision_loss)]
        Some((of_state, takes)) => {
            Share { of_calls: *of_state as f64 / calls as f64, takes: *takes }
        }
        None => Share { of_calls: 0.0, ..assumed },
    };
    let assumed = Observed::ASSUMED;
    Ok(Observed {
        completed: share("completed", assumed.completed),
        busy: share("busy", assumed.busy),
        no_answer: share("no_answer", assumed.no_answer),
        failed: share("failed", assumed.failed),
        calls,
    })
}
