//! `trunkline run forecast`: what would become of a run.

use serde_json::json;

use super::client::{self, Client};
use super::output::Output;
use super::{Error, create, display};
use crate::grpc::pb::forecast_run_request::Of;
use crate::grpc::pb::{
    ExclusionReason, ForecastLimit, ForecastRunRequest, ForecastRunResponse, RunSettings,
};

/// Of a run as `run create --from-leads` would make it.
pub(super) async fn of_new(
    client: &Client,
    new: create::Args,
    output: Output,
) -> Result<(), Error> {
    let filter =
        new.lead_filter()?.ok_or_else(|| Error::Usage("--from-leads is missing".into()))?;
    carry_out(client, Some(create::settings(new)), Of::Leads(filter), output).await
}

/// Of the queued jobs of a run that is there.
pub(super) async fn of_queued(
    client: &Client,
    run_id: String,
    output: Output,
) -> Result<(), Error> {
    carry_out(client, None, Of::RunId(run_id), output).await
}

async fn carry_out(
    client: &Client,
    settings: Option<RunSettings>,
    of: Of,
    output: Output,
) -> Result<(), Error> {
    let request = ForecastRunRequest { settings, of: Some(of) };
    let send = |request| {
        let mut queue = client.queue.clone();
        async move { queue.forecast_run(request).await }
    };
    let told: ForecastRunResponse = client::call(&request, send).await?;
    show(output, &told)
}

fn show(output: Output, told: &ForecastRunResponse) -> Result<(), Error> {
    let reason =
        |reason: ExclusionReason| display::lower(reason.as_str_name(), "EXCLUSION_REASON_");
    let limit = match told.limit() {
        ForecastLimit::Unspecified => String::new(),
        limit => display::lower(limit.as_str_name(), "FORECAST_LIMIT_"),
    };
    let times = [&told.first_call_time, &told.last_call_time, &told.end_time];
    let [first, last, end] = times.map(|at| display::time(at.as_ref()));
    let excluded: serde_json::Map<_, _> =
        told.exclusions.iter().map(|one| (reason(one.reason()), json!(one.count))).collect();
    let observed = told.observed.unwrap_or_default();
    let value = json!({
        "total": told.total_count, "dialed": told.dialed_count, "excluded": excluded, "calls": told.call_count,
        "reached": told.reached_count, "failed": told.failed_count, "expired": told.expired_count,
        "first_call_time": first, "last_call_time": last, "end_time": end, "limit": limit,
        "observed_calls": observed.call_count, "answered_share": observed.answered_share,
    });
    let mut rows: Vec<(String, String)> = vec![
        ("people".into(), told.total_count.to_string()),
        ("would be dialed".into(), told.dialed_count.to_string()),
    ];
    rows.extend(
        told.exclusions
            .iter()
            .map(|one| (format!("not: {}", reason(one.reason())), one.count.to_string())),
    );
    rows.extend([
        ("calls".into(), told.call_count.to_string()),
        ("reached".into(), told.reached_count.to_string()),
        ("not reached".into(), told.failed_count.to_string()),
        ("expired".into(), told.expired_count.to_string()),
        ("first call".into(), first),
        ("last call".into(), last),
        ("over".into(), end),
        ("limited by".into(), limit),
    ]);
    let learned = match observed.call_count {
        0 => format!("assumed: {:.0} % answered", observed.answered_share * 100.0),
        n => format!("{n} calls: {:.0} % answered", observed.answered_share * 100.0),
    };
    rows.push(("reckoned from".into(), learned));
    let rows = rows.into_iter().map(|(name, value)| vec![name, value]).collect();
    Ok(output.show(&value, &["", ""], rows)?)
}
