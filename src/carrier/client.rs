//! Twilio's Calls, Queues and Conferences resources over one pooled client.

mod conferences;
mod queues;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret;
use url::Url;

use crate::domain::CallSid;

use super::error::{CodeClass, Error, classify_answer, redact};
use super::http::{self, BODY_MAX_BYTES, Roots};
use super::request::{Account, CreateCall, Created, ListCalls, UpdateCall};
use super::wire::{self, CallPage, CallResource};

/// Twilio's API. <https://www.twilio.com/docs/voice/api>
const TWILIO: &str = "https://api.twilio.com";

/// How the carrier is reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API is: Twilio, one of its edges, a compatible carrier, or the simulator. May have
    /// a path, below which everything is then.
    pub base_url: Url,
    /// How long connecting may take, TLS included. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a request may take from its first step to the last byte of the answer. Default 15
    /// s.
    pub request_timeout: Duration,
    /// How many idle connections are kept. Default 64.
    pub pool_max_idle_per_host: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A constant that parses; a test pins it.
            base_url: Url::parse(TWILIO).expect("a constant URL"),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(15),
            pool_max_idle_per_host: 64,
        }
    }
}

/// A client of Twilio's REST API. Cheap to clone; clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    base_url: Url,
}

/// What came back from the carrier, when something did.
struct Reply {
    http_status: u16,
    /// The body, or why it could not be read.
    body: Result<Vec<u8>, String>,
}

impl Client {
    /// A client for `config`; connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the base URL is no `http(s)` URL or TLS cannot be set up.
    pub fn new(config: Config) -> Result<Self, Error> {
        if !matches!(config.base_url.scheme(), "https" | "http")
            || config.base_url.host_str().is_none()
        {
            return Err(Error::Protocol {
                reason: "the base URL must be an http(s) URL with a host".into(),
            });
        }
        // Nothing leaves the base URL's origin, so a plain one never needs a certificate.
        let roots = if config.base_url.scheme() == "https" { Roots::System } else { Roots::None };
        let Config { base_url, connect_timeout, request_timeout, pool_max_idle_per_host } = config;
        let http = http::build(connect_timeout, request_timeout, pool_max_idle_per_host, roots)
            .map_err(|reason| Error::Protocol { reason })?;
        Ok(Self { inner: Arc::new(Inner { http, base_url }) })
    }

    /// Asks for one call, once, and says what became of it. Creating is *not* idempotent at Twilio:
    /// after [`Created::Unknown`] the request must never be sent again.
    pub async fn create_call(&self, account: &Account, call: &CreateCall) -> Created {
        let request = self.request(Method::POST, account, &["Calls.json"]).form(&call.form());
        match request.send().await {
            // The connector failed: no connection, so not one byte of the request has left.
            Err(error) if error.is_connect() => Created::NotSent { reason: http::describe(error) },
            Err(error) if error.is_builder() => Created::NotSent { reason: http::describe(error) },
            Err(error) => Created::Unknown { reason: http::describe(error) },
            Ok(response) => created(&read(response).await),
        }
    }

    /// The call as the carrier knows it now.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the carrier knows no such call.
    pub async fn fetch_call(
        &self,
        account: &Account,
        sid: &CallSid,
    ) -> Result<CallResource, Error> {
        let resource = format!("{sid}.json");
        let body = succeed(self.request(Method::GET, account, &["Calls", &resource])).await?;
        wire::parse_call(&body)
    }

    /// Changes a live call.
    ///
    /// # Errors
    /// [`Error::Rejected`] with [`CodeClass::Race`] when the call's state does not allow it any
    /// more.
    pub async fn update_call(
        &self,
        account: &Account,
        sid: &CallSid,
        update: &UpdateCall,
    ) -> Result<CallResource, Error> {
        let resource = format!("{sid}.json");
        let request =
            self.request(Method::POST, account, &["Calls", &resource]).form(&update.form());
        wire::parse_call(&succeed(request).await?)
    }

