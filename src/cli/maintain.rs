//! `trunkline run reconcile`, `cleanup`, `retry` and `explain`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::client::{self, Client, request_id};
use super::output::Output;
use super::run::{ask, pair, show};
use super::{Error, display};
use crate::grpc::pb::{self, JobState, Outcome};

/// Which jobs of an ended run are retried, and how.
#[derive(clap::Args)]
pub struct Retry {
    /// The ended run.
    run_id: String,
    /// Only jobs that ended so: completed, failed, canceled, skipped or expired; may be given more
    /// than once [default: failed]
    #[arg(long = "state", value_parser = state)]
    states: Vec<JobState>,
    /// Only jobs with this outcome, for example busy; may be given more than once [default: all]
    #[arg(long = "outcome", value_parser = outcome)]
    outcomes: Vec<Outcome>,
    /// The new run's name [default: the ended run's]
    #[arg(long)]
    name: Option<String>,
    /// Start once all jobs are in.
    #[arg(long)]
    start: bool,
}

fn state(text: &str) -> Result<JobState, String> {
    JobState::from_str_name(&format!("JOB_STATE_{}", text.to_ascii_uppercase()))
        .filter(|state| *state as i32 >= JobState::Completed as i32)
        .ok_or_else(|| "must be completed, failed, canceled, skipped or expired".to_owned())
}

fn outcome(text: &str) -> Result<Outcome, String> {
    Outcome::from_str_name(&format!("OUTCOME_{}", text.to_ascii_uppercase()))
        .filter(|outcome| *outcome != Outcome::Unspecified)
        .ok_or_else(|| {
            "must be answered, machine, busy, no_answer, failed, lead_dead, policy_block, unknown, canceled or expired"
                .to_owned()
        })
}

/// Reconciles runs, and shows those that needed something.
pub(super) async fn reconcile(
    client: &Client,
    run_ids: Vec<String>,
    output: Output,
) -> Result<(), Error> {
    let answer = ask!(client, reconcile_runs, pb::ReconcileRunsRequest { run_ids })?;
    let repairs = |run: &pb::reconcile_runs_response::RepairedRun| -> Vec<String> {
        run.reasons
            .iter()
            .map(|one| format!("{} {}", display::repair(one.kind()), one.count))
            .collect()
    };
    let runs: Vec<Value> = answer
        .repaired_runs
        .iter()
        .map(|run| {
            json!({
                "run_id": run.run_id,
                "old_state": display::run_state(run.old_state()),
                "new_state": display::run_state(run.new_state()),
                "repairs": run.reasons.iter().map(|one| json!({
                    "kind": display::repair(one.kind()), "count": one.count,
                })).collect::<Vec<_>>(),
                "before": run.counts_before.as_ref().map(display::counts),
                "after": run.counts_after.as_ref().map(display::counts),
            })
        })
        .collect();
    let value = json!({ "repaired": runs, "repaired_count": answer.repaired_count, "unchanged": answer.unchanged_count });
    let rows = answer
        .repaired_runs
        .iter()
        .map(|run| {
            vec![
                run.run_id.clone(),
                format!(
                    "{} → {}",
                    display::run_state(run.old_state()),
                    display::run_state(run.new_state())
                ),
                repairs(run).join(", "),
                run.counts_after.as_ref().map(display::counts).unwrap_or_default(),
            ]
        })
        .collect();
    output.show(&value, &["run", "state", "put right", "jobs now"], rows)?;
    output.note(&format!(
        "{} runs needed something, {} needed nothing",
        answer.repaired_count, answer.unchanged_count
    ))?;
    Ok(())
}

/// Ends what is stale, and says how much.
pub(super) async fn cleanup(client: &Client, output: Output) -> Result<(), Error> {
    let answer = ask!(client, cleanup_stale_calls, pb::CleanupStaleCallsRequest {})?;
    let counts = [
        ("stale_calls", answer.stale_call_count),
        ("abandoned_intents", answer.abandoned_intent_count),
        ("ended_jobs", answer.ended_job_count),
        ("ended_runs", answer.ended_run_count),
    ];
    let value: Value = counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let rows = counts.iter().map(|(name, count)| pair(name, &count.to_string())).collect();
    Ok(output.show(&value, &["", ""], rows)?)
}

