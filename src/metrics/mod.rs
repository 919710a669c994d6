//! Metrics: what is counted, by one documented function each, and how it is told.
//!
//! Every layer but the domain may call these. They cost next to nothing until [`install`] is
//! called, and never name a tenant or a person. What there is stands in [`CATALOG`].

mod calls;
mod catalog;
mod requests;
mod server;
#[cfg(test)]
mod tests;
mod totals;
mod transfers;
mod work;

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use calls::{
    Submitted, Unknown, call_ended, calls_claimed, calls_lost, submitted, takeover,
    unknown_resolved,
};
pub use catalog::{CATALOG, Kind, Metric};
pub use requests::{Heard, HeardOf, callback, grpc_ended, grpc_limited};
pub use server::serve;
pub use totals::{BreakerState, Totals, set_totals, store_is_down};
pub use transfers::{
    StepResult, transfer_bridged, transfer_ended, transfer_started, transfer_step,
};
pub use work::{Delivered, TaskEnd, deliveries_dead, delivery, task};

/// Upper bounds of the buckets of all durations, in seconds: from a statement to a stream.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// A transfer takes as long as a phone rings.
const RINGING_SECONDS: [f64; 9] = [0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 90.0, 180.0];

/// What was recorded so far; cheap to clone.
#[derive(Clone)]
pub struct Recorded(PrometheusHandle);

impl Recorded {
    /// Everything, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Records from now on, in this process; once, however often it is called.
///
/// # Errors
/// A reason, if another recorder was installed before.
pub fn install() -> Result<Recorded, String> {
    static INSTALLED: Mutex<Option<Recorded>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(recorded) = &*installed {
        return Ok(recorded.clone());
    }
    let recorder = builder().map_err(|error| error.to_string())?.build_recorder();
    let recorded = Recorded(recorder.handle());
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    describe();
    *installed = Some(recorded.clone());
    Ok(recorded)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets(&SECONDS)?.set_buckets_for_metric(
        Matcher::Full(catalog::TRANSFER_BRIDGE_SECONDS.to_owned()),
        &RINGING_SECONDS,
    )
}

/// Tells the recorder what each metric means, and which program this is.
fn describe() {
    for metric in CATALOG {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
    metrics::gauge!(catalog::BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1);
}
