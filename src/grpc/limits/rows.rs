//! Rows are metered too: a batch or a stream of a thousand jobs takes a thousand tokens, whatever
//! number of requests carried them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::Limits;
use super::turns::{self, Turn};
use crate::domain::TenantId;
use crate::grpc::auth::Caller;
use crate::grpc::status::{self, OverQuota};

/// The longest that a request waits for its turn: well before any deadline.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// When a refused one may be repeated.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One caller's quota of rows.
#[derive(Clone)]
pub(in crate::grpc) struct Rows {
    limits: Arc<Limits>,
    tenant: TenantId,
    plan: String,
}

impl Rows {
    /// The quota of `caller`'s tenant.
    pub(in crate::grpc) fn of(limits: &Arc<Limits>, caller: &Caller) -> Self {
        Self {
            limits: Arc::clone(limits),
            tenant: caller.tenant.clone(),
            plan: caller.plan.clone(),
        }
    }

    /// Takes `count` rows, all or none, and a turn to write them; RESOURCE_EXHAUSTED if so many are
    /// not left, or too many large writes of the tenant stand before this one.
    pub(in crate::grpc) async fn take(&self, count: usize) -> Result<Turn, Status> {
        let turn =
            tokio::time::timeout(TURN_WITHIN, self.limits.turns.next(&self.tenant, count)).await;
        let turn = turn.map_err(|_| {
            let quota = OverQuota {
                reason: "LARGE_WRITES_LIMIT",
                subject: "tenant:large_writes".to_owned(),
                description: format!("large writes under way at a time: {}", turns::AT_ONCE),
            };
            status::over_quota(&quota, RETRY_AFTER)
        })?;
        match self.try_take(count) {
            Ok(()) => Ok(turn),
            Err(wait) => Err(status::over_quota(&self.limits.of(&self.plan).rows_quota(), wait)),
        }
    }

    /// Takes `count` rows once they are there: whoever sends a stream is slowed down and not
    /// refused.
    pub(in crate::grpc) async fn wait(&self, count: usize) -> Turn {
        while let Err(wait) = self.try_take(count) {
            tokio::time::sleep(wait).await;
        }
        self.limits.turns.next(&self.tenant, count).await
    }

    fn try_take(&self, count: usize) -> Result<(), Duration> {
        let limit = self.limits.of(&self.plan);
        // More than the burst could never be taken; settings see to it that a batch is never more.
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(limit.rows_burst());
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        match limit.rows.check_key_n(&self.tenant, count) {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(not_until)) => Err(super::wait_of(&not_until, super::now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::plan::{Limits as Given, Plan, Plans};

    fn rows(per_second: &str, tenant: &str) -> Rows {
        let plan = Plan { rows: per_second.parse().unwrap(), ..Plan::STANDARD };
        let limits =
            Given { plans: Plans { standard: plan, ..Plans::default() }, ..Given::default() };
        Rows {
            limits: Limits::new(&limits),
            tenant: tenant.parse().unwrap(),
            plan: "standard".into(),
        }
    }

    #[tokio::test]
    async fn a_batch_takes_as_many_as_it_has() {
        let rows = rows("1/s burst 1000", "one");
        assert!(rows.take(0).await.is_ok());
        assert!(rows.take(600).await.is_ok());
        // All or none: what a refused batch asked for is still there.
        let refused = rows.take(500).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(rows.take(400).await.is_ok());
        let wait = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(wait > Duration::from_secs(98) && wait <= Duration::from_secs(100), "{wait:?}");
        let quota = refused.get_details_quota_failure().unwrap();
        assert_eq!(quota.violations[0].subject, "tenant:rows");
        let other = Rows { tenant: "two".parse().unwrap(), ..rows.clone() };
        assert!(other.take(1_000).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_for_a_turn_is_told_so() {
        let rows = rows("100000/s burst 100000", "one");
        let mut held = Vec::new();
        for _ in 0..turns::AT_ONCE {
            held.push(rows.take(100).await.unwrap());
        }
        let refused = rows.take(100).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            refused.get_details_quota_failure().unwrap().violations[0].subject,
            "tenant:large_writes"
        );
        assert!(rows.take(1).await.is_ok());
        held.pop();
        assert!(rows.take(100).await.is_ok());
    }

    #[tokio::test]
    async fn a_stream_waits_until_its_rows_are_there() {
        let rows = rows("1000/s burst 1000", "one");
        let started = std::time::Instant::now();
        drop(rows.wait(1_000).now_or_never().expect("they are there"));
        drop(rows.wait(200).await);
        // The clock of the limiter is coarse; it never lets in earlier than by that.
        assert!(started.elapsed() >= Duration::from_millis(195), "{:?}", started.elapsed());
    }
}
