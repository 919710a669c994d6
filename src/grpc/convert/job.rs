//! Jobs.

use super::{enum_pairs, id, json, lead, required, time};
use crate::domain::job::{self, JobState, Outcome};
use crate::domain::{LeadId, Violation};
use crate::grpc::pb;
use crate::store::{JobAdded, JobView, JobsCanceled, NewJob, Who};

enum_pairs!(state, state_of: JobState => pb::JobState {
    Queued, Dialing, InCall, Completed, Failed, Canceled, Skipped, Expired,
});
enum_pairs!(outcome, outcome_of: Outcome => pb::Outcome {
    Answered, Machine, Busy, NoAnswer, Failed, LeadDead, PolicyBlock, Unknown, Canceled, Expired,
    Suppressed,
});

/// A job from the wire; fields are named from the job on. `region` is the tenant's.
pub(in crate::grpc) fn read(new: pb::NewJob, region: Option<&str>) -> Result<NewJob, Violation> {
    use pb::new_job::Who as Wire;
    let who = match required("who", new.who)? {
        Wire::LeadId(lead_id) => Who::Lead(id::<LeadId>("lead_id", &lead_id)?),
        Wire::Lead(facts) => {
            Who::Person(lead::read(facts, region).map_err(|violation| violation.under("lead"))?)
        }
    };
    let priority = match new.priority {
        None => job::PRIORITY_DEFAULT,
        Some(priority) => u8::try_from(priority)
            .ok()
            .filter(|priority| *priority <= job::PRIORITY_MAX)
            .ok_or_else(|| Violation::new("priority", "must be 0 to 9"))?,
    };
    let metadata = new
        .metadata
        .map(|metadata| json::read("metadata", metadata, job::METADATA_MAX_BYTES))
        .transpose()?;
    let eligible_at = time::read_some("eligible_time", new.eligible_time)?;
    Ok(NewJob { who, priority, eligible_at, metadata })
}

/// What became of a job to be added, for the wire. `path` is the job's in the request.
pub(in crate::grpc) fn added(path: &str, added: JobAdded) -> pb::NewJobResult {
    match added {
        JobAdded::Job { job_id, lead_id, duplicate, suppressed } => pb::NewJobResult {
            job_id: job_id.to_string(),
            lead_id: lead_id.to_string(),
            duplicate,
            suppressed,
            error: String::new(),
        },
        JobAdded::Rejected { field, reason } => pb::NewJobResult {
            error: Violation { field, reason }.under(path).to_string(),
            ..Default::default()
        },
    }
}

/// A job for the wire.
pub(in crate::grpc) fn write(job: JobView) -> pb::Job {
    pb::Job {
        job_id: job.id.to_string(),
        run_id: job.run_id.to_string(),
        lead_id: job.lead_id.to_string(),
        state: state(job.state),
        attempt: job.attempt,
        attempts_used: job.attempts_used,
        outcome: job.outcome.map_or(0, outcome),
        eligible_time: if job.state.is_ended() { None } else { time::write(job.eligible_at) },
        priority: u32::from(job.priority),
        metadata: job.metadata.and_then(json::write),
        create_time: time::write(job.created_at),
        update_time: time::write(job.updated_at),
    }
}

/// What became of jobs to be canceled, for the wire.
pub(in crate::grpc) fn canceled(jobs: &JobsCanceled) -> pb::CancelJobsResponse {
    let words = |ids: &[crate::domain::JobId]| ids.iter().map(ToString::to_string).collect();
    pb::CancelJobsResponse {
        canceled_job_ids: words(&jobs.canceled),
        unchanged_job_ids: words(&jobs.unchanged),
        unknown_job_ids: words(&jobs.unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_round_trip() {
        for value in JobState::ALL {
            assert_eq!(state_of(state(*value)), Some(*value));
            assert!(
                pb::JobState::try_from(state(*value))
                    .unwrap()
                    .as_str_name()
                    .to_lowercase()
                    .ends_with(value.as_str())
            );
        }
        for value in Outcome::ALL {
            assert_eq!(outcome_of(outcome(*value)), Some(*value));
        }
        assert_eq!((state_of(0), state_of(99)), (None, None));
    }

    #[test]
    fn names_the_field_of_the_job() {
        let lead =
            pb::new_job::Who::Lead(pb::LeadFacts { phone: "12".into(), ..Default::default() });
        let new = |who| pb::NewJob { who, ..Default::default() };
        let field = |new| read(new, None).unwrap_err().field;
        assert_eq!(field(new(None)), "who");
        assert_eq!(field(new(Some(lead))), "lead.phone");
        assert_eq!(field(new(Some(pb::new_job::Who::LeadId("x".into())))), "lead_id");
        let person = || Some(pb::new_job::Who::LeadId(uuid::Uuid::nil().to_string()));
        assert_eq!(field(pb::NewJob { priority: Some(10), ..new(person()) }), "priority");
        assert_eq!(read(new(person()), None).unwrap().priority, job::PRIORITY_DEFAULT);
        assert_eq!(
            read(pb::NewJob { priority: Some(0), ..new(person()) }, None).unwrap().priority,
            0
        );
    }
}
