//! Every metric there is: its name, kind, unit, labels and meaning. `docs/metrics.md` says the
//! same, and a test compares them.

use metrics::Unit;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How long things took, in buckets.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// As Prometheus sees it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What is counted or measured in.
    pub unit: Unit,
    /// Its labels; each has few values, none of a tenant or a person.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

macro_rules! catalog {
    ($($id:ident: $kind:ident $name:literal in $unit:ident by [$($label:literal),*], $help:literal;)+) => {
        $(pub(super) const $id: &str = $name;)+

        /// Every metric that this program records.
        pub const CATALOG: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
        },)+];
    };
}

catalog! {
    CALLS_CLAIMED: Counter "trunkline_calls_claimed_total" in Count by [],
        "Calls claimed for dialing: intents committed.";
    CLAIM_SECONDS: Histogram "trunkline_claim_seconds" in Seconds by [],
        "How long a claim that found a tenant took, commit included.";
    CALLS_SUBMITTED: Counter "trunkline_calls_submitted_total" in Count by ["result"],
        "What became of create requests to the carrier: created, rejected, not_sent, lost.";
    SUBMIT_SECONDS: Histogram "trunkline_submit_seconds" in Seconds by ["result"],
        "How long the carrier took to answer a create request.";
    CALLS_ENDED: Counter "trunkline_calls_ended_total" in Count by ["direction", "outcome"],
        "Calls that ended, by how.";
    CALLS_UNKNOWN: Counter "trunkline_calls_unknown_total" in Count by ["cause"],
        "Calls that may or may not exist: the answer was lost, or their worker died.";
    UNKNOWNS_RESOLVED: Counter "trunkline_unknowns_resolved_total" in Count by ["verdict"],
        "Unknown calls that a look-up at the carrier adopted, or gave up.";
    TAKEOVERS: Counter "trunkline_takeovers_total" in Count by [],
        "Times that intents of a worker that is gone were taken over.";
    BREAKER: Gauge "trunkline_carrier_breaker" in Count by ["account"],
        "The circuit breaker of a carrier account: 0 closed, 1 letting single probes through, 2 open.";
    CALLBACKS: Counter "trunkline_callbacks_total" in Count by ["kind", "result"],
        "The carrier's callbacks, by what became of them.";
    GRPC_REQUESTS: Counter "trunkline_grpc_requests_total" in Count by ["method", "code"],
        "gRPC requests that ended, streams included.";
    GRPC_SECONDS: Histogram "trunkline_grpc_request_seconds" in Seconds by ["method"],
        "How long gRPC requests took; a stream, how long it was open.";
    GRPC_LIMITED: Counter "trunkline_grpc_limited_total" in Count by ["reason"],
        "Requests refused by a limit.";
    TASKS: Counter "trunkline_tasks_total" in Count by ["kind", "result"],
        "Attempts at background tasks: done, failed (tried again), dead (given up), lapsed.";
    TASK_SECONDS: Histogram "trunkline_task_seconds" in Seconds by ["kind"],
        "How long an attempt at a task took.";
    DELIVERIES: Counter "trunkline_webhook_deliveries_total" in Count by ["result"],
        "Attempts to deliver webhooks to tenants: delivered, failed, refused, gone; and, dead, deliveries given up.";
    DELIVERY_SECONDS: Histogram "trunkline_webhook_delivery_seconds" in Seconds by [],
        "How long a tenant's server took to answer a webhook, or to fail.";
    TRANSFERS_STARTED: Counter "trunkline_transfers_started_total" in Count by ["kind"],
        "Transfers begun: direct or warm.";
    TRANSFERS_ENDED: Counter "trunkline_transfers_ended_total" in Count by ["mode", "outcome"],
        "Transfers that ended, by the way tried last and the outcome.";
    TRANSFER_STEPS: Counter "trunkline_transfer_steps_total" in Count by ["mode", "result"],
        "Requests to the carrier that a transfer made: done, refused, unavailable.";
    TRANSFER_BRIDGE_SECONDS: Histogram "trunkline_transfer_bridge_seconds" in Seconds by ["mode"],
        "From the request for a transfer to both sides speaking.";
    QUEUED_JOBS: Gauge "trunkline_queued_jobs" in Count by [],
        "Jobs that wait to be dialed, of all tenants.";
    OPEN_RUNS: Gauge "trunkline_open_runs" in Count by ["state"],
        "Runs that have not ended.";
    LIVE_CALLS: Gauge "trunkline_live_calls" in Count by ["state"],
        "Outbound calls that have not ended.";
    TASKS_KEPT: Gauge "trunkline_tasks" in Count by ["state"],
        "Tasks in the table: queued, or dead and kept.";
    TASKS_LATE: Gauge "trunkline_tasks_late_seconds" in Seconds by [],
        "How long the longest waiting due task has waited.";
    STORE_UP: Gauge "trunkline_store_up" in Count by [],
        "Whether the store answered the scrape: 1, or 0, and then the gauges beside it are old.";
    BUILD: Gauge "trunkline_build_info" in Count by ["version"],
        "1; the version is the label.";
}
