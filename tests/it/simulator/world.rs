//! A simulated carrier, a client of it, and a sink that its webhooks arrive at.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
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
use trunkline::domain::{CallSid, Phone, QueueSid};
use trunkline::simulator::{Config, Ledger, Outcomes, Range, SimAccount, Simulator};

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
    /// What is always answered at a path.
    documents: Arc<Mutex<HashMap<String, String>>>,
}

pub struct World {
    pub client: Client,
    pub account: Account,
    pub simulator: Simulator,
    pub origin: String,
    sink: Sink,
    arrived: mpsc::UnboundedReceiver<Arrived>,
    /// What arrived while something else was waited for.
    passed_over: VecDeque<Arrived>,
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
            documents: Arc::default(),
        };
        let app = Router::new().fallback(receive).with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

        let client = client(&origin, Duration::from_secs(10));
        let credential = Credential { username: SID.into(), password: TOKEN.into() };
        let account = Account { sid: SID.parse().unwrap(), credential };
        Self {
            client,
            account,
            simulator,
            origin,
            sink,
            arrived,
            passed_over: VecDeque::new(),
            _shutdown: shutdown.drop_guard(),
        }
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

    /// What is always answered at `path`: these verbs.
    pub fn document(&self, path: &str, verbs: &str) {
        let xml = format!("<Response>{verbs}</Response>");
        self.sink.documents.lock().unwrap().insert(path.into(), xml);
    }

    /// Somebody calls us: phone `from`, and what the caller does as JSON fields, perhaps none. Asks
    /// `/voice`.
    pub async fn inbound(&self, from: u32, does: &str) -> CallSid {
        let url = self.url("/voice");
        let json = format!(
            r#"{{"from":"{}","to":"{}","voice_url":"{url}"{does}}}"#,
            phone(from).expose(),
            phone(500).expose()
        );
        let placed: serde_json::Value =
            serde_json::from_str(&self.post("/simulator/inbound", &json).await).unwrap();
        placed["sid"].as_str().unwrap().parse().unwrap()
    }

    /// An outbound call that follows these verbs.
    pub async fn perform(&self, to: u32, verbs: &str) -> CallSid {
        let answer = Answer::Twiml(format!("<Response>{verbs}</Response>"));
        // Its own callbacks are not looked at: what arrives is what the verbs ask for.
        let status_callback = "http://127.0.0.1:9/none#rc=0".into();
        self.take(&CreateCall { answer, status_callback, ..self.call(to) }).await
    }

    /// The next webhook at `path`; others wait for their turn.
    pub async fn at(&mut self, path: &str) -> Arrived {
        self.first(|arrived| arrived.path == path).await
    }

    /// The next webhook that fits; others wait for their turn.
    pub async fn first(&mut self, fits: impl Fn(&Arrived) -> bool) -> Arrived {
        if let Some(found) = self.passed_over.iter().position(&fits) {
            return self.passed_over.remove(found).unwrap();
        }
        loop {
            let arrived = self.receive().await;
            if fits(&arrived) {
                return arrived;
            }
            self.passed_over.push_back(arrived);
        }
    }

    /// Waits until the ledger shows something.
    pub async fn shows<T>(&self, what: &str, seen: impl Fn(&Ledger) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = seen(&self.simulator.ledger()) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what} in time: {:?}", self.simulator.ledger());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until somebody talks to somebody, and says who.
    pub async fn bridged(&self) -> [CallSid; 2] {
        let open = |ledger: &Ledger| {
            ledger
                .bridges
                .iter()
                .find(|bridge| bridge.until_us.is_none())
                .map(|bridge| bridge.legs.clone())
        };
        self.shows("a bridge", open).await
    }

    /// Waits until a call has ended, and says how.
    pub async fn ended(&self, sid: &CallSid) -> CarrierStatus {
        let ended = |ledger: &Ledger| {
            let mut all = ledger.entries.iter().chain(&ledger.legs);
            all.find(|entry| entry.sid == *sid && entry.status.is_final()).map(|entry| entry.status)
        };
        self.shows("the end of a call", ended).await
    }

    /// The next webhook.
    pub async fn next(&mut self) -> Arrived {
        match self.passed_over.pop_front() {
            Some(arrived) => arrived,
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Arrived {
        tokio::time::timeout(PATIENCE, self.arrived.recv())
            .await
            .expect("a webhook in time")
            .unwrap()
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
        tokio::time::timeout(PATIENCE, self.simulator.settled())
            .await
            .expect("calls that end in time");
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

    /// Takes a call out of a queue: it goes on at `url`.
    pub async fn dequeue(&self, queue: &QueueSid, call: &CallSid, url: &str) -> reqwest::Response {
        let sid = &self.account.sid;
        let path = format!("/2010-04-01/Accounts/{sid}/Queues/{queue}/Members/{call}.json");
        reqwest::Client::new()
            .post(format!("{}{path}", self.origin))
            .basic_auth(sid.as_str(), Some(TOKEN))
            .form(&[("Url", url), ("Method", "POST")])
            .send()
            .await
            .unwrap()
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
    let config = carrier::Config {
        base_url: origin.parse().unwrap(),
        request_timeout,
        ..carrier::Config::default()
    };
    Client::new(config).unwrap()
}

/// Takes a webhook; one whose signature is wrong fails the test by never arriving.
async fn receive(
    State(sink): State<Sink>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut params: Vec<(String, String)> =
        url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let signed =
        headers.get("x-twilio-signature").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let token = SecretString::from(TOKEN);
    let url = format!("{}{uri}", sink.origin);
    if !signature::verify(&[&token], &url, Body::Form(&params), signed) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if method == Method::GET {
        let query = uri.query().unwrap_or_default();
        params = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    }
    let path = uri.path().to_owned();
    let document = sink.documents.lock().unwrap().get(&path).cloned();
    // The test may be over.
    let _ = sink.arrived.send(Arrived { path, params });
    if let Some(document) = document {
        return document.into_response();
    }
    let next = sink.answers.lock().unwrap().pop_front();
    next.map_or_else(|| StatusCode::NO_CONTENT.into_response(), IntoResponse::into_response)
}
