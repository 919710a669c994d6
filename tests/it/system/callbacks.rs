//! Callbacks that lie, over HTTP: refused or ignored, and nothing changes.

use reqwest::StatusCode;
use serde_json::json;
use trunkline::carrier::signature;
use trunkline::grpc::pb::{self, CallState};
use trunkline::store::Store;

use super::world::{
    Setup, TENANT, TOKEN, World, create, endless_carrier, jobs, list_calls, run, settings, until,
};
use crate::support::logs::Logs;
use crate::support::{ACCOUNT, TestDatabase, make_tenant, on_both_databases};

on_both_databases!(
    forged_callbacks_are_refused,
    callbacks_for_others_change_nothing,
    nonsense_changes_nothing,
    a_state_that_goes_backwards_changes_nothing,
    both_tokens_count,
);

/// On one thread, so that what it logs can be read.
#[tokio::test]
async fn bad_callbacks_are_logged_on_sqlite() {
    bad_callbacks_are_logged(TestDatabase::sqlite().await).await;
}

#[tokio::test]
async fn bad_callbacks_are_logged_on_postgres() {
    bad_callbacks_are_logged(TestDatabase::postgres().await).await;
}

const PREVIOUS: &str = "01d01d01d01d01d01d01d01d01d01d01";
type Params = Vec<(String, String)>;

/// A world with one answered call that goes on and on, and somebody who posts what he likes.
struct Attack {
    world: World,
    http: reqwest::Client,
    run_id: String,
    call: pb::Call,
    revision: i64,
}

impl Attack {
    async fn begin(database: TestDatabase) -> Self {
        // Another tenant of the same account: its callbacks are signed with the same token.
        let engine = Store::open(&database.url).await.unwrap();
        make_tenant(&engine, "other", 9, 9.0).await;
        drop(engine);
        let setup = Setup {
            carrier: endless_carrier(),
            tweak: |config| config.twilio.previous_auth_token = Some(PREVIOUS.into()),
            ..Setup::default()
        };
        let world = World::start(database, setup).await;
        let run_id = create(&world.queue(), settings(), jobs(0..1)).await;
        let answered = async || {
            let calls = list_calls(&world.queue(), &run_id).await;
            calls.first().is_some_and(|call| call.state() == CallState::Answered)
        };
        until("an answered call", answered).await;
        let call = list_calls(&world.queue(), &run_id).await.remove(0);
        let revision = run(&world.queue(), &run_id).await.revision;
        Self { world, http: reqwest::Client::new(), run_id, call, revision }
    }

    fn path(&self) -> String {
        format!("/twilio/status/{TENANT}/{}", self.call.call_id)
    }

