//! From what went wrong to what the client is told. One function per error type, each exhaustive;
//! an internal cause goes to the log and never to the client.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, QuotaViolation, StatusExt as _};

use crate::domain::Violation;
use crate::domain::run::WrongState;
use crate::domain::transfer;
use crate::{metrics, progress, store};

/// `ErrorInfo.domain` of every error of ours.
pub const DOMAIN: &str = "trunkline";
/// How long a client is asked to wait when something of ours is not available.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a client is asked to wait when a limit of this process is reached.
pub(super) const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(5);
/// How long a client is asked to wait for its queue to empty.
const RETRY_AFTER_QUEUE: Duration = Duration::from_secs(60);

fn details(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let metadata: HashMap<_, _> =
        metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

/// A status of ours with `ErrorInfo { reason, domain }` and nothing else.
pub(super) fn plain(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, details(reason, &[]))
}

/// INTERNAL, with the cause in the log only.
pub(super) fn internal(cause: &dyn std::fmt::Display) -> Status {
    tracing::error!(%cause, "internal error");
    plain(Code::Internal, "INTERNAL", "internal error; the request id names it in the server's log")
}

/// INVALID_ARGUMENT that names the field.
pub(super) fn of_violation(violation: &Violation) -> Status {
    field_violation("INVALID_FIELD", violation)
}

fn field_violation(reason: &str, violation: &Violation) -> Status {
    let mut details = details(reason, &[]);
    details.add_bad_request_violation(&violation.field, &violation.reason);
    Status::with_error_details(Code::InvalidArgument, violation.to_string(), details)
}

