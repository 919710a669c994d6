//! Runs and their settings.

use jiff::civil::Date;

use super::{amd, cap, enum_pairs, non_empty, script, time};
use crate::domain::event::Progress;
use crate::domain::retry::{DELAY_MAX_S, RetryOn, RetryPolicy};
use crate::domain::rule::Rule;
use crate::domain::run::{CONCURRENCY_MAX, JobCounts, RunField, RunSettings, RunState};
use crate::domain::schedule;
use crate::domain::script::Script;
use crate::domain::window::{ALL_DAYS, CallingWindow};
use crate::domain::{Phone, Violation};
use crate::grpc::pb;
use crate::grpc::pb::dialing_blocked::Reason as Blocked;
use crate::store::{RunPatch, RunView};

enum_pairs!(state, state_of: RunState => pb::RunState {
    Draft, Pending, Running, Paused, Canceling, Stopping, Completed, Canceled, Stopped, Failed, Expired,
});
enum_pairs!(rule, rule_of: Rule => pb::CallingRule { France2023, UsTsr, UsRegulationF });
enum_pairs!(retry_on, retry_on_of: RetryOn => pb::RetryOn { Busy, NoAnswer, Failed, Machine, Unknown });

/// The longest duration that a setting may name before the domain says what it allows: 30 days.
const DURATION_MAX_S: u32 = DELAY_MAX_S;

/// Settings from the wire, with the documented default for what is absent. Ranges are the domain's
/// to check.
pub(in crate::grpc) fn read(settings: Option<pb::RunSettings>) -> Result<RunSettings, Violation> {
    let settings = super::required("settings", settings)?;
    read_settings(settings).map_err(|violation| violation.under("settings"))
}

fn read_settings(from: pb::RunSettings) -> Result<RunSettings, Violation> {
    let defaults = RunSettings::new(from.name, script::read(from.script)?);
    let seconds = |field, duration: Option<_>, default| {
        duration.map_or(Ok(default), |duration| time::read_seconds(field, duration, DURATION_MAX_S))
    };
    Ok(RunSettings {
        concurrency: or_default(from.concurrency, CONCURRENCY_MAX),
        weight: or_default(from.weight, defaults.weight),
        priority: from.priority,
        windows: from.windows.into_iter().enumerate().map(window).collect::<Result<_, _>>()?,
        holidays: from.holidays.iter().enumerate().map(holiday).collect::<Result<_, _>>()?,
        retry: from
            .retry
            .map_or(Ok(RetryPolicy::default()), retry)
            .map_err(|v| v.under("retry"))?,
        caller_id: non_empty(from.caller_id).map(|text| caller_id(&text)).transpose()?,
        amd: from.amd.map(amd::read).transpose().map_err(|violation| violation.under("amd"))?,
        frequency_caps: cap::read(from.frequency_caps)?,
        rules: super::each("rules", &from.rules, rule_of)?,
        opt_out: from.opt_out.map(script::read_opt_out).transpose()?,
        starts_at: time::read_some("starts_at", from.starts_at)?,
        expires_at: time::read_some("expires_at", from.expires_at)?,
        ring_timeout_s: seconds("ring_timeout", from.ring_timeout, defaults.ring_timeout_s)?,
        time_limit_s: seconds("time_limit", from.time_limit, defaults.time_limit_s)?,
        ..defaults
    })
}

