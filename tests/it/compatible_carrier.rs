//! A carrier that is compatible with Twilio but is not Twilio: its API lives below a path, and its
//! ids are UUIDs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Form, Json, Router};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use trunkline::carrier::callback::StatusCallback;
use trunkline::carrier::signature;
use trunkline::carrier::{
    Account, Answer, Client, Config, CreateCall, Created, Credential, Error, ListCalls, UpdateCall,
};
use trunkline::domain::CallSid;
use trunkline::domain::call::CarrierStatus;
use trunkline::grpc::pb::{CallState, RunState};

use crate::support::{TestDatabase, phone};
use crate::system::world::{self, Setup, TOKEN, World, create, jobs, list_calls, settings};

/// The account; at SignalWire it is called the project.
const PROJECT: &str = "b3877c40-da60-4998-90ad-b792e98472af";
/// Logs in to the API; callbacks are signed with another one, [`TOKEN`].
const API_TOKEN: &str = "PT0123456789";
const BELOW: &str = "/api/laml";
/// A queue and a conference, each with one who waits or talks.
const QUEUE: &str = "3fa1be1c-9d0a-4a3e-8a7b-0d5f0e4b1c2d";
const CONFERENCE: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

type Params = Vec<(String, String)>;

/// What the stub knows. Newest call first.
#[derive(Default)]
struct Book {
    calls: Vec<(String, Value)>,
    /// Creates whose answer is HTTP 500 although the call is made.
    spoiled: usize,
    /// Whether it calls back as the call goes on.
    calls_back: bool,
    closed: Vec<String>,
}

type Stub = Arc<Mutex<Book>>;

/// Starts the stub; gives it and its base URL, without a slash at the end.
async fn start(book: Book) -> (Stub, String) {
    let stub = Arc::new(Mutex::new(book));
    let account = format!("/2010-04-01/Accounts/{PROJECT}");
    let api = Router::new()
        .route("/Calls.json", get(list).post(take))
        .route("/Calls/{call}", get(fetch).post(update))
        .route("/Queues.json", get(queues))
        .route("/Queues/{queue}", axum::routing::delete(close))
        .route("/Conferences.json", get(conferences))
        .route("/Conferences/{conference}/Participants/{call}", get(participant))
        .route_layer(axum::middleware::from_fn(authorize))
        .with_state(stub.clone());
    let app = Router::new().nest(&format!("{BELOW}{account}"), api);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}{BELOW}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (stub, base)
}

fn read(stub: &Stub) -> std::sync::MutexGuard<'_, Book> {
    stub.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn authorize(
    headers: HeaderMap,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Result<axum::response::Response, StatusCode> {
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{PROJECT}:{API_TOKEN}"));
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    if given != Some(format!("Basic {login}").as_str()) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Ok(next.run(request).await)
}

async fn take(State(stub): State<Stub>, Form(params): Form<Params>) -> (StatusCode, Json<Value>) {
    let of =
        |name: &str| params.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let sid = uuid::Uuid::new_v4().to_string();
    // A duration is a number here, a text at Twilio.
    let call = json!({
        "sid": sid, "account_sid": PROJECT, "status": "queued", "direction": "outbound-api",
        "to": of("To"), "from": of("From"), "duration": 0,
    });
    let mut book = read(&stub);
    book.calls.insert(0, (sid.clone(), call.clone()));
    if book.calls_back {
        tokio::spawn(go_on(stub.clone(), sid, of("StatusCallback").unwrap()));
    }
    if book.spoiled > 0 {
        book.spoiled -= 1;
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({})));
    }
    (StatusCode::CREATED, Json(call))
}

/// The call rings, is answered and ends, and each is told.
async fn go_on(stub: Stub, sid: String, url: String) {
    for (sequence, word) in ["initiated", "ringing", "in-progress", "completed"].iter().enumerate()
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let word = if *word == "initiated" { "queued" } else { word };
        set_status(&stub, &sid, word);
        let (status, _) = call_back(&url, &sid, word, sequence).await;
        assert_eq!(status, reqwest::StatusCode::NO_CONTENT, "{word}");
    }
}

