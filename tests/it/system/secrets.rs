//! Neither people's numbers nor secrets, in no log line, no event, no metric, no stored answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::{Connection, PgConnection, Row, SqliteConnection};
use trunkline::cli::client::Client;
use trunkline::grpc::pb::{self, RunState};
use trunkline::simulator::{Config, Faults, SimAccount};

use super::child::Site;
use super::world::{
    Carrier, Port, TOKEN, create, ended, job_to, jobs, quick_carrier, retrying, settings, state,
};
use crate::admin::MASTER_KEY;
use crate::support::{ACCOUNT, TestDatabase, on_both_databases, phone};

on_both_databases!(nothing_personal_is_told);

const API_KEY: &str = "SK00000000000000000000000000000001";
const CURRENT: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";
/// Of an account that is administered.
const SEALED: &str = "5ea1ed5ea1ed5ea1ed5ea1ed5ea1ed00";
const SEALED_KEY: &str = "0ddba110ddba110ddba110ddba110dd0";

async fn stored(url: &str) -> Vec<(String, String)> {
    const QUERIES: [&str; 8] = [
        "SELECT body || coalesce(last_error, '') || subject AS text FROM webhook_deliveries",
        "SELECT progress || events AS text FROM run_events",
        "SELECT answer AS text FROM request_ids",
        "SELECT coalesce(last_error, '') AS text FROM runs",
        "SELECT subject || detail AS text FROM audit_log",
        "SELECT coalesce(hints, '') AS text FROM carrier_accounts",
        "SELECT secret_hash || scopes || name AS text FROM api_keys",
        "SELECT coalesce(error_code, '') || coalesce(error_message, '') AS text FROM call_log",
    ];
    let mut texts = Vec::new();
    for query in QUERIES {
        let found: Vec<String> = if url.starts_with("sqlite:") {
            let mut sql = SqliteConnection::connect(url).await.unwrap();
            let rows = sqlx::query(query).fetch_all(&mut sql).await.unwrap();
            rows.iter().map(|row| row.get("text")).collect()
        } else {
            let mut sql = PgConnection::connect(url).await.unwrap();
            let rows = sqlx::query(query).fetch_all(&mut sql).await.unwrap();
            rows.iter().map(|row| row.get("text")).collect()
        };
        assert!(!found.is_empty(), "{query}");
        texts.extend(found.into_iter().map(|text| (query.to_owned(), text)));
    }
    texts
}

/// Administers with secrets and phones, well and badly; gives a key that was made.
async fn administer(client: &Client) -> String {
    let mut admin = client.tenants.clone();
    let account_sid = format!("AC{:032}", 77);
    let api_key =
        Some(pb::CarrierApiKey { sid: format!("SK{:032}", 77), secret: SEALED_KEY.into() });
    let secrets = pb::CarrierSecrets {
        auth_token: SEALED.into(),
        previous_auth_token: SEALED.into(),
        api_key,
    };
    let account = pb::CreateCarrierAccountRequest {
        request_id: "account".into(),
        account_sid: account_sid.clone(),
        secrets: Some(secrets.clone()),
        ..Default::default()
    };
    admin.create_carrier_account(account.clone()).await.unwrap();
    let base_url = format!("http://{SEALED}.example.com");
    let bad = pb::CreateCarrierAccountRequest { request_id: String::new(), base_url, ..account };
    admin.create_carrier_account(bad).await.unwrap_err();
    let settings = pb::TenantSettings {
        account_sid,
        caller_ids: vec![phone(97).expose().into()],
        ..Default::default()
    };
    let tenant = pb::CreateTenantRequest {
        request_id: "tenant".into(),
        tenant_id: "second".into(),
        settings: Some(settings.clone()),
    };
    admin.create_tenant(tenant).await.unwrap();
    let caller_ids = vec![phone(96).expose()[..6].to_owned()];
    let bad = pb::TenantSettings { caller_ids, ..settings };
    let bad = pb::CreateTenantRequest {
        tenant_id: "third".into(),
        settings: Some(bad),
        ..Default::default()
    };
    admin.create_tenant(bad).await.unwrap_err();
    let key = pb::CreateApiKeyRequest {
        request_id: "key".into(),
        tenant_id: "second".into(),
        scopes: vec!["leads:read".into()],
        ..Default::default()
    };
    admin.create_api_key(key).await.unwrap().into_inner().secret_key
}

