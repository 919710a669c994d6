//! The service of administration.

use super::*;

/// One request of `Tenants` about the other tenant.
pub async fn ask(client: &Client, method: &str, ids: &Ids) -> Result<String, Status> {
    let mut tenants = client.tenants.clone();
    let (tenant_id, request_id, key_id) = (String::from("other"), String::new(), ids.key.clone());
    let new_account = "AC00000000000000000000000000000099".to_owned();
    let token = pb::CarrierSecrets { auth_token: "0123456789abcdef".into(), ..Default::default() };
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.into()] });
    match method {
        "CreateTenant" => {
            let (tenant_id, settings) = (String::from("third"), Some(tenant_settings()));
            told(
                tenants
                    .create_tenant(pb::CreateTenantRequest { request_id, tenant_id, settings })
                    .await,
            )
        }
        "GetTenant" => told(tenants.get_tenant(pb::GetTenantRequest { tenant_id }).await),
        "ListTenants" => told(tenants.list_tenants(pb::ListTenantsRequest::default()).await),
        "UpdateTenant" => {
            let (settings, update_mask) = (Some(tenant_settings()), mask("name"));
            let request =
                pb::UpdateTenantRequest { tenant_id, settings, update_mask, ..Default::default() };
            told(tenants.update_tenant(request).await)
        }
        // One whose keys nobody needs here.
        "DisableTenant" => {
            let tenant_id = "third".into();
            told(tenants.disable_tenant(pb::DisableTenantRequest { request_id, tenant_id }).await)
        }
        "EnableTenant" => {
            let tenant_id = "third".into();
            told(tenants.enable_tenant(pb::EnableTenantRequest { request_id, tenant_id }).await)
        }
        "CreateCarrierAccount" => {
            let (account_sid, secrets) = (new_account, Some(token));
            let request =
                pb::CreateCarrierAccountRequest { account_sid, secrets, ..Default::default() };
            told(tenants.create_carrier_account(request).await)
        }
        "GetCarrierAccount" => told(
            tenants
                .get_carrier_account(pb::GetCarrierAccountRequest { account_sid: ACCOUNT.into() })
                .await,
        ),
        "ListCarrierAccounts" => {
            told(tenants.list_carrier_accounts(pb::ListCarrierAccountsRequest::default()).await)
        }
        "UpdateCarrierAccount" => {
            let (account_sid, secrets, update_mask) =
                (new_account, Some(token), mask("auth_token"));
            let request = pb::UpdateCarrierAccountRequest {
                account_sid,
                secrets,
                update_mask,
                ..Default::default()
            };
            told(tenants.update_carrier_account(request).await)
        }
        "ResealCarrierAccounts" => {
            told(tenants.reseal_carrier_accounts(pb::ResealCarrierAccountsRequest {}).await)
        }
        "CreateApiKey" => {
            let request = pb::CreateApiKeyRequest {
                tenant_id,
                scopes: vec!["admin".into()],
                ..Default::default()
            };
            told(tenants.create_api_key(request).await)
        }
        "ListApiKeys" => told(
            tenants.list_api_keys(pb::ListApiKeysRequest { tenant_id, ..Default::default() }).await,
        ),
        "RevokeApiKey" => told(
            tenants.revoke_api_key(pb::RevokeApiKeyRequest { request_id, tenant_id, key_id }).await,
        ),
        "ExpireApiKey" => {
            let at = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
            let expire_time = Some(at.into());
            told(
                tenants
                    .expire_api_key(pb::ExpireApiKeyRequest {
                        request_id,
                        tenant_id,
                        key_id,
                        expire_time,
                    })
                    .await,
            )
        }
        "ListAuditEvents" => told(
            tenants
                .list_audit_events(pb::ListAuditEventsRequest { tenant_id, ..Default::default() })
                .await,
        ),
        other => panic!("Tenants/{other} has no case here: add one"),
    }
}
