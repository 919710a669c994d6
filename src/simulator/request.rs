//! What a client asks, checked as Twilio checks it, and Twilio's error bodies.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use url::Url;

use crate::carrier::AmdMode;
use crate::carrier::twiml::Method;
use crate::carrier::wire::e164;
use crate::domain::script::INLINE_TWIML_MAX_CHARS;
use crate::domain::{CallSid, Phone};

use super::config::SECONDS_MAX;
use super::plan::{Plan, Press};

/// Twilio rings for 60 s when it is not told otherwise.
const TIMEOUT_DEFAULT_S: u32 = 60;
/// Twilio rings for at most 600 s.
pub(crate) const TIMEOUT_MAX_S: u32 = 600;
/// Twilio ends a call after four hours when it is not told otherwise, and never lets one last for
/// more than a day.
pub(crate) const TIME_LIMIT_DEFAULT_S: u32 = 14_400;
const TIME_LIMIT_MAX_S: u32 = 86_400;

/// A refusal in Twilio's shape.
/// <https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub http: StatusCode,
    pub code: u32,
    pub message: &'static str,
}

impl Refusal {
    pub const UNAUTHORIZED: Self = Self::new(StatusCode::UNAUTHORIZED, 20003, "Authenticate");
    pub const NOT_FOUND: Self =
        Self::new(StatusCode::NOT_FOUND, 20404, "The requested resource was not found");
    pub const TOO_MANY: Self = Self::new(StatusCode::TOO_MANY_REQUESTS, 20429, "Too Many Requests");
    pub const INTERNAL: Self = Self::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        20500,
        "An internal server error has occurred",
    );
    pub const STATE: Self = Self::bad(21220, "Call is not in-progress. Cannot redirect.");
    pub const NOT_QUEUED: Self =
        Self::new(StatusCode::NOT_FOUND, 20404, "The call does not wait in this queue");
    pub const PARAMETER: Self = Self::bad(20001, "Invalid parameter");

    pub const fn new(http: StatusCode, code: u32, message: &'static str) -> Self {
        Self { http, code, message }
    }

    const fn bad(code: u32, message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "code": self.code,
            "message": self.message,
            "more_info": format!("https://www.twilio.com/docs/errors/{}", self.code),
            "status": self.http.as_u16(),
        });
        (self.http, Json(body)).into_response()
    }
}

/// Form or query parameters, decoded, in order.
pub(crate) struct Params(pub Vec<(String, String)>);

impl Params {
    pub fn decode(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn seconds(&self, name: &str, default: u32, max: u32) -> Result<u32, Refusal> {
        let read = |text: &str| text.parse::<u32>().map_err(|_| Refusal::PARAMETER);
        Ok(self.get(name).map_or(Ok(default), read)?.clamp(1, max))
    }
}

/// Where a call's TwiML comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Inline(String),
    Fetched(Fetch),
}

/// A document to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub url: String,
    pub fallback_url: Option<String>,
    pub method: Method,
    /// Said besides what every webhook says.
    pub params: Vec<(String, String)>,
}

impl Fetch {
    pub const fn new(url: String) -> Self {
        Self { url, fallback_url: None, method: Method::Post, params: Vec::new() }
    }
}

impl Source {
    /// Reads `Twiml`, or `Url` and `FallbackUrl`; none when there is neither.
    pub fn read(params: &Params) -> Result<Option<Self>, Refusal> {
        const INVALID_URL: Refusal = Refusal::bad(21205, "Url is not a valid URL");
        if let Some(twiml) = params.get("Twiml") {
            if twiml.chars().count() > INLINE_TWIML_MAX_CHARS {
                return Err(Refusal::bad(20001, "Twiml is longer than 4000 characters"));
            }
            return Ok(Some(Self::Inline(twiml.to_owned())));
        }
        let Some(url) = params.get("Url") else { return Ok(None) };
        let fallback_url = params.get("FallbackUrl").map(str::to_owned);
        if !is_http(url) || fallback_url.as_deref().is_some_and(|url| !is_http(url)) {
            return Err(INVALID_URL);
        }
        let method = match params.get("Method") {
            None | Some("POST") => Method::Post,
            Some("GET") => Method::Get,
            Some(_) => return Err(Refusal::PARAMETER),
        };
        Ok(Some(Self::Fetched(Fetch { fallback_url, method, ..Fetch::new(url.to_owned()) })))
    }
}

