//! Files of people sent as one import: page by page, taken up again if it is cut, and told by the
//! lines of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backon::{BackoffBuilder, ExponentialBuilder};
use indicatif::ProgressBar;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::client::{self, Queue};
use super::csv::{self, Leads, Map, Row};
use super::output::Output;
use super::{Error, render};
use crate::grpc::pb::import_jobs_request::{Batch, Header, Part};
use crate::grpc::pb::new_job::Who;
use crate::grpc::pb::{ImportJobsRequest, ImportJobsResponse, NewJob};
use crate::store::BATCH_MAX;

/// The most bytes in one page: well below the 4 MiB that a gRPC server takes.
const PAGE_MAX_BYTES: usize = 1 << 20;
/// Batches read ahead of the network.
const BATCHES_AHEAD: usize = 4;
/// How often a cut import is taken up again.
const RETRIES: usize = 5;
/// The first rejections are shown, this many at most.
pub(super) const REJECTIONS_SHOWN: usize = 20;

/// Groups rows into pages that the server takes: at most 1,000 leads and 1 MiB.
pub(super) struct Pages<I> {
    rows: I,
    held: Option<Row>,
}

impl<I: Iterator<Item = Result<Row, csv::Error>>> Pages<I> {
    pub(super) const fn new(rows: I) -> Self {
        Self { rows, held: None }
    }
}

impl<I: Iterator<Item = Result<Row, csv::Error>>> Iterator for Pages<I> {
    type Item = Result<Vec<Row>, csv::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < BATCH_MAX {
            let row = match self.held.take().map(Ok).or_else(|| self.rows.next()) {
                None => break,
                Some(Ok(row)) => row,
                Some(Err(error)) => return Some(Err(error)),
            };
            bytes += row.facts.encoded_len();
            if bytes > PAGE_MAX_BYTES && !page.is_empty() {
                self.held = Some(row);
                break;
            }
            page.push(row);
        }
        (!page.is_empty()).then_some(Ok(page))
    }
}

/// A file, and the messages that it becomes.
#[derive(Clone)]
pub(super) struct Import<M, T> {
    /// The file.
    pub file: PathBuf,
    /// What it calls its columns.
    pub maps: Vec<Map>,
    /// The first message. It names the import, so that sending everything again goes on where it
    /// was cut.
    pub header: M,
    /// What a row becomes.
    pub item: fn(Row) -> Result<T, Error>,
    /// What a page becomes, and its offset.
    pub batch: fn(u64, Vec<T>) -> M,
}

