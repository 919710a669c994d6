//! Leads of a file into a run: one `ImportJobs`, taken up again from the start if it is cut.

use std::collections::BTreeSet;
use std::path::Path;

use backon::{BackoffBuilder, ExponentialBuilder};
use indicatif::ProgressBar;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::client::{self, Queue};
use super::csv::{self, Leads, Row};
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

/// What became of a file's leads.
pub struct Imported {
    /// As the server counts, in the stream that went through.
    pub answer: ImportJobsResponse,
    /// The first rejections: line of the file, field and reason.
    pub rejections: Vec<(u64, String)>,
}

/// Adds all leads of the file at `path` to the run. `total` is the number of its records, for the bar.
pub async fn leads(queue: &Queue, run_id: &str, path: &Path, total: u64) -> Result<Imported, Error> {
    // The header does not seal: a stream that ends early must not look complete.
    let header = Header { run_id: run_id.to_owned(), import_id: client::request_id(), seal: false };
    let mut waits = ExponentialBuilder::default().with_max_times(RETRIES).with_jitter().build();
    let bar = render::counting("importing", total);
    let answer = loop {
        match attempt(queue, &header, path, &bar).await {
            Ok(answer) => break answer,
            Err(Error::Status(status)) if client::is_away(&status) => {
                let Some(wait) = waits.next() else { return Err(Error::Status(status)) };
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error),
        }
    };
    bar.finish_and_clear();
    let offsets: BTreeSet<u64> = answer.rejections.iter().map(|rejection| rejection.offset).collect();
    let lines = if offsets.is_empty() { Vec::new() } else { csv::lines_at(path, &offsets)? };
    let line_of: std::collections::BTreeMap<u64, u64> = offsets.into_iter().zip(lines).collect();
    let rejections = answer
        .rejections
        .iter()
        .map(|rejection| (line_of.get(&rejection.offset).copied().unwrap_or(0), rejection.error.clone()))
        .collect();
    Ok(Imported { answer, rejections })
}

async fn attempt(
    queue: &Queue,
    header: &Header,
    path: &Path,
    bar: &ProgressBar,
) -> Result<ImportJobsResponse, Error> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    bar.set_position(0);
    let reader = {
        let (path, header, bar) = (path.to_owned(), header.clone(), bar.clone());
        tokio::task::spawn_blocking(move || send_all(&path, header, &sender, &bar))
    };
    let answer = queue.clone().import_jobs(Request::new(ReceiverStream::new(receiver))).await;
    // A file that broke off explains more than what the server made of it.
    reader.await.map_err(|error| Error::Runtime(format!("reading the file: {error}")))??;
    Ok(answer.map_err(|status: Status| Error::from(status))?.into_inner())
}

/// Ends early, without an error, when the call is over: then the call says why.
fn send_all(
    path: &Path,
    header: Header,
    sender: &mpsc::Sender<ImportJobsRequest>,
    bar: &ProgressBar,
) -> Result<(), csv::Error> {
    if sender.blocking_send(ImportJobsRequest { part: Some(Part::Header(header)) }).is_err() {
        return Ok(());
    }
    let mut offset = 0;
    for page in Pages::new(Leads::open(path)?) {
        let jobs: Vec<NewJob> = page?.into_iter().map(job).collect();
        let count = jobs.len() as u64;
        let batch = ImportJobsRequest { part: Some(Part::Batch(Batch { offset, jobs })) };
        if sender.blocking_send(batch).is_err() {
            return Ok(());
        }
        offset += count;
        bar.set_position(offset);
    }
    Ok(())
}

fn job(row: Row) -> NewJob {
    NewJob { who: Some(Who::Lead(row.facts)), ..NewJob::default() }
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
        let small: Vec<usize> =
            Pages::new((0..2_500).map(|line| row(line, 10))).map(|page| page.unwrap().len()).collect();
        assert_eq!(small, [1_000, 1_000, 500]);
        let pages: Vec<Vec<Row>> =
            Pages::new((0..300).map(|line| row(line, 8_000))).map(Result::unwrap).collect();
        assert!(pages.iter().all(|page| page.len() * 8_000 <= PAGE_MAX_BYTES));
        let lines: Vec<u64> = pages.iter().flatten().map(|row| row.line).collect();
        assert_eq!(lines, (0..300).collect::<Vec<_>>());
    }
}
