//! What a demo came to, judged from the carrier's side.

use std::fmt;
use std::time::Duration;

use comfy_table::Table;

use crate::cli::display;
use crate::cli::watch::Summary;
use crate::simulator::Ledger;

/// How much earlier than its turn a create may arrive: threads and sockets bunch what was sent on
/// time.
const PACE_TOLERANCE: Duration = Duration::from_millis(250);

/// What was allowed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Live calls.
    pub concurrent: u32,
    /// Creates a second.
    pub calls_per_second: f64,
}

/// What was seen.
pub struct Report {
    outcomes: Vec<(String, i64)>,
    total: i64,
    ended: i64,
    creates: usize,
    peak: usize,
    pace: f64,
    early: usize,
    duplicates: usize,
    limits: Limits,
}

impl Report {
    /// Judges a run by its own summary and the carrier's ledger.
    pub fn new(summary: &Summary, ledger: &Ledger, limits: Limits) -> Self {
        let arrivals: Vec<u64> =
            ledger.entries.iter().map(|entry| entry.arrived_monotonic_us).collect();
        let first = arrivals.iter().min().copied().unwrap_or(0);
        let last = arrivals.iter().max().copied().unwrap_or(0);
        let seconds = Duration::from_micros(last - first).as_secs_f64();
        // The callback URL holds our call id, and a call id is one attempt at one job.
        let duplicates = ledger.duplicates_by(|entry| entry.status_callback.clone());
        let intervals = u32::try_from(arrivals.len().saturating_sub(1)).unwrap_or(u32::MAX);
        Self {
            outcomes: summary
                .outcomes
                .iter()
                .map(|(outcome, count)| (display::outcome(*outcome).to_owned(), *count))
                .collect(),
            total: summary.counts.total,
            ended: summary.ended_jobs(),
            creates: ledger.entries.len(),
            peak: ledger.peak_concurrency(),
            pace: if seconds > 0.0 { f64::from(intervals) / seconds } else { 0.0 },
            early: ledger.pace_violations(limits.calls_per_second, PACE_TOLERANCE).len(),
            duplicates: duplicates.len(),
            limits,
        }
    }

    /// The promises that were broken; none if all is well.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.duplicates > 0 {
            broken.push(format!("{} calls were made twice", self.duplicates));
        }
        if self.peak > self.limits.concurrent as usize {
            broken.push(format!("{} calls were live at once", self.peak));
        }
        if self.early > 0 {
            broken.push(format!("{} calls came too early", self.early));
        }
        if self.ended != self.total {
            broken.push(format!("{} jobs did not end", self.total - self.ended));
        }
        broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut outcomes = Table::new();
        outcomes.set_header(["outcome", "jobs"]);
        for (outcome, count) in &self.outcomes {
            outcomes.add_row([outcome.clone(), count.to_string()]);
        }
        outcomes.add_row(["all".to_owned(), self.total.to_string()]);
        let mut seen = Table::new();
        seen.set_header(["as the carrier saw it", "seen", "allowed"]);
        let rate = self.limits.calls_per_second;
        seen.add_row([
            "calls live at once".into(),
            self.peak.to_string(),
            self.limits.concurrent.to_string(),
        ]);
        seen.add_row(["calls a second".into(), format!("{:.2}", self.pace), format!("{rate:.2}")]);
        seen.add_row(["calls too early".into(), self.early.to_string(), "0".into()]);
        seen.add_row(["calls made twice".into(), self.duplicates.to_string(), "0".into()]);
        seen.add_row(["calls made".into(), self.creates.to_string(), "-".into()]);
        write!(f, "{outcomes}\n\n{seen}")
    }
}
