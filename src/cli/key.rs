//! `trunkline key`: who may ask for what.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Client, request_id};
use super::output::Output;
use super::tenant::{PAGE_SIZE, administer};
use super::{Error, display};
use crate::grpc::pb;

/// Administers API keys. Needs a key with the scope admin.
#[derive(Subcommand)]
pub enum Command {
    /// Makes a key and shows it, this once.
    Create {
        /// Whose.
        tenant: String,
        /// outbound:read, outbound:write, leads:read, leads:write, transfers:read, transfers:write,
        /// webhooks:read, webhooks:write or admin; may be given more than once.
        #[arg(long = "scope", required = true)]
        scopes: Vec<String>,
        /// For people.
        #[arg(long, default_value = "")]
        name: String,
        /// When it ends, for example 2027-01-01T00:00:00Z [default: never]
        #[arg(long)]
        expires: Option<jiff::Timestamp>,
    },
    /// Lists a tenant's keys, those that have ended included.
    List {
        /// Whose.
        tenant: String,
    },
    /// Ends a key now.
    Revoke {
        /// Whose.
        tenant: String,
        /// The part of the key before the dot.
        key_id: String,
    },
    /// Sets when a key ends.
    Expire {
        /// Whose.
        tenant: String,
        /// The part of the key before the dot.
        key_id: String,
        /// When, for example 2027-01-01T00:00:00Z.
        #[arg(long)]
        at: jiff::Timestamp,
    },
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    let request_id = request_id();
    match command {
        Command::Create { tenant: tenant_id, scopes, name, expires } => {
            let expire_time = expires.map(display::timestamp);
            let request =
                pb::CreateApiKeyRequest { request_id, tenant_id, name, scopes, expire_time };
            created(administer!(client, create_api_key, request)?, output)
        }
        Command::List { tenant } => list(client, tenant, output).await,
        Command::Revoke { tenant: tenant_id, key_id } => {
            let request = pb::RevokeApiKeyRequest { request_id, tenant_id, key_id };
            show(output, administer!(client, revoke_api_key, request)?.key.into_iter().collect())
        }
        Command::Expire { tenant: tenant_id, key_id, at } => {
            let expire_time = Some(display::timestamp(at));
            let request = pb::ExpireApiKeyRequest { request_id, tenant_id, key_id, expire_time };
            show(output, administer!(client, expire_api_key, request)?.key.into_iter().collect())
        }
    }
}

/// The key alone on stdout, so that it can be sent into a file.
fn created(answer: pb::CreateApiKeyResponse, output: Output) -> Result<(), Error> {
    let key = answer.key.unwrap_or_default();
    if answer.secret_key.is_empty() {
        let why = "was made, but the answer with its secret was lost: revoke it and make another";
        return Err(Error::Runtime(format!("key {} {why}", key.key_id)));
    }
    let mut value = key_json(&key);
    value["secret_key"] = json!(answer.secret_key);
    if output.json {
        return Ok(output.show(&value, &[], Vec::new())?);
    }
    Ok(output.note(&answer.secret_key)?)
}

async fn list(client: &Client, tenant_id: String, output: Output) -> Result<(), Error> {
    let (mut keys, mut page_token) = (Vec::new(), String::new());
    loop {
        let tenant_id = tenant_id.clone();
        let request = pb::ListApiKeysRequest { tenant_id, page_size: PAGE_SIZE, page_token };
        let page = administer!(client, list_api_keys, request)?;
        keys.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    show(output, keys)
}

fn key_json(key: &pb::ApiKey) -> Value {
    json!({
        "key_id": key.key_id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "scopes": key.scopes,
        "create_time": display::time(key.create_time.as_ref()),
        "expire_time": display::time(key.expire_time.as_ref()),
        "revoke_time": display::time(key.revoke_time.as_ref()),
        "last_use_time": display::time(key.last_use_time.as_ref()),
    })
}

fn show(output: Output, keys: Vec<pb::ApiKey>) -> Result<(), Error> {
    let value: Value = keys.iter().map(key_json).collect();
    let rows = keys.into_iter().map(|key| {
        let [created, expires, revoked, used] =
            [&key.create_time, &key.expire_time, &key.revoke_time, &key.last_use_time]
                .map(|at| display::time(at.as_ref()));
        vec![key.key_id, key.name, key.scopes.join(" "), created, expires, revoked, used]
    });
    let header = ["key", "name", "scopes", "created", "expires", "revoked", "last used"];
    Ok(output.show(&value, &header, rows.collect())?)
}
