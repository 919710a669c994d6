//! `lead export`: all leads that pass a filter as CSV, page by page, so that memory stays flat.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use super::Filter;
use crate::cli::client::{self, Client};
use crate::cli::output::Output;
use crate::cli::{Error, display};
use crate::grpc::pb::{ExportLeadsRequest, Lead};

/// The columns. The first five are read by `lead import`, the rest become attributes there.
const HEADER: [&str; 9] =
    ["phone", "name", "time_zone", "tags", "attributes", "status", "source", "created", "lead_id"];

/// What is exported, and where to.
#[derive(clap::Args)]
pub struct Args {
    /// Where to write; without it, to stdout. A file that is there is not overwritten.
    #[arg(long, value_name = "FILE.csv")]
    out: Option<PathBuf>,
    /// Which leads.
    #[command(flatten)]
    filter: Filter,
}

/// Carries it out.
pub async fn execute(client: &Client, args: &Args, output: Output) -> Result<(), Error> {
    let Some(path) = &args.out else {
        return write_all(client, args, io::stdout()).await.map(drop);
    };
    let file = File::create_new(path)
        .map_err(|error| Error::Runtime(format!("cannot write {}: {error}", path.display())))?;
    let count = write_all(client, args, file).await?;
    let value = serde_json::json!({ "exported": count });
    Ok(output.show(&value, &["exported"], vec![vec![count.to_string()]])?)
}

/// Goes on after the last page when the stream is cut. Returns how many were written.
async fn write_all(client: &Client, args: &Args, to: impl Write) -> Result<u64, Error> {
    let mut csv = ::csv::Writer::from_writer(to);
    csv.write_record(HEADER).map_err(broken)?;
    let mut request =
        ExportLeadsRequest { filter: Some(args.filter.to_wire()), page_token: String::new() };
    let (mut count, mut waits) = (0, client::backoff());
    loop {
        match pages(client, &mut request, &mut csv, &mut count).await {
            Ok(()) => break,
            Err(Error::Status(status)) if client::is_away(&status) => {
                // Without an end: whoever has had enough presses Ctrl-C.
                tokio::time::sleep(waits.next().unwrap_or(client::RETRY_DELAY_MAX)).await;
            }
            Err(error) => return Err(error),
        }
    }
    csv.flush()?;
    Ok(count)
}

async fn pages<W: Write>(
    client: &Client,
    request: &mut ExportLeadsRequest,
    csv: &mut ::csv::Writer<W>,
    count: &mut u64,
) -> Result<(), Error> {
    let mut stream = client.leads.clone().export_leads(request.clone()).await?.into_inner();
    while let Some(page) = stream.message().await? {
        for lead in &page.leads {
            csv.write_record(record(lead)).map_err(broken)?;
            *count += 1;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(())
}

fn broken(error: ::csv::Error) -> Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => Error::Io(error),
        _ => Error::Runtime("cannot write CSV".into()),
    }
}

fn record(lead: &Lead) -> [String; 9] {
    let attributes =
        lead.attributes.as_ref().map(|object| display::struct_json(object).to_string());
    [
        lead.phone.clone(),
        safe(&lead.name),
        lead.time_zone.clone(),
        safe(&lead.tags.join("|")),
        attributes.unwrap_or_default(),
        display::lead_status(lead.status()),
        display::lead_source(lead.source()),
        display::time(lead.create_time.as_ref()),
        lead.lead_id.clone(),
    ]
}

/// Spreadsheets take a cell that begins so for a formula, and a caller names himself as he likes.
/// <https://owasp.org/www-community/attacks/CSV_Injection>
pub(in crate::cli) fn safe(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(safe("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        assert_eq!(safe("Ann = Bea"), "Ann = Bea");
    }
}
