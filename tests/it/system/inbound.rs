//! Calls to us: placed at the simulated carrier, greeted, recorded, and made leads; and calls of
//! ours that become their leads' by themselves.

use reqwest::StatusCode;
use serde_json::json;
use trunkline::carrier::signature;
use trunkline::grpc::pb::{self, CallDirection, CallState, LeadSource, LeadStatus};

use super::world::{Setup, TOKEN, World, create, ended, job_to, settings, until};
use crate::support::{ACCOUNT, TestDatabase, on_both_databases, phone};

on_both_databases!(
    a_caller_is_greeted_and_becomes_a_lead,
    calls_end_at_their_leads,
    strangers_are_refused
);

const NUMBER: &str = "+15005550006";

async fn place(world: &World, to: &str) -> reqwest::Response {
    let body = json!({
        "from": phone(7).expose(),
        "to": to,
        "voice_url": format!("{}/twilio/voice", world.webhooks),
        "status_callback": format!("{}/twilio/voice/status", world.webhooks),
        "talk_s": 5.0,
    });
    let url = format!("{}/simulator/inbound", world.carrier.origin);
    reqwest::Client::new().post(url).json(&body).send().await.unwrap()
}

async fn leads(world: &World) -> Vec<pb::Lead> {
    let request = pb::ListLeadsRequest::default();
    world.client.leads.clone().list_leads(request).await.unwrap().into_inner().leads
}

async fn a_caller_is_greeted_and_becomes_a_lead(database: TestDatabase) {
    let tweak = |config: &mut trunkline::config::Config| {
        config.tenant.greeting = Some("Hello & welcome".into())
    };
    let world = World::start(database, Setup { tweak, ..Setup::default() }).await;
    let placed = place(&world, NUMBER).await;
    assert_eq!(placed.status(), StatusCode::CREATED);
    let sid = placed.json::<serde_json::Value>().await.unwrap()["sid"].as_str().unwrap().to_owned();
    until("the lead of the caller", async || leads(&world).await.len() == 1).await;
    let lead = leads(&world).await.remove(0);
    assert_eq!((lead.phone.as_str(), lead.source()), (phone(7).expose(), LeadSource::Call));
    assert_eq!(lead.status(), LeadStatus::Contacted);
    let last = lead.last_call.clone().unwrap();
    assert_eq!((last.direction(), last.state()), (CallDirection::Inbound, CallState::Completed));
    // By the SID alone, and once more: the same.
    let request = pb::CreateLeadFromCallRequest { call_sid: sid };
    let again =
        world.client.leads.clone().create_lead_from_call(request).await.unwrap().into_inner();
    assert_eq!((again.lead.unwrap(), again.created), (lead, false));
    let get = pb::GetCallRequest { by: Some(pb::get_call_request::By::CallId(last.call_id)) };
    let call = world.queue().get_call(get).await.unwrap().into_inner().call.unwrap();
    assert_eq!((call.to.as_str(), call.duration.unwrap().seconds), (NUMBER, 5));
    // A number that is nobody's is apologized to, and leaves no trace.
    assert_eq!(place(&world, phone(8).expose()).await.status(), StatusCode::CREATED);
    world.carrier.settled().await;
    assert_eq!(world.carrier.creates()[1].duration_s, Some(5), "it heard something");
    assert_eq!(leads(&world).await.len(), 1);
    world.stop().await;
}

async fn calls_end_at_their_leads(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let run =
        create(&world.queue(), settings(), (0..5).map(|n| job_to(phone(n).expose())).collect())
            .await;
    ended(&world.queue(), &run).await;
    let all_told = async || leads(&world).await.iter().all(|lead| lead.last_call.is_some());
    until("every lead's last call", all_told).await;
    let done = async || {
        let request = pb::ListTasksRequest::default();
        world.queue().list_tasks(request).await.unwrap().into_inner().tasks.is_empty()
    };
    until("the end of all tasks", done).await;
    for lead in leads(&world).await {
        let last = lead.last_call.clone().unwrap();
        let entries = world.carrier.creates();
        let entry = entries.iter().rev().find(|entry| entry.to.expose() == lead.phone).unwrap();
        assert_eq!(
            last.state().as_str_name().to_lowercase(),
            format!("call_state_{}", word(entry)),
            "{lead:?}"
        );
        assert_ne!(lead.status(), LeadStatus::New);
    }
    world.stop().await;
}

fn word(entry: &trunkline::simulator::Entry) -> String {
    entry.status.as_str().replace('-', "_")
}

async fn strangers_are_refused(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let params: Vec<(String, String)> = [
        ("CallSid", "CA000000000000000000000000000000ff"),
        ("AccountSid", ACCOUNT),
        ("CallStatus", "ringing"),
        ("From", phone(7).expose()),
        ("To", NUMBER),
        ("Direction", "inbound"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let post = async |path: &str, params: &Vec<(String, String)>, signature: String| {
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let request = reqwest::Client::new()
            .post(format!("{}{path}", world.webhooks))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-twilio-signature", signature);
        request.body(body).send().await.unwrap()
    };
    let sign = |token: &str, path: &str, params: &Vec<(String, String)>| {
        signature::sign(token, &format!("{}{path}", world.webhooks), params)
    };
    let other_account: Vec<_> = params
        .iter()
        .map(|(name, value)| match name.as_str() {
            "AccountSid" => (name.clone(), ACCOUNT.replace("01", "02")),
            _ => (name.clone(), value.clone()),
        })
        .collect();
    for path in ["/twilio/voice", "/twilio/voice/status"] {
        for (params, signature) in [
            (&params, String::new()),
            (&params, sign("guess", path, &params)),
            (&params, sign(TOKEN, "/twilio/status", &params)),
            (&other_account, sign(TOKEN, path, &other_account)),
        ] {
            assert_eq!(
                post(path, params, signature).await.status(),
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
        let half = params[..2].to_vec();
        let signed = sign(TOKEN, path, &half);
        assert_eq!(post(path, &half, signed).await.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    assert!(leads(&world).await.is_empty());
    // The same, honestly signed, is answered: with an apology, for there is no greeting.
    let answer = post("/twilio/voice", &params, sign(TOKEN, "/twilio/voice", &params)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/xml"));
    let text = answer.text().await.unwrap();
    assert!(text.contains("We are sorry") && text.contains("<Hangup"), "{text}");
    world.stop().await;
}
