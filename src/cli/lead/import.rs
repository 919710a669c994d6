//! `lead import`: one `ImportLeads`, taken up again where it was cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backon::{BackoffBuilder, ExponentialBuilder};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::cli::client::{self, Client};
use crate::cli::csv::{self, Leads, Map};
use crate::cli::import::Pages;
use crate::cli::output::Output;
use crate::cli::{Error, render};
use crate::grpc::pb::import_leads_request::{Batch, Header, Part};
use crate::grpc::pb::{ImportLeadsRequest, ImportLeadsResponse};

/// The first rejections are shown, this many at most.
const REJECTIONS_SHOWN: usize = 20;
/// Batches read ahead of the network.
const BATCHES_AHEAD: usize = 4;
/// How often a cut import is taken up again.
const RETRIES: usize = 5;

/// What is imported, and how.
#[derive(clap::Args)]
pub struct Args {
    /// A header row names the columns: phone (required), name, time_zone, region, tags (separated by |); others
    /// become attributes.
    file: PathBuf,
    /// A column of the file that is one of phone, name, time_zone, region, tags; may be given several times.
    #[arg(long = "map", value_name = "FIELD=COLUMN", value_parser = csv::mapping)]
    maps: Vec<Map>,
    /// How national phones are read, for example US [default: the tenant's]
    #[arg(long, value_name = "COUNTRY")]
    region: Option<String>,
    /// A tag for every lead of the file; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The name of an import that was cut, to go on with the same file.
    #[arg(long, value_name = "ID")]
    import_id: Option<String>,
}

/// Carries it out.
pub async fn execute(client: &Client, args: &Args, output: Output) -> Result<(), Error> {
    // The whole file is read once before anything is sent: a broken one is refused, and nothing is half-done.
    let total = csv::count_mapped(&args.file, &args.maps)?;
    let import_id = args.import_id.clone().unwrap_or_else(client::request_id);
    let header = Header {
        import_id: import_id.clone(),
        default_region: args.region.clone().unwrap_or_default(),
        tags: args.tags.clone(),
    };
    let mut waits = ExponentialBuilder::default().with_max_times(RETRIES).with_jitter().build();
    let bar = render::counting("importing", total);
    let answer = loop {
        match attempt(client, &header, args, &bar).await {
            Ok(answer) => break answer,
            Err(Error::Status(status)) if client::is_away(&status) => {
                let Some(wait) = waits.next() else {
                    bar.abandon();
                    eprintln!("go on with: --import-id {import_id}");
                    return Err(Error::Status(status));
                };
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error),
        }
    };
    bar.finish_and_clear();
    show(output, &args.file, args, &answer, &import_id)
}

async fn attempt(
    client: &Client,
    header: &Header,
    args: &Args,
    bar: &ProgressBar,
) -> Result<ImportLeadsResponse, Error> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    bar.set_position(0);
    let reader = {
        let (path, maps, header, bar) = (args.file.clone(), args.maps.clone(), header.clone(), bar.clone());
        tokio::task::spawn_blocking(move || send_all(&path, &maps, header, &sender, &bar))
    };
    let answer = client.leads.clone().import_leads(Request::new(ReceiverStream::new(receiver))).await;
    // A file that broke off explains more than what the server made of it.
    reader.await.map_err(|error| Error::Runtime(format!("reading the file: {error}")))??;
    Ok(answer.map_err(|status: Status| Error::from(status))?.into_inner())
}

/// Ends early, without an error, when the call is over: then the call says why.
fn send_all(
    path: &Path,
    maps: &[Map],
    header: Header,
    sender: &mpsc::Sender<ImportLeadsRequest>,
    bar: &ProgressBar,
) -> Result<(), csv::Error> {
    if sender.blocking_send(ImportLeadsRequest { part: Some(Part::Header(header)) }).is_err() {
        return Ok(());
    }
    let mut offset = 0;
    for page in Pages::new(Leads::open_mapped(path, maps)?) {
        let leads: Vec<_> = page?.into_iter().map(|row| row.facts).collect();
        let count = leads.len() as u64;
        let batch = ImportLeadsRequest { part: Some(Part::Batch(Batch { offset, leads })) };
        if sender.blocking_send(batch).is_err() {
            return Ok(());
        }
        offset += count;
        bar.set_position(offset);
    }
    Ok(())
}

fn show(
    output: Output,
    file: &Path,
    args: &Args,
    answer: &ImportLeadsResponse,
    import_id: &str,
) -> Result<(), Error> {
    let offsets: BTreeSet<u64> = answer.rejections.iter().map(|rejection| rejection.offset).collect();
    let lines =
        if offsets.is_empty() { Vec::new() } else { csv::lines_at_mapped(file, &args.maps, &offsets)? };
    let line_of: BTreeMap<u64, u64> = offsets.into_iter().zip(lines).collect();
    let rejections: Vec<(u64, String)> = answer
        .rejections
        .iter()
        .map(|rejection| (line_of.get(&rejection.offset).copied().unwrap_or(0), rejection.error.clone()))
        .collect();
    let counts = [answer.created_count, answer.updated_count, answer.unchanged_count, answer.rejected_count];
    let list: Vec<_> =
        rejections.iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
    let value = json!({
        "import_id": import_id, "created": counts[0], "updated": counts[1], "unchanged": counts[2],
        "rejected": counts[3], "rejections": list,
    });
    let row = counts.map(|count| count.to_string()).to_vec();
    output.show(&value, &["created", "updated", "unchanged", "rejected"], vec![row])?;
    show_rejections(output, answer.rejected_count, &rejections)?;
    Ok(())
}

/// Shows what became of a file whose rows are jobs.
pub(in crate::cli) fn show_tally(
    output: Output,
    created: u64,
    duplicate: u64,
    rejected: u64,
    rejections: &[(u64, String)],
) -> std::io::Result<()> {
    let shown = &rejections[..rejections.len().min(REJECTIONS_SHOWN)];
    let list: Vec<_> = shown.iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
    let value =
        json!({ "created": created, "duplicate": duplicate, "rejected": rejected, "rejections": list });
    let row = [created, duplicate, rejected].map(|count| count.to_string()).to_vec();
    output.show(&value, &["created", "duplicate", "rejected"], vec![row])?;
    show_rejections(output, rejected, rejections)
}

fn show_rejections(output: Output, rejected: u64, rejections: &[(u64, String)]) -> std::io::Result<()> {
    let shown = &rejections[..rejections.len().min(REJECTIONS_SHOWN)];
    for (line, error) in shown {
        output.note(&format!("line {line}: {}", of_the_file(error)))?;
    }
    let hidden = rejected.saturating_sub(shown.len() as u64);
    if hidden > 0 { output.note(&format!("and {hidden} more")) } else { Ok(()) }
}

/// A rejection without its place in the request, such as `leads[2].`: the line says where in the file.
fn of_the_file(error: &str) -> &str {
    let field_end = error.find(": ").unwrap_or(error.len());
    error[..field_end].rfind('.').map_or(error, |dot| &error[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

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