const fn or_default(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

fn caller_id(text: &str) -> Result<Phone, Violation> {
    super::id("caller_id", text)
}

fn window((i, from): (usize, pb::CallingWindow)) -> Result<CallingWindow, Violation> {
    read_window(from).map_err(|violation| violation.under(&format!("windows[{i}]")))
}

fn holiday((i, text): (usize, &String)) -> Result<Date, Violation> {
    schedule::holiday(text).ok_or_else(|| {
        Violation::new(format!("holidays[{i}]"), "must be a date, for example 2026-12-25")
    })
}

/// A calling window from the wire.
pub(in crate::grpc) fn read_window(from: pb::CallingWindow) -> Result<CallingWindow, Violation> {
    // What does not fit is out of range as well; the domain says so and what would be right.
    let minute = |minute| u16::try_from(minute).unwrap_or(u16::MAX);
    let days = super::each("weekdays", &from.weekdays, |day| match pb::Weekday::try_from(day) {
        Ok(pb::Weekday::Unspecified) | Err(_) => None,
        Ok(day) => Some(1u8 << (day as i32 - pb::Weekday::Monday as i32)),
    })?;
    let weekdays =
        if days.is_empty() { ALL_DAYS } else { days.into_iter().fold(0, |all, day| all | day) };
    let window = CallingWindow {
        opens_minute: minute(from.opens_minute),
        closes_minute: minute(from.closes_minute),
        weekdays,
    };
    window.check()?;
    Ok(window)
}

fn retry(from: pb::RetryPolicy) -> Result<RetryPolicy, Violation> {
    let defaults = RetryPolicy::default();
    let mut on = super::each("on", &from.on, retry_on_of)?;
    on.sort_unstable();
    on.dedup();
    let delay = |field, duration: Option<_>, default| {
        duration.map_or(Ok(default), |duration| time::read_seconds(field, duration, DELAY_MAX_S))
    };
    let policy = RetryPolicy {
        max_attempts: or_default(from.max_attempts, defaults.max_attempts),
        on: if on.is_empty() { defaults.on } else { on },
        initial_delay_s: delay("initial_delay", from.initial_delay, defaults.initial_delay_s)?,
        multiplier: if from.multiplier == 0.0 { defaults.multiplier } else { from.multiplier },
        max_delay_s: delay("max_delay", from.max_delay, defaults.max_delay_s)?,
        jitter: from.jitter.unwrap_or(defaults.jitter),
    };
    policy.check()?;
    Ok(policy)
}

/// A patch from the wire. Only what the mask names is read, so a client sends nothing else.
pub(in crate::grpc) fn patch(
    settings: Option<pb::RunSettings>,
    mask: Option<prost_types::FieldMask>,
) -> Result<RunPatch, Violation> {
    let not_a_field = "is not a field of RunSettings";
    let fields = super::masked(mask, RunField::ALL.len(), RunField::from_word, not_a_field)?;
    let given = settings.unwrap_or_default();
    // Never stored: the mask does not name it.
    let unread = pb::RunSettings {
        script: Some(script::write(Script::Say {
            text: "-".to_owned(),
            voice: None,
            language: None,
        })),
        ..Default::default()
    };
    let settings = fields.iter().fold(unread, |settings, field| take(settings, *field, &given));
    Ok(RunPatch { settings: read(Some(settings))?, fields })
}

fn take(mut to: pb::RunSettings, field: RunField, from: &pb::RunSettings) -> pb::RunSettings {
    match field {
        RunField::Name => to.name.clone_from(&from.name),
        RunField::Script => to.script.clone_from(&from.script),
        RunField::Concurrency => to.concurrency = from.concurrency,
        RunField::Weight => to.weight = from.weight,
        RunField::Priority => to.priority = from.priority,
        RunField::Windows => to.windows.clone_from(&from.windows),
        RunField::Holidays => to.holidays.clone_from(&from.holidays),
        RunField::Retry => to.retry.clone_from(&from.retry),
        RunField::CallerId => to.caller_id.clone_from(&from.caller_id),
        RunField::Amd => to.amd.clone_from(&from.amd),
        RunField::FrequencyCaps => to.frequency_caps.clone_from(&from.frequency_caps),
        RunField::Rules => to.rules.clone_from(&from.rules),
        RunField::OptOut => to.opt_out.clone_from(&from.opt_out),
        RunField::StartsAt => to.starts_at = from.starts_at,
        RunField::ExpiresAt => to.expires_at = from.expires_at,
        RunField::RingTimeout => to.ring_timeout = from.ring_timeout,
        RunField::TimeLimit => to.time_limit = from.time_limit,
    }
    to
}

/// A calling window for the wire.
pub(in crate::grpc) fn write_window(window: CallingWindow) -> pb::CallingWindow {
    pb::CallingWindow {
        opens_minute: u32::from(window.opens_minute),
        closes_minute: u32::from(window.closes_minute),
        weekdays: (0..7)
            .filter(|day| window.weekdays & (1 << day) != 0)
            .map(|day| day + 1)
            .collect(),
    }
}

/// Settings for the wire, with every default filled in.
pub(in crate::grpc) fn write_settings(settings: RunSettings) -> pb::RunSettings {
    let retry = settings.retry;
    pb::RunSettings {
        name: settings.name,
        script: Some(script::write(settings.script)),
        concurrency: settings.concurrency,
        weight: settings.weight,
        priority: settings.priority,
        windows: settings.windows.into_iter().map(write_window).collect(),
        holidays: settings.holidays.iter().map(ToString::to_string).collect(),
        retry: Some(pb::RetryPolicy {
            max_attempts: retry.max_attempts,
            on: retry.on.into_iter().map(retry_on).collect(),
            initial_delay: Some(time::write_seconds(retry.initial_delay_s)),
            multiplier: retry.multiplier,
            max_delay: Some(time::write_seconds(retry.max_delay_s)),
            jitter: Some(retry.jitter),
        }),
        caller_id: settings.caller_id.map(|phone| phone.expose().to_owned()).unwrap_or_default(),
        amd: settings.amd.map(amd::write),
        frequency_caps: settings.frequency_caps.into_iter().map(cap::write).collect(),
        rules: settings.rules.into_iter().map(rule).collect(),
        opt_out: settings.opt_out.map(script::write_opt_out),
        starts_at: settings.starts_at.and_then(time::write),
        expires_at: settings.expires_at.and_then(time::write),
        ring_timeout: Some(time::write_seconds(settings.ring_timeout_s)),
        time_limit: Some(time::write_seconds(settings.time_limit_s)),
    }
}

/// Jobs by state, for the wire.
pub(in crate::grpc) const fn counts(counts: &JobCounts) -> pb::JobCounts {
    pb::JobCounts {
        total: counts.total(),
        queued: counts.queued,
        dialing: counts.dialing,
        in_call: counts.in_call,
        completed: counts.completed,
        failed: counts.failed,
        canceled: counts.canceled,
        skipped: counts.skipped,
        expired: counts.expired,
    }
}

/// Where a run stands, for the wire.
pub(in crate::grpc) fn progress(progress: &Progress) -> pb::RunProgress {
    pb::RunProgress {
        state: state(progress.state),
        counts: Some(counts(&progress.counts)),
        outcomes: progress
            .outcomes
            .0
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(outcome, count)| pb::OutcomeCount {
                outcome: super::job::outcome(*outcome),
                count: *count,
            })
            .collect(),
    }
}