    /// What Twilio would send at the call's end.
    fn params(&self) -> Params {
        [
            ("CallSid", self.call.call_sid.as_str()),
            ("AccountSid", ACCOUNT),
            ("CallStatus", "completed"),
            ("SequenceNumber", "3"),
            ("CallDuration", "7"),
            ("To", self.call.to.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn with(&self, name: &str, value: &str) -> Params {
        let mut params = self.params();
        params.retain(|(known, _)| known != name);
        params.push((name.into(), value.into()));
        params
    }

    async fn post(&self, path: &str, params: &Params, signature: Option<String>) -> StatusCode {
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let request = self
            .http
            .post(format!("{}{path}", self.world.webhooks))
            .header("content-type", "application/x-www-form-urlencoded");
        let request = match signature {
            Some(signature) => request.header("x-twilio-signature", signature),
            None => request,
        };
        request.body(body).send().await.unwrap().status()
    }

    /// Signed as Twilio would, with the current token.
    async fn post_signed(&self, path: &str, params: &Params) -> StatusCode {
        let signature = signature::sign(TOKEN, &format!("{}{path}", self.world.webhooks), params);
        self.post(path, params, Some(signature)).await
    }

    async fn assert_unchanged(&self) {
        let calls = list_calls(&self.world.queue(), &self.run_id).await;
        assert_eq!((calls.len(), &calls[0]), (1, &self.call));
        assert_eq!(run(&self.world.queue(), &self.run_id).await.revision, self.revision);
    }
}

async fn forged_callbacks_are_refused(database: TestDatabase) {
    let attack = Attack::begin(database).await;
    let (path, params) = (attack.path(), attack.params());
    let url = format!("{}{path}", attack.world.webhooks);
    let other_call =
        format!("{}/twilio/status/{TENANT}/{}", attack.world.webhooks, uuid::Uuid::now_v7());
    let good = signature::sign(TOKEN, &url, &params);
    let forged = [
        None,
        Some(String::new()),
        Some("nonsense".into()),
        Some(signature::sign("guess", &url, &params)),
        Some(signature::sign(TOKEN, &format!("https://elsewhere.test{path}"), &params)),
        Some(signature::sign(TOKEN, &other_call, &params)),
        Some(signature::sign(TOKEN, &url, &attack.with("CallStatus", "busy"))),
        Some(signature::sign(TOKEN, &url, &Vec::new())),
        Some(good[..good.len() - 4].to_owned()),
    ];
    for signature in forged {
        let shown = signature.clone();
        assert_eq!(
            attack.post(&path, &params, signature).await,
            StatusCode::FORBIDDEN,
            "{shown:?}"
        );
    }
    // Signed for another query than the one that came.
    assert_eq!(
        attack.post(&format!("{path}?x=1"), &params, Some(good.clone())).await,
        StatusCode::FORBIDDEN
    );
    for nobody in ["/twilio/status/nobody/", "/twilio/status/UPPER/", "/twilio/status/a%00b/"] {
        let path = format!("{nobody}{}", attack.call.call_id);
        assert_eq!(attack.post_signed(&path, &params).await, StatusCode::FORBIDDEN, "{nobody}");
    }
    let no_id = format!("/twilio/status/{TENANT}/not-a-call");
    assert_eq!(attack.post_signed(&no_id, &params).await, StatusCode::FORBIDDEN);
    attack.assert_unchanged().await;
    // The Host header decides nothing.
    let lied = attack
        .http
        .post(&url)
        .header("host", "elsewhere.test")
        .header(
            "x-twilio-signature",
            signature::sign(TOKEN, &format!("http://elsewhere.test{path}"), &params),
        )
        .form(&params)
        .send();
    assert_eq!(lied.await.unwrap().status(), StatusCode::FORBIDDEN);
    attack.assert_unchanged().await;
    // The same, honestly signed, counts: what failed above failed for its signature.
    assert_eq!(attack.post(&path, &params, Some(good)).await, StatusCode::NO_CONTENT);
    let call = list_calls(&attack.world.queue(), &attack.run_id).await.remove(0);
    assert_eq!(call.state(), CallState::Completed);
    attack.world.stop().await;
}

async fn callbacks_for_others_change_nothing(database: TestDatabase) {
    let attack = Attack::begin(database).await;
    let params = attack.params();
    let foreign = format!("/twilio/status/other/{}", attack.call.call_id);
    let unknown = format!("/twilio/status/{TENANT}/{}", uuid::Uuid::now_v7());
    for path in [foreign, unknown] {
        assert_eq!(attack.post_signed(&path, &params).await, StatusCode::NO_CONTENT, "{path}");
    }
    let other_sid = attack.with("CallSid", "CA00000000000000000000000000000bad");
    assert_eq!(attack.post_signed(&attack.path(), &other_sid).await, StatusCode::NO_CONTENT);
    attack.assert_unchanged().await;
    attack.world.stop().await;
}

async fn nonsense_changes_nothing(database: TestDatabase) {
    let attack = Attack::begin(database).await;
    for (name, value) in [
        ("SequenceNumber", "x"),
        ("SequenceNumber", "-1"),
        ("SequenceNumber", "99999999999"),
        ("CallStatus", "exploded"),
        ("CallSid", "CA/1"),
        ("CallSid", ""),
        ("AccountSid", "no body"),
    ] {
        let status = attack.post_signed(&attack.path(), &attack.with(name, value)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}={value}");
    }
    let huge = attack.with("Padding", &"x".repeat(70_000));
    assert_eq!(attack.post_signed(&attack.path(), &huge).await, StatusCode::PAYLOAD_TOO_LARGE);
    let got = attack
        .http
        .get(format!("{}{}", attack.world.webhooks, attack.path()))
        .send()
        .await
        .unwrap();
    assert_eq!(got.status(), StatusCode::METHOD_NOT_ALLOWED);
    for nowhere in ["/", "/twilio/status", "/twilio/status/acme", "/twilio/voice/acme/x"] {
        assert_eq!(
            attack.post_signed(nowhere, &attack.params()).await,
            StatusCode::NOT_FOUND,
            "{nowhere}"
        );
    }
    let health =
        attack.http.get(format!("{}/healthz", attack.world.webhooks)).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::NO_CONTENT);
    attack.assert_unchanged().await;
    // What failed above failed for what was changed in it.
    assert_eq!(attack.post_signed(&attack.path(), &attack.params()).await, StatusCode::NO_CONTENT);
    attack.world.stop().await;
}

async fn a_state_that_goes_backwards_changes_nothing(database: TestDatabase) {
    let attack = Attack::begin(database).await;
    let post = async |status: &str, sequence: &str| {
        let mut params = attack.with("CallStatus", status);
        params.retain(|(name, _)| name != "SequenceNumber" && name != "CallDuration");
        params.push(("SequenceNumber".into(), sequence.into()));
        assert_eq!(
            attack.post_signed(&attack.path(), &params).await,
            StatusCode::NO_CONTENT,
            "{status}"
        );
    };
    // It is answered: these were on their way for long. The number of the answer itself is 2.
    for (status, sequence) in
        [("queued", "0"), ("initiated", "0"), ("ringing", "1"), ("in-progress", "2")]
    {
        post(status, sequence).await;
        attack.assert_unchanged().await;
    }
    assert_eq!(attack.post_signed(&attack.path(), &attack.params()).await, StatusCode::NO_CONTENT);
    let ended = || async {
        let calls = list_calls(&attack.world.queue(), &attack.run_id).await;
        (calls, run(&attack.world.queue(), &attack.run_id).await.revision)
    };
    let before = ended().await;
    assert_eq!(before.0[0].state(), CallState::Completed);
    for (status, sequence) in
        [("in-progress", "2"), ("ringing", "1"), ("busy", "2"), ("completed", "3")]
    {
        post(status, sequence).await;
        assert_eq!(ended().await, before, "{status}");
    }
    attack.world.stop().await;
}

async fn bad_callbacks_are_logged(database: TestDatabase) {
    let attack = Attack::begin(database).await;
    let logs = Logs::begin();
    let unknown = format!("/twilio/status/{TENANT}/{}", uuid::Uuid::now_v7());
    let foreign = format!("/twilio/status/other/{}", attack.call.call_id);
    for path in [&unknown, &foreign] {
        assert_eq!(attack.post_signed(path, &attack.params()).await, StatusCode::NO_CONTENT);
    }
    let (path, garbage) = (attack.path(), attack.with("SequenceNumber", "x"));
    assert_eq!(attack.post_signed(&path, &garbage).await, StatusCode::BAD_REQUEST);
    assert_eq!(attack.post(&path, &attack.params(), None).await, StatusCode::FORBIDDEN);
    let mut backwards = attack.with("CallStatus", "ringing");
    backwards.retain(|(name, _)| name != "SequenceNumber");
    assert_eq!(attack.post_signed(&path, &backwards).await, StatusCode::NO_CONTENT);
    let refused = logs.of("callback_refused");
    let told: Vec<_> = refused.iter().map(|line| (&line["reason"], &line["tenant"])).collect();
    let line = |reason, tenant| (json!(reason), json!(tenant));
    let expected = [
        line("no_such_call", TENANT),
        line("no_such_call", "other"),
        line("unreadable", TENANT),
        line("signature", TENANT),
    ];
    assert_eq!(told, expected.each_ref().map(|(reason, tenant)| (reason, tenant)));
    assert!(refused[2]["violation"].as_str().unwrap().contains("SequenceNumber"), "{}", refused[2]);
    assert_eq!(refused[3]["call_id"], json!(attack.call.call_id));
    let ignored = logs.of("callback_ignored");
    assert_eq!(ignored.last().unwrap()["state"], json!("answered"));
    attack.assert_unchanged().await;
    attack.world.stop().await;
}

async fn both_tokens_count(database: TestDatabase) {
    let attack = Attack::begin(database).await;
    let params = attack.params();
    let url = format!("{}{}", attack.world.webhooks, attack.path());
    let status =
        attack.post(&attack.path(), &params, Some(signature::sign(PREVIOUS, &url, &params))).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let call = list_calls(&attack.world.queue(), &attack.run_id).await.remove(0);
    assert_eq!((call.state(), call.duration.unwrap().seconds), (CallState::Completed, 7));
    attack.world.stop().await;
}
