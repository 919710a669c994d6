//! A key pressed during a call: its phone is suppressed, and never dialed again.

use reqwest::StatusCode;
use trunkline::carrier::signature;
use trunkline::grpc::pb::{self, JobState, Outcome, SuppressionSource};
use trunkline::simulator::{self, Press, Scripted};

use super::world::{
    Setup, TOKEN, World, create, ended, job_to, jobs, list_calls, list_jobs, settings, until,
};
use crate::crash::proxy::Proxy;
use crate::support::{TestDatabase, on_both_databases, phone};

on_both_databases!(
    the_key_is_taken_once_signed_and_only_then,
    who_presses_the_key_is_called_no_more
);

fn listening() -> pb::RunSettings {
    let opt_out = pb::OptOut { confirmation: "Done & gone.".into(), ..Default::default() };
    pb::RunSettings { opt_out: Some(opt_out), ..settings() }
}

async fn suppressions(world: &World) -> Vec<pb::Suppression> {
    let request = pb::ListSuppressionsRequest::default();
    world.client.leads.clone().list_suppressions(request).await.unwrap().into_inner().suppressions
}

/// A press of `digits`, as the carrier tells of it, signed with `token`.
async fn press(world: &World, path: &str, digits: &str, token: &str) -> (StatusCode, String) {
    let params =
        [("CallSid".to_owned(), format!("CA{:032}", 7)), ("Digits".to_owned(), digits.to_owned())];
    let url = format!("{}{path}", world.webhooks);
    let signature = signature::sign(token, &url, &params);
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-twilio-signature", signature);
    let answer = request.body(body).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn the_key_is_taken_once_signed_and_only_then(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let run = create(&world.queue(), listening(), vec![job_to(phone(1).expose())]).await;
    ended(&world.queue(), &run).await;
    let call = list_calls(&world.queue(), &run).await.remove(0).call_id;
    let path = format!("/twilio/opt-out/acme/{call}?key=9");
    // Whoever did not sign changes nothing, and what is no key of ours repeats the prompt.
    assert_eq!(press(&world, &path, "9", "guess").await.0, StatusCode::FORBIDDEN);
    let (status, again) = press(&world, &path, "5", TOKEN).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        again.contains("<Gather") && again.contains("press 9") && again.contains("key=9"),
        "{again}"
    );
    let other_key = path.replace("key=9", "key=8");
    assert!(
        press(&world, &other_key, "9", TOKEN).await.1.contains("<Gather"),
        "the address says which"
    );
    let strange = path.replace(&call, &uuid::Uuid::nil().to_string());
    let (status, goodbye) = press(&world, &strange, "9", TOKEN).await;
    assert!(status == StatusCode::OK && goodbye.contains("<Hangup"), "{goodbye}");
    assert!(suppressions(&world).await.is_empty());
    // Twice: the carrier repeats what it got no answer to.
    for _ in 0..2 {
        let (status, done) = press(&world, &path, "9", TOKEN).await;
        assert_eq!(status, StatusCode::OK);
        assert!(done.contains("Done &amp; gone.") && done.contains("<Hangup"), "{done}");
        let known = suppressions(&world).await;
        assert_eq!((known.len(), known[0].phone.as_str()), (1, phone(1).expose()));
        assert_eq!(
            (known[0].source(), known[0].call_id.as_str()),
            (SuppressionSource::OptOut, call.as_str())
        );
    }
    // Coming back for an answer that was late is the same.
    let back = format!("{path}&digits=9&round=1");
    assert!(press(&world, &back, "", TOKEN).await.1.contains("Done &amp; gone."));
    let later = create(
        &world.queue(),
        settings(),
        vec![job_to(phone(1).expose()), job_to(phone(2).expose())],
    )
    .await;
    ended(&world.queue(), &later).await;
    let jobs = list_jobs(&world.queue(), &later).await;
    assert_eq!((jobs[0].state(), jobs[0].outcome()), (JobState::Skipped, Outcome::Suppressed));
    assert_eq!(world.carrier.creates().iter().filter(|entry| entry.to == phone(1)).count(), 1);
    world.stop().await;
}

