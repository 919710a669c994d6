//! Carrier accounts: credentials go in sealed, are used at once, and never come out.

use sqlx::{Connection, PgConnection, Row, SqliteConnection};
use tonic::Code;
use tonic_types::StatusExt as _;
use trunkline::grpc::pb::{self, RunState};
use trunkline::simulator::{self, SimAccount};
use trunkline::store::{
    AccountPatch, CarrierApiKey, CarrierSecrets, Error, Keyring, NewAccount, Resealed, Store,
};

use super::{MASTER_KEY, sealing};
use crate::support::{ACCOUNT, TestDatabase, on_both_databases};
use crate::system::world::{
    Setup, TOKEN, World, create, ended, jobs, quick_carrier, run, settings, state, until,
};

on_both_databases!(
    a_changed_credential_is_used_without_a_restart,
    secrets_are_sealed_and_change_piece_by_piece,
    another_master_key_takes_over,
    without_a_master_key_nothing_is_kept,
);

const SECOND: &str = "AC00000000000000000000000000000002";
const SECOND_TOKEN: &str = "feedfacefeedfacefeedfacefeedface";

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn token(token: &str) -> Option<pb::CarrierSecrets> {
    Some(pb::CarrierSecrets { auth_token: token.into(), ..Default::default() })
}

async fn a_changed_credential_is_used_without_a_restart(database: TestDatabase) {
    let second = SimAccount {
        sid: SECOND.parse().unwrap(),
        auth_token: SECOND_TOKEN.into(),
        calls_per_second: None,
    };
    let mut carrier = quick_carrier();
    carrier.accounts.push(second);
    let carrier = simulator::Config { outcomes: simulator::Outcomes::ALL_ANSWERED, ..carrier };
    let world = World::start(database, Setup { carrier, ..sealing() }).await;
    let mut admin = world.client.tenants.clone();
    // The account of the settings works before anybody stores anything.
    let first = create(&world.queue(), settings(), jobs(0..2)).await;
    assert_eq!(state(&ended(&world.queue(), &first).await), RunState::Completed);
    // Another account, with a wrong token at first; the tenant moves to it.
    let account = pb::CreateCarrierAccountRequest {
        account_sid: SECOND.into(),
        calls_per_second: 40.0,
        secrets: token("0123456789abcdef0123456789abcdef"),
        ..Default::default()
    };
    let made = admin.create_carrier_account(account).await.unwrap().into_inner().account.unwrap();
    assert_eq!((made.sealed_with.as_str(), made.auth_token_hint.as_str()), ("test", "cdef"));
    let update = pb::UpdateTenantRequest {
        tenant_id: "acme".into(),
        settings: Some(pb::TenantSettings { account_sid: SECOND.into(), ..Default::default() }),
        update_mask: mask(&["account_sid"]),
        ..Default::default()
    };
    admin.update_tenant(update).await.unwrap();
    let run_id = create(&world.queue(), settings(), jobs(2..8)).await;
    until("the run to pause", async || {
        state(&run(&world.queue(), &run_id).await) == RunState::Paused
    })
    .await;
    let paused = run(&world.queue(), &run_id).await;
    assert!(paused.last_error.contains("20003"), "{}", paused.last_error);
    // The right one is used within seconds, for requests and for the signatures of callbacks.
    let update = pb::UpdateCarrierAccountRequest {
        account_sid: SECOND.into(),
        secrets: token(SECOND_TOKEN),
        update_mask: mask(&["auth_token"]),
        ..Default::default()
    };
    let changed = admin.update_carrier_account(update).await.unwrap().into_inner().account.unwrap();
    assert!(changed.has_previous_auth_token && changed.auth_token_hint == "face", "{changed:?}");
    until("the new token to be used", async || {
        let resume = pb::ResumeRunRequest { run_id: run_id.clone(), ..Default::default() };
        // It pauses again for as long as the old token is remembered.
        let _ = world.queue().resume_run(resume).await;
        let progress = run(&world.queue(), &run_id).await.progress.unwrap();
        progress.counts.unwrap().completed > 0
    })
    .await;
    let resume = pb::ResumeRunRequest { run_id: run_id.clone(), ..Default::default() };
    let _ = world.queue().resume_run(resume).await;
    assert_eq!(state(&ended(&world.queue(), &run_id).await), RunState::Completed);
    world.carrier.settled().await;
    let by_account = |sid: &str| {
        world.carrier.creates().iter().filter(|entry| entry.account_sid.as_str() == sid).count()
    };
    assert_eq!((by_account(ACCOUNT), by_account(SECOND)), (2, 6));
    world.stop().await;
}

fn new_account() -> NewAccount {
    NewAccount {
        sid: SECOND.parse().unwrap(),
        calls_per_second: 2.0,
        base_url: None,
        secrets: CarrierSecrets {
            auth_token: SECOND_TOKEN.into(),
            previous_auth_token: None,
            api_key: Some(CarrierApiKey { sid: format!("SK{:032}", 1), secret: TOKEN.into() }),
        },
    }
}

async fn engine(database: &TestDatabase, keys: &str) -> Store {
    Store::open_with(&database.url, Keyring::parse(&keys.into()).unwrap()).await.unwrap()
}