/// A run for the wire.
pub(in crate::grpc) fn write(run: RunView) -> pb::Run {
    pb::Run {
        run_id: run.id.to_string(),
        settings: Some(write_settings(run.settings)),
        progress: Some(progress(&run.progress)),
        sealed: run.sealed,
        parent_run_id: run.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        last_error: run.last_error.unwrap_or_default(),
        revision: run.revision,
        create_time: time::write(run.created_at),
        update_time: time::write(run.updated_at),
        start_time: run.started_at.and_then(time::write),
        end_time: run.ended_at.and_then(time::write),
        expire_time: time::write(run.expires_at),
        population: run.population.map(|population| pb::RunPopulation {
            done: population.done,
            added_count: population.added,
            duplicate_count: population.duplicates,
            suppressed_count: population.suppressed,
            last_error: population.last_error.unwrap_or_default(),
        }),
        locked_by_worker: run.worker.map(|worker| pb::RunWorker {
            worker_id: worker.id.to_string(),
            heartbeat_time: time::write(worker.heartbeat_at),
            expire_time: time::write(worker.expires_at),
        }),
        dialing_blocked: run.breaker.map(|breaker| pb::DialingBlocked {
            reason: if breaker.probing { Blocked::CarrierProbed } else { Blocked::CarrierFailing }
                .into(),
            until_time: time::write(breaker.until),
        }),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
