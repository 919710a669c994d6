//! `trunkline lead`: people in and out.

mod export;
mod import;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::client::{self, Client};
use super::output::Output;
use super::{Error, display};
use crate::grpc::pb::{self, LeadFilter, ListLeadsRequest};

pub(super) use export::safe;
pub(super) use import::show_tally;

/// The page size of a listing.
const PAGE_SIZE: u32 = 500;

/// Works with leads.
#[derive(Subcommand)]
pub enum Command {
    /// Adds the leads of a CSV file; a phone that is there already is added to.
    Import(import::Args),
    /// Writes leads to a CSV file that `lead import` reads.
    Export(export::Args),
    /// Lists leads in order of creation.
    List {
        /// Only the lead with this phone, E.164.
        #[arg(long)]
        phone: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Which leads.
        #[command(flatten)]
        filter: Filter,
    },
    /// Shows what happened to a lead.
    Events {
        /// The lead's id.
        lead_id: String,
    },
    /// Deletes a lead and erases its phone everywhere; its queued jobs are skipped.
    Delete {
        /// The lead's id.
        lead_id: String,
    },
}

/// Which leads.
#[derive(Args, Default)]
pub struct Filter {
    /// Only leads of this status; may be given several times.
    #[arg(long)]
    status: Vec<Status>,
    /// Only leads with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Only leads from here; may be given several times.
    #[arg(long)]
    source: Vec<Source>,
    /// Only leads whose phone begins so, for example +1415.
    #[arg(long, value_name = "PREFIX")]
    phone_prefix: Option<String>,
    /// Only leads whose name or attributes hold this.
    #[arg(long)]
    text: Option<String>,
    /// Only leads created at this instant or later, for example 2026-09-01T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    created_from: Option<jiff::Timestamp>,
    /// Only leads created before this instant.
    #[arg(long, value_name = "TIME")]
    created_until: Option<jiff::Timestamp>,
}

/// How far it got.
#[derive(Clone, Copy, ValueEnum)]
pub enum Status {
    New,
    Attempted,
    Contacted,
    Converted,
    Lost,
}

/// Where it came from.
#[derive(Clone, Copy, ValueEnum)]
pub enum Source {
    Api,
    Import,
    Run,
    Call,
}

impl Filter {
    pub(in crate::cli) fn to_wire(&self) -> LeadFilter {
        let status = |status: &Status| match status {
            Status::New => pb::LeadStatus::New,
            Status::Attempted => pb::LeadStatus::Attempted,
            Status::Contacted => pb::LeadStatus::Contacted,
            Status::Converted => pb::LeadStatus::Converted,
            Status::Lost => pb::LeadStatus::Lost,
        };
        let source = |source: &Source| match source {
            Source::Api => pb::LeadSource::Api,
            Source::Import => pb::LeadSource::Import,
            Source::Run => pb::LeadSource::Run,
            Source::Call => pb::LeadSource::Call,
        };
        LeadFilter {
            statuses: self.status.iter().map(|word| status(word).into()).collect(),
            sources: self.source.iter().map(|word| source(word).into()).collect(),
            tag: self.tag.clone().unwrap_or_default(),
            phone_prefix: self.phone_prefix.clone().unwrap_or_default(),
            text: self.text.clone().unwrap_or_default(),
            created_from: self.created_from.map(display::timestamp),
            created_until: self.created_until.map(display::timestamp),
        }
    }
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    match command {
        Command::Import(args) => import::execute(client, &args, output).await,
        Command::Export(args) => export::execute(client, &args, output).await,
        Command::List { phone, limit, filter } => list(client, phone, limit, &filter, output).await,
        Command::Events { lead_id } => events(client, lead_id, output).await,
        Command::Delete { lead_id } => delete(client, lead_id, output).await,
    }
}

async fn list(
    client: &Client,
    phone: Option<String>,
    limit: u32,
    filter: &Filter,
    output: Output,
) -> Result<(), Error> {
    let mut leads = Vec::new();
    let mut page_token = String::new();
    while leads.len() < limit as usize {
        let phone = phone.clone().unwrap_or_default();
        let page_size = PAGE_SIZE.min(limit - u32::try_from(leads.len()).unwrap_or(limit));
        // The size is no part of what the token is bound to.
        let request =
            ListLeadsRequest { page_size, page_token, phone, filter: Some(filter.to_wire()) };
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
    let value = leads.iter().map(display::lead_json).collect();
    let rows = leads
        .into_iter()
        .map(|lead| {
            let (status, created) =
                (display::lead_status(lead.status()), display::time(lead.create_time.as_ref()));
            vec![
                lead.lead_id,
                lead.phone,
                lead.name,
                lead.time_zone,
                status,
                lead.tags.join(" "),
                created,
            ]
        })
        .collect();
    let header = ["lead", "phone", "name", "time zone", "status", "tags", "created"];
    Ok(output.show(&value, &header, rows)?)
}

async fn events(client: &Client, lead_id: String, output: Output) -> Result<(), Error> {
    let mut events = Vec::new();
    let mut request =
        pb::ListLeadEventsRequest { lead_id, page_size: PAGE_SIZE, page_token: String::new() };
    loop {
        let send = |request| {
            let mut leads = client.leads.clone();
            async move { leads.list_lead_events(request).await }
        };
        let answer = client::call(&request, send).await?;
        events.extend(answer.events);
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let lines: Vec<_> = events
        .iter()
        .map(|event| vec![display::time(event.time.as_ref()), display::lead_event(event)])
        .collect();
    let value = lines.iter().map(|line| json!({ "time": line[0], "event": line[1] })).collect();
    Ok(output.show(&value, &["time", "event"], lines)?)
}

async fn delete(client: &Client, lead_id: String, output: Output) -> Result<(), Error> {
    let request =
        pb::DeleteLeadRequest { request_id: client::request_id(), lead_id, ..Default::default() };
    let send = |request| {
        let mut leads = client.leads.clone();
        async move { leads.delete_lead(request).await }
    };
    let erased = client::call(&request, send).await?;
    let counts = [erased.skipped_job_count, erased.erased_job_count, erased.erased_call_count];
    let value =
        json!({ "jobs_skipped": counts[0], "jobs_erased": counts[1], "calls_erased": counts[2] });
    let row = counts.map(|count| count.to_string()).to_vec();
    Ok(output.show(&value, &["jobs skipped", "jobs erased", "calls erased"], vec![row])?)
}