/// Makes the new run, and shows it.
pub(super) async fn retry(client: &Client, args: Retry, output: Output) -> Result<(), Error> {
    let named = args.name.is_some();
    let request = pb::RetryJobsRequest {
        request_id: request_id(),
        run_id: args.run_id,
        states: args.states.into_iter().map(Into::into).collect(),
        outcomes: args.outcomes.into_iter().map(Into::into).collect(),
        settings: args.name.map(|name| pb::RunSettings { name, ..Default::default() }),
        update_mask: named.then(|| prost_types::FieldMask { paths: vec!["name".into()] }),
        start: args.start,
    };
    show(output, ask!(client, retry_jobs, request)?.run.as_ref(), None)
}

/// Shows why a job is where it is.
pub(super) async fn explain(client: &Client, job_id: String, output: Output) -> Result<(), Error> {
    let answer = ask!(client, explain_job, pb::ExplainJobRequest { job_id })?;
    let job = answer.job.clone().unwrap_or_default();
    let value = json!({
        "job_id": job.job_id,
        "run_id": job.run_id,
        "state": display::job_state(job.state()),
        "rule": display::job_reason(answer.rule()),
        "reasons": answer.reasons.iter().map(reason_json).collect::<Vec<_>>(),
        "next_eligible_time": display::time(answer.next_eligible_time.as_ref()),
        "expire_time": display::time(answer.expire_time.as_ref()),
        "call_ids": answer.call_ids,
    });
    let mut rows = vec![
        pair("job", &job.job_id),
        pair("run", &job.run_id),
        pair("state", &display::job_state(job.state())),
    ];
    rows.extend(
        answer.reasons.iter().map(|one| pair(&display::job_reason(one.kind()), &reason_line(one))),
    );
    rows.push(pair("next eligible", &display::time(answer.next_eligible_time.as_ref())));
    rows.push(pair("expires", &display::time(answer.expire_time.as_ref())));
    rows.push(pair("calls", &answer.call_ids.join("\n")));
    rows.retain(|row| row.iter().all(|cell| !cell.is_empty()));
    Ok(output.show(&value, &["", ""], rows)?)
}

fn reason_json(reason: &pb::JobReason) -> Value {
    json!({
        "kind": display::job_reason(reason.kind()),
        "text": reason.text,
        "time": display::time(reason.time.as_ref()),
        "count": reason.count,
        "limit": reason.limit,
        "call_id": reason.call_id,
        "error_code": reason.error_code,
    })
}

/// A reason's text, and what of its numbers is there.
fn reason_line(reason: &pb::JobReason) -> String {
    let mut line = reason.text.clone();
    if reason.limit > 0 {
        let _ = write!(line, ": {} of {}", reason.count, reason.limit);
    } else if reason.count > 0 {
        let _ = write!(line, ": {}", reason.count);
    }
    if reason.outcome() != Outcome::Unspecified {
        let _ = write!(line, ": {}", display::outcome(reason.outcome()));
    }
    if reason.call_state() != pb::CallState::Unspecified {
        let _ = write!(line, ": {} {}", reason.call_id, display::call_state(reason.call_state()));
    } else if !reason.call_id.is_empty() {
        let _ = write!(line, ": {}", reason.call_id);
    }
    if !reason.error_code.is_empty() {
        let _ = write!(line, " [{}]", reason.error_code);
    }
    if reason.time.is_some() {
        let _ = write!(line, " ({})", display::time(reason.time.as_ref()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_final_states_and_known_outcomes() {
        assert_eq!(state("expired"), Ok(JobState::Expired));
        assert!(
            state("queued").is_err() && state("in_call").is_err() && state("unspecified").is_err()
        );
        assert_eq!(outcome("no_answer"), Ok(Outcome::NoAnswer));
        assert!(outcome("unspecified").is_err());
    }

    #[test]
    fn a_reason_in_a_line() {
        let full = pb::JobReason { text: "full".into(), count: 3, limit: 3, ..Default::default() };
        assert_eq!(reason_line(&full), "full: 3 of 3");
        let ended = pb::JobReason {
            text: "ended".into(),
            outcome: Outcome::LeadDead.into(),
            error_code: "21211".into(),
            ..Default::default()
        };
        assert_eq!(reason_line(&ended), "ended: lead_dead [21211]");
    }
}
