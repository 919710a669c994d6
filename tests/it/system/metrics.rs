//! What a scrape of a real server says, against what happened.

use std::collections::BTreeMap;

use trunkline::grpc::pb;
use trunkline::simulator::{Config, Faults};

use super::child::Site;
use super::world::{
    Carrier, Port, by_call_id, create, ended, jobs, quick_carrier, retrying, until,
};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases!(metrics_add_up);

/// What `GET /metrics` answers at `address`.
pub async fn scrape(address: &str) -> String {
    let response = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    response.text().await.unwrap()
}

struct Samples(BTreeMap<String, f64>);

impl Samples {
    async fn of(address: &str) -> Self {
        let text = scrape(address).await;
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '));
        Self(samples.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect())
    }

    /// The sum of the metric's series that hold all of `labels`.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of = |series: &str| {
            series.split('{').next() == Some(name) && labels.iter().all(|l| series.contains(l))
        };
        self.0.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }
}

async fn metrics_add_up(database: TestDatabase) {
    let faults = Faults { create_lost: 0.1, create_429: 0.1, ..Faults::default() };
    let mut carrier = Carrier::new(Config { faults, ..quick_carrier() });
    carrier.listen();
    let mut site = Site::new(database, &carrier);
    let port = Port::reserve();
    site.set("METRICS__LISTEN", &port.address());
    site.set("LIMITS__STANDARD__MAINTENANCE", "1/s burst 1");
    let server = site.serve();
    let key = server.first_key().await;
    let client = site.client(&key).await;
    let queue = client.queue.clone();
    let run_id = create(&queue, retrying(), jobs(0..60)).await;
    ended(&queue, &run_id).await;
    carrier.settled().await;
    let no_lead = pb::GetLeadRequest { lead_id: uuid::Uuid::nil().to_string() };
    client.leads.clone().get_lead(no_lead).await.unwrap_err();
    let maintenance = pb::ReconcileRunsRequest { run_ids: vec![run_id.clone()] };
    let many = (0..20).map(|_| {
        let (mut queue, request) = (queue.clone(), maintenance.clone());
        async move { queue.reconcile_runs(request).await }
    });
    let answers = futures_util::future::join_all(many).await;
    let over = |status: &tonic::Status| status.message().starts_with("over the limit");
    let limited = answers.iter().filter(|answer| answer.as_ref().is_err_and(over)).count();
    let forged = format!("{}/twilio/status/acme/{}", site.public_url(), uuid::Uuid::nil());
    assert_eq!(reqwest::Client::new().post(forged).body("a=b").send().await.unwrap().status(), 403);

    // The last callbacks and tasks may still be under way.
    until("everything to be counted", async || {
        let now = Samples::of(&port.address()).await;
        let ended = now.sum("trunkline_calls_ended_total", &[]);
        let late = now.sum("trunkline_tasks", &["queued"]) + now.sum("trunkline_live_calls", &[]);
        late == 0.0 && ended >= by_call_id(carrier.creates()).len() as f64
    })
    .await;
    let now = Samples::of(&port.address()).await;
    let claimed = now.sum("trunkline_calls_claimed_total", &[]);
    let created = carrier.creates().len() as f64;
    assert!(claimed >= 60.0 && created >= 60.0, "{claimed} claimed, {created} created");
    assert_eq!(now.sum("trunkline_calls_submitted_total", &[]), claimed);
    assert_eq!(now.sum("trunkline_submit_seconds_count", &[]), claimed);
    let lost = now.sum("trunkline_calls_submitted_total", &["lost"]);
    assert!(lost > 0.0, "no test of what is lost");
    assert_eq!(now.sum("trunkline_calls_submitted_total", &["created"]) + lost, created);
    assert_eq!(now.sum("trunkline_calls_unknown_total", &["lost"]), lost);
    assert!(now.sum("trunkline_calls_ended_total", &["outbound"]) >= created);
    assert!(now.sum("trunkline_calls_ended_total", &["completed"]) > 0.0);
    assert!(now.sum("trunkline_callbacks_total", &["status", "applied"]) >= created);
    assert_eq!(now.sum("trunkline_callbacks_total", &["status", "forged"]), 1.0);
    for (method, code) in [
        ("OutboundQueue/CreateRun", "OK"),
        ("Leads/GetLead", "NOT_FOUND"),
        ("OutboundQueue/WatchRun", "OK"),
    ] {
        assert_eq!(
            now.sum("trunkline_grpc_requests_total", &[method, code]),
            1.0,
            "{method} {code}"
        );
    }
    assert_eq!(now.sum("trunkline_grpc_request_seconds_count", &["CreateRun"]), 1.0);
    assert!(limited > 0, "twenty requests at once, one a second allowed");
    assert_eq!(now.sum("trunkline_grpc_limited_total", &["RATE_LIMIT"]), limited as f64);
    assert!(now.sum("trunkline_tasks_total", &["leads_from_calls", "done"]) > 0.0);
    assert_eq!(now.sum("trunkline_queued_jobs", &[]), 0.0);
    assert_eq!(now.sum("trunkline_open_runs", &[]), 0.0);
    assert_eq!(now.sum("trunkline_store_up", &[]), 1.0);
    assert_eq!(
        now.0.keys().filter(|series| series.starts_with("trunkline_carrier_breaker")).count(),
        1
    );
    server.terminate();
    assert_eq!(server.ended().await.0.code(), Some(0));
}
