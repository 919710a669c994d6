//! A simulated carrier, a client of it, and a sink that its webhooks arrive at.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use trunkline::carrier::callback::StatusCallback;
use trunkline::carrier::signature::{self, Body};
use trunkline::carrier::{self, Account, Answer, Client, CreateCall, Created, Credential};
use trunkline::domain::call::CarrierStatus;
use trunkline::domain::{CallSid, Phone};
use trunkline::simulator::{Config, Outcomes, Range, SimAccount, Simulator};

const SID: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Longer than anything here takes, short enough to notice.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls that are answered at once and last until somebody ends them.
pub fn long_calls() -> Config {
    Config { talk_s: Range::exactly(86_400.0), ..quick_calls() }
}

/// Calls that are answered at once and soon over.
pub fn quick_calls() -> Config {
    Config {
        accounts: vec![World::sim_account()],
        speed: 100.0,
        outcomes: Outcomes::ALL_ANSWERED,
        ring_s: Range::exactly(1.0),
        talk_s: Range::exactly(2.0),
        ..Config::default()
    }
}

pub fn phone(n: u32) -> Phone {
    format!("+1415555{n:04}").parse().unwrap()
}

/// One webhook that arrived, its signature already checked.
#[derive(Debug)]
pub struct Arrived {
    pub path: String,
    pub params: Vec<(String, String)>,
}

impl Arrived {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[derive(Clone)]
struct Sink {
    origin: String,
    arrived: mpsc::UnboundedSender<Arrived>,
    /// What to answer next; 204 when there is nothing.
    answers: Arc<Mutex<VecDeque<(StatusCode, String)>>>,
}

pub struct World {
    pub client: Client,
    pub account: Account,
    pub simulator: Simulator,
    pub origin: String,
    sink: Sink,
    arrived: mpsc::UnboundedReceiver<Arrived>,
    _shutdown: DropGuard,
}

impl World {
    pub fn sim_account() -> SimAccount {
        SimAccount { sid: SID.parse().unwrap(), auth_token: TOKEN.into(), calls_per_second: None }
    }

    pub async fn start(config: Config) -> Self {
        let simulator = Simulator::new(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let (serving, stop) = (simulator.clone(), shutdown.clone());
        tokio::spawn(async move { serving.serve(listener, stop).await.unwrap() });

        let (sender, arrived) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = Sink {
            origin: format!("http://{}", listener.local_addr().unwrap()),
            arrived: sender,
            answers: Arc::default(),
        };
        let app = Router::new().fallback(receive).with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

        let client = client(&origin, Duration::from_secs(10));
        let credential = Credential { username: SID.into(), password: TOKEN.into() };
        let account = Account { sid: SID.parse().unwrap(), credential };
        Self { client, account, simulator, origin, sink, arrived, _shutdown: shutdown.drop_guard() }
    }

    /// A call to number `to` that talks as long as the simulator says.
    pub fn call(&self, to: u32) -> CreateCall {
        CreateCall {
            to: phone(to),
            from: phone(500),
            answer: Answer::Twiml("<Response><Say>Hello</Say></Response>".into()),
            status_callback: self.url(&format!("/status?call={to}#rc=2&rp=ct,rt,5xx")),
            ring_timeout_s: 600,
            time_limit_s: 86_400,
            amd: None,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sink.origin)
    }

    /// Creates a call that must be taken.
    pub async fn create(&self, to: u32) -> CallSid {
        self.take(&self.call(to)).await
    }

    pub async fn take(&self, call: &CreateCall) -> CallSid {
        match self.client.create_call(&self.account, call).await {
            Created::Submitted { sid, status } => {
                assert_eq!(status, CarrierStatus::Queued);
                sid
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the sink answers next, in order.
    pub fn answer(&self, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        self.sink.answers.lock().unwrap().push_back((status, body.into()));
    }

    /// The next webhook.
    pub async fn next(&mut self) -> Arrived {
        tokio::time::timeout(PATIENCE, self.arrived.recv()).await.expect("a webhook in time").unwrap()
    }

    /// The call's callback with `status`; what comes before is passed over.
    pub async fn until(&mut self, sid: &CallSid, status: CarrierStatus) -> StatusCallback {
        loop {
            let arrived = self.next().await;
            let callback = StatusCallback::parse(&arrived.params).unwrap();
            if callback.call_sid == *sid && callback.status == status {
                return callback;
            }
        }
    }

    /// Waits until every call has ended and reported.
    pub async fn settled(&self) {
        tokio::time::timeout(PATIENCE, self.simulator.settled()).await.expect("calls that end in time");
    }

    /// GET on the simulator, without a client library in the way.
    pub async fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    /// POST of JSON to the simulator.
    pub async fn post(&self, path: &str, json: &str) -> String {
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{json}",
            json.len()
        ))
        .await
    }

    async fn raw(&self, request: &str) -> String {
        let address = self.origin.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

pub fn client(origin: &str, request_timeout: Duration) -> Client {
    let config =
        carrier::Config { base_url: origin.parse().unwrap(), request_timeout, ..carrier::Config::default() };
    Client::new(config).unwrap()
}

/// Takes a webhook; one whose signature is wrong fails the test by never arriving.
async fn receive(State(sink): State<Sink>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let params: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let signed = headers.get("x-twilio-signature").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let token = SecretString::from(TOKEN);
    let url = format!("{}{uri}", sink.origin);
    if !signature::verify(&[&token], &url, Body::Form(&params), signed) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let path = uri.path().to_owned();
    // The test may be over.
    let _ = sink.arrived.send(Arrived { path, params });
    let next = sink.answers.lock().unwrap().pop_front();
    next.map_or_else(|| StatusCode::NO_CONTENT.into_response(), IntoResponse::into_response)
}
