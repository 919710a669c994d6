//! How much there is, of all tenants: what gauges tell.

use std::time::Duration;

use crate::domain::call::CallState;
use crate::domain::run::RunState;
use crate::domain::task::TaskState;
use crate::metrics::{BreakerState, Totals};
use crate::store::db::Scope;
use crate::store::db::sql::statement;
use crate::store::{Error, Result, Store};

impl Store {
    /// How much there is, of all tenants, for the metrics.
    pub async fn totals(&self) -> Result<Totals> {
        statement!(COUNT, "SELECT 'queued' AS what, '' AS word, CAST(COALESCE(sum(queued), 0) AS BIGINT) AS n FROM runs
                 WHERE ended_at IS NULL
             UNION ALL SELECT 'run', state, count(*) FROM runs WHERE ended_at IS NULL GROUP BY state
             UNION ALL SELECT 'call', state, count(*) FROM call_log
                 WHERE ended_at IS NULL AND direction <> 'inbound' GROUP BY state
             UNION ALL SELECT 'task', state, count(*) FROM tasks GROUP BY state
             UNION ALL SELECT 'late', '', COALESCE({now} - min(run_at), 0) FROM tasks WHERE state = 'queued'
             UNION ALL SELECT 'breaker', account_sid, CASE WHEN breaker_open_until > {now} THEN 2
                 WHEN breaker_open_until IS NOT NULL THEN 1 ELSE 0 END FROM carrier_accounts");
        let mut tx = self.db.read(Scope::Scheduler).await?;
        let mut totals = Totals::default();
        for row in tx.fetch(&COUNT, Vec::new()).await? {
            let (word, n) = (row.text("word")?, row.int("n")?);
            match row.text("what")?.as_str() {
                "queued" => totals.queued_jobs = n,
                "run" => totals.open_runs.push((row.word("word", RunState::from_word)?, n)),
                "call" => totals.live_calls.push((row.word("word", CallState::from_word)?, n)),
                "task" => totals.tasks.push((row.word("word", TaskState::from_word)?, n)),
                "late" => totals.tasks_late = Duration::from_micros(u64::try_from(n).unwrap_or(0)),
                "breaker" => totals.breakers.push((word.parse()?, breaker(n))),
                other => return Err(Error::Internal(format!("a totals of {other}"))),
            }
        }
        Ok(totals)
    }
}

const fn breaker(n: i64) -> BreakerState {
    match n {
        0 => BreakerState::Closed,
        1 => BreakerState::Probing,
        _ => BreakerState::Open,
    }
}
