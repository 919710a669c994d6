//! The walk's requests of `Transfers`, and what they are about.

use tonic::Status;
use trunkline::cli::client::Client;
use trunkline::grpc::pb;

use super::walk::told;
use crate::support::{ACCOUNT, phone};
use crate::system::world::{TENANT, TOKEN, World, until};

/// One request of `Transfers` about those ids.
pub async fn ask(
    client: &Client,
    method: &str,
    transfer: &str,
    caller: &str,
) -> Result<String, Status> {
    let mut transfers = client.transfers.clone();
    let (transfer_id, request_id) = (transfer.to_owned(), String::new());
    let targets = vec![phone(990).expose().to_owned()];
    let settings = Some(pb::TransferSettings { targets, ..Default::default() });
    match method {
        "StartTransfer" => {
            let call = Some(pb::start_transfer_request::Call::CallId(caller.to_owned()));
            told(
                transfers
                    .start_transfer(pb::StartTransferRequest { request_id, call, settings })
                    .await,
            )
        }
        "OpenIncident" => {
            let caller = Some(pb::open_incident_request::Caller::CallId(caller.to_owned()));
            let incident_id = uuid::Uuid::new_v4().to_string();
            let request = pb::OpenIncidentRequest { request_id, incident_id, caller, settings };
            told(transfers.open_incident(request).await)
        }
        "GetTransfer" => told(transfers.get_transfer(pb::GetTransferRequest { transfer_id }).await),
        "ListTransfers" => {
            told(transfers.list_transfers(pb::ListTransfersRequest::default()).await)
        }
        "CancelTransfer" => told(
            transfers.cancel_transfer(pb::CancelTransferRequest { request_id, transfer_id }).await,
        ),
        "WatchTransfer" => {
            let request = pb::WatchTransferRequest { transfer_id, ..Default::default() };
            let mut stream = transfers.watch_transfer(request).await?.into_inner();
            Ok(format!("{:?}", stream.message().await?))
        }
        other => panic!("Transfers/{other} has no case here: add one"),
    }
}

/// A caller on the line, and a transfer that waits: the tenant's pace allows one call in a thousand
/// seconds by now.
pub async fn caller_and_transfer(world: &World, n: usize) -> (String, String) {
    // The number that all tenants here show is nobody's to call.
    let own = phone(80).expose().to_owned();
    let caller_ids = vec!["+15005550006".to_owned(), own.clone()];
    let slow = pb::TenantSettings { calls_per_second: 0.001, caller_ids, ..Default::default() };
    let update_mask = Some(prost_types::FieldMask {
        paths: vec!["calls_per_second".into(), "caller_ids".into()],
    });
    let request = pb::UpdateTenantRequest {
        tenant_id: TENANT.into(),
        settings: Some(slow),
        update_mask,
        ..Default::default()
    };
    world.client.tenants.clone().update_tenant(request).await.unwrap();
    let sid = format!("CA{n:032}");
    let from = phone(70);
    let call_in = [
        ("CallSid", sid.as_str()),
        ("AccountSid", ACCOUNT),
        ("CallStatus", "ringing"),
        ("From", from.expose()),
        ("To", own.as_str()),
        ("Direction", "inbound"),
    ];
    let call_in: Vec<_> =
        call_in.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let url = format!("{}/twilio/voice", world.webhooks);
    let signature = trunkline::carrier::signature::sign(TOKEN, &url, &call_in);
    let request =
        reqwest::Client::new().post(&url).header("x-twilio-signature", signature).form(&call_in);
    assert!(request.send().await.unwrap().status().is_success());
    let by = || Some(pb::get_call_request::By::CallSid(sid.clone()));
    let get = async || world.queue().get_call(pb::GetCallRequest { by: by() }).await;
    until("the call to us", async || get().await.is_ok()).await;
    let caller = get().await.unwrap().into_inner().call.unwrap().call_id;
    let open = pb::OpenIncidentRequest {
        incident_id: uuid::Uuid::new_v4().to_string(),
        caller: Some(pb::open_incident_request::Caller::CallerPhone(phone(71).expose().into())),
        settings: Some(pb::TransferSettings {
            targets: [991, 992, 993].map(|n| phone(n).expose().to_owned()).into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let opened = world.client.transfers.clone().open_incident(open).await.unwrap().into_inner();
    (caller, opened.transfer.unwrap().transfer_id)
}
