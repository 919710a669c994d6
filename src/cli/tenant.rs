//! `trunkline tenant`: who may dial, and under what.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Client, request_id};
use super::output::Output;
use super::run::pair;
use super::{Error, display, window};
use crate::grpc::pb::{self, TenantState};

/// The page size of a listing.
pub(super) const PAGE_SIZE: u32 = 500;

/// Administers tenants. Needs a key with the scope admin.
#[derive(Subcommand)]
pub enum Command {
    /// Creates a tenant.
    Create {
        /// 1 to 40 characters of a-z, 0-9 and inner -.
        tenant: String,
        /// The carrier account dialed through, AC….
        #[arg(long, required = true)]
        account: Option<String>,
        /// A number shown to callees, E.164; several are shown in turn.
        #[arg(long = "caller-id", required = true)]
        caller_ids: Vec<String>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Changes what is named of a tenant.
    Update {
        /// The tenant.
        tenant: String,
        /// The carrier account dialed through, AC….
        #[arg(long)]
        account: Option<String>,
        /// A number shown to callees, E.164; those named replace all.
        #[arg(long = "caller-id")]
        caller_ids: Vec<String>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Shows a tenant.
    Get(Id),
    /// Lists tenants by id.
    List {
        /// Only tenants in this state.
        #[arg(long, value_parser = state)]
        state: Option<TenantState>,
    },
    /// Refuses its keys and dials nothing of it any more.
    Disable(Id),
    /// Lets a disabled tenant go on.
    Enable(Id),
}

/// Names a tenant.
#[derive(clap::Args)]
pub struct Id {
    /// The tenant.
    tenant: String,
}

/// What both creating and changing can name.
#[derive(clap::Args)]
pub struct Limits {
    /// For people.
    #[arg(long)]
    name: Option<String>,
    /// Live calls at most, 1 to 10,000 [default: 3]
    #[arg(long)]
    max_concurrent_calls: Option<u32>,
    /// New calls a second at most, 1/3600 to 10,000 [default: 1]
    #[arg(long)]
    calls_per_second: Option<f64>,
    /// IANA name, for leads that name none [default: UTC]
    #[arg(long)]
    time_zone: Option<String>,
    /// When callees may be called, for runs that name no window, for example mon-fri 09:00-17:30
    /// [default: 08:00-21:00]
    #[arg(long, value_name = "[DAYS ]HH:MM-HH:MM", value_parser = window::parse)]
    window: Option<pb::CallingWindow>,
    /// What national phones are read with, for example US.
    #[arg(long)]
    region: Option<String>,
    /// The name of the limits on requests [default: standard]
    #[arg(long)]
    plan: Option<String>,
    /// What is said to those who call one of the caller ids; empty for an apology.
    #[arg(long, value_name = "TEXT")]
    greeting: Option<String>,
}

fn state(text: &str) -> Result<TenantState, String> {
    TenantState::from_str_name(&format!("TENANT_STATE_{}", text.to_ascii_uppercase()))
        .filter(|state| *state != TenantState::Unspecified)
        .ok_or_else(|| "must be active or disabled".to_owned())
}

/// Sends one request through a fresh clone of the client, again while the server is away.
macro_rules! administer {
    ($client:expr, $method:ident, $request:expr) => {
        client::call(&$request, |request| {
            let mut tenants = $client.tenants.clone();
            async move { tenants.$method(request).await }
        })
        .await
    };
}
pub(super) use administer;

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    let request_id = request_id();
    let tenant = match command {
        Command::Create { tenant: tenant_id, account, caller_ids, limits } => {
            let settings = Some(settings(account, caller_ids, limits).0);
            let request = pb::CreateTenantRequest { request_id, tenant_id, settings };
            administer!(client, create_tenant, request)?.tenant
        }
        Command::Update { tenant: tenant_id, account, caller_ids, limits } => {
            let (settings, paths) = settings(account, caller_ids, limits);
            if paths.is_empty() {
                return Err(Error::Usage("name at least one thing to change".into()));
            }
            let update_mask = Some(prost_types::FieldMask { paths });
            let (settings, etag) = (Some(settings), String::new());
            let request =
                pb::UpdateTenantRequest { request_id, tenant_id, settings, update_mask, etag };
            administer!(client, update_tenant, request)?.tenant
        }
        Command::Get(Id { tenant: tenant_id }) => {
            administer!(client, get_tenant, pb::GetTenantRequest { tenant_id })?.tenant
        }
        Command::List { state } => return list(client, state, output).await,
        Command::Disable(Id { tenant: tenant_id }) => {
            let request = pb::DisableTenantRequest { request_id, tenant_id };
            administer!(client, disable_tenant, request)?.tenant
        }
        Command::Enable(Id { tenant: tenant_id }) => {
            let request = pb::EnableTenantRequest { request_id, tenant_id };
            administer!(client, enable_tenant, request)?.tenant
        }
    };
    show(output, &tenant.unwrap_or_default())
}

/// Settings as they were named, and the paths of those.
fn settings(
    account: Option<String>,
    caller_ids: Vec<String>,
    limits: Limits,
) -> (pb::TenantSettings, Vec<String>) {
    let named = [
        ("name", limits.name.is_some()),
        ("account_sid", account.is_some()),
        ("max_concurrent_calls", limits.max_concurrent_calls.is_some()),
        ("calls_per_second", limits.calls_per_second.is_some()),
        ("caller_ids", !caller_ids.is_empty()),
        ("time_zone", limits.time_zone.is_some()),
        ("window", limits.window.is_some()),
        ("region", limits.region.is_some()),
        ("plan", limits.plan.is_some()),
        ("greeting", limits.greeting.is_some()),
    ];
    let paths =
        named.iter().filter(|(_, named)| *named).map(|(path, _)| (*path).to_owned()).collect();
    let settings = pb::TenantSettings {
        name: limits.name.unwrap_or_default(),
        account_sid: account.unwrap_or_default(),
        max_concurrent_calls: limits.max_concurrent_calls.unwrap_or_default(),
        calls_per_second: limits.calls_per_second.unwrap_or_default(),
        caller_ids,
        time_zone: limits.time_zone.unwrap_or_default(),
        window: limits.window,
        region: limits.region.unwrap_or_default(),
        plan: limits.plan.unwrap_or_default(),
        greeting: limits.greeting.filter(|text| !text.is_empty()).map(|text| {
            let say = pb::script::Say { text, ..Default::default() };
            pb::Script { kind: Some(pb::script::Kind::Say(say)) }
        }),
    };
    (settings, paths)
}

async fn list(client: &Client, state: Option<TenantState>, output: Output) -> Result<(), Error> {
    let states: Vec<i32> = state.into_iter().map(Into::into).collect();
    let (mut tenants, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::ListTenantsRequest { page_size: PAGE_SIZE, page_token, states: states.clone() };
        let page = administer!(client, list_tenants, request)?;
        tenants.extend(page.tenants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let value: Value = tenants.iter().map(tenant_json).collect();
    let rows = tenants.iter().map(|tenant| {
        let settings = tenant.settings.clone().unwrap_or_default();
        vec![
            tenant.tenant_id.clone(),
            display::tenant_state(tenant.state()),
            settings.name,
            settings.max_concurrent_calls.to_string(),
            settings.calls_per_second.to_string(),
            settings.plan,
            settings.account_sid,
        ]
    });
    let header = ["tenant", "state", "name", "live calls", "calls/s", "plan", "account"];
    Ok(output.show(&value, &header, rows.collect())?)
}

/// A tenant as JSON; whole, because its administrator asked for it.
fn tenant_json(tenant: &pb::Tenant) -> Value {
    let settings = tenant.settings.clone().unwrap_or_default();
    json!({
        "tenant_id": tenant.tenant_id,
        "state": display::tenant_state(tenant.state()),
        "name": settings.name,
        "account_sid": settings.account_sid,
        "max_concurrent_calls": settings.max_concurrent_calls,
        "calls_per_second": settings.calls_per_second,
        "caller_ids": settings.caller_ids,
        "time_zone": settings.time_zone,
        "window": settings.window.as_ref().map(window::text),
        "region": settings.region,
        "plan": settings.plan,
        "etag": tenant.etag,
        "create_time": display::time(tenant.create_time.as_ref()),
        "update_time": display::time(tenant.update_time.as_ref()),
    })
}

fn show(output: Output, tenant: &pb::Tenant) -> Result<(), Error> {
    let settings = tenant.settings.clone().unwrap_or_default();
    let rows = vec![
        pair("tenant", &tenant.tenant_id),
        pair("state", &display::tenant_state(tenant.state())),
        pair("name", &settings.name),
        pair("account", &settings.account_sid),
        pair("caller ids", &settings.caller_ids.join(", ")),
        pair("live calls at most", &settings.max_concurrent_calls.to_string()),
        pair("calls a second", &settings.calls_per_second.to_string()),
        pair("window", &settings.window.as_ref().map(window::text).unwrap_or_default()),
        pair("time zone", &settings.time_zone),
        pair("region", &settings.region),
        pair("plan", &settings.plan),
        pair("created", &display::time(tenant.create_time.as_ref())),
    ];
    Ok(output.show(&tenant_json(tenant), &["", ""], rows)?)
}
