//! An empty database with one tenant, the gRPC server over it, and a client.

use sha2::{Digest as _, Sha256};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use trunkline::domain::plan::{Limits, Plan, Plans, Rate};
use trunkline::domain::tenant::Tenant;
use trunkline::grpc::pb::leads_client::LeadsClient;
use trunkline::progress::Hub;
use trunkline::store::{ApiKey, Store};

use super::backend::Backend;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const SECRET: &str = "secret";

/// Adds the key.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A server with one tenant.
pub struct World {
    url: String,
    client: LeadsClient<InterceptedService<Channel, Bearer>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _dir: Option<tempfile::TempDir>,
}

impl World {
    /// Over a new database.
    pub async fn start(backend: &Backend) -> Self {
        let (url, dir) = backend.database().await;
        let store: Store = Store::open(&url).await.expect("a store");
        make_tenant(&store).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let serving = {
            let (hub, stop) = (Hub::new(store.clone()), stop.clone());
            let config = trunkline::grpc::Config { limits: unlimited(), ..Default::default() };
            tokio::spawn(async move {
                trunkline::grpc::serve(listener, store, hub, config, stop).await.expect("a server");
            })
        };
        let channel =
            Channel::from_shared(endpoint).expect("a URL").connect().await.expect("a connection");
        let bearer = Bearer(format!("Bearer bench.{SECRET}").parse().expect("ASCII"));
        let client = LeadsClient::with_interceptor(channel, bearer);
        Self { url, client, stop, serving, _dir: dir }
    }

    /// A client with the tenant's key.
    pub fn leads(&self) -> LeadsClient<InterceptedService<Channel, Bearer>> {
        self.client.clone()
    }

    /// Leads in the database.
    pub async fn count(&self) -> i64 {
        let count = "SELECT count(*) FROM leads";
        if self.url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("a connection");
            sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("a number")
        } else {
            let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
            sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("a number")
        }
    }

    /// Ends the server.
    pub async fn stop(self) {
        drop(self.client);
        self.stop.cancel();
        self.serving.await.expect("a server that ends");
    }
}

/// The database is measured, not the quota.
fn unlimited() -> Limits {
    let much: Rate = "1000000/s burst 10000000".parse().expect("a rate");
    let standard = Plan { read: much, rows: much, ..Plan::STANDARD };
    Limits { plans: Plans { standard, ..Plans::default() }, ..Limits::default() }
}

async fn make_tenant(store: &Store) {
    let account = ACCOUNT.parse().expect("a SID");
    store.put_account(&account, 1.0).await.expect("an account");
    let (id, caller_id) = ("bench", "+15005550006".parse().expect("a phone"));
    let tenant = Tenant::new(id.parse().expect("a tenant id"), account, caller_id);
    store.put_tenant(&tenant).await.expect("a tenant");
    let key = ApiKey {
        key_id: "bench".into(),
        tenant: tenant.id,
        secret_hash: Sha256::digest(SECRET).into(),
        scopes: vec!["leads:write".into()],
        expires_at: None,
        revoked_at: None,
    };
    store.put_key(&key).await.expect("a key");
}
