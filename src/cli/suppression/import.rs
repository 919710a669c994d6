//! `suppression import`: one `ImportSuppressions`, taken up again where it was cut.

use std::path::{Path, PathBuf};

use backon::{BackoffBuilder, ExponentialBuilder};
use prost_types::value::Kind;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::cli::client::{self, Client};
use crate::cli::csv::{self, Leads, Map};
use crate::cli::import::Pages;
use crate::cli::output::Output;
use crate::cli::{Error, render, words};
use crate::grpc::pb::import_suppressions_request::{Batch, Header, Part};
use crate::grpc::pb::{
    self, ImportSuppressionsRequest, ImportSuppressionsResponse, LeadFacts, NewSuppression, SuppressionReason,
};

/// Batches read ahead of the network.
const BATCHES_AHEAD: usize = 4;
/// How often a cut import is taken up again.
const RETRIES: usize = 5;
/// The first rejections are shown, this many at most.
const REJECTIONS_SHOWN: usize = 20;

/// What is imported, and how.
#[derive(clap::Args)]
pub struct Args {
    /// A header row names the columns: phone (required), region, reason, note, expires; others are passed over.
    file: PathBuf,
    /// A column of the file that is one of phone, region; may be given several times.
    #[arg(long = "map", value_name = "FIELD=COLUMN", value_parser = csv::mapping)]
    maps: Vec<Map>,
    /// How national phones are read, for example US [default: the tenant's]
    #[arg(long, value_name = "COUNTRY")]
    region: Option<String>,
    /// The name of an import that was cut, to go on with the same file.
    #[arg(long, value_name = "ID")]
    import_id: Option<String>,
}

