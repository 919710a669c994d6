//! `trunkline lead`: people in and out.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::client::{self, Client};
use super::csv::{self, Leads};
use super::import::Pages;
use super::output::Output;
use super::{Error, render, words};
use crate::grpc::pb::{BatchCreateLeadsRequest, ListLeadsRequest};

/// The first rejections are shown, this many at most.
const REJECTIONS_SHOWN: usize = 20;
/// The page size of a listing.
const PAGE_SIZE: u32 = 500;

/// Works with leads.
#[derive(Subcommand)]
pub enum Command {
    /// Adds the leads of a CSV file; phones that are there already stay as they are.
    Import {
        /// A header row names the columns: phone (required), name, time_zone, region; others become attributes.
        file: PathBuf,
    },
    /// Lists leads in order of creation.
    List {
        /// Only the lead with this phone, E.164.
        #[arg(long)]
        phone: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    match command {
        Command::Import { file } => import(client, &file, output).await,
        Command::List { phone, limit } => list(client, phone, limit, output).await,
    }
}

#[derive(Default)]
struct Tally {
    created: u64,
    duplicate: u64,
    rejected: u64,
    rejections: Vec<(u64, String)>,
}

async fn import(client: &Client, file: &Path, output: Output) -> Result<(), Error> {
    let total = csv::count(file)?;
    let bar = render::counting("importing", total);
    let mut tally = Tally::default();
    for page in Pages::new(Leads::open(file)?) {
        let (lines, leads): (Vec<_>, Vec<_>) = page?.into_iter().map(|row| (row.line, row.facts)).unzip();
        let request = BatchCreateLeadsRequest { request_id: client::request_id(), leads };
        let send = |request| {
            let mut leads = client.leads.clone();
            async move { leads.batch_create_leads(request).await }
        };
        let answer = client::call(&request, send).await?;
        tally.created += u64::from(answer.created_count);
        tally.duplicate += u64::from(answer.duplicate_count);
        tally.rejected += u64::from(answer.rejected_count);
        let rejected = lines.iter().zip(answer.results).filter(|(_, result)| !result.error.is_empty());
        let room = REJECTIONS_SHOWN - tally.rejections.len();
        tally.rejections.extend(rejected.map(|(line, result)| (*line, result.error)).take(room));
        bar.inc(lines.len() as u64);
    }
    bar.finish_and_clear();
    show_tally(output, tally.created, tally.duplicate, tally.rejected, &tally.rejections)?;
    Ok(())
}

/// Shows what became of a file.
pub(super) fn show_tally(
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

async fn list(client: &Client, phone: Option<String>, limit: u32, output: Output) -> Result<(), Error> {
    let mut leads = Vec::new();
    let mut page_token = String::new();
    while leads.len() < limit as usize {
        let phone = phone.clone().unwrap_or_default();
        let page_size = PAGE_SIZE.min(limit - u32::try_from(leads.len()).unwrap_or(limit));
        let request = ListLeadsRequest { page_size, page_token, phone, filter: None };
        let send = |request| {
            let mut leads = client.leads.clone();
            async move { leads.list_leads(request).await }
        };
        let answer = client::call(&request, send).await?;
        leads.extend(answer.leads);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let value = leads.iter().map(words::lead_json).collect();
    let rows = leads
        .into_iter()
        .map(|lead| {
            let created = words::time(lead.create_time.as_ref());
            vec![lead.lead_id, lead.phone, lead.name, lead.time_zone, created]
        })
        .collect();
    Ok(output.show(&value, &["lead", "phone", "name", "time zone", "created"], rows)?)
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
