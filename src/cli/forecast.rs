//! `trunkline run forecast`: what would become of a run.

use serde_json::json;

use super::client::{self, Client};
use super::output::Output;
use super::{Error, create, words};
use crate::grpc::pb::forecast_run_request::Of;
use crate::grpc::pb::{ExclusionReason, ForecastLimit, ForecastRunRequest, ForecastRunResponse};

/// Of what.
#[derive(clap::Args)]
pub struct Args {
    /// A run that is there: its queued jobs. Without it, a run as `run create --from-leads` would make it.
    #[arg(conflicts_with = "name")]
    run_id: Option<String>,
    #[command(flatten)]
    new: Option<create::Args>,
}

/// Carries it out.
pub(super) async fn execute(client: &Client, args: Args, output: Output) -> Result<(), Error> {
    let (settings, of) = match (args.run_id, args.new) {
        (Some(run_id), _) => (None, Of::RunId(run_id)),
        (None, Some(new)) => {
            let filter = new.from_leads()?;
            let filter = filter.ok_or_else(|| Error::Usage("--from-leads is missing".into()))?;
            (Some(create::settings(new)), Of::Leads(filter))
        }
        (None, None) => return Err(Error::Usage("name a run, or put one as for run create".into())),
    };
    let request = ForecastRunRequest { settings, of: Some(of) };
    let send = |request| {
        let mut queue = client.queue.clone();
        async move { queue.forecast_run(request).await }
    };
    let told: ForecastRunResponse = client::call(&request, send).await?;
    show(output, &told)
}

fn show(output: Output, told: &ForecastRunResponse) -> Result<(), Error> {
    let reason = |reason: ExclusionReason| words::lower(reason.as_str_name(), "EXCLUSION_REASON_");
    let limit = match told.limit() {
        ForecastLimit::Unspecified => String::new(),
        limit => words::lower(limit.as_str_name(), "FORECAST_LIMIT_"),
    };
    let times = [&told.first_call_time, &told.last_call_time, &told.end_time];
    let [first, last, end] = times.map(|at| words::time(at.as_ref()));
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
        told.exclusions.iter().map(|one| (format!("not: {}", reason(one.reason())), one.count.to_string())),
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
