//! Posts webhooks to tenants' own servers: signed after the Standard Webhooks specification, and
//! only to targets that are allowed.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::collections::HashMap;
use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::Semaphore;
use url::Url;

use super::destinations::{Destinations, Refused};
use crate::carrier::http::{self, Roots};
use crate::domain::webhook::Answer;

/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a new secret; the specification asks for 24 to 64.
const SECRET_BYTES: usize = 32;
/// So much of an answer is read, so that its connection can be used again; and thrown away.
const BODY_MAX_BYTES: usize = 16 * 1024;
/// Idle connections kept for each host.
const POOL_MAX_IDLE: usize = 8;

/// Names looked up at a time. Each holds one of the runtime's 512 blocking threads until the system
/// gives up, and the dialer looks the carrier up on them, too.
const LOOK_UPS_MAX: usize = 64;
/// Of one name at a time: a round's sixteen requests go to one. So a tenant of ten endpoints leaves
/// most to others.
const LOOK_UPS_OF_NAME_MAX: usize = 2;

/// How tenants' servers are reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who may be called.
    pub destinations: Destinations,
    /// How long one request may take, from its first step to the last byte of the answer.
    pub timeout: Duration,
}

/// What is to be posted.
#[derive(Debug)]
pub struct Message<'a> {
    /// The same for each attempt: receivers know repetitions by it.
    pub id: &'a str,
    /// JSON.
    pub body: &'a str,
    /// Each signs it: the current one, and the one before during a rotation.
    pub secrets: &'a [SecretString],
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// How it ended.
    pub answer: Answer,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, without the URL.
    pub error: Option<String>,
}

/// A pooled client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    destinations: Arc<Destinations>,
}

impl Client {
    /// A client. Where the system has no certificates, requests over TLS fail.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: Config) -> Result<Self, crate::carrier::Error> {
        let destinations = Arc::new(config.destinations);
        let resolver = Arc::new(Resolver::new(Arc::clone(&destinations)));
        let build = |roots| {
            http::builder(config.timeout, config.timeout, POOL_MAX_IDLE, roots)
                .dns_resolver(Arc::clone(&resolver))
                .build()
                .map_err(http::describe)
        };
        let http = build(Roots::System)
            .or_else(|reason| {
                tracing::warn!(%reason, "webhooks to tenants will fail");
                build(Roots::None)
            })
            .map_err(|reason| crate::carrier::Error::Protocol { reason })?;
        Ok(Self { http, destinations })
    }

    /// Whether `url` may be a target, as far as can be told without looking its host up.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        self.destinations.check_url(url)
    }

    /// Posts the message once, at `unix_s` seconds since the epoch. Redirects are not followed, and
    /// the answer's body is not looked at.
    pub async fn post(&self, url: &str, message: &Message<'_>, unix_s: i64) -> Attempt {
        let began = Instant::now();
        let ended = |answer, error| Attempt { answer, took: began.elapsed(), error };
        let checked = Url::parse(url).map_err(|_| Refused::NotAUrl);
        let url = match checked.and_then(|url| self.check(&url).map(|()| url)) {
            Ok(url) => url,
            Err(refused) => return ended(Answer::Refused, Some(refused.to_string())),
        };
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", unix_s.to_string())
            .header("webhook-signature", sign(message, unix_s))
            .body(message.body.to_owned());
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                // Whether it could be read does not matter.
                let _ = http::read_body(response, BODY_MAX_BYTES).await;
                let error = (!(200..300).contains(&status)).then(|| format!("HTTP {status}"));
                ended(Answer::Status(status), error)
            }
            Err(error) => match refusal(&error) {
                Some(refused) => ended(Answer::Refused, Some(refused)),
                None => ended(Answer::None, Some(http::describe(error))),
            },
        }
    }
}

/// What the resolver refused, if that is why.
fn refusal(error: &reqwest::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return Some(refused.to_string());
        }
        cause = inner.source();
    }
    None
}

