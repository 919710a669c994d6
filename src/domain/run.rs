//! A run: its settings, its life, and when it is over.

use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::amd::Amd;
use super::cap::{self, FrequencyCap};
use super::job::JobState;
use super::opt_out::OptOut;
use super::retry::RetryPolicy;
use super::rule::{self, Rule};
use super::schedule::{self, Schedule};
use super::script::Script;
use super::window::CallingWindow;
use super::{Phone, Timestamp, Violation};

mod counts;

pub use counts::{JobCounts, OutcomeCounts};

/// The most live calls that one run may ask for.
pub const CONCURRENCY_MAX: u32 = 10_000;
/// The heaviest weight.
pub const WEIGHT_MAX: u32 = 1_000;
/// Priorities lie between minus this and this.
pub const PRIORITY_MAX: i32 = 100;
/// A run expires this long after its start unless told otherwise: every job ends.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3_600);
/// No run lives longer.
pub const LIFETIME_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Longest name, in characters.
pub const NAME_MAX_CHARS: usize = 200;

super::state_words! {
    /// Where a run stands.
    pub enum RunState {
        /// Being put together; dials nothing.
        Draft = "draft",
        /// Started; nothing claimed yet.
        Pending = "pending",
        /// Dialing.
        Running = "running",
        /// Dials nothing until resumed; calls in flight go on.
        Paused = "paused",
        /// Queued jobs are being canceled, calls in flight finish.
        Canceling = "canceling",
        /// Queued jobs are being canceled, calls in flight are hung up.
        Stopping = "stopping",
        /// Every job ended.
        Completed = "completed",
        /// Ended by CancelRun.
        Canceled = "canceled",
        /// Ended by StopRun.
        Stopped = "stopped",
        /// Ended because it could not be carried out.
        Failed = "failed",
        /// Ended because its expiry time passed.
        Expired = "expired",
    }
}

impl RunState {
    /// Whether the run is over; its log has had its last event.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Completed | Self::Canceled | Self::Stopped | Self::Failed | Self::Expired => true,
            Self::Draft
            | Self::Pending
            | Self::Running
            | Self::Paused
            | Self::Canceling
            | Self::Stopping => false,
        }
    }

    /// Whether its jobs may still be dialed, now or after a resume.
    pub const fn may_dial(self) -> bool {
        matches!(self, Self::Draft | Self::Pending | Self::Running | Self::Paused)
    }

    /// Whether a claim may take its jobs.
    pub const fn is_dialing(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// What a client decides about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// For people; up to 200 characters.
    pub name: String,
    /// What callees hear.
    pub script: Script,
    /// Live calls at most, 1 to 10,000.
    pub concurrency: u32,
    /// Share of the tenant's slots, 1 to 1,000.
    pub weight: u32,
    /// Breaks ties between runs, -100 to 100; bigger goes first.
    pub priority: i32,
    /// When callees may be called, in any of these; none for the tenant's.
    pub windows: Vec<CallingWindow>,
    /// Days on which nobody is called, by the callee's calendar.
    #[serde(default)]
    pub holidays: Vec<Date>,
    /// Which outcomes are tried again.
    pub retry: RetryPolicy,
    /// The number shown to callees, one of the tenant's; none for all of them in turn.
    pub caller_id: Option<Phone>,
    /// How answering machines are treated; none to not look for them.
    #[serde(default)]
    pub amd: Option<Amd>,
    /// How often a phone may be tried, by this run together with all others of the tenant; at most
    /// 8.
    #[serde(default)]
    pub frequency_caps: Vec<FrequencyCap>,
    /// What laws ask beside that; each once.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// By which key callees ask to be called no more; none for no such key.
    #[serde(default)]
    pub opt_out: Option<OptOut>,
    /// Not before.
    pub starts_at: Option<Timestamp>,
    /// Not after; jobs still queued then expire.
    pub expires_at: Option<Timestamp>,
    /// How long to let it ring, 5 to 600 seconds.
    pub ring_timeout_s: u32,
    /// How long a call may last, 10 to 14,400 seconds.
    pub time_limit_s: u32,
}

impl RunSettings {
    /// Settings with the defaults for all but name and script.
    pub fn new(name: impl Into<String>, script: Script) -> Self {
        Self {
            name: name.into(),
            script,
            concurrency: CONCURRENCY_MAX,
            weight: 1,
            priority: 0,
            windows: Vec::new(),
            holidays: Vec::new(),
            retry: RetryPolicy::default(),
            caller_id: None,
            amd: None,
            frequency_caps: Vec::new(),
            rules: Vec::new(),
            opt_out: None,
            starts_at: None,
            expires_at: None,
            ring_timeout_s: 30,
            time_limit_s: 3_600,
        }
    }

    /// When callees may be called: by the run's windows, or else the tenant's, and by all rules.
    pub fn schedule(&self, tenants: CallingWindow) -> Schedule {
        let windows = if self.windows.is_empty() { vec![tenants] } else { self.windows.clone() };
        Schedule { windows: rule::narrow(windows, &self.rules), holidays: self.holidays.clone() }
    }

