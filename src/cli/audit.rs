//! `trunkline audit`: who changed what.

use serde_json::{Value, json};

use super::client::{self, Client};
use super::output::Output;
use super::tenant::{PAGE_SIZE, administer};
use super::{Error, display};
use crate::grpc::pb;

/// Shows who changed what of a tenant, newest first. Needs a key with the scope admin.
#[derive(clap::Args)]
pub struct Args {
    /// The tenant [default: the key's own, where changes of carrier accounts stand as well]
    #[arg(default_value = "", hide_default_value = true)]
    tenant: String,
    /// Only by this key.
    #[arg(long, default_value = "", hide_default_value = true)]
    actor: String,
    /// Only by this RPC, for example CreateRun.
    #[arg(long, default_value = "", hide_default_value = true)]
    method: String,
    /// Only about this, for example "tenant acme".
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Carries out `args`.
pub async fn execute(client: &Client, args: Args, output: Output) -> Result<(), Error> {
    let (mut events, mut page_token) = (Vec::new(), String::new());
    while events.len() < args.limit as usize {
        let left = args.limit - u32::try_from(events.len()).unwrap_or(args.limit);
        let request = pb::ListAuditEventsRequest {
            tenant_id: args.tenant.clone(),
            page_size: PAGE_SIZE.min(left),
            page_token,
            actor: args.actor.clone(),
            method: args.method.clone(),
            subject: args.subject.clone(),
            ..Default::default()
        };
        let page = administer!(client, list_audit_events, request)?;
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let detail = |event: &pb::AuditEvent| event.detail.as_ref().map(display::struct_json);
    let value: Value = events
        .iter()
        .map(|event| {
            json!({
                "audit_id": event.audit_id,
                "time": display::time(event.time.as_ref()),
                "actor": event.actor,
                "actor_tenant_id": event.actor_tenant_id,
                "peer": event.peer,
                "method": event.method,
                "subject": event.subject,
                "detail": detail(event),
            })
        })
        .collect();
    let rows = events.iter().map(|event| {
        let time = display::time(event.time.as_ref());
        let told = detail(event).map(|detail| detail.to_string()).unwrap_or_default();
        let [actor, peer, method, subject] =
            [&event.actor, &event.peer, &event.method, &event.subject].map(String::clone);
        vec![time, actor, peer, method, subject, told]
    });
    let header = ["time", "key", "from", "method", "what", "detail"];
    Ok(output.show(&value, &header, rows.collect())?)
}