fn is_http(text: &str) -> bool {
    Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
}

/// Answering machine detection, as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detection {
    pub mode: AmdMode,
    /// None = who answered shows only in the call and its last callback.
    pub callback_url: Option<String>,
}

/// A create request that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewCall {
    pub to: Phone,
    pub from: Phone,
    pub source: Source,
    pub status_callback: Option<String>,
    /// Twilio's event names; `completed` alone when none was asked for.
    pub events: Vec<String>,
    pub ring_timeout_s: u32,
    pub time_limit_s: u32,
    pub detection: Option<Detection>,
    /// Whether somebody places it to us.
    pub inbound: bool,
    /// The call whose `<Dial>` makes it.
    pub parent: Option<CallSid>,
}

/// What is asked at `POST /simulator/inbound`: that somebody calls a number of the account's.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InboundRequest {
    /// Who calls.
    pub from: Phone,
    /// The number called.
    pub to: Phone,
    /// What the number is set to in Twilio's console: asked for TwiML.
    pub voice_url: String,
    /// And told how the call ended.
    #[serde(default)]
    pub status_callback: Option<String>,
    /// Whose number it is; the first account unless given.
    #[serde(default)]
    pub account: Option<crate::domain::AccountSid>,
    /// How long each `<Say>`, `<Play>` and stream lasts, in simulated seconds.
    #[serde(default = "inbound_talk_s")]
    pub talk_s: f64,
    /// When the caller hangs up, in simulated seconds after calling; none = when the documents are
    /// over.
    #[serde(default)]
    pub hang_up_after_s: Option<f64>,
    /// What the caller presses at each `<Gather>`, in order.
    #[serde(default)]
    pub presses: Vec<Press>,
}

const fn inbound_talk_s() -> f64 {
    5.0
}

impl InboundRequest {
    /// The call, and what the caller does; a reason if a URL or a time does not fit.
    pub fn into_call(self) -> Result<(NewCall, Plan), &'static str> {
        let urls = std::iter::once(&self.voice_url).chain(&self.status_callback);
        if !urls.into_iter().all(|url| is_http(url)) {
            return Err("voice_url and status_callback must be http or https URLs");
        }
        let times = std::iter::once(self.talk_s).chain(self.hang_up_after_s);
        if !times.into_iter().all(|s| (0.0..=SECONDS_MAX).contains(&s)) {
            return Err("talk_s and hang_up_after_s must be 0 to 86400");
        }
        if !self.presses.iter().all(Press::fits) {
            return Err("presses must be keys, pressed after 0 to 86400 seconds");
        }
        let plan = Plan::of_inbound(self.talk_s, self.hang_up_after_s, self.presses);
        let call = NewCall {
            to: self.to,
            from: self.from,
            source: Source::Fetched(Fetch::new(self.voice_url)),
            status_callback: self.status_callback,
            events: vec!["completed".into()],
            ring_timeout_s: TIMEOUT_DEFAULT_S,
            time_limit_s: TIME_LIMIT_DEFAULT_S,
            detection: None,
            inbound: true,
            parent: None,
        };
        Ok((call, plan))
    }
}

