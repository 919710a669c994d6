//! What can go wrong in a command, and the exit code that says so.

use std::fmt::Write as _;

use tonic::Status;
use tonic_types::StatusExt;

use super::csv;
use crate::{app, config};

/// The exit code for a command that failed.
pub const EXIT_RUNTIME: u8 = 1;
/// The exit code for a command that was put wrongly; also clap's.
pub const EXIT_USAGE: u8 = 2;

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The command was put wrongly.
    #[error("{0}")]
    Usage(String),
    /// The server refused.
    #[error("{}", rendered(.0))]
    Status(Box<Status>),
    /// A lead file cannot be used.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// The server could not start or go on.
    #[error(transparent)]
    App(#[from] app::Error),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Anything else.
    #[error("{0}")]
    Runtime(String),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Error {
    /// What the process exits with.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::App(app::Error::Config(_)) => EXIT_USAGE,
            Self::Status(_) | Self::Csv(_) | Self::App(_) | Self::Io(_) | Self::Runtime(_) => {
                EXIT_RUNTIME
            }
        }
    }

    /// Whether nobody is left to read the output, as with `trunkline run list | head -1`.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// `code: message`, the reason, and one line for each field.
pub fn rendered(status: &Status) -> String {
    let mut text = format!("{}: {}", word(status.code()), status.message());
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        let _ = write!(text, " [{}]", info.reason);
    }
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        let line = format!("{}: {}", violation.field, violation.description);
        // A single violation is usually the message itself.
        if line != status.message() {
            let _ = write!(text, "\n  {line}");
        }
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let _ = write!(text, "\n  try again in {:.1} s", delay.as_secs_f64());
    }
    text
}

/// The code as the gRPC specification spells it.
const fn word(code: tonic::Code) -> &'static str {
    use tonic::Code as C;
    match code {
        C::Ok => "OK",
        C::Cancelled => "CANCELLED",
        C::Unknown => "UNKNOWN",
        C::InvalidArgument => "INVALID_ARGUMENT",
        C::DeadlineExceeded => "DEADLINE_EXCEEDED",
        C::NotFound => "NOT_FOUND",
        C::AlreadyExists => "ALREADY_EXISTS",
        C::PermissionDenied => "PERMISSION_DENIED",
        C::ResourceExhausted => "RESOURCE_EXHAUSTED",
        C::FailedPrecondition => "FAILED_PRECONDITION",
        C::Aborted => "ABORTED",
        C::OutOfRange => "OUT_OF_RANGE",
        C::Unimplemented => "UNIMPLEMENTED",
        C::Internal => "INTERNAL",
        C::Unavailable => "UNAVAILABLE",
        C::DataLoss => "DATA_LOSS",
        C::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_status_shows_its_details() {
        let mut details =
            ErrorDetails::with_bad_request_violation("settings.weight", "must be 1 to 1000");
        details.set_error_info("INVALID", "trunkline", [("a".to_owned(), "b".to_owned())]);
        let status = Status::with_error_details(tonic::Code::InvalidArgument, "no", details);
        assert_eq!(
            rendered(&status),
            "INVALID_ARGUMENT: no [INVALID]\n  settings.weight: must be 1 to 1000"
        );
        assert_eq!(Error::from(status).exit_code(), EXIT_RUNTIME);
        let details = ErrorDetails::with_bad_request_violation("run_id", "must be a UUID");
        let status = Status::with_error_details(
            tonic::Code::InvalidArgument,
            "run_id: must be a UUID",
            details,
        );
        assert_eq!(rendered(&status), "INVALID_ARGUMENT: run_id: must be a UUID");
    }
}