/// Everything that the database holds of accounts, as text.
async fn stored(url: &str) -> String {
    const SQL: &str =
        "SELECT secrets_sealed, hints FROM carrier_accounts WHERE secrets_sealed IS NOT NULL";
    let (bytes, hints): (Vec<u8>, String) = if url.starts_with("sqlite:") {
        let mut sql = SqliteConnection::connect(url).await.unwrap();
        let row = sqlx::query(SQL).fetch_one(&mut sql).await.unwrap();
        (row.get(0), row.get(1))
    } else {
        let mut sql = PgConnection::connect(url).await.unwrap();
        let row = sqlx::query(SQL).fetch_one(&mut sql).await.unwrap();
        (row.get(0), row.get(1))
    };
    format!("{} {hints}", String::from_utf8_lossy(&bytes))
}

fn exposed(
    access: Option<trunkline::store::AccountAccess>,
) -> (String, Option<String>, Option<String>) {
    use secrecy::ExposeSecret as _;
    let secrets = access.expect("credentials").secrets;
    let text = |secret: &secrecy::SecretString| secret.expose_secret().to_owned();
    let previous = secrets.previous_auth_token.as_ref().map(text);
    (text(&secrets.auth_token), previous, secrets.api_key.as_ref().map(|key| text(&key.secret)))
}

async fn secrets_are_sealed_and_change_piece_by_piece(database: TestDatabase) {
    let store = engine(&database, MASTER_KEY).await;
    let sid = SECOND.parse().unwrap();
    store.create_account(new_account(), None).await.unwrap();
    assert!(matches!(store.create_account(new_account(), None).await, Err(Error::Exists(_))));
    let text = stored(&database.url).await;
    for secret in [SECOND_TOKEN, TOKEN] {
        assert!(!text.contains(secret), "{text}");
    }
    let some = |text: &str| Some(text.to_owned());
    let access = async || exposed(store.account_access(&sid).await.unwrap());
    assert_eq!(access().await, (SECOND_TOKEN.into(), None, some(TOKEN)));
    // A rotation: the old token counts until it is given up.
    let rotated = AccountPatch { auth_token: Some("new".into()), ..Default::default() };
    let view = store.update_account(&sid, rotated, None).await.unwrap();
    assert_eq!(access().await, ("new".into(), some(SECOND_TOKEN), some(TOKEN)));
    let stale = AccountPatch { revision: Some(view.revision - 1), ..Default::default() };
    assert!(matches!(store.update_account(&sid, stale, None).await, Err(Error::Changed)));
    let given_up = AccountPatch {
        previous_auth_token: Some(None),
        api_key: Some(None),
        revision: Some(view.revision),
        ..Default::default()
    };
    store.update_account(&sid, given_up, None).await.unwrap();
    assert_eq!(access().await, ("new".into(), None, None));
    // What settings say replaces neither its pace nor its credentials any more.
    assert!(!trunkline::store::Store::put_account(&store, &sid, 9.0).await.unwrap());
    assert_eq!(store.account(&sid).await.unwrap().calls_per_second, 2.0);
}

async fn another_master_key_takes_over(database: TestDatabase) {
    let new_key = format!("next:{}", "5a".repeat(32));
    let sid = SECOND.parse().unwrap();
    let store = engine(&database, MASTER_KEY).await;
    store.create_account(new_account(), None).await.unwrap();
    drop(store);
    let both = engine(&database, &format!("{new_key},{MASTER_KEY}")).await;
    assert_eq!(exposed(both.account_access(&sid).await.unwrap()).0, SECOND_TOKEN);
    let resealed = Resealed { resealed: 1, ..Default::default() };
    assert_eq!(both.reseal_accounts().await.unwrap(), resealed);
    assert_eq!(
        both.reseal_accounts().await.unwrap(),
        Resealed { unchanged: 1, ..Default::default() }
    );
    assert_eq!(both.account(&sid).await.unwrap().sealed_with.as_deref(), Some("next"));
    drop(both);
    // The old key is needed no more; with it alone nothing opens, and nothing is told but which key
    // is missing.
    let new = engine(&database, &new_key).await;
    assert_eq!(exposed(new.account_access(&sid).await.unwrap()).0, SECOND_TOKEN);
    drop(new);
    let old = engine(&database, MASTER_KEY).await;
    let error = old.account_access(&sid).await.unwrap_err().to_string();
    assert!(error.contains("next") && !error.contains(SECOND_TOKEN), "{error}");
    assert_eq!(
        old.reseal_accounts().await.unwrap(),
        Resealed { unreadable: 1, ..Default::default() }
    );
}

async fn without_a_master_key_nothing_is_kept(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let mut admin = world.client.tenants.clone();
    let account = pb::CreateCarrierAccountRequest {
        account_sid: SECOND.into(),
        secrets: token(SECOND_TOKEN),
        ..Default::default()
    };
    let refused = admin.create_carrier_account(account).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "NO_MASTER_KEY");
    // The account of the settings is there, without stored credentials; its pace can be changed.
    let update = pb::UpdateCarrierAccountRequest {
        account_sid: ACCOUNT.into(),
        calls_per_second: 7.0,
        update_mask: mask(&["calls_per_second"]),
        ..Default::default()
    };
    let account = admin.update_carrier_account(update).await.unwrap().into_inner().account.unwrap();
    assert_eq!((account.calls_per_second, account.sealed_with.as_str()), (7.0, ""));
    world.stop().await;
}