impl<M: Clone + Send + 'static, T: Clone + 'static> Import<M, T> {
    /// Sends the file with `call`, again while the server is away. `total` is the number of its
    /// records, for the bar.
    pub async fn carry_out<A>(
        &self,
        total: u64,
        call: impl AsyncFn(ReceiverStream<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let mut waits = ExponentialBuilder::default().with_max_times(RETRIES).with_jitter().build();
        let bar = render::counting("importing", total);
        loop {
            match self.attempt(&bar, &call).await {
                Err(Error::Status(status)) if client::is_away(&status) => {
                    let Some(wait) = waits.next() else {
                        bar.abandon();
                        return Err(Error::Status(status));
                    };
                    tokio::time::sleep(wait).await;
                }
                done => {
                    bar.finish_and_clear();
                    return done;
                }
            }
        }
    }

    async fn attempt<A>(
        &self,
        bar: &ProgressBar,
        call: impl AsyncFn(ReceiverStream<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        bar.set_position(0);
        let (import, counting) = (self.clone(), bar.clone());
        let reader = tokio::task::spawn_blocking(move || import.send_all(&sender, &counting));
        let answer = call(ReceiverStream::new(receiver)).await;
        // A file that broke off explains more than what the server made of it.
        reader.await.map_err(|error| Error::Runtime(format!("reading the file: {error}")))??;
        Ok(answer?.into_inner())
    }

    /// Ends early, without an error, when the call is over: then the call says why.
    fn send_all(self, sender: &mpsc::Sender<M>, bar: &ProgressBar) -> Result<(), Error> {
        let rows = Leads::open(&self.file, &self.maps)?;
        if sender.blocking_send(self.header).is_err() {
            return Ok(());
        }
        let mut offset = 0;
        for page in Pages::new(rows) {
            let items = page?.into_iter().map(self.item).collect::<Result<Vec<_>, _>>()?;
            let count = items.len() as u64;
            if sender.blocking_send((self.batch)(offset, items)).is_err() {
                return Ok(());
            }
            offset += count;
            bar.set_position(offset);
        }
        Ok(())
    }
}

/// How to go on with an import that was given up, for people.
pub(super) fn tell_how_to_go_on(error: &Error, import_id: &str) {
    if matches!(error, Error::Status(status) if client::is_away(status)) {
        eprintln!("go on with: --import-id {import_id}");
    }
}

/// Rejections by the lines of their records instead of their offsets.
pub(super) fn by_line<'a>(
    file: &Path,
    maps: &[Map],
    rejections: impl Iterator<Item = (u64, &'a str)>,
) -> Result<Vec<(u64, String)>, csv::Error> {
    let rejections: Vec<_> = rejections.collect();
    let offsets: BTreeSet<u64> = rejections.iter().map(|(offset, _)| *offset).collect();
    let lines = if offsets.is_empty() { Vec::new() } else { csv::lines_at(file, maps, &offsets)? };
    let line_of: BTreeMap<u64, u64> = offsets.into_iter().zip(lines).collect();
    let line = |offset| line_of.get(&offset).copied().unwrap_or(0);
    Ok(rejections.into_iter().map(|(offset, error)| (line(offset), error.to_owned())).collect())
}

/// Shows the first of them, and how many more there are.
pub(super) fn show_rejections(
    output: Output,
    rejected: u64,
    rejections: &[(u64, String)],
) -> std::io::Result<()> {
    let shown = &rejections[..rejections.len().min(REJECTIONS_SHOWN)];
    for (line, error) in shown {
        output.note(&format!("line {line}: {}", of_the_file(error)))?;
    }
    let hidden = rejected.saturating_sub(shown.len() as u64);
    if hidden > 0 { output.note(&format!("and {hidden} more")) } else { Ok(()) }
}

/// A rejection without its place in the request, such as `leads[2].`: the line says where in the
/// file.
fn of_the_file(error: &str) -> &str {
    let field_end = error.find(": ").unwrap_or(error.len());
    error[..field_end].rfind('.').map_or(error, |dot| &error[dot + 1..])
}

/// What became of a file's leads in a run.
pub struct Imported {
    /// As the server counts, in the stream that went through.
    pub answer: ImportJobsResponse,
    /// The first rejections: line of the file, field and reason.
    pub rejections: Vec<(u64, String)>,
}

/// Adds all leads of the file at `path` to the run. `total` is the number of its records, for the
/// bar.
pub async fn leads(
    queue: &Queue,
    run_id: &str,
    path: &Path,
    total: u64,
) -> Result<Imported, Error> {
    // The header does not seal: a stream that ends early must not look complete.
    let header = Header { run_id: run_id.to_owned(), import_id: client::request_id(), seal: false };
    let import = Import {
        file: path.to_owned(),
        maps: Vec::new(),
        header: ImportJobsRequest { part: Some(Part::Header(header)) },
        item: |row| Ok(NewJob { who: Some(Who::Lead(row.facts)), ..NewJob::default() }),
        batch: |offset, jobs| ImportJobsRequest { part: Some(Part::Batch(Batch { offset, jobs })) },
    };
    let answer =
        import.carry_out(total, async |messages| queue.clone().import_jobs(messages).await).await?;
    let rejected =
        answer.rejections.iter().map(|rejection| (rejection.offset, rejection.error.as_str()));
    let rejections = by_line(path, &[], rejected)?;
    Ok(Imported { answer, rejections })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::pb::LeadFacts;

    fn row(line: u64, name_bytes: usize) -> Result<Row, csv::Error> {
        Ok(Row { line, facts: LeadFacts { name: "x".repeat(name_bytes), ..LeadFacts::default() } })
    }

    #[test]
    fn pages_are_bounded_and_lose_nothing() {
        let small: Vec<usize> = Pages::new((0..2_500).map(|line| row(line, 10)))
            .map(|page| page.unwrap().len())
            .collect();
        assert_eq!(small, [1_000, 1_000, 500]);
        let pages: Vec<Vec<Row>> =
            Pages::new((0..300).map(|line| row(line, 8_000))).map(Result::unwrap).collect();
        assert!(pages.iter().all(|page| page.len() * 8_000 <= PAGE_MAX_BYTES));
        let lines: Vec<u64> = pages.iter().flatten().map(|row| row.line).collect();
        assert_eq!(lines, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn rejections_name_the_column() {
        assert_eq!(
            of_the_file("leads[2].phone: must be in E.164: + first."),
            "phone: must be in E.164: + first."
        );
        assert_eq!(of_the_file("lead.time_zone: is no zone"), "time_zone: is no zone");
        assert_eq!(of_the_file("phone: is required"), "phone: is required");
    }
}