    /// One page of the account's calls, newest first.
    ///
    /// # Errors
    /// [`Error::Protocol`] when `list.page` leads away from the carrier.
    pub async fn list_calls(&self, account: &Account, list: &ListCalls) -> Result<CallPage, Error> {
        let request = match &list.page {
            Some(page) => {
                self.authorized(Method::GET, account, self.page_url(account, "Calls.json", page)?)
            }
            None => self.request(Method::GET, account, &["Calls.json"]).query(&list.query()),
        };
        wire::parse_page(&succeed(request).await?)
    }

    fn request(&self, method: Method, account: &Account, path: &[&str]) -> RequestBuilder {
        let url = self.account_url(account, path);
        self.authorized(method, account, url)
    }

    fn authorized(&self, method: Method, account: &Account, url: Url) -> RequestBuilder {
        let credential = &account.credential;
        self.inner
            .http
            .request(method, url)
            .basic_auth(&credential.username, Some(credential.password.expose_secret()))
    }

    fn account_url(&self, account: &Account, path: &[&str]) -> Url {
        let mut url = self.inner.base_url.clone();
        // `path_segments_mut` fails only for URLs without a host, and `new` refused those.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(["2010-04-01", "Accounts", account.sid.as_str()])
                .extend(path);
        }
        url
    }

    /// Where the page of `list` is. It carries our credential, so it must stay with that list at
    /// the carrier: only its query is taken. Its path may be at the host, as Twilio documents it,
    /// or below the base URL's, and the ending `.json` may be missing.
    fn page_url(&self, account: &Account, list: &str, page: &str) -> Result<Url, Error> {
        let away =
            || Error::Protocol { reason: "the next page leads away from the carrier".into() };
        let mut here = self.account_url(account, &[list]);
        let url = here.join(page).map_err(|_| away())?;
        let stays =
            url.origin() == here.origin() && url.username().is_empty() && url.password().is_none();
        let base = self.inner.base_url.path().trim_end_matches('/');
        let whole = |path: &str| path.strip_suffix(".json").unwrap_or(path).to_owned();
        let (given, expected) = (whole(url.path()), whole(here.path()));
        let same = given == expected || expected.strip_prefix(base) == Some(given.as_str());
        if !stays || !same {
            return Err(away());
        }
        here.set_query(url.query());
        Ok(here)
    }
}

async fn read(response: reqwest::Response) -> Reply {
    let http_status = response.status().as_u16();
    Reply { http_status, body: http::read_body(response, BODY_MAX_BYTES).await }
}

/// What an answer says of the create request. Pure, and pessimistic: what proves nothing is
/// unknown.
fn created(answer: &Reply) -> Created {
    let http_status = answer.http_status;
    let body = answer.body.as_deref().unwrap_or_default();
    if (200..300).contains(&http_status) {
        return match (wire::parse_created(body), &answer.body) {
            (Some((sid, status)), _) => Created::Submitted { sid, status },
            (None, Err(reason)) => {
                Created::Unknown { reason: format!("HTTP {http_status}, but {reason}") }
            }
            (None, Ok(_)) => Created::Unknown {
                reason: format!("HTTP {http_status} without a readable call SID"),
            },
        };
    }
    let twilio = wire::parse_error(body);
    let code = twilio.as_ref().map(|(code, _)| *code);
    let message = twilio.map_or_else(
        || format!("HTTP {http_status} without Twilio's error body"),
        |(_, text)| redact(&text),
    );
    match classify_answer(http_status, code) {
        CodeClass::Reject(class) => Created::Rejected { class, code, http_status, message },
        // A race cannot be resolved without a SID: for a create it is as ambiguous as the rest.
        CodeClass::Ambiguous | CodeClass::Race => {
            Created::Unknown { reason: format!("HTTP {http_status}, code {code:?}: {message}") }
        }
    }
}