/// Carries it out.
pub(super) async fn execute(client: &Client, args: &Args, output: Output) -> Result<(), Error> {
    // The whole file is read once before anything is sent: a broken one is refused, and nothing is half-done.
    let mut total = 0;
    for row in Leads::open_mapped(&args.file, &args.maps)? {
        let row = row?;
        suppression(&row.facts)
            .map_err(|reason| Error::Usage(format!("{} line {}: {reason}", args.file.display(), row.line)))?;
        total += 1;
    }
    let import_id = args.import_id.clone().unwrap_or_else(client::request_id);
    let default_region = args.region.clone().unwrap_or_default();
    let header = Header { import_id: import_id.clone(), default_region };
    let mut waits = ExponentialBuilder::default().with_max_times(RETRIES).with_jitter().build();
    let bar = render::counting("importing", total);
    let answer = loop {
        match attempt(client, &header, args).await {
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
    show(output, args, &answer, &import_id)
}

/// A row of the file. What is neither phone nor region came as an attribute.
fn suppression(facts: &LeadFacts) -> Result<NewSuppression, String> {
    let column = |name: &str| {
        let fields = facts.attributes.iter().flat_map(|attributes| &attributes.fields);
        let mut texts = fields.filter(|(column, _)| column.eq_ignore_ascii_case(name));
        texts.find_map(|(_, value)| match &value.kind {
            Some(Kind::StringValue(text)) => Some(text.as_str()),
            _ => None,
        })
    };
    let reason = match column("reason") {
        None => SuppressionReason::Unspecified,
        Some(word) => words::suppression_reason_of(word)
            .ok_or("reason: must be asked, registry, complaint, wrong_number, legal or other")?,
    };
    let expires = column("expires").map(|text| {
        let at = text.parse::<jiff::Timestamp>().map(words::timestamp);
        at.map_err(|_| "expires: must be a date and time with an offset, for example 2027-01-01T00:00:00Z")
    });
    Ok(NewSuppression {
        phone: facts.phone.clone(),
        default_region: facts.default_region.clone(),
        reason: reason.into(),
        note: column("note").unwrap_or_default().to_owned(),
        expire_time: expires.transpose()?,
    })
}

async fn attempt(client: &Client, header: &Header, args: &Args) -> Result<ImportSuppressionsResponse, Error> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let reader = {
        let (path, maps, header) = (args.file.clone(), args.maps.clone(), header.clone());
        tokio::task::spawn_blocking(move || send_all(&path, &maps, header, &sender))
    };
    let request = Request::new(ReceiverStream::new(receiver));
    let answer = client.leads.clone().import_suppressions(request).await;
    // A file that broke off explains more than what the server made of it.
    reader.await.map_err(|error| Error::Runtime(format!("reading the file: {error}")))??;
    Ok(answer?.into_inner())
}

/// Ends early, without an error, when the call is over: then the call says why.
fn send_all(
    path: &Path,
    maps: &[Map],
    header: Header,
    sender: &mpsc::Sender<ImportSuppressionsRequest>,
) -> Result<(), Error> {
    let message = |part| ImportSuppressionsRequest { part: Some(part) };
    if sender.blocking_send(message(Part::Header(header))).is_err() {
        return Ok(());
    }
    let mut offset = 0;
    for page in Pages::new(Leads::open_mapped(path, maps)?) {
        let rows = page?.iter().map(|row| suppression(&row.facts)).collect::<Result<Vec<_>, _>>();
        let suppressions = rows.map_err(|_| Error::Runtime("the file changed while it was read".into()))?;
        let count = suppressions.len() as u64;
        if sender.blocking_send(message(Part::Batch(Batch { offset, suppressions }))).is_err() {
            return Ok(());
        }
        offset += count;
    }
    Ok(())
}

fn show(
    output: Output,
    args: &Args,
    answer: &pb::ImportSuppressionsResponse,
    import_id: &str,
) -> Result<(), Error> {
    let offsets = answer.rejections.iter().map(|rejection| rejection.offset).collect();
    let lines = csv::lines_at_mapped(&args.file, &args.maps, &offsets)?;
    let rejections: Vec<_> =
        lines.into_iter().zip(answer.rejections.iter().map(|rejection| rejection.error.clone())).collect();
    let counts = [answer.added_count, answer.extended_count, answer.unchanged_count, answer.rejected_count];
    let list: Vec<_> =
        rejections.iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
    let value = json!({
        "import_id": import_id, "added": counts[0], "extended": counts[1], "unchanged": counts[2],
        "rejected": counts[3], "rejections": list, "live_call_ids": answer.live_call_ids,
    });
    let row = counts.map(|count| count.to_string()).to_vec();
    output.show(&value, &["added", "extended", "unchanged", "rejected"], vec![row])?;
    for (line, error) in rejections.iter().take(REJECTIONS_SHOWN) {
        output.note(&format!("line {line}: {error}"))?;
    }
    for call in &answer.live_call_ids {
        output.note(&format!("call {call} had begun before, and goes on"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<NewSuppression>, String> {
        Leads::new("x.csv".into(), text.as_bytes())
            .unwrap()
            .map(|row| suppression(&row.map_err(|error| error.to_string())?.facts))
            .collect()
    }

    #[test]
    fn columns_are_found_by_name() {
        let rows =
            read("Phone,Reason,note,Expires,shoe\n+14155550100,legal,a b,2027-01-01T00:00:00Z,44\n+1,,,,\n");
        let rows = rows.unwrap();
        assert_eq!((rows[0].phone.as_str(), rows[0].reason()), ("+14155550100", SuppressionReason::Legal));
        assert_eq!((rows[0].note.as_str(), rows[0].expire_time.unwrap().seconds), ("a b", 1_798_761_600));
        assert_eq!((rows[1].reason(), rows[1].expire_time), (SuppressionReason::Unspecified, None));
    }

    #[test]
    fn what_is_no_reason_and_no_time_is_refused() {
        assert!(read("phone,reason\n+14155550100,whim\n").unwrap_err().starts_with("reason: "));
        assert!(read("phone,expires\n+14155550100,tomorrow\n").unwrap_err().starts_with("expires: "));
    }
}
