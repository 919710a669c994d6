//! API keys and audit events.

use super::{json, non_empty, time};
use crate::domain::{TenantId, Violation};
use crate::grpc::methods::Scope;
use crate::grpc::pb;
use crate::store::{AuditEvent, AuditFilter, KeyView, NewKey};

/// A key from the wire.
pub(in crate::grpc) fn read(request: pb::CreateApiKeyRequest) -> Result<NewKey, Violation> {
    if request.scopes.len() > Scope::ALL.len() {
        return Err(Violation::new("scopes", "names more scopes than there are"));
    }
    for (i, word) in request.scopes.iter().enumerate() {
        if Scope::from_word(word).is_none() {
            let known = Scope::ALL.map(Scope::as_str).join(", ");
            return Err(Violation::new(format!("scopes[{i}]"), format!("must be one of {known}")));
        }
    }
    let mut scopes = request.scopes;
    scopes.sort_unstable();
    scopes.dedup();
    Ok(NewKey {
        tenant: request.tenant_id.parse::<TenantId>()?,
        name: request.name,
        scopes,
        expires_at: time::read_some("expire_time", request.expire_time)?,
    })
}

/// A key for the wire.
pub(in crate::grpc) fn write(key: KeyView) -> pb::ApiKey {
    pb::ApiKey {
        key_id: key.key_id,
        tenant_id: key.tenant.to_string(),
        name: key.name,
        scopes: key.scopes,
        create_time: time::write(key.created_at),
        expire_time: key.expires_at.and_then(time::write),
        revoke_time: key.revoked_at.and_then(time::write),
        last_use_time: key.last_used_at.and_then(time::write),
    }
}

/// Which entries of the audit log are asked for.
pub(in crate::grpc) fn audit_filter(
    request: pb::ListAuditEventsRequest,
) -> Result<AuditFilter, Violation> {
    Ok(AuditFilter {
        actor: non_empty(request.actor),
        method: non_empty(request.method),
        subject: non_empty(request.subject),
        from: time::read_some("from_time", request.from_time)?,
        until: time::read_some("until_time", request.until_time)?,
    })
}

/// An entry of the audit log for the wire.
pub(in crate::grpc) fn audit_event(event: AuditEvent) -> pb::AuditEvent {
    let detail = match event.detail {
        serde_json::Value::Object(detail) => detail,
        _ => serde_json::Map::new(),
    };
    pb::AuditEvent {
        audit_id: event.id.to_string(),
        time: time::write(event.at),
        actor: event.actor,
        actor_tenant_id: event.actor_tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        peer: event.peer.unwrap_or_default(),
        method: event.method,
        subject: event.subject,
        detail: json::write(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_those_of_the_table() {
        let scopes = |words: &[&str]| {
            let scopes = words.iter().map(|word| (*word).to_owned()).collect();
            read(pb::CreateApiKeyRequest { tenant_id: "acme".into(), scopes, ..Default::default() })
        };
        assert_eq!(
            scopes(&["leads:read", "admin", "admin"]).unwrap().scopes,
            ["admin", "leads:read"]
        );
        assert_eq!(scopes(&["leads:read", "root"]).unwrap_err().field, "scopes[1]");
        assert_eq!(scopes(&["admin"; Scope::ALL.len() + 1]).unwrap_err().field, "scopes");
    }
}