    /// The run's caps and those of its rules.
    pub fn caps(&self) -> Vec<FrequencyCap> {
        let of_rules = self.rules.iter().flat_map(|rule| rule.caps());
        self.frequency_caps.iter().chain(of_rules).copied().collect()
    }

    /// Whether the same calls may be made by `other`, as far as windows, holidays, rules and caps
    /// say.
    pub fn allows_the_same_as(&self, other: &Self) -> bool {
        self.windows == other.windows
            && self.holidays == other.holidays
            && self.rules == other.rules
            && self.frequency_caps == other.frequency_caps
    }

    fn check_rules(&self) -> Result<(), Violation> {
        if (1..self.rules.len()).any(|n| self.rules[n..].contains(&self.rules[n - 1])) {
            return Err(Violation::new("rules", "names one twice"));
        }
        let shut =
            !self.windows.is_empty() && rule::narrow(self.windows.clone(), &self.rules).is_empty();
        if shut { Err(Violation::new("rules", "allow no call within the windows")) } else { Ok(()) }
    }

    /// Checks every range; names the field.
    pub fn check(&self, now: Timestamp) -> Result<(), Violation> {
        if self.name.chars().count() > NAME_MAX_CHARS {
            return Err(Violation::new("name", "is longer than 200 characters"));
        }
        self.script.check()?;
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return Err(Violation::new("concurrency", "must be 1 to 10000"));
        }
        if !(1..=WEIGHT_MAX).contains(&self.weight) {
            return Err(Violation::new("weight", "must be 1 to 1000"));
        }
        if self.priority.abs() > PRIORITY_MAX {
            return Err(Violation::new("priority", "must be -100 to 100"));
        }
        schedule::check(&self.windows, &self.holidays)?;
        self.retry.check().map_err(|violation| violation.under("retry"))?;
        if let Some(amd) = &self.amd {
            amd.check().map_err(|violation| violation.under("amd"))?;
        }
        cap::check(&self.frequency_caps)?;
        self.check_rules()?;
        self.opt_out.as_ref().map_or(Ok(()), |opt_out| opt_out.check(&self.script))?;
        if !(5..=600).contains(&self.ring_timeout_s) {
            return Err(Violation::new("ring_timeout", "must be 5 to 600 seconds"));
        }
        if !(10..=14_400).contains(&self.time_limit_s) {
            return Err(Violation::new("time_limit", "must be 10 to 14400 seconds"));
        }
        let starts = self.starts_at.unwrap_or(now).max(now);
        if starts > now + LIFETIME_MAX {
            return Err(Violation::new("starts_at", "must be within 90 days"));
        }
        match self.expires_at {
            Some(expires) if expires <= starts => {
                Err(Violation::new("expires_at", "must be in the future and after starts_at"))
            }
            Some(expires) if expires > starts + LIFETIME_MAX => {
                Err(Violation::new("expires_at", "must be within 90 days of the start"))
            }
            _ => Ok(()),
        }
    }

    /// Checks these as a change of `old`: times that stay as they are may lie in the past by now.
    pub fn check_change(&self, old: &Self, now: Timestamp) -> Result<(), Violation> {
        let unchanged = |new: Option<Timestamp>, old| if new == old { None } else { new };
        let checked = Self {
            starts_at: unchanged(self.starts_at, old.starts_at),
            expires_at: unchanged(self.expires_at, old.expires_at),
            ..self.clone()
        };
        checked.check(now)
    }

    /// When the run's jobs expire.
    pub fn expiry(&self, now: Timestamp) -> Timestamp {
        self.expires_at.unwrap_or_else(|| self.starts_at.unwrap_or(now).max(now) + DEFAULT_LIFETIME)
    }
}

super::state_words! {
    /// A setting that a client can change by itself; the word is its field mask path.
    pub enum RunField {
        /// [`RunSettings::name`].
        Name = "name",
        /// [`RunSettings::script`].
        Script = "script",
        /// [`RunSettings::concurrency`].
        Concurrency = "concurrency",
        /// [`RunSettings::weight`].
        Weight = "weight",
        /// [`RunSettings::priority`].
        Priority = "priority",
        /// [`RunSettings::windows`].
        Windows = "windows",
        /// [`RunSettings::holidays`].
        Holidays = "holidays",
        /// [`RunSettings::retry`].
        Retry = "retry",
        /// [`RunSettings::caller_id`].
        CallerId = "caller_id",
        /// [`RunSettings::amd`].
        Amd = "amd",
        /// [`RunSettings::frequency_caps`].
        FrequencyCaps = "frequency_caps",
        /// [`RunSettings::rules`].
        Rules = "rules",
        /// [`RunSettings::opt_out`].
        OptOut = "opt_out",
        /// [`RunSettings::starts_at`].
        StartsAt = "starts_at",
        /// [`RunSettings::expires_at`].
        ExpiresAt = "expires_at",
        /// [`RunSettings::ring_timeout_s`].
        RingTimeout = "ring_timeout",
        /// [`RunSettings::time_limit_s`].
        TimeLimit = "time_limit",
    }
}

