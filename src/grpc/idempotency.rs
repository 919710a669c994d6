//! Request ids: repeating a request does nothing twice.

use prost::Message;
use sha2::{Digest as _, Sha256};

use super::pb;
use crate::domain::Violation;
use crate::store::RequestKey;

/// The longest request id, in characters.
pub(super) const REQUEST_ID_MAX_CHARS: usize = 100;

/// A mutating request.
pub(super) trait Keyed: Message + Clone {
    /// The RPC's name.
    const METHOD: &'static str;
    /// Its `request_id`.
    fn request_id(&mut self) -> &mut String;
}

macro_rules! keyed {
    ($($request:ident = $method:literal;)+) => {$(
        impl Keyed for pb::$request {
            const METHOD: &'static str = $method;
            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }
        }
    )+};
}
keyed! {
    CreateRunRequest = "CreateRun";
    UpdateRunRequest = "UpdateRun";
    StartRunRequest = "StartRun";
    PauseRunRequest = "PauseRun";
    ResumeRunRequest = "ResumeRun";
    CancelRunRequest = "CancelRun";
    StopRunRequest = "StopRun";
    SealRunRequest = "SealRun";
    AddJobsRequest = "AddJobs";
    CancelJobsRequest = "CancelJobs";
    RetryJobsRequest = "RetryJobs";
    CreateLeadRequest = "CreateLead";
    BatchCreateLeadsRequest = "BatchCreateLeads";
    UpdateLeadRequest = "UpdateLead";
    DeleteLeadRequest = "DeleteLead";
    StartTransferRequest = "StartTransfer";
    OpenIncidentRequest = "OpenIncident";
    CancelTransferRequest = "CancelTransfer";
    AddSuppressionsRequest = "AddSuppressions";
    RemoveSuppressionsRequest = "RemoveSuppressions";
    CreateTenantRequest = "CreateTenant";
    UpdateTenantRequest = "UpdateTenant";
    DisableTenantRequest = "DisableTenant";
    EnableTenantRequest = "EnableTenant";
    CreateCarrierAccountRequest = "CreateCarrierAccount";
    UpdateCarrierAccountRequest = "UpdateCarrierAccount";
    CreateApiKeyRequest = "CreateApiKey";
    RevokeApiKeyRequest = "RevokeApiKey";
    ExpireApiKeyRequest = "ExpireApiKey";
    CreateWebhookRequest = "CreateWebhook";
    UpdateWebhookRequest = "UpdateWebhook";
    DeleteWebhookRequest = "DeleteWebhook";
    RotateWebhookSecretRequest = "RotateWebhookSecret";
}

/// The key of `request`; none if the client gave no id.
pub(super) fn key<R: Keyed>(request: &R) -> Result<Option<RequestKey>, Violation> {
    let mut request = request.clone();
    let request_id = std::mem::take(request.request_id());
    if request_id.is_empty() {
        return Ok(None);
    }
    if request_id.chars().count() > REQUEST_ID_MAX_CHARS {
        return Err(Violation::new("request_id", "is longer than 100 characters"));
    }
    if request_id.chars().any(char::is_control) {
        return Err(Violation::new("request_id", "must not contain control characters"));
    }
    let payload_hash = Sha256::digest(request.encode_to_vec()).into();
    Ok(Some(RequestKey { method: R::METHOD, request_id, payload_hash }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn create(request_id: &str, parameters: &[(&str, &str)], weight: u32) -> pb::CreateRunRequest {
        let parameters: BTreeMap<_, _> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let stream = pb::script::Stream { url: "wss://a.example".into(), parameters };
        let script = Some(pb::Script { kind: Some(pb::script::Kind::Stream(stream)) });
        let settings = Some(pb::RunSettings { script, weight, ..Default::default() });
        pb::CreateRunRequest { request_id: request_id.into(), settings, ..Default::default() }
    }

    fn hash(request: &pb::CreateRunRequest) -> [u8; 32] {
        key(request).unwrap().unwrap().payload_hash
    }

    #[test]
    fn the_same_request_has_the_same_hash_whatever_the_order_of_its_map() {
        let names: Vec<String> = (0..20).map(|i| format!("name{i}")).collect();
        let forth: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let back: Vec<_> = forth.iter().rev().copied().collect();
        assert_eq!(hash(&create("a", &forth, 1)), hash(&create("b", &back, 1)));
        assert_ne!(hash(&create("a", &forth, 1)), hash(&create("a", &forth, 2)));
        assert_ne!(hash(&create("a", &forth, 1)), hash(&create("a", &forth[1..], 1)));
        assert_ne!(hash(&create("a", &[("ab", "c")], 1)), hash(&create("a", &[("a", "bc")], 1)));
    }

    #[test]
    fn ids_are_optional_and_bounded() {
        assert_eq!(key(&create("", &[], 1)), Ok(None));
        assert_eq!(key(&create(&"é".repeat(100), &[], 1)).unwrap().unwrap().method, "CreateRun");
        assert_eq!(key(&create(&"x".repeat(101), &[], 1)).unwrap_err().field, "request_id");
        assert_eq!(key(&create("a\nb", &[], 1)).unwrap_err().field, "request_id");
    }
}
