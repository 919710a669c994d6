//! What the callee hears: each kind of script, as the carrier got it and followed it.

use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use proptest::prelude::*;
use secrecy::SecretString;
use tokio::net::TcpListener;
use trunkline::carrier::signature::{self, Body};
use trunkline::carrier::twiml::Response;
use trunkline::domain::script::{INLINE_TWIML_MAX_CHARS, Script};
use trunkline::grpc::pb::{self, CallState, RunState, script};
use trunkline::simulator::{Config, Range};

use super::world::{
    Setup, TOKEN, World, create, ended, endless_carrier, jobs, list_calls, settings, state,
};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases!(static_scripts_go_along, a_fetched_script_is_followed);

type Params = Vec<(String, String)>;

fn get<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    origin
}

/// Stands between the server and the carrier, and keeps every form that goes by.
#[derive(Clone, Default)]
struct Tap {
    carrier: Arc<OnceLock<String>>,
    forms: Arc<Mutex<Vec<Params>>>,
}

async fn pass_on(
    State(tap): State<Tap>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    tap.forms.lock().unwrap().push(url::form_urlencoded::parse(&body).into_owned().collect());
    let mut request =
        reqwest::Client::new().post(format!("{}{uri}", tap.carrier.get().unwrap())).body(body);
    for name in ["authorization", "content-type"] {
        request = request.header(name, headers[name].clone());
    }
    let answer = request.send().await.unwrap();
    (answer.status(), [("content-type", "application/json")], answer.bytes().await.unwrap())
}

/// Everybody answers, and each verb that speaks takes seven seconds of the carrier's time.
fn seven_seconds() -> Config {
    Config { talk_s: Range::exactly(7.0), speed: 200.0, ..endless_carrier() }
}

/// Runs one call with this script; gives how long it lasted.
async fn call_with(world: &World, kind: script::Kind) -> i64 {
    let settings = pb::RunSettings { script: Some(pb::Script { kind: Some(kind) }), ..settings() };
    let run_id = create(&world.queue(), settings, jobs(0..1)).await;
    assert_eq!(state(&ended(&world.queue(), &run_id).await), RunState::Completed);
    let call = list_calls(&world.queue(), &run_id).await.remove(0);
    assert_eq!(call.state(), CallState::Completed);
    call.duration.unwrap().seconds
}

async fn static_scripts_go_along(database: TestDatabase) {
    let tap = Tap::default();
    let tapped = serve(Router::new().fallback(pass_on).with_state(tap.clone())).await;
    let setup = Setup { carrier: seven_seconds(), carrier_at: Some(tapped), ..Setup::default() };
    let world = World::start(database, setup).await;
    tap.carrier.set(world.carrier.origin.clone()).unwrap();
    let say = script::Say {
        text: "Fish & \"chips\" <now>, déjà vu\nbye".into(),
        voice: "Polly.Joanna".into(),
        language: "en-US".into(),
    };
    let play = script::Play { url: "https://cdn.example.com/a.mp3?x=1&y=2".into() };
    let parameters = [("lead".to_owned(), "\"7\" & <8>".to_owned())].into();
    let stream = script::Stream { url: "wss://agent.example.com/media".into(), parameters };
    for (kind, expected) in [
        (
            script::Kind::Say(say),
            "<Response><Say voice=\"Polly.Joanna\" language=\"en-US\">Fish &amp; \"chips\" &lt;now>, déjà \
             vu\nbye</Say></Response>",
        ),
        (
            script::Kind::Play(play),
            "<Response><Play loop=\"1\">https://cdn.example.com/a.mp3?x=1&amp;y=2</Play></Response>",
        ),
        (
            script::Kind::Stream(stream),
            "<Response><Connect><Stream url=\"wss://agent.example.com/media\"><Parameter name=\"lead\" \
             value=\"&quot;7&quot; &amp; &lt;8&gt;\" /></Stream></Connect></Response>",
        ),
    ] {
        assert_eq!(call_with(&world, kind).await, 7);
        let form = tap.forms.lock().unwrap().pop().unwrap();
        let twiml = get(&form, "Twiml").unwrap();
        assert_eq!(Response::parse(twiml), Response::parse(expected));
        assert_eq!(
            twiml.replace("&gt;", ">").replace(" />", "/>"),
            expected.replace("&gt;", ">").replace(" />", "/>")
        );
        assert_eq!(get(&form, "Url"), None);
        let events: Vec<_> =
            form.iter().filter(|(name, _)| name == "StatusCallbackEvent").collect();
        assert_eq!(events.len(), 4);
    }
    world.stop().await;
}