impl RunSettings {
    /// These settings with `fields` taken from `other`.
    #[must_use]
    pub fn with(mut self, fields: &[RunField], other: &Self) -> Self {
        for field in fields {
            match field {
                RunField::Name => self.name.clone_from(&other.name),
                RunField::Script => self.script.clone_from(&other.script),
                RunField::Concurrency => self.concurrency = other.concurrency,
                RunField::Weight => self.weight = other.weight,
                RunField::Priority => self.priority = other.priority,
                RunField::Windows => self.windows.clone_from(&other.windows),
                RunField::Holidays => self.holidays.clone_from(&other.holidays),
                RunField::Retry => self.retry.clone_from(&other.retry),
                RunField::CallerId => self.caller_id.clone_from(&other.caller_id),
                RunField::Amd => self.amd.clone_from(&other.amd),
                RunField::FrequencyCaps => self.frequency_caps.clone_from(&other.frequency_caps),
                RunField::Rules => self.rules.clone_from(&other.rules),
                RunField::OptOut => self.opt_out.clone_from(&other.opt_out),
                RunField::StartsAt => self.starts_at = other.starts_at,
                RunField::ExpiresAt => self.expires_at = other.expires_at,
                RunField::RingTimeout => self.ring_timeout_s = other.ring_timeout_s,
                RunField::TimeLimit => self.time_limit_s = other.time_limit_s,
            }
        }
        self
    }
}

/// What a client asks of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Begin dialing.
    Start,
    /// Dial nothing more for now.
    Pause,
    /// Go on.
    Resume,
    /// Cancel what is queued, let calls finish.
    Cancel,
    /// Cancel what is queued, hang up what is live.
    Stop,
    /// No more jobs will come.
    Seal,
}

impl Command {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Stop => "stop",
            Self::Seal => "seal",
        }
    }
}

/// A command that the run's state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} a run that is {}", .command.as_str(), .state.as_str())]
pub struct WrongState {
    /// What was asked.
    pub command: Command,
    /// Where the run stands.
    pub state: RunState,
}

/// Where the command takes a run. The same state means that it is already so: commands may be
/// repeated.
pub fn decide(state: RunState, command: Command) -> Result<RunState, WrongState> {
    use RunState as S;
    let wrong = Err(WrongState { command, state });
    match (command, state) {
        (Command::Start, S::Draft) => Ok(S::Pending),
        (Command::Start, S::Pending | S::Running) => Ok(state),
        (Command::Pause, S::Pending | S::Running) => Ok(S::Paused),
        (Command::Pause, S::Paused) => Ok(state),
        (Command::Resume, S::Paused) => Ok(S::Pending),
        (Command::Resume, S::Pending | S::Running) => Ok(state),
        (Command::Cancel, S::Draft | S::Pending | S::Running | S::Paused) => Ok(S::Canceling),
        (Command::Cancel, S::Canceling | S::Canceled) => Ok(state),
        (Command::Stop, S::Draft | S::Pending | S::Running | S::Paused | S::Canceling) => {
            Ok(S::Stopping)
        }
        (Command::Stop, S::Stopping | S::Stopped) => Ok(state),
        (Command::Seal, S::Draft | S::Pending | S::Running | S::Paused | S::Completed) => Ok(state),
        (Command::Start, S::Paused | S::Canceling | S::Stopping)
        | (Command::Pause | Command::Resume, S::Draft | S::Canceling | S::Stopping)
        | (Command::Cancel, S::Stopping)
        | (Command::Seal, S::Canceling | S::Stopping)
        | (
            Command::Start | Command::Pause | Command::Resume | Command::Cancel | Command::Stop,
            S::Completed,
        )
        | (_, S::Canceled | S::Stopped | S::Failed | S::Expired) => wrong,
    }
}

/// Where a run with these jobs goes by itself, or none.
pub fn settle(
    state: RunState,
    sealed: bool,
    counts: &JobCounts,
    expires_at: Timestamp,
    now: Timestamp,
) -> Option<RunState> {
    if counts.queued + counts.in_flight() > 0 {
        return None;
    }
    match state {
        RunState::Canceling => Some(RunState::Canceled),
        RunState::Stopping => Some(RunState::Stopped),
        RunState::Draft | RunState::Pending | RunState::Running | RunState::Paused
            if now >= expires_at =>
        {
            Some(RunState::Expired)
        }
        RunState::Pending | RunState::Running | RunState::Paused if sealed => {
            Some(RunState::Completed)
        }
        _ => None,
    }
}

/// What becomes of a run's queued jobs without being dialed, or none while they may still be.
pub fn queued_jobs_end_as(
    state: RunState,
    expires_at: Timestamp,
    now: Timestamp,
) -> Option<JobState> {
    match state {
        RunState::Canceling | RunState::Stopping => Some(JobState::Canceled),
        RunState::Draft | RunState::Pending | RunState::Running | RunState::Paused => {
            (now >= expires_at).then_some(JobState::Expired)
        }
        RunState::Completed
        | RunState::Canceled
        | RunState::Stopped
        | RunState::Failed
        | RunState::Expired => None,
    }
}

#[cfg(test)]
mod tests;
