//! `lead import`: one `ImportLeads`.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::Error;
use crate::cli::client::{self, Client};
use crate::cli::csv::{self, Map};
use crate::cli::import::{self, Import, REJECTIONS_SHOWN, show_rejections};
use crate::cli::output::Output;
use crate::grpc::pb::import_leads_request::{Batch, Header, Part};
use crate::grpc::pb::{ImportLeadsRequest, ImportLeadsResponse};

/// What is imported, and how.
#[derive(clap::Args)]
pub struct Args {
    /// A header row names the columns: phone (required), name, time_zone, region, tags (separated
    /// by |); others become attributes.
    file: PathBuf,
    /// A column of the file that is one of phone, name, time_zone, region, tags; may be given
    /// several times.
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
    // The whole file is read once before anything is sent: a broken one is refused, and nothing is
    // half-done.
    let total = csv::count(&args.file, &args.maps)?;
    let import_id = args.import_id.clone().unwrap_or_else(client::request_id);
    let header = Header {
        import_id: import_id.clone(),
        default_region: args.region.clone().unwrap_or_default(),
        tags: args.tags.clone(),
    };
    let import = Import {
        file: args.file.clone(),
        maps: args.maps.clone(),
        header: ImportLeadsRequest { part: Some(Part::Header(header)) },
        item: |row| Ok(row.facts),
        batch: |offset, leads| ImportLeadsRequest {
            part: Some(Part::Batch(Batch { offset, leads })),
        },
    };
    let answer = import
        .carry_out(total, async |messages| client.leads.clone().import_leads(messages).await)
        .await
        .inspect_err(|error| import::tell_how_to_go_on(error, &import_id))?;
    show(output, args, &answer, &import_id)
}

fn show(
    output: Output,
    args: &Args,
    answer: &ImportLeadsResponse,
    import_id: &str,
) -> Result<(), Error> {
    let rejected =
        answer.rejections.iter().map(|rejection| (rejection.offset, rejection.error.as_str()));
    let rejections = import::by_line(&args.file, &args.maps, rejected)?;
    let counts =
        [answer.created_count, answer.updated_count, answer.unchanged_count, answer.rejected_count];
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
    let list: Vec<_> =
        shown.iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
    let value = json!({ "created": created, "duplicate": duplicate, "rejected": rejected, "rejections": list });
    let row = [created, duplicate, rejected].map(|count| count.to_string()).to_vec();
    output.show(&value, &["created", "duplicate", "rejected"], vec![row])?;
    show_rejections(output, rejected, rejections)
}
