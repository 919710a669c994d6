//! Forecasts.

use super::time;
use crate::domain::forecast::{Facts, Forecast, Limit};
use crate::grpc::pb;
use crate::grpc::pb::ExclusionReason as Reason;
use crate::grpc::pb::forecast_run_response::{Exclusion, Observed};

/// Who was left out before anything was reckoned.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct LeftOut {
    /// Suppressed.
    pub suppressed: u64,
    /// Capped.
    pub capped: u64,
    /// No lead, or erased.
    pub invalid: u64,
    /// Named before.
    pub duplicate: u64,
}

/// A forecast for the wire.
pub(in crate::grpc) fn write(
    facts: &Facts,
    left_out: LeftOut,
    told: &Forecast,
) -> pb::ForecastRunResponse {
    let LeftOut { suppressed, capped, invalid, duplicate } = left_out;
    let undialed = (told.reached + told.failed + told.expired).saturating_sub(told.dialed);
    let no_window = told.never_open.min(undialed);
    let exclusions = [
        (Reason::Suppressed, suppressed),
        (Reason::Capped, capped),
        (Reason::NoWindow, no_window),
        (Reason::NoTime, undialed - no_window),
        (Reason::Invalid, invalid),
        (Reason::Duplicate, duplicate),
    ];
    let left = exclusions.iter().map(|(_, count)| count).sum::<u64>();
    let exclusions = exclusions.into_iter().filter(|(_, count)| *count > 0);
    pb::ForecastRunResponse {
        total_count: told.dialed + left,
        dialed_count: told.dialed,
        exclusions: exclusions
            .map(|(reason, count)| Exclusion { reason: reason.into(), count })
            .collect(),
        call_count: told.calls,
        reached_count: told.reached,
        failed_count: told.failed,
        expired_count: told.expired,
        first_call_time: told.first_call_at.and_then(time::write),
        last_call_time: told.last_call_at.and_then(time::write),
        end_time: told.ends_at.and_then(time::write),
        limit: match told.limit {
            Limit::Nothing => pb::ForecastLimit::Unspecified,
            Limit::Pace => pb::ForecastLimit::Pace,
            Limit::Concurrency => pb::ForecastLimit::Concurrency,
            Limit::People => pb::ForecastLimit::People,
        }
        .into(),
        observed: Some(Observed {
            call_count: facts.observed.calls,
            answered_share: facts.observed.completed.of_calls,
            answered_takes: facts.observed.completed.takes.try_into().ok(),
            takes: facts.observed.mean_takes().try_into().ok(),
        }),
    }
}