fn of_wrong_state(wrong: &WrongState) -> Status {
    let message = wrong.to_string();
    let (command, state) = (wrong.command.as_str(), wrong.state.as_str());
    let mut details = details("WRONG_RUN_STATE", &[("command", command), ("state", state)]);
    details.set_precondition_failure([PreconditionViolation::new(
        "RUN_STATE",
        state,
        message.as_str(),
    )]);
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

fn failed_precondition(
    reason: &str,
    metadata: &[(&str, &str)],
    violation: PreconditionViolation,
) -> Status {
    let mut details = details(reason, metadata);
    let message = violation.description.clone();
    details.set_precondition_failure([violation]);
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

fn unavailable(reason: &str, message: &str, retry_after: Duration) -> Status {
    let mut details = details(reason, &[]);
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// A quota that is used up, in words for the client.
#[derive(Debug, Clone)]
pub(super) struct OverQuota {
    /// `ErrorInfo.reason`.
    pub reason: &'static str,
    /// What is limited, of whom.
    pub subject: String,
    /// The limit.
    pub description: String,
}

/// RESOURCE_EXHAUSTED with the quota, and when to come again.
pub(super) fn over_quota(quota: &OverQuota, retry_after: Duration) -> Status {
    metrics::grpc_limited(quota.reason);
    let mut details = details(quota.reason, &[]);
    details.set_retry_info(Some(retry_after));
    details.set_quota_failure([QuotaViolation::new(&quota.subject, &quota.description)]);
    let message = format!("over the limit of {}", quota.description);
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// UNAVAILABLE because this process is going away.
pub(super) fn draining() -> Status {
    unavailable(
        "DRAINING",
        "the server is going away; try again, or resume, elsewhere",
        RETRY_AFTER,
    )
}

/// The status for a use case's error.
pub(super) fn of_store(error: &store::Error) -> Status {
    match error {
        store::Error::NotFound(what) => Status::with_error_details(
            Code::NotFound,
            format!("no such {what}"),
            details("NOT_FOUND", &[("resource", what)]),
        ),
        store::Error::Exists(what) => Status::with_error_details(
            Code::AlreadyExists,
            error.to_string(),
            details("ALREADY_EXISTS", &[("resource", what)]),
        ),
        store::Error::Changed => plain(Code::Aborted, "ETAG_MISMATCH", error.to_string()),
        store::Error::OnOneself(why) => failed_precondition(
            "ON_ONESELF",
            &[],
            PreconditionViolation::new("OTHER_KEY", "the key that asks", *why),
        ),
        store::Error::NoMasterKey => failed_precondition(
            "NO_MASTER_KEY",
            &[],
            PreconditionViolation::new("MASTER_KEY", "sealing.keys", error.to_string()),
        ),
        store::Error::Invalid(violation) => of_violation(violation),
        store::Error::WrongState(wrong) => of_wrong_state(wrong),
        store::Error::Transfer(why) => of_transfer(*why),
        store::Error::Closed(why) => {
            let message = error.to_string();
            let mut details = details("RUN_CLOSED", &[("state", why)]);
            details.set_precondition_failure([PreconditionViolation::new(
                "RUN_TAKES_JOBS",
                *why,
                message.as_str(),
            )]);
            Status::with_error_details(Code::FailedPrecondition, message, details)
        }
        store::Error::Over(state) => failed_precondition(
            "RUN_OVER",
            &[("state", state.as_str())],
            PreconditionViolation::new("RUN_MAY_DIAL", state.as_str(), error.to_string()),
        ),
        store::Error::NotEnded(state) => failed_precondition(
            "RUN_NOT_ENDED",
            &[("state", state.as_str())],
            PreconditionViolation::new("RUN_ENDED", state.as_str(), error.to_string()),
        ),
        store::Error::NothingToRetry => failed_precondition(
            "NOTHING_TO_RETRY",
            &[],
            PreconditionViolation::new("JOBS_MATCH", "states and outcomes", error.to_string()),
        ),
        store::Error::TooSoon { retry_after } => {
            let quota = OverQuota {
                reason: "ONCE_A_MINUTE",
                subject: "tenant:maintenance".to_owned(),
                description: "each kind of maintenance: once a minute".to_owned(),
            };
            over_quota(&quota, *retry_after)
        }
        store::Error::QueueFull { max } => {
            let quota = OverQuota {
                reason: "QUEUED_JOBS_LIMIT",
                subject: "tenant:queued_jobs".to_owned(),
                description: format!("jobs queued at once over all runs: {max}"),
            };
            over_quota(&quota, RETRY_AFTER_QUEUE)
        }
        store::Error::RequestReused => field_violation(
            "REQUEST_ID_REUSED",
            &Violation::new("request_id", "was used for a different request"),
        ),
        store::Error::Unavailable(cause) => {
            tracing::error!(%cause, "the database is not available");
            unavailable(
                "DATABASE_UNAVAILABLE",
                "the database is not available; try again",
                RETRY_AFTER,
            )
        }
        store::Error::Locked(cause) | store::Error::Internal(cause) => internal(cause),
        store::Error::Lapsed => internal(error),
    }
}

/// The status for a transfer that is refused.
fn of_transfer(why: transfer::Rejection) -> Status {
    use transfer::Rejection as R;
    let (reason, precondition) = match why {
        R::CallerGone => ("CALLER_GONE", "CALL_IS_LIVE"),
        R::NotAnswered => ("CALL_NOT_ANSWERED", "CALL_IS_ANSWERED"),
        R::PartOfTransfer => ("CALL_OF_TRANSFER", "CALL_IS_A_CALLERS"),
        R::InTransfer | R::HasCaller => ("CALL_IN_TRANSFER", "CALL_IS_NOT_TRANSFERRED"),
        R::Ended | R::Ending => ("TRANSFER_OVER", "TRANSFER_IS_LIVE"),
    };
    failed_precondition(
        reason,
        &[],
        PreconditionViolation::new(precondition, "transfer", why.to_string()),
    )
}

/// The status for an end of a watch.
pub(super) fn of_progress(error: &progress::Error) -> Status {
    match error {
        progress::Error::NotFound => of_store(&store::Error::NotFound("run")),
        progress::Error::TokenOutOfRange { reason, oldest } => {
            let oldest = oldest.as_ref().map(ToString::to_string);
            let mut metadata = vec![("reason", reason.as_str())];
            metadata.extend(oldest.as_deref().map(|oldest| ("oldest_resume_token", oldest)));
            Status::with_error_details(
                Code::OutOfRange,
                error.to_string(),
                details("RESUME_TOKEN_OUT_OF_RANGE", &metadata),
            )
        }
        progress::Error::Draining => draining(),
        progress::Error::TooMany => {
            let quota = OverQuota {
                reason: "TOO_MANY_WATCHERS",
                subject: "server:watchers".to_owned(),
                description: "watchers of this server, over all tenants".to_owned(),
            };
            over_quota(&quota, RETRY_AFTER_LIMIT)
        }
        progress::Error::Store(error) => of_store(error),
    }
}

/// What a use case of this module fails with: keeps its cause until the last moment.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The request is wrong.
    Invalid(Violation),
    /// The store refused.
    Store(store::Error),
    /// Already a status.
    Status(Status),
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::Invalid(violation)
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(violation) => of_violation(&violation),
            Refusal::Store(error) => of_store(&error),
            Refusal::Status(status) => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunId;
    use crate::domain::run::{Command, RunState};
    use crate::progress::{Cursor, OutOfRange};

    #[test]
    fn names_field_state_and_reason() {
        let status = of_violation(&Violation::new("settings.weight", "must be 1 to 1000"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "settings.weight");
        assert_eq!(details.error_info().unwrap().domain, DOMAIN);

        let wrong = WrongState { command: Command::Pause, state: RunState::Completed };
        let status = of_store(&store::Error::WrongState(wrong));
        assert_eq!(status.code(), Code::FailedPrecondition);
        let details = status.get_error_details();
        assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "completed");
    }

    #[test]
    fn causes_stay_inside() {
        for error in [
            store::Error::Internal("relation \"runs\" does not exist".into()),
            store::Error::Locked("held by process 7".into()),
            store::Error::Unavailable("db.internal:5432 refused".into()),
        ] {
            let status = of_store(&error);
            for inside in ["relation", "process 7", "5432"] {
                assert!(!status.message().contains(inside), "{status:?}");
            }
        }
        let status = of_store(&store::Error::Unavailable("x".into()));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }

    #[test]
    fn what_comes_too_soon_says_when() {
        let retry_after = Duration::from_secs(41);
        let status = of_store(&store::Error::TooSoon { retry_after });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(retry_after));
        for error in [store::Error::NotEnded(RunState::Running), store::Error::NothingToRetry] {
            let status = of_store(&error);
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert_eq!(status.get_details_precondition_failure().unwrap().violations.len(), 1);
        }
    }

    #[test]
    fn out_of_range_carries_the_oldest_token() {
        let oldest = Cursor { epoch: "e".into(), run: RunId(uuid::Uuid::nil()), revision: 7 };
        let status = of_progress(&progress::Error::TokenOutOfRange {
            reason: OutOfRange::Trimmed,
            oldest: Some(oldest.clone()),
        });
        assert_eq!(status.code(), Code::OutOfRange);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["reason"], "trimmed");
        assert_eq!(info.metadata["oldest_resume_token"].parse(), Ok(oldest));
    }
}
