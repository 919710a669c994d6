//! The walk's requests about suppressions: each names phones only, which are anybody's.

use tonic::Status;
use trunkline::cli::client::Client;
use trunkline::grpc::pb;

use super::walk::told;
use crate::support::phone;

/// What they are called.
pub const METHODS: [&str; 4] =
    ["AddSuppressions", "RemoveSuppressions", "ListSuppressions", "ImportSuppressions"];

/// One request of `Leads` about suppressions.
pub async fn ask(client: &Client, method: &str) -> Result<String, Status> {
    let mut leads = client.leads.clone();
    let new = |n| pb::NewSuppression { phone: phone(n).expose().into(), ..Default::default() };
    match method {
        "AddSuppressions" => {
            let request =
                pb::AddSuppressionsRequest { suppressions: vec![new(90)], ..Default::default() };
            told(leads.add_suppressions(request).await)
        }
        "RemoveSuppressions" => {
            let phones = vec![phone(90).expose().to_owned()];
            let request = pb::RemoveSuppressionsRequest { phones, ..Default::default() };
            told(leads.remove_suppressions(request).await)
        }
        "ListSuppressions" => {
            told(leads.list_suppressions(pb::ListSuppressionsRequest::default()).await)
        }
        "ImportSuppressions" => {
            use pb::import_suppressions_request::{Batch, Header, Part};
            let header = Header { import_id: "walk".into(), ..Default::default() };
            let batch = Batch { offset: 0, suppressions: vec![new(91)] };
            let parts = [Part::Header(header), Part::Batch(batch)];
            let parts = parts.map(|part| pb::ImportSuppressionsRequest { part: Some(part) });
            told(leads.import_suppressions(tokio_stream::iter(parts)).await)
        }
        other => panic!("Leads/{other} has no case here: add one"),
    }
}