/// A new secret, `whsec_` and base64 of `random`.
pub fn new_secret(random: [u8; SECRET_BYTES]) -> SecretString {
    format!("{SECRET_PREFIX}{}", BASE64.encode(random)).into()
}

/// The value of `webhook-signature`: one signature for each secret, separated by spaces.
pub fn sign(message: &Message<'_>, unix_s: i64) -> String {
    let signature = |secret: &SecretString| {
        let text = secret.expose_secret();
        let text = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
        // One that is no base64 is none of ours; its bytes are as good a key.
        let key = BASE64.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
        // HMAC takes keys of any length, so this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length is a key");
        mac.update(format!("{}.{unix_s}.{}", message.id, message.body).as_bytes());
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    };
    message.secrets.iter().map(signature).collect::<Vec<_>>().join(" ")
}

/// Looks names up for the connector and refuses what the destinations does: the connection goes to
/// the very addresses that were checked, so a name that changes its mind in between gains nothing.
struct Resolver {
    destinations: Arc<Destinations>,
    look_ups: Arc<Semaphore>,
    /// Those of one name, while somebody looks it up.
    by_name: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Resolver {
    fn new(destinations: Arc<Destinations>) -> Self {
        Self {
            destinations,
            look_ups: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
            by_name: Mutex::default(),
        }
    }

    fn of_name(&self, name: &str) -> Arc<Semaphore> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_name.get(name).and_then(Weak::upgrade) {
            return known;
        }
        // Whoever is looked up by nobody is forgotten: what is left is as many as there are
        // requests.
        by_name.retain(|_, look_ups| look_ups.strong_count() > 0);
        let new = Arc::new(Semaphore::new(LOOK_UPS_OF_NAME_MAX));
        by_name.insert(name.to_owned(), Arc::downgrade(&new));
        new
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (destinations, look_ups) = (Arc::clone(&self.destinations), Arc::clone(&self.look_ups));
        let of_name = self.of_name(name.as_str());
        Box::pin(async move {
            let permits = (of_name.acquire_owned().await?, look_ups.acquire_owned().await?);
            let host = name.as_str().to_owned();
            // Its thread goes on when nobody waits any more; so does this, and the permits with it.
            let looking = tokio::spawn(async move {
                let _permits = permits;
                // Port 0 stands for the URL's own.
                tokio::net::lookup_host((host, 0)).await.map(Iterator::collect)
            });
            let found: Vec<SocketAddr> = looking.await??;
            destinations.check_addresses(name.as_str(), found.iter().map(SocketAddr::ip))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    #[test]
    fn signs_as_the_specification_does() {
        let secrets = [SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            body: r#"{"test": 2432232314}"#,
            secrets: &secrets,
        };
        assert_eq!(
            sign(&message, 1_614_265_330),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn each_secret_signs() {
        let secrets = [new_secret([1; 32]), new_secret([2; 32])];
        let both = sign(&Message { id: "a", body: "{}", secrets: &secrets }, 1);
        let alone = |n: usize| sign(&Message { id: "a", body: "{}", secrets: &secrets[n..=n] }, 1);
        assert_eq!(both, format!("{} {}", alone(0), alone(1)));
        assert_ne!(alone(0), alone(1));
        assert_ne!(alone(0), sign(&Message { id: "a", body: "{}", secrets: &secrets[..1] }, 2));
        assert!(
            secrets[0].expose_secret().starts_with("whsec_")
                && secrets[0].expose_secret().len() == 50
        );
    }

    /// Nothing listens there, and nothing is asked: names are refused by what they lead to.
    #[tokio::test]
    async fn a_name_that_leads_here_is_refused() {
        let timeout = Duration::from_secs(5);
        let client =
            Client::new(Config { destinations: Destinations::default(), timeout }).unwrap();
        let message = Message { id: "a", body: "{}", secrets: &[] };
        for url in [
            "https://localhost/",
            "https://localhost:9/x",
            "https://127.0.0.1/",
            "http://example.com/",
        ] {
            let attempt = client.post(url, &message, 1).await;
            assert_eq!(attempt.answer, Answer::Refused, "{url}: {:?}", attempt.error);
        }
    }
}
