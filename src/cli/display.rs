//! The wire's enums, times and numbers in words that people and scripts read.

use prost_types::{Duration, Timestamp};
use serde_json::{Map, Value, json};

use super::watch::Summary;
use crate::grpc::pb::{self, run_event::Kind};

/// A wire word without its prefix, in lower case.
pub fn lower(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// For example `running`.
pub fn run_state(state: pb::RunState) -> String {
    lower(state.as_str_name(), "RUN_STATE_")
}

/// For example `in_call`.
pub fn job_state(state: pb::JobState) -> String {
    lower(state.as_str_name(), "JOB_STATE_")
}

/// For example `no_answer`.
pub fn outcome(outcome: pb::Outcome) -> String {
    lower(outcome.as_str_name(), "OUTCOME_")
}

/// For example `ringing`.
pub fn call_state(state: pb::CallState) -> String {
    lower(state.as_str_name(), "CALL_STATE_")
}

/// For example `disabled`.
pub fn tenant_state(state: pb::TenantState) -> String {
    lower(state.as_str_name(), "TENANT_STATE_")
}

/// For example `queue_missing`.
pub fn repair(kind: pb::RepairKind) -> String {
    lower(kind.as_str_name(), "REPAIR_KIND_")
}

/// For example `run_paused`.
pub fn job_reason(kind: pb::JobReasonKind) -> String {
    lower(kind.as_str_name(), "JOB_REASON_KIND_")
}

/// For example `contacted`.
pub fn lead_status(status: pb::LeadStatus) -> String {
    lower(status.as_str_name(), "LEAD_STATUS_")
}

/// For example `import`.
pub fn lead_source(source: pb::LeadSource) -> String {
    lower(source.as_str_name(), "LEAD_SOURCE_")
}

/// For example `enabled`.
pub fn webhook_state(state: pb::WebhookState) -> String {
    lower(state.as_str_name(), "WEBHOOK_STATE_")
}

/// For example `failing`; empty for none.
pub fn webhook_disabled_reason(reason: pb::WebhookDisabledReason) -> String {
    match reason {
        pb::WebhookDisabledReason::Unspecified => String::new(),
        reason => lower(reason.as_str_name(), "WEBHOOK_DISABLED_REASON_"),
    }
}

/// For example `delivered`.
pub fn webhook_delivery_state(state: pb::WebhookDeliveryState) -> String {
    lower(state.as_str_name(), "WEBHOOK_DELIVERY_STATE_")
}

/// Whole milliseconds.
pub fn millis(duration: Option<&Duration>) -> i64 {
    duration.map_or(0, |duration| duration.seconds * 1_000 + i64::from(duration.nanos / 1_000_000))
}

/// For example `wrong_number`.
pub fn suppression_reason(reason: pb::SuppressionReason) -> String {
    lower(reason.as_str_name(), "SUPPRESSION_REASON_")
}

/// The reason that a word names.
pub fn suppression_reason_of(word: &str) -> Option<pb::SuppressionReason> {
    let name = format!("SUPPRESSION_REASON_{}", word.to_ascii_uppercase());
    pb::SuppressionReason::from_str_name(&name)
        .filter(|reason| *reason != pb::SuppressionReason::Unspecified)
}

/// For example `opt_out`.
pub fn suppression_source(source: pb::SuppressionSource) -> String {
    lower(source.as_str_name(), "SUPPRESSION_SOURCE_")
}

/// For example `extended`.
pub fn suppression_change(change: pb::SuppressionChange) -> String {
    lower(change.as_str_name(), "SUPPRESSION_CHANGE_")
}

/// For example `queued`.
pub fn task_state(state: pb::TaskState) -> String {
    lower(state.as_str_name(), "TASK_STATE_")
}

/// An entry of a lead's history in a line.
pub fn lead_event(event: &pb::LeadEvent) -> String {
    use pb::lead_event::Kind;
    match &event.kind {
        None => "something that this version does not know".into(),
        Some(Kind::Created(e)) => format!("created ({})", lead_source(e.source())),
        Some(Kind::Updated(e)) => format!("{} changed by {}", e.fields.join(", "), e.actor),
        Some(Kind::Called(e)) => {
            let direction = lower(e.direction().as_str_name(), "CALL_DIRECTION_");
            let lasted =
                e.duration.as_ref().map(|d| format!(", {} s", d.seconds)).unwrap_or_default();
            format!("{direction} call {}: {}{lasted}", e.call_id, call_state(e.state()))
        }
    }
}

/// RFC 3339 in UTC, to the second; empty if there is none.
pub fn time(at: Option<&Timestamp>) -> String {
    let at = at.and_then(|at| jiff::Timestamp::new(at.seconds, 0).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// A wire timestamp of an instant.
pub fn timestamp(at: jiff::Timestamp) -> Timestamp {
    let whole = at.as_nanosecond().div_euclid(1_000_000_000);
    let rest = at.as_nanosecond().rem_euclid(1_000_000_000);
    // Both fit: jiff's instants end with the year 9999, and the rest is below 10^9.
    Timestamp {
        seconds: i64::try_from(whole).unwrap_or(0),
        nanos: i32::try_from(rest).unwrap_or(0),
    }
}

/// `answered 12, busy 3`, the most frequent first.
pub fn outcomes(summary: &Summary) -> String {
    let mut sorted = summary.outcomes.clone();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let parts: Vec<String> =
        sorted.iter().map(|(kind, count)| format!("{} {count}", outcome(*kind))).collect();
    parts.join(", ")
}

/// `queued 4, dialing 1, completed 12`, without what is zero.
pub fn counts(counts: &pb::JobCounts) -> String {
    let parts: Vec<String> = count_list(counts)
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if parts.is_empty() { "no jobs".into() } else { parts.join(", ") }
}

const fn count_list(counts: &pb::JobCounts) -> [(&'static str, i64); 8] {
    [
        ("queued", counts.queued),
        ("dialing", counts.dialing),
        ("in_call", counts.in_call),
        ("completed", counts.completed),
        ("failed", counts.failed),
        ("canceled", counts.canceled),
        ("skipped", counts.skipped),
        ("expired", counts.expired),
    ]
}

/// A summary as JSON.
pub fn summary_json(summary: &Summary) -> Value {
    let mut jobs: Map<String, Value> = count_list(&summary.counts)
        .into_iter()
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect();
    jobs.insert("total".into(), json!(summary.counts.total));
    let outcomes: Map<String, Value> =
        summary.outcomes.iter().map(|(kind, count)| (outcome(*kind), json!(count))).collect();
    json!({
        "revision": summary.revision,
        "state": run_state(summary.state),
        "reason": summary.reason,
        "jobs": jobs,
        "outcomes": outcomes,
    })
}

/// A run's progress.
pub fn summary(run: &pb::Run) -> Summary {
    let progress = run.progress.clone().unwrap_or_default();
    Summary {
        state: progress.state(),
        counts: progress.counts.unwrap_or_default(),
        outcomes: progress.outcomes.iter().map(|count| (count.outcome(), count.count)).collect(),
        revision: run.revision,
        reason: run.last_error.clone(),
    }
}

/// A run as JSON, without its script.
pub fn run_json(run: &pb::Run) -> Value {
    let settings = run.settings.clone().unwrap_or_default();
    let mut value = summary_json(&summary(run));
    let more = json!({
        "run_id": run.run_id,
        "name": settings.name,
        "sealed": run.sealed,
        "concurrency": settings.concurrency,
        "weight": settings.weight,
        "priority": settings.priority,
        "parent_run_id": run.parent_run_id,
        "create_time": time(run.create_time.as_ref()),
        "start_time": time(run.start_time.as_ref()),
        "end_time": time(run.end_time.as_ref()),
        "expire_time": time(run.expire_time.as_ref()),
        "locked_by_worker": run.locked_by_worker.as_ref().map(|worker| &worker.worker_id),
        "population": run.population.as_ref().map(|population| json!({
            "done": population.done, "added": population.added_count, "duplicate": population.duplicate_count,
            "suppressed": population.suppressed_count, "last_error": population.last_error,
        })),
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// How far the filling of a run got, for example `going on: 3000 added`.
pub fn population(of: &pb::RunPopulation) -> String {
    let stand = if of.done { "done" } else { "going on" };
    let waits =
        if of.last_error.is_empty() { String::new() } else { format!(" ({})", of.last_error) };
    format!("{stand}: {} added, {} of them suppressed{waits}", of.added_count, of.suppressed_count)
}

/// A lead as JSON; whole, because its owner asked for it.
pub fn lead_json(lead: &pb::Lead) -> Value {
    json!({
        "lead_id": lead.lead_id,
        "phone": lead.phone,
        "name": lead.name,
        "time_zone": lead.time_zone,
        "attributes": lead.attributes.as_ref().map(struct_json),
        "tags": lead.tags,
        "status": lead_status(lead.status()),
        "source": lead_source(lead.source()),
        "etag": lead.etag,
        "create_time": time(lead.create_time.as_ref()),
    })
}

/// An object of the wire.
pub(super) fn struct_json(object: &prost_types::Struct) -> Value {
    Value::Object(
        object.fields.iter().map(|(name, value)| (name.clone(), value_json(value))).collect(),
    )
}

fn value_json(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::BoolValue(truth)) => json!(truth),
        Some(Kind::StructValue(object)) => struct_json(object),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(value_json).collect()),
    }
}

/// An event as JSON: its kind, and what it says.
pub fn event_json(event: &pb::RunEvent) -> Value {
    match &event.kind {
        None => json!({ "event": "unknown" }),
        Some(Kind::Created(e)) => json!({ "event": "created", "state": run_state(e.state()) }),
        Some(Kind::StateChanged(e)) => json!({
            "event": "state_changed", "from": run_state(e.from()), "to": run_state(e.to()), "reason": e.reason,
        }),
        Some(Kind::Updated(e)) => json!({ "event": "updated", "fields": e.fields }),
        Some(Kind::Sealed(_)) => json!({ "event": "sealed" }),
        Some(Kind::JobsAdded(e)) => json!({ "event": "jobs_added", "count": e.count }),
        Some(Kind::JobChanged(e)) => json!({
            "event": "job_changed", "job_id": e.job_id, "lead_id": e.lead_id, "state": job_state(e.state()),
            "attempt": e.attempt, "outcome": outcome(e.outcome()), "eligible_time": time(e.eligible_time.as_ref()),
        }),
        Some(Kind::Repaired(e)) => {
            json!({ "event": "repaired", "repair": repair(e.repair()), "count": e.count })
        }
        Some(Kind::OrphanCall(e)) => json!({
            "event": "orphan_call", "call_id": e.call_id, "job_id": e.job_id, "attempt": e.attempt,
            "call_sid": e.call_sid,
        }),
        Some(Kind::CallChanged(e)) => json!({
            "event": "call_changed", "call_id": e.call_id, "job_id": e.job_id, "attempt": e.attempt,
            "state": call_state(e.state()), "call_sid": e.call_sid, "seconds": e.duration.as_ref().map(seconds),
            "answered_by": lower(e.answered_by().as_str_name(), "ANSWERED_BY_"), "error_code": e.error_code,
        }),
    }
}

/// An event in a line.
pub fn event_line(event: &pb::RunEvent) -> String {
    match &event.kind {
        None => "an event that this version does not know".into(),
        Some(Kind::Created(e)) => format!("run created, {}", run_state(e.state())),
        Some(Kind::StateChanged(e)) => {
            let because =
                if e.reason.is_empty() { String::new() } else { format!(": {}", e.reason) };
            format!("run {} → {}{because}", run_state(e.from()), run_state(e.to()))
        }
        Some(Kind::Updated(e)) => format!("run updated: {}", e.fields.join(", ")),
        Some(Kind::Sealed(_)) => "run sealed".into(),
        Some(Kind::JobsAdded(e)) => format!("{} jobs added", e.count),
        Some(Kind::JobChanged(e)) => {
            let outcome = match e.outcome() {
                pb::Outcome::Unspecified => String::new(),
                some => format!(" ({})", outcome(some)),
            };
            format!("job {} attempt {} {}{outcome}", e.job_id, e.attempt, job_state(e.state()))
        }
        Some(Kind::Repaired(e)) => format!("repaired {} × {}", e.count, repair(e.repair())),
        Some(Kind::OrphanCall(e)) => format!("orphan call {} {} hung up", e.call_id, e.call_sid),
        Some(Kind::CallChanged(e)) => {
            let error = if e.error_code.is_empty() {
                String::new()
            } else {
                format!(" [{}]", e.error_code)
            };
            format!("call {} {} {}{error}", e.call_id, e.call_sid, call_state(e.state()))
        }
    }
}

fn seconds(duration: &Duration) -> i64 {
    duration.seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_designs() {
        assert_eq!(run_state(pb::RunState::Canceling), "canceling");
        assert_eq!(job_state(pb::JobState::InCall), "in_call");
        assert_eq!(outcome(pb::Outcome::NoAnswer), "no_answer");
        let counts_of = pb::JobCounts { total: 3, queued: 1, completed: 2, ..Default::default() };
        assert_eq!(counts(&counts_of), "queued 1, completed 2");
    }

    #[test]
    fn times_go_both_ways() {
        let at: jiff::Timestamp = "2026-09-01T08:00:00.5Z".parse().unwrap();
        let wire = timestamp(at);
        assert_eq!((wire.seconds, wire.nanos), (at.as_second(), 500_000_000));
        assert_eq!(time(Some(&wire)), "2026-09-01T08:00:00Z");
        assert_eq!(time(None), "");
    }
}
