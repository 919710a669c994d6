//! `trunkline suppression`: phones that must not be dialed.

mod import;
mod list;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::client::{self, Client};
use super::output::Output;
use super::{Error, display};
use crate::grpc::pb::{self, AddSuppressionsRequest, NewSuppression, RemoveSuppressionsRequest};

/// Works with suppressions: phones that must not be dialed.
#[derive(Subcommand)]
pub enum Command {
    /// Keeps phones from being dialed, from now on. Tells of calls to them that have begun already.
    Add {
        /// E.164, or a national format with --region or a tenant that has one.
        #[arg(required = true, num_args = 1..=1_000, value_name = "PHONE")]
        phones: Vec<String>,
        #[command(flatten)]
        why: Why,
        /// How national phones are read, for example US [default: the tenant's]
        #[arg(long, value_name = "COUNTRY")]
        region: Option<String>,
    },
    /// Lets phones be dialed again; jobs that were skipped stay so.
    Remove {
        /// E.164, or a national format with --region or a tenant that has one.
        #[arg(required = true, num_args = 1..=1_000, value_name = "PHONE")]
        phones: Vec<String>,
        /// How national phones are read, for example US [default: the tenant's]
        #[arg(long, value_name = "COUNTRY")]
        region: Option<String>,
    },
    /// Lists suppressed phones in the order in which they came.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        filter: Filter,
    },
    /// Suppresses the phones of a CSV file.
    Import(import::Args),
    /// Writes suppressed phones to a CSV file that `suppression import` reads.
    Export(list::Export),
}

/// Why, and until when.
#[derive(Args)]
pub struct Why {
    /// Why.
    #[arg(long, default_value = "asked")]
    reason: Reason,
    /// For people; forgotten when the phone's lead is deleted.
    #[arg(long, default_value = "")]
    note: String,
    /// They may be dialed again then, for example 2027-01-01T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<jiff::Timestamp>,
}

/// Which suppressions.
#[derive(Args)]
pub struct Filter {
    /// Only this phone, E.164.
    #[arg(long)]
    phone: Option<String>,
    /// Only phones that begin so, for example +1415.
    #[arg(long, value_name = "PREFIX")]
    phone_prefix: Option<String>,
    /// Only for this reason; may be given several times.
    #[arg(long)]
    reason: Vec<Reason>,
    /// Only those that came so; may be given several times.
    #[arg(long)]
    source: Vec<Source>,
    /// Those that have expired as well.
    #[arg(long)]
    expired: bool,
}

/// Why a phone is suppressed.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Reason {
    Asked,
    Registry,
    Complaint,
    WrongNumber,
    Legal,
    Other,
}

impl Reason {
    const fn to_wire(self) -> pb::SuppressionReason {
        match self {
            Self::Asked => pb::SuppressionReason::Asked,
            Self::Registry => pb::SuppressionReason::Registry,
            Self::Complaint => pb::SuppressionReason::Complaint,
            Self::WrongNumber => pb::SuppressionReason::WrongNumber,
            Self::Legal => pb::SuppressionReason::Legal,
            Self::Other => pb::SuppressionReason::Other,
        }
    }
}

/// How a phone came to be suppressed.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Source {
    Api,
    Operator,
    Import,
    OptOut,
}

impl Source {
    const fn to_wire(self) -> pb::SuppressionSource {
        match self {
            Self::Api => pb::SuppressionSource::Api,
            Self::Operator => pb::SuppressionSource::Operator,
            Self::Import => pb::SuppressionSource::Import,
            Self::OptOut => pb::SuppressionSource::OptOut,
        }
    }
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    match command {
        Command::Add { phones, why, region } => add(client, &phones, &why, region, output).await,
        Command::Remove { phones, region } => remove(client, phones, region, output).await,
        Command::List { limit, filter } => list::list(client, limit, &filter, output).await,
        Command::Import(args) => import::execute(client, &args, output).await,
        Command::Export(args) => list::export(client, &args, output).await,
    }
}

async fn add(
    client: &Client,
    phones: &[String],
    why: &Why,
    region: Option<String>,
    output: Output,
) -> Result<(), Error> {
    let new = |phone: &String| NewSuppression {
        phone: phone.clone(),
        default_region: region.clone().unwrap_or_default(),
        reason: why.reason.to_wire().into(),
        note: why.note.clone(),
        expire_time: why.expires.map(display::timestamp),
    };
    let request = AddSuppressionsRequest {
        request_id: client::request_id(),
        suppressions: phones.iter().map(new).collect(),
        source: pb::SuppressionSource::Operator.into(),
    };
    let send = |request| {
        let mut leads = client.leads.clone();
        async move { leads.add_suppressions(request).await }
    };
    let answer = client::call(&request, send).await?;
    let rows: Vec<_> = phones
        .iter()
        .zip(&answer.results)
        .map(|(phone, result)| {
            let what = if result.error.is_empty() {
                display::suppression_change(result.change())
            } else {
                result.error.clone()
            };
            vec![phone.clone(), what, result.live_call_id.clone()]
        })
        .collect();
    let value = rows
        .iter()
        .map(|row| json!({ "phone": row[0], "result": row[1], "live_call_id": row[2] }))
        .collect();
    output.show(&value, &["phone", "result", "call that goes on"], rows)?;
    // Whoever suppresses a phone must not take a refusal for done.
    match answer.rejected_count {
        0 => Ok(()),
        n => Err(Error::Runtime(format!("{n} of {} phones were rejected", phones.len()))),
    }
}

async fn remove(
    client: &Client,
    phones: Vec<String>,
    region: Option<String>,
    output: Output,
) -> Result<(), Error> {
    let request = RemoveSuppressionsRequest {
        request_id: client::request_id(),
        phones: phones.clone(),
        default_region: region.unwrap_or_default(),
    };
    let send = |request| {
        let mut leads = client.leads.clone();
        async move { leads.remove_suppressions(request).await }
    };
    let answer = client::call(&request, send).await?;
    let word = |removed: bool| if removed { "removed" } else { "was not suppressed" };
    let rows: Vec<_> = phones
        .into_iter()
        .zip(&answer.removed)
        .map(|(phone, removed)| vec![phone, word(*removed).into()])
        .collect();
    let value = rows.iter().map(|row| json!({ "phone": row[0], "result": row[1] })).collect();
    Ok(output.show(&value, &["phone", "result"], rows)?)
}