/// Sends a request that may be repeated, and gives the body of a 2xx answer.
async fn succeed(request: RequestBuilder) -> Result<Vec<u8>, Error> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_builder() => {
            return Err(Error::Protocol { reason: http::describe(error) });
        }
        Err(error) => return Err(Error::Unavailable { reason: http::describe(error) }),
    };
    let Reply { http_status, body } = read(response).await;
    let body = body.map_err(|reason| Error::Unavailable { reason })?;
    match http_status {
        200..300 => Ok(body),
        500.. => Err(Error::Unavailable { reason: format!("HTTP {http_status}") }),
        404 => Err(Error::NotFound),
        400..500 => {
            let twilio = wire::parse_error(&body);
            let code = twilio.as_ref().map(|(code, _)| *code);
            let message = twilio.map(|(_, message)| redact(&message)).unwrap_or_default();
            Err(Error::Rejected {
                class: classify_answer(http_status, code),
                code,
                http_status,
                message,
            })
        }
        _ => Err(Error::Protocol { reason: format!("HTTP {http_status}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::request::{Amd, AmdMode, Answer, Credential};
    use crate::domain::call::{CarrierStatus, RejectClass};
    use crate::domain::{AccountSid, Timestamp};

    const SID: &str = "CA0123456789abcdef0123456789abcdef";

    fn account() -> Account {
        let sid: AccountSid = "AC0123456789abcdef0123456789abcdef".parse().unwrap();
        let credential =
            Credential { username: sid.to_string(), password: "token-very-secret".into() };
        Account { sid, credential }
    }

    fn answer(http_status: u16, body: &str) -> Reply {
        Reply { http_status, body: Ok(body.as_bytes().to_vec()) }
    }

    #[test]
    fn accounts_do_not_print_their_secret() {
        assert!(!format!("{:?}", account()).contains("secret\""));
        assert!(!format!("{:?}", account()).contains("very"));
    }

    #[test]
    fn pages_do_not_print_phones() {
        let to = Some("+14155550123".parse().unwrap());
        let page = Some("/Calls.json?To=%2B14155550123".to_owned());
        let list = ListCalls { to, page: page.clone(), ..ListCalls::default() };
        let printed = format!("{list:?} {:?}", CallPage { calls: vec![], next_page: page });
        assert!(!printed.contains("5550"), "{printed}");
    }

    #[test]
    fn taken() {
        let ok = format!(r#"{{"sid":"{SID}","status":"queued"}}"#);
        let submitted =
            Created::Submitted { sid: SID.parse().unwrap(), status: CarrierStatus::Queued };
        assert_eq!(created(&answer(201, &ok)), submitted);
        assert_eq!(created(&answer(200, &ok)), submitted);
        assert!(matches!(created(&answer(201, "{")), Created::Unknown { .. }));
        let cut = Reply { http_status: 201, body: Err("broke off".into()) };
        assert!(matches!(created(&cut), Created::Unknown { .. }));
    }

    #[test]
    fn refused() {
        let rejected = |http, code: u32| {
            let body = format!(r#"{{"code":{code},"message":"no +14155550123","status":{http}}}"#);
            match created(&answer(http, &body)) {
                Created::Rejected { class, message, .. } => {
                    assert_eq!(message, "no +•••");
                    Some(class)
                }
                Created::Unknown { .. } => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(rejected(400, 21211), Some(RejectClass::LeadDead));
        assert_eq!(rejected(400, 21215), Some(RejectClass::PolicyBlock));
        assert_eq!(rejected(401, 20003), Some(RejectClass::Configuration));
        assert_eq!(rejected(429, 20429), Some(RejectClass::Defer));
        assert_eq!(rejected(400, 29999), Some(RejectClass::Other));
        for (http, code) in
            [(500, 20500), (503, 20503), (400, 20500), (400, 21220), (409, 20409), (500, 21211)]
        {
            assert_eq!(rejected(http, code), None, "{http} {code}");
        }
    }

    #[test]
    fn refused_by_something_else() {
        for http in [300, 302, 400, 405, 408, 409, 413, 425, 500, 502, 504] {
            assert!(matches!(created(&answer(http, "<html>")), Created::Unknown { .. }), "{http}");
        }
        for (http, expected) in [
            (401, RejectClass::Configuration),
            (403, RejectClass::Configuration),
            (404, RejectClass::Configuration),
            (429, RejectClass::Defer),
        ] {
            let Created::Rejected { class, .. } = created(&answer(http, "<html>")) else {
                panic!("{http}")
            };
            assert_eq!(class, expected);
        }
    }

    #[test]
    fn pages_stay_with_the_carrier() {
        let client = Client::new(Config::default()).unwrap();
        let account = account();
        let own = format!("/2010-04-01/Accounts/{}/Calls.json?PageSize=2&Page=1", account.sid);
        assert!(client.page_url(&account, "Calls.json", &own).is_ok());
        assert!(client.page_url(&account, "Queues.json", &own).is_err(), "another list");
        for away in [
            "https://evil.test/x",
            "//evil.test/x",
            "/other",
            &own.replace("Calls", "../Calls"),
            "http://[",
        ] {
            assert!(client.page_url(&account, "Calls.json", away).is_err(), "{away}");
        }
    }

    #[test]
    fn everything_is_below_the_base_urls_path() {
        for base in ["https://a.example.com/api/laml", "https://a.example.com/api/laml/"] {
            let config = Config { base_url: base.parse().unwrap(), ..Config::default() };
            let (client, account) = (Client::new(config).unwrap(), account());
            let list = format!("/2010-04-01/Accounts/{}/Calls", account.sid);
            let here = format!("https://a.example.com/api/laml{list}.json");
            assert_eq!(client.account_url(&account, &["Calls.json"]).as_str(), here);
            for page in [
                format!("/api/laml{list}.json?Page=1"),
                format!("/api/laml{list}?Page=1"),
                format!("https://a.example.com/api/laml{list}.json?Page=1"),
                format!("{list}.json?Page=1"),
                "?Page=1".to_owned(),
            ] {
                let url = client.page_url(&account, "Calls.json", &page).unwrap();
                assert_eq!(url.as_str(), format!("{here}?Page=1"), "{page}");
            }
            for away in [format!("/api{list}.json?Page=1"), format!("/other{list}.json?Page=1")] {
                assert!(client.page_url(&account, "Calls.json", &away).is_err(), "{away}");
            }
        }
    }

    #[test]
    fn the_form_is_twilios() {
        let call = CreateCall {
            to: "+15005550006".parse().unwrap(),
            from: "+15005550006".parse().unwrap(),
            answer: Answer::Url {
                url: "https://a.test/t".into(),
                fallback_url: Some("https://b.test/t".into()),
            },
            status_callback: "https://a.test/s#rc=2".into(),
            ring_timeout_s: 30,
            time_limit_s: 600,
            amd: Some(Amd {
                mode: AmdMode::DetectMessageEnd,
                callback_url: "https://a.test/amd".into(),
            }),
        };
        let form = call.form();
        let all = |name: &str| {
            form.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(all("StatusCallbackEvent"), ["initiated", "ringing", "answered", "completed"]);
        assert_eq!(all("StatusCallback"), ["https://a.test/s#rc=2"]);
        assert_eq!(all("FallbackUrl"), ["https://b.test/t"]);
        assert_eq!(all("MachineDetection"), ["DetectMessageEnd"]);
        assert_eq!(all("Timeout"), ["30"]);
        assert!(all("Twiml").is_empty());
    }

    #[test]
    fn list_filters_carry_the_sign_in_the_name() {
        let list = ListCalls {
            started_after: Some(Timestamp::from_micros(1_571_418_000_999_999)),
            started_before: Some(Timestamp::from_micros(1_571_418_000_000_001)),
            page_size: 5_000,
            ..ListCalls::default()
        };
        let query = list.query();
        assert!(query.contains(&("StartTime>", "2019-10-18T17:00:00Z".into())));
        assert!(query.contains(&("StartTime<", "2019-10-18T17:00:01Z".into())));
        assert!(query.contains(&("PageSize", "1000".into())));
    }
}