async fn nothing_personal_is_told(database: TestDatabase) {
    let faults = Faults {
        create_lost: 0.1,
        create_500_before: 0.1,
        create_429: 0.1,
        callback_duplicated: 0.3,
        ..Faults::default()
    };
    let account = SimAccount {
        sid: ACCOUNT.parse().unwrap(),
        auth_token: TOKEN.into(),
        calls_per_second: None,
    };
    let mut carrier = Carrier::new(Config { faults, accounts: vec![account], ..quick_carrier() });
    carrier.listen();
    let mut site = Site::new(database, &carrier);
    site.set("LOG__FILTER", "trace");
    site.set("SEALING__KEYS", MASTER_KEY);
    // Every secret is in use: the carrier knows one, which is here the API key's and the token
    // before a rotation.
    site.set("TWILIO__API_KEY_SID", API_KEY);
    site.set("TWILIO__API_KEY_SECRET", TOKEN);
    site.set("TWILIO__PREVIOUS_AUTH_TOKEN", TOKEN);
    site.set("TWILIO__AUTH_TOKEN", CURRENT);
    let metrics = Port::reserve();
    site.set("METRICS__LISTEN", &metrics.address());
    let server = site.serve();
    let key = server.first_key().await;
    let client = site.client(&key).await;
    let (_, secret) = crate::hooks::create_webhook(&client, "https://localhost:9/", &[]).await;
    let queue = &client.queue;
    let dead =
        create(queue, settings(), vec![job_to("+15005550001"), job_to("+15005550003")]).await;
    assert_eq!(state(&ended(queue, &dead).await), RunState::Completed);
    let leads = jobs(0..12).into_iter().map(|mut job| {
        if let Some(pb::new_job::Who::Lead(lead)) = &mut job.who {
            lead.name = "Quentin Personal".into();
        }
        job
    });
    let request = pb::CreateRunRequest {
        request_id: "once".into(),
        settings: Some(retrying()),
        jobs: leads.collect(),
        start: true,
        ..Default::default()
    };
    let run_id = queue.clone().create_run(request).await.unwrap().into_inner().run.unwrap().run_id;
    let lead = pb::LeadFacts {
        phone: phone(99).expose().into(),
        name: "Quentin Personal".into(),
        ..Default::default()
    };
    let lead = pb::CreateLeadRequest { request_id: "lead".into(), lead: Some(lead) };
    client.leads.clone().create_lead(lead).await.unwrap();
    let made = administer(&client).await;
    // Refused requests are logged as well.
    let bad = pb::CreateRunRequest {
        settings: Some(pb::RunSettings { caller_id: phone(98).expose()[..6].into(), ..settings() }),
        ..Default::default()
    };
    queue.clone().create_run(bad).await.unwrap_err();
    carrier.accepted(8).await;
    let (request_id, id) = (String::from("stop"), run_id.clone());
    queue.clone().stop_run(pb::StopRunRequest { request_id, run_id: id }).await.unwrap();
    let told = super::metrics::scrape(&metrics.address()).await;
    assert!(told.contains("trunkline_calls_submitted_total{"), "{told}");
    server.terminate();
    let stdout = server.stdout.get();
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.lines().count() > 100 && log.contains("TRACE"), "hardly traced");
    assert_eq!(stdout.matches(&key).count(), 1);

    let mut texts: Vec<(String, String)> =
        log.lines().map(|line| ("the log".to_owned(), line.to_owned())).collect();
    texts.extend(told.lines().map(|line| ("the metrics".to_owned(), line.to_owned())));
    texts.extend(stored(&site.database.url).await);
    let mut hidden: Vec<String> = [
        TOKEN,
        CURRENT,
        SEALED,
        SEALED_KEY,
        key.split_once('.').unwrap().1,
        made.split_once('.').unwrap().1,
        "Quentin",
        secret.strip_prefix("whsec_").unwrap(),
    ]
    .map(str::to_owned)
    .into();
    hidden.push(MASTER_KEY.split_once(':').unwrap().1.to_owned());
    hidden.push(STANDARD.encode(format!("{API_KEY}:{TOKEN}")));
    let numbers = (0..12).chain([96, 97, 98, 99]).map(|n| phone(n).expose().to_owned());
    let numbers =
        numbers.chain(["+15005550001", "+15005550003", "+15005550006"].map(str::to_owned));
    // As digits, so that no other spelling of a number passes.
    hidden.extend(numbers.map(|number| number.trim_start_matches('+').to_owned()));
    for (place, text) in &texts {
        for word in &hidden {
            assert!(!text.contains(word.as_str()), "{word} is in {place}: {text}");
        }
    }
}
