//! A forecast held against what a run at the simulated carrier really came to.

use trunkline::grpc::pb::{self, ExclusionReason, RunState, forecast_run_request::Of};

use super::world::{
    Setup, World, counts, create, ended, jobs, list_calls, retrying, run, state, until,
};
use crate::support::{TestDatabase, on_both_databases, phone};

on_both_databases!(a_run_of_leads_comes_out_about_as_forecast);

/// How far numbers of calls may be off: both runs are draws from the same outcomes.
const TOLERANCE: f64 = 0.25;

async fn forecast(world: &World, of: Of) -> pb::ForecastRunResponse {
    let request = pb::ForecastRunRequest { settings: Some(retrying()), of: Some(of) };
    world.queue().forecast_run(request).await.unwrap().into_inner()
}

fn excluded(told: &pb::ForecastRunResponse, reason: ExclusionReason) -> u64 {
    told.exclusions.iter().filter(|one| one.reason() == reason).map(|one| one.count).sum()
}

fn about(told: u64, real: usize) {
    let real = real as f64;
    assert!((told as f64 - real).abs() <= (real * TOLERANCE).max(3.0), "{told} for {real}");
}

async fn a_run_of_leads_comes_out_about_as_forecast(database: TestDatabase) {
    let world = World::start(database, Setup::default()).await;
    // So that there is something to learn from, and leads.
    let first = create(&world.queue(), retrying(), jobs(0..80)).await;
    ended(&world.queue(), &first).await;
    let learned = list_calls(&world.queue(), &first).await.len();
    let new =
        |n: usize| pb::NewSuppression { phone: phone(n).expose().into(), ..Default::default() };
    let add = pb::AddSuppressionsRequest {
        suppressions: (0..6).map(new).collect(),
        ..Default::default()
    };
    world.client.leads.clone().add_suppressions(add).await.unwrap();
    let told = forecast(&world, Of::Leads(pb::LeadFilter::default())).await;
    assert_eq!((told.total_count, told.dialed_count), (80, 74));
    assert_eq!(excluded(&told, ExclusionReason::Suppressed), 6);
    assert_eq!(told.observed.unwrap().call_count as usize, learned);
    assert_eq!(told.reached_count + told.failed_count, 74);
    let request = pb::CreateRunRequest {
        settings: Some(retrying()),
        from_leads: Some(pb::LeadFilter::default()),
        start: true,
        seal: true,
        ..Default::default()
    };
    let id = world.queue().create_run(request).await.unwrap().into_inner().run.unwrap().run_id;
    until("the run's filling", async || run(&world.queue(), &id).await.population.unwrap().done)
        .await;
    let real = ended(&world.queue(), &id).await;
    let population = real.population.clone().unwrap();
    assert_eq!((population.added_count, population.suppressed_count), (80, 6));
    assert_eq!(
        (state(&real), counts(&real).total, counts(&real).skipped),
        (RunState::Completed, 80, 6)
    );
    let calls = list_calls(&world.queue(), &id).await;
    about(told.call_count, calls.len());
    about(told.reached_count, usize::try_from(counts(&real).completed).unwrap());
    // What the carrier saw: nobody who is suppressed.
    let of_run: std::collections::BTreeSet<_> = calls.iter().map(|call| call.to.clone()).collect();
    assert_eq!(of_run.len() as u64, told.dialed_count);
    assert!((0..6).all(|n| !of_run.contains(phone(n).expose())));
    // By ids: one that is no lead's, and one twice.
    let leads =
        world.client.leads.clone().list_leads(pb::ListLeadsRequest::default()).await.unwrap();
    let ids: Vec<String> =
        leads.into_inner().leads.into_iter().take(10).map(|lead| lead.lead_id).collect();
    let lead_ids = [ids.clone(), vec![ids[9].clone(), uuid::Uuid::nil().to_string()]].concat();
    let told = forecast(&world, Of::LeadIds(pb::LeadIds { lead_ids })).await;
    assert_eq!((told.total_count, told.dialed_count), (12, 4));
    assert_eq!(excluded(&told, ExclusionReason::Suppressed), 6);
    assert_eq!(excluded(&told, ExclusionReason::Invalid), 1);
    assert_eq!(excluded(&told, ExclusionReason::Duplicate), 1);
    world.stop().await;
}