/// The client's own web server: what was asked, and whether Twilio signed it.
#[derive(Clone, Default)]
struct Scripts {
    origin: Arc<OnceLock<String>>,
    asked: Arc<Mutex<Vec<(String, Params)>>>,
}

async fn document(
    State(scripts): State<Scripts>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let params: Params = url::form_urlencoded::parse(&body).into_owned().collect();
    let url = format!("{}{uri}", scripts.origin.get().unwrap());
    let signature = headers["x-twilio-signature"].to_str().unwrap();
    let token = SecretString::from(TOKEN);
    assert!(signature::verify(&[&token], &url, Body::Form(&params), signature));
    scripts.asked.lock().unwrap().push((uri.to_string(), params));
    let twiml = match uri.path() {
        "/plain" => {
            "<Response><Say>Hi</Say><Pause length=\"3\"/><Play>https://a.test/b.mp3</Play></Response>"
        }
        "/elsewhere" => {
            "<Response><Say>Hold on</Say><Redirect>/plain</Redirect><Say>never</Say></Response>"
        }
        "/short" => "<Response><Pause length=\"2\"/><Hangup/><Say>never</Say></Response>",
        _ => return (StatusCode::INTERNAL_SERVER_ERROR, "no".into()),
    };
    (StatusCode::OK, twiml.into())
}

async fn a_fetched_script_is_followed(database: TestDatabase) {
    let scripts = Scripts::default();
    let origin = serve(Router::new().fallback(document).with_state(scripts.clone())).await;
    scripts.origin.set(origin.clone()).unwrap();
    let world =
        World::start(database, Setup { carrier: seven_seconds(), ..Setup::default() }).await;
    for (path, fallback, seconds, paths) in [
        ("/plain", "", 17, &["/plain"][..]),
        ("/elsewhere?a=1&b=%20", "", 24, &["/elsewhere?a=1&b=%20", "/plain"]),
        ("/broken", "/short", 2, &["/broken", "/short"]),
        // Twilio says that there was an application error, and hangs up; a second is the least it
        // bills.
        ("/broken", "", 1, &["/broken"]),
    ] {
        let fallback_url =
            if fallback.is_empty() { String::new() } else { format!("{origin}{fallback}") };
        let fetch = script::FetchTwiml { url: format!("{origin}{path}"), fallback_url };
        assert_eq!(call_with(&world, script::Kind::FetchTwiml(fetch)).await, seconds, "{path}");
        let asked = std::mem::take(&mut *scripts.asked.lock().unwrap());
        assert_eq!(asked.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), paths);
        let last = world.carrier.creates().pop().unwrap();
        for (_, params) in &asked {
            assert_eq!(get(params, "CallSid"), Some(last.sid.as_str()));
            assert_eq!(get(params, "CallStatus"), Some("in-progress"));
        }
    }
    world.stop().await;
}

/// As long as the proto allows, in ordinary words.
#[test]
fn long_texts_pass() {
    let text = "\"It's five o'clock,\" she said.\n".repeat(100);
    let text = text.chars().take(trunkline::domain::script::SAY_MAX_CHARS).collect();
    let script =
        Script::Say { text, voice: Some("Polly.Joanna".into()), language: Some("en-US".into()) };
    script.check().unwrap();
    for text in
        ["a\r\nb", "a\u{b}b", "a\u{85}b"].map(str::to_owned).into_iter().chain(["&".repeat(1_000)])
    {
        let script = Script::Say { text, voice: None, language: None };
        assert_eq!(script.check().unwrap_err().field, "script.say.text");
    }
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-z&<>\"'\n\t\r\u{b}é]{1,3000}").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// What the run's check lets pass, the dialer can write and the carrier takes: otherwise a run
    /// would be accepted and then pause at its first call.
    #[test]
    fn a_script_that_passes_fits_inline(
        text in text(),
        query in "[a-z&'=]{0,1900}",
        parameters in proptest::collection::vec(("[a-z]{1,9}", "[a-z&\"<]{0,450}"), 0..20),
    ) {
        let scripts = [
            Script::Say { text, voice: Some("v".repeat(100)), language: Some("l".repeat(100)) },
            Script::Play { url: format!("https://a.test/?{query}") },
            Script::Stream { url: format!("wss://a.test/?{query}"), parameters },
        ];
        for script in scripts.into_iter().filter(|script| script.check().is_ok()) {
            let xml = Response::for_script(&script).unwrap().to_xml();
            let chars = xml.map(|xml| xml.chars().count());
            prop_assert!(chars.as_ref().is_ok_and(|chars| *chars <= INLINE_TWIML_MAX_CHARS), "{chars:?}");
        }
    }
}
