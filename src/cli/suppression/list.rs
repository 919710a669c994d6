//! `suppression list` and `suppression export`: page by page, so that memory stays flat.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Filter;
use crate::cli::client::{self, Client};
use crate::cli::lead::safe;
use crate::cli::output::Output;
use crate::cli::{Error, display};
use crate::grpc::pb::{ListSuppressionsRequest, Suppression};

/// The page size of a listing.
const PAGE_SIZE: u32 = 500;
/// The columns of an export. The first four are read by `suppression import`.
const HEADER: [&str; 7] = ["phone", "reason", "note", "expires", "source", "created", "created_by"];

/// What is exported, and where to.
#[derive(clap::Args)]
pub struct Export {
    /// Where to write; without it, to stdout. A file that is there is not overwritten.
    #[arg(long, value_name = "FILE.csv")]
    out: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
}

fn request(filter: &Filter) -> ListSuppressionsRequest {
    ListSuppressionsRequest {
        page_size: PAGE_SIZE,
        phone: filter.phone.clone().unwrap_or_default(),
        phone_prefix: filter.phone_prefix.clone().unwrap_or_default(),
        reasons: filter.reason.iter().map(|reason| reason.to_wire().into()).collect(),
        sources: filter.source.iter().map(|source| source.to_wire().into()).collect(),
        include_expired: filter.expired,
        ..ListSuppressionsRequest::default()
    }
}

/// The next page; after the last, its token is empty.
async fn page(
    client: &Client,
    request: &mut ListSuppressionsRequest,
) -> Result<Vec<Suppression>, Error> {
    let send = |request| {
        let mut leads = client.leads.clone();
        async move { leads.list_suppressions(request).await }
    };
    let answer = client::call(request, send).await?;
    request.page_token = answer.next_page_token;
    Ok(answer.suppressions)
}

/// Lists up to `limit`.
pub(super) async fn list(
    client: &Client,
    limit: u32,
    filter: &Filter,
    output: Output,
) -> Result<(), Error> {
    let (mut request, mut found) = (request(filter), Vec::new());
    while found.len() < limit as usize {
        // The size is no part of what the token is bound to.
        request.page_size = PAGE_SIZE.min(limit - u32::try_from(found.len()).unwrap_or(limit));
        found.extend(page(client, &mut request).await?);
        if request.page_token.is_empty() {
            break;
        }
    }
    let value = found.iter().map(object).collect();
    let row = |s: &Suppression| {
        let (reason, source) =
            (display::suppression_reason(s.reason()), display::suppression_source(s.source()));
        let (created, expires) =
            (display::time(s.create_time.as_ref()), display::time(s.expire_time.as_ref()));
        vec![
            s.phone.clone(),
            reason,
            source,
            created,
            s.created_by.clone(),
            expires,
            s.note.clone(),
        ]
    };
    let header = ["phone", "reason", "source", "since", "by", "until", "note"];
    Ok(output.show(&value, &header, found.iter().map(row).collect())?)
}

fn object(s: &Suppression) -> Value {
    json!({
        "suppression_id": s.suppression_id, "phone": s.phone, "reason": display::suppression_reason(s.reason()),
        "source": display::suppression_source(s.source()), "note": s.note, "call_id": s.call_id,
        "expire_time": display::time(s.expire_time.as_ref()), "create_time": display::time(s.create_time.as_ref()),
        "created_by": s.created_by,
    })
}

/// Writes all that pass the filter.
pub(super) async fn export(client: &Client, args: &Export, output: Output) -> Result<(), Error> {
    let Some(path) = &args.out else {
        return write_all(client, &args.filter, io::stdout()).await.map(drop);
    };
    let file = File::create_new(path)
        .map_err(|error| Error::Runtime(format!("cannot write {}: {error}", path.display())))?;
    let count = write_all(client, &args.filter, file).await?;
    Ok(output.show(&json!({ "exported": count }), &["exported"], vec![vec![count.to_string()]])?)
}

async fn write_all(client: &Client, filter: &Filter, to: impl Write) -> Result<u64, Error> {
    let mut csv = ::csv::Writer::from_writer(to);
    let broken = |_| Error::Runtime("cannot write CSV".into());
    csv.write_record(HEADER).map_err(broken)?;
    let (mut request, mut count) = (request(filter), 0);
    loop {
        for s in page(client, &mut request).await? {
            let record = [
                s.phone.clone(),
                display::suppression_reason(s.reason()),
                safe(&s.note),
                display::time(s.expire_time.as_ref()),
                display::suppression_source(s.source()),
                display::time(s.create_time.as_ref()),
                s.created_by.clone(),
            ];
            csv.write_record(record).map_err(broken)?;
            count += 1;
        }
        if request.page_token.is_empty() {
            break;
        }
    }
    csv.flush()?;
    Ok(count)
}