/// Posts a signed callback; gives the answer and what was posted.
async fn call_back(
    url: &str,
    sid: &str,
    status: &str,
    sequence: usize,
) -> (reqwest::StatusCode, Params) {
    let params: Params = [
        ("CallSid", sid),
        ("AccountSid", PROJECT),
        ("CallStatus", status),
        ("SequenceNumber", &sequence.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
    trunkline::carrier::install_tls_provider();
    let answer = reqwest::Client::new()
        .post(url.split('#').next().unwrap())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-twilio-signature", signature::sign(TOKEN, url, &params))
        .body(body)
        .send()
        .await
        .unwrap();
    (answer.status(), params)
}

fn set_status(stub: &Stub, sid: &str, status: &str) -> Option<Value> {
    let mut book = read(stub);
    let (_, call) = book.calls.iter_mut().find(|(known, _)| known == sid)?;
    call["status"] = status.into();
    Some(call.clone())
}

fn named(file: &str) -> &str {
    file.strip_suffix(".json").unwrap()
}

async fn fetch(
    State(stub): State<Stub>,
    Path(call): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let book = read(&stub);
    let found = book.calls.iter().find(|(sid, _)| sid == named(&call));
    found.map(|(_, call)| Json(call.clone())).ok_or(StatusCode::NOT_FOUND)
}

async fn update(
    State(stub): State<Stub>,
    Path(call): Path<String>,
    Form(params): Form<HashMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    let status = params.get("Status").ok_or(StatusCode::BAD_REQUEST)?;
    set_status(&stub, named(&call), status).map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// The next page is told as SignalWire does: an absolute path at the host, without `.json`.
fn page_of(
    key: &str,
    all: Vec<Value>,
    size: usize,
    query: &HashMap<String, String>,
    list: &str,
) -> Json<Value> {
    let page: usize = query.get("Page").map_or(0, |page| page.parse().unwrap());
    let more = all.len() > (page + 1) * size;
    let next = more.then(|| {
        let page = page + 1;
        format!("{BELOW}/2010-04-01/Accounts/{PROJECT}/{list}?Page={page}&PageSize={size}")
    });
    let here: Vec<_> = all.into_iter().skip(page * size).take(size).collect();
    Json(json!({ key: here, "next_page_uri": next }))
}

async fn list(
    State(stub): State<Stub>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let all = read(&stub).calls.iter().map(|(_, call)| call.clone()).collect();
    page_of("calls", all, query["PageSize"].parse().unwrap(), &query, "Calls")
}

/// One queue a page, whatever was asked for.
async fn queues(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let queue =
        |sid: &str, name: &str| json!({ "sid": sid, "friendly_name": name, "current_size": 0 });
    let other = uuid::Uuid::new_v4().to_string();
    page_of("queues", vec![queue(&other, "other"), queue(QUEUE, "hold")], 1, &query, "Queues")
}

async fn close(State(stub): State<Stub>, Path(queue): Path<String>) -> StatusCode {
    read(&stub).closed.push(named(&queue).to_owned());
    StatusCode::NO_CONTENT
}

async fn conferences() -> Json<Value> {
    let conference = json!({ "sid": CONFERENCE, "status": "in-progress", "friendly_name": "room" });
    Json(json!({ "conferences": [conference] }))
}

/// The oldest call takes part.
async fn participant(
    State(stub): State<Stub>,
    Path((conference, call)): Path<(String, String)>,
) -> Result<Json<Value>, StatusCode> {
    let book = read(&stub);
    let takes_part = book.calls.last().is_some_and(|(sid, _)| sid == named(&call));
    if conference == CONFERENCE && takes_part {
        Ok(Json(json!({ "call_sid": named(&call) })))
    } else {
        Err(StatusCode::NOT_FOUND)
    }
}

fn account() -> Account {
    Account {
        sid: PROJECT.parse().unwrap(),
        credential: Credential { username: PROJECT.into(), password: API_TOKEN.into() },
    }
}

fn client(base_url: &str) -> Client {
    Client::new(Config { base_url: base_url.parse().unwrap(), ..Config::default() }).unwrap()
}

async fn dial(client: &Client) -> CallSid {
    let call = CreateCall {
        to: phone(1),
        from: phone(2),
        answer: Answer::Twiml("<Response><Hangup/></Response>".into()),
        status_callback: "https://calls.example.com/status".into(),
        ring_timeout_s: 30,
        time_limit_s: 600,
        amd: None,
    };
    match client.create_call(&account(), &call).await {
        Created::Submitted { sid, status: CarrierStatus::Queued } => sid,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_request_works_below_a_path_and_with_uuids() {
    for slash in ["", "/"] {
        let (stub, base) = start(Book::default()).await;
        let (client, account) = (client(&format!("{base}{slash}")), account());
        let mut sids = Vec::new();
        for _ in 0..3 {
            sids.push(dial(&client).await);
        }
        let oldest = sids[0].clone();
        sids.reverse();

        let call = client.fetch_call(&account, &oldest).await.unwrap();
        assert_eq!((&call.sid, call.to, call.duration_s), (&oldest, Some(phone(1)), Some(0)));
        let ended = client.update_call(&account, &oldest, &UpdateCall::Hangup).await.unwrap();
        assert_eq!(ended.status, CarrierStatus::Completed);
        let nobody = uuid::Uuid::new_v4().to_string().parse().unwrap();
        assert_eq!(client.fetch_call(&account, &nobody).await, Err(Error::NotFound));

        let mut list = ListCalls { page_size: 2, ..ListCalls::default() };
        let first = client.list_calls(&account, &list).await.unwrap();
        list.page = Some(first.next_page.expect("a second page"));
        let second = client.list_calls(&account, &list).await.unwrap();
        assert_eq!((first.calls.len(), second.next_page), (2, None));
        let listed: Vec<_> =
            first.calls.into_iter().chain(second.calls).map(|call| call.sid).collect();
        assert_eq!(listed, sids, "newest first, each once");

        let queue = client.find_queue(&account, "hold").await.unwrap().expect("on the second page");
        assert_eq!(queue.sid.as_str(), QUEUE);
        client.close_queue(&account, &queue.sid).await.unwrap();
        assert_eq!(read(&stub).closed, [QUEUE]);
        assert!(client.is_in_conference(&account, "room", &oldest).await.unwrap());
        assert!(!client.is_in_conference(&account, "room", &sids[0]).await.unwrap());
    }
}

#[tokio::test]
async fn a_signed_callback_about_a_uuid_reads() {
    type Arrived = tokio::sync::mpsc::UnboundedSender<(HeaderMap, Params)>;
    async fn keep(
        State(arrived): State<Arrived>,
        headers: HeaderMap,
        Form(params): Form<Params>,
    ) -> StatusCode {
        arrived.send((headers, params)).unwrap();
        StatusCode::NO_CONTENT
    }
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let app = Router::new().route("/status", axum::routing::post(keep)).with_state(arrived);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/status", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let sid = uuid::Uuid::new_v4().to_string();
    call_back(&url, &sid, "completed", 3).await;
    let (headers, params) = arrivals.recv().await.unwrap();
    let given = headers["x-twilio-signature"].to_str().unwrap();
    let body = signature::Body::Form(&params);
    assert!(signature::verify(&[&TOKEN.into()], &url, body, given));
    let callback = StatusCallback::parse(&params).unwrap();
    assert_eq!(callback.call_sid.as_str(), sid);
    assert_eq!(callback.account_sid.as_str(), PROJECT);
    assert_eq!(callback.status, CarrierStatus::Completed);
}

/// From the settings to the ends of the calls. The answer to one create is lost, so its call is
/// adopted by what the carrier tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_at_a_compatible_carrier() {
    let (stub, base) = start(Book { spoiled: 1, calls_back: true, ..Book::default() }).await;
    let setup = Setup {
        carrier_at: Some(base),
        tweak: |config| {
            config.twilio.account_sid = Some(PROJECT.into());
            config.twilio.api_key_sid = Some(PROJECT.into());
            config.twilio.api_key_secret = Some(API_TOKEN.into());
        },
        ..Setup::default()
    };
    let world = World::start(TestDatabase::sqlite().await, setup).await;
    let queue = world.queue();
    let run_id = create(&queue, settings(), jobs(0..2)).await;
    let run = world::ended(&queue, &run_id).await;
    assert_eq!(world::state(&run), RunState::Completed);
    assert_eq!(world::counts(&run).completed, 2);
    let mut told: Vec<_> = list_calls(&queue, &run_id)
        .await
        .into_iter()
        .map(|call| {
            assert_eq!(call.state(), CallState::Completed);
            call.call_sid
        })
        .collect();
    let mut taken: Vec<_> = read(&stub).calls.iter().map(|(sid, _)| sid.clone()).collect();
    told.sort();
    taken.sort();
    assert_eq!(told, taken, "each call once, under the carrier's own id");
    world.stop().await;
}