/// The whole way, over HTTP: three callees hear the script. One presses the key, one another key
/// and then this one, one nothing. Jobs of theirs that wait in another run, and those that come
/// later, are not dialed.
async fn who_presses_the_key_is_called_no_more(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    let presses = |keys: &[&str]| {
        keys.iter().map(|key| Press { digits: (*key).into(), after_s: 1.0 }).collect()
    };
    for (n, keys) in [(1, &["9"][..]), (2, &["5", "9"]), (3, &[])] {
        let outcome = Some(simulator::Outcome::Answered);
        let script = Scripted {
            outcome,
            presses: presses(keys),
            talk_s: Some(10.0),
            ..Scripted::new(phone(n))
        };
        world.carrier.simulator.script(script).unwrap();
    }
    let waiting = pb::CreateRunRequest {
        settings: Some(settings()),
        jobs: jobs(1..4),
        seal: true,
        ..Default::default()
    };
    let waiting = world.queue().create_run(waiting).await.unwrap().into_inner().run.unwrap().run_id;
    let run = create(&world.queue(), listening(), jobs(1..4)).await;
    ended(&world.queue(), &run).await;
    world.carrier.settled().await;
    let known = suppressions(&world).await;
    let mut phones: Vec<_> = known.iter().map(|known| known.phone.clone()).collect();
    phones.sort();
    assert_eq!(phones, [phone(1).expose(), phone(2).expose()]);
    let calls = list_calls(&world.queue(), &run).await;
    for known in &known {
        assert!(calls.iter().any(|call| call.call_id == known.call_id && call.to == known.phone));
    }
    let start = pb::StartRunRequest { run_id: waiting.clone(), ..Default::default() };
    world.queue().start_run(start).await.unwrap();
    ended(&world.queue(), &waiting).await;
    let later = create(&world.queue(), settings(), jobs(1..4)).await;
    ended(&world.queue(), &later).await;
    for run in [&waiting, &later] {
        let states: Vec<_> = list_jobs(&world.queue(), run)
            .await
            .iter()
            .map(|job| job.state() == JobState::Skipped)
            .collect();
        assert_eq!(states, [true, true, false]);
    }
    let creates = world.carrier.creates();
    let of = |n: usize| creates.iter().filter(|entry| entry.to == phone(n)).count();
    assert_eq!((of(1), of(2), of(3)), (1, 1, 3), "the carrier's ledger");
    world.stop().await;
}

/// The callee hears something, and what it asked for is kept although it hangs up: nobody presses
/// twice here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_pressed_while_the_database_is_away_is_kept() {
    let mut database = TestDatabase::postgres().await;
    let proxy = Proxy::start(&database.url).await;
    database.url = proxy.url(&database.url);
    let world = World::start(database, Setup::default()).await;
    let run = create(&world.queue(), listening(), vec![job_to(phone(1).expose())]).await;
    ended(&world.queue(), &run).await;
    let call = list_calls(&world.queue(), &run).await.remove(0).call_id;
    let path = format!("/twilio/opt-out/acme/{call}?key=9");
    proxy.cut();
    let (status, moment) = press(&world, &path, "9", TOKEN).await;
    assert_eq!(status, StatusCode::OK);
    assert!(moment.contains("One moment") && moment.contains("digits=9&amp;round=1"), "{moment}");
    let back = format!("{path}&digits=9&round=8");
    let (_, goodbye) = press(&world, &back, "", TOKEN).await;
    assert!(goodbye.contains("We are removing you") && goodbye.contains("<Hangup"), "{goodbye}");
    proxy.mend();
    let kept = async || {
        let request = pb::ListSuppressionsRequest::default();
        let list = world.client.leads.clone().list_suppressions(request).await;
        list.is_ok_and(|list| list.into_inner().suppressions.len() == 1)
    };
    until("the suppression that was asked for", kept).await;
    assert!(press(&world, &back, "", TOKEN).await.1.contains("Done &amp; gone."));
    world.stop().await;
}
