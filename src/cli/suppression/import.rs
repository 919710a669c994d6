//! `suppression import`: one `ImportSuppressions`.

use std::path::PathBuf;

use prost_types::value::Kind;
use serde_json::json;

use crate::cli::client::{self, Client};
use crate::cli::csv::{self, Leads, Map};
use crate::cli::import::{self, Import, show_rejections};
use crate::cli::output::Output;
use crate::cli::{Error, display};
use crate::grpc::pb::import_suppressions_request::{Batch, Header, Part};
use crate::grpc::pb::{
    ImportSuppressionsRequest, ImportSuppressionsResponse, LeadFacts, NewSuppression,
    SuppressionReason,
};

/// What is imported, and how.
#[derive(clap::Args)]
pub struct Args {
    /// A header row names the columns: phone (required), region, reason, note, expires; others are
    /// passed over.
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
    // The whole file is read once before anything is sent: a broken one is refused, and nothing is
    // half-done.
    let mut total = 0;
    for row in Leads::open(&args.file, &args.maps)? {
        let row = row?;
        suppression(&row.facts).map_err(|reason| {
            Error::Usage(format!("{} line {}: {reason}", args.file.display(), row.line))
        })?;
        total += 1;
    }
    let import_id = args.import_id.clone().unwrap_or_else(client::request_id);
    let default_region = args.region.clone().unwrap_or_default();
    let header = Header { import_id: import_id.clone(), default_region };
    let import = Import {
        file: args.file.clone(),
        maps: args.maps.clone(),
        header: ImportSuppressionsRequest { part: Some(Part::Header(header)) },
        item: |row| {
            suppression(&row.facts)
                .map_err(|_| Error::Runtime("the file changed while it was read".into()))
        },
        batch: |offset, suppressions| ImportSuppressionsRequest {
            part: Some(Part::Batch(Batch { offset, suppressions })),
        },
    };
    let answer = import
        .carry_out(total, async |messages| client.leads.clone().import_suppressions(messages).await)
        .await
        .inspect_err(|error| import::tell_how_to_go_on(error, &import_id))?;
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
        Some(word) => display::suppression_reason_of(word)
            .ok_or("reason: must be asked, registry, complaint, wrong_number, legal or other")?,
    };
    let expires = column("expires").map(|text| {
        let at = text.parse::<jiff::Timestamp>().map(display::timestamp);
        at.map_err(
            |_| "expires: must be a date and time with an offset, for example 2027-01-01T00:00:00Z",
        )
    });
    Ok(NewSuppression {
        phone: facts.phone.clone(),
        default_region: facts.default_region.clone(),
        reason: reason.into(),
        note: column("note").unwrap_or_default().to_owned(),
        expire_time: expires.transpose()?,
    })
}

fn show(
    output: Output,
    args: &Args,
    answer: &ImportSuppressionsResponse,
    import_id: &str,
) -> Result<(), Error> {
    let rejected =
        answer.rejections.iter().map(|rejection| (rejection.offset, rejection.error.as_str()));
    let rejections = import::by_line(&args.file, &args.maps, rejected)?;
    let counts =
        [answer.added_count, answer.extended_count, answer.unchanged_count, answer.rejected_count];
    let list: Vec<_> =
        rejections.iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
    let value = json!({
        "import_id": import_id, "added": counts[0], "extended": counts[1], "unchanged": counts[2],
        "rejected": counts[3], "rejections": list, "live_call_ids": answer.live_call_ids,
    });
    let row = counts.map(|count| count.to_string()).to_vec();
    output.show(&value, &["added", "extended", "unchanged", "rejected"], vec![row])?;
    show_rejections(output, answer.rejected_count, &rejections)?;
    for call in &answer.live_call_ids {
        output.note(&format!("call {call} had begun before, and goes on"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<NewSuppression>, String> {
        Leads::new("x.csv".into(), text.as_bytes(), &[])
            .unwrap()
            .map(|row| suppression(&row.map_err(|error| error.to_string())?.facts))
            .collect()
    }

    #[test]
    fn columns_are_found_by_name() {
        let rows = read(
            "Phone,Reason,note,Expires,shoe\n+14155550100,legal,a b,2027-01-01T00:00:00Z,44\n+1,,,,\n",
        );
        let rows = rows.unwrap();
        assert_eq!(
            (rows[0].phone.as_str(), rows[0].reason()),
            ("+14155550100", SuppressionReason::Legal)
        );
        assert_eq!(
            (rows[0].note.as_str(), rows[0].expire_time.unwrap().seconds),
            ("a b", 1_798_761_600)
        );
        assert_eq!((rows[1].reason(), rows[1].expire_time), (SuppressionReason::Unspecified, None));
    }

    #[test]
    fn what_is_no_reason_and_no_time_is_refused() {
        assert!(read("phone,reason\n+14155550100,whim\n").unwrap_err().starts_with("reason: "));
        assert!(
            read("phone,expires\n+14155550100,tomorrow\n").unwrap_err().starts_with("expires: ")
        );
    }
}
