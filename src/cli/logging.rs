//! Log output: to stderr, so that stdout stays clean for pipes.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::Error;
use crate::config::{Log, LogFormat};

/// Starts logging for this process; to be called once.
pub fn init(log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| Error::Usage(format!("log.filter is not a filter: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Pretty => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Error::Runtime(format!("cannot start logging: {error}")))
}
