//! What stands at the door: keys, certificates, limits, and who pushes against it.
//! `docs/security.md` names these.

mod abuse;
mod certificates;
mod limits;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use trunkline::domain::Timestamp;
use trunkline::domain::plan::{Limits, Plan, Plans};
use trunkline::grpc::pb::leads_client::LeadsClient;
use trunkline::grpc::pb::outbound_queue_client::OutboundQueueClient;
use trunkline::grpc::{Config, pb, serve};
use trunkline::progress::Hub;
use trunkline::store::{ApiKey, Store};

use crate::support::{self, TestStore};

pub const SECRET: &str = "s3cret";
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server alone, with the tenants `one` and `two`, and a key of the same name for each that may
/// do anything.
pub struct Server {
    pub addr: SocketAddr,
    pub test: TestStore,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn put_key(
    store: &Store,
    key_id: &str,
    tenant: &str,
    scopes: &[&str],
    times: [Option<i64>; 2],
) {
    let [expires_at, revoked_at] = times.map(|at| at.map(Timestamp::from_secs));
    let key = ApiKey {
        key_id: key_id.into(),
        tenant: tenant.parse().unwrap(),
        secret_hash: Sha256::digest(SECRET).into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        expires_at,
        revoked_at,
    };
    store.put_key(&key).await.unwrap();
}

/// The limits of the plan `standard`, changed.
pub fn standard(change: impl FnOnce(&mut Plan)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits.plans.standard);
    limits
}

pub async fn server(test: TestStore, config: Config) -> Server {
    let store: Store = test.store.clone();
    for tenant in ["one", "two"] {
        support::make_tenant(&store, tenant, 3, 10.0).await;
        put_key(&store, tenant, tenant, &["admin"], [None, None]).await;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let (hub, shutdown) = (Hub::new(store.clone()), stop.clone());
    tokio::spawn(async move { serve(listener, store, hub, config, shutdown).await.unwrap() });
    Server { addr, test, stop }
}

/// A server under these limits.
pub async fn limited(test: TestStore, limits: Limits) -> Server {
    let plans: Plans = limits.plans.clone();
    server(test.with_plans(plans), Config { limits, ..Config::default() }).await
}

impl Server {
    pub fn endpoint(&self) -> Endpoint {
        Channel::from_shared(format!("http://{}", self.addr)).unwrap()
    }

    /// A connection from the loopback address that ends in `host`.
    pub async fn connect_from(&self, host: u8) -> Channel {
        self.endpoint().local_address(Some([127, 0, 0, host].into())).connect().await.unwrap()
    }

    pub async fn queue(&self) -> OutboundQueueClient<Channel> {
        OutboundQueueClient::new(self.connect_from(1).await)
    }

    pub async fn leads(&self) -> LeadsClient<Channel> {
        LeadsClient::new(self.connect_from(1).await)
    }
}

/// `message` with the key `key_id`.
pub fn with<T>(key_id: &str, message: T) -> Request<T> {
    authorized(&format!("Bearer {key_id}.{SECRET}"), message)
}

pub fn authorized<T>(header: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(header).unwrap());
    request
}

pub fn list() -> pb::ListRunsRequest {
    pb::ListRunsRequest::default()
}

pub fn jobs(numbers: std::ops::Range<usize>) -> Vec<pb::NewJob> {
    let job = |n: usize| {
        let phone = support::phone(n).expose().to_owned();
        let lead = pb::LeadFacts { phone, ..Default::default() };
        pb::NewJob { who: Some(pb::new_job::Who::Lead(lead)), ..Default::default() }
    };
    numbers.map(job).collect()
}

pub fn new_run(jobs: Vec<pb::NewJob>) -> pb::CreateRunRequest {
    let say = pb::script::Say { text: "Hello".into(), ..Default::default() };
    let script = Some(pb::Script { kind: Some(pb::script::Kind::Say(say)) });
    let settings = Some(pb::RunSettings { name: "test".into(), script, ..Default::default() });
    pb::CreateRunRequest { settings, jobs, ..Default::default() }
}

/// Checks that `status` is a whole refusal of the quota `subject`; gives the wait.
pub fn over(status: &Status, reason: &str, subject: &str) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, reason);
    assert_eq!(details.error_info().unwrap().domain, "trunkline");
    let violations = &details.quota_failure().unwrap().violations;
    assert_eq!(violations[0].subject, subject);
    assert!(!violations[0].description.is_empty());
    details.retry_info().unwrap().retry_delay.unwrap()
}

/// Tries until it works, as something else is about to make it work.
pub async fn until<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