impl NewCall {
    /// Checks in Twilio's order: numbers, then what the call does, then the rest.
    pub fn read(params: &Params) -> Result<Self, Refusal> {
        let to = params.get("To").ok_or(Refusal::bad(21201, "No 'To' number is specified"))?;
        let to = e164(to)
            .ok_or(Refusal::bad(21211, "The phone number you provided as 'To' is not valid"))?;
        let from =
            params.get("From").ok_or(Refusal::bad(21213, "No 'From' number is specified"))?;
        let from = e164(from)
            .ok_or(Refusal::bad(21212, "The 'From' number is not a valid phone number"))?;
        check_magic(&to, &from)?;
        let source =
            Source::read(params)?.ok_or(Refusal::bad(21205, "Url parameter is required"))?;
        let status_callback = params.get("StatusCallback").map(str::to_owned);
        if status_callback.as_deref().is_some_and(|url| !is_http(url)) {
            return Err(Refusal::bad(21609, "Invalid 'StatusCallback' URL"));
        }
        let mut events: Vec<String> =
            params.all("StatusCallbackEvent").map(str::to_owned).collect();
        if events.is_empty() {
            events.push("completed".into());
        }
        Ok(Self {
            to,
            from,
            source,
            status_callback,
            events,
            ring_timeout_s: params.seconds("Timeout", TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S)?,
            time_limit_s: params.seconds("TimeLimit", TIME_LIMIT_DEFAULT_S, TIME_LIMIT_MAX_S)?,
            detection: detection(params)?,
            inbound: false,
            parent: None,
        })
    }
}

fn detection(params: &Params) -> Result<Option<Detection>, Refusal> {
    let mode = match params.get("MachineDetection") {
        None => return Ok(None),
        Some("Enable") => AmdMode::Enable,
        Some("DetectMessageEnd") => AmdMode::DetectMessageEnd,
        Some(_) => return Err(Refusal::PARAMETER),
    };
    let callback_url = params.get("AsyncAmdStatusCallback").map(str::to_owned);
    if callback_url.as_deref().is_some_and(|url| !is_http(url)) {
        return Err(Refusal::PARAMETER);
    }
    Ok(Some(Detection { mode, callback_url }))
}

/// <https://www.twilio.com/docs/iam/test-credentials#test-calls>
fn check_magic(to: &Phone, from: &Phone) -> Result<(), Refusal> {
    if from.expose() == "+15005550001" {
        return Err(Refusal::bad(21212, "The 'From' number is not a valid phone number"));
    }
    match to.expose() {
        "+15005550001" => Err(Refusal::bad(21217, "Phone number does not appear to be valid")),
        "+15005550002" => Err(Refusal::bad(21214, "'To' phone number cannot be reached")),
        "+15005550003" => Err(Refusal::bad(21215, "Account not authorized to call this country")),
        "+15005550004" => Err(Refusal::bad(21216, "Account not allowed to call this number")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Result<NewCall, u32> {
        NewCall::read(&Params::decode(form.as_bytes())).map_err(|refusal| refusal.code)
    }

    #[test]
    fn defaults_are_twilios() {
        let call = read("To=%2B14155550100&From=%2B15005550006&Url=http://a.test/x").unwrap();
        assert_eq!((call.ring_timeout_s, call.time_limit_s), (60, 14_400));
        assert_eq!(call.events, ["completed"]);
        assert_eq!(call.source, Source::Fetched(Fetch::new("http://a.test/x".into())));
    }

    #[test]
    fn refuses_with_twilios_codes() {
        let numbers = "To=%2B14155550100&From=%2B15005550006";
        for (form, code) in [
            (String::new(), 21201),
            ("To=bob".into(), 21211),
            ("To=%2B14155550100".into(), 21213),
            ("To=%2B14155550100&From=bob".into(), 21212),
            (numbers.into(), 21205),
            (format!("{numbers}&Url=ftp://a.test"), 21205),
            (format!("{numbers}&Twiml={}", "a".repeat(4_001)), 20001),
            (format!("{numbers}&Twiml=a&Timeout=soon"), 20001),
            (format!("{numbers}&Twiml=a&MachineDetection=Maybe"), 20001),
            (format!("{numbers}&Twiml=a&StatusCallback=nowhere"), 21609),
            ("To=%2B15005550001&From=%2B15005550006&Twiml=a".into(), 21217),
            ("To=%2B15005550002&From=%2B15005550006&Twiml=a".into(), 21214),
            ("To=%2B15005550003&From=%2B15005550006&Twiml=a".into(), 21215),
            ("To=%2B15005550004&From=%2B15005550006&Twiml=a".into(), 21216),
            ("To=%2B14155550100&From=%2B15005550001&Twiml=a".into(), 21212),
        ] {
            assert_eq!(read(&form), Err(code), "{form}");
        }
    }
}
