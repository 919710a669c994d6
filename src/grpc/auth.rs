//! Who calls: `authorization: Bearer <key id>.<secret>`, or a client certificate that stands for a key; and whether
//! they may.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::identity::{Certificates, Identity};
use super::methods::{self, Route, Scope, System};
use super::status;
use crate::domain::access::Exposure;
use crate::domain::{TenantId, Timestamp, plan};
use crate::store::{self, ApiKey, Store};

/// How long a key is believed without asking the store: a revoked key works at most this much longer.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// The most keys believed at once.
const CACHE_MAX: usize = 10_000;
/// The longest key id looked up.
const KEY_ID_MAX_LEN: usize = 64;
/// The longest secret hashed.
const SECRET_MAX_LEN: usize = 256;

/// Whoever sent a request; in its extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The business that owns the key.
    pub tenant: TenantId,
    /// The key, without its secret; `cert:` and a fingerprint for a client certificate.
    pub key_id: String,
    /// What the key may do.
    pub scopes: Vec<String>,
    /// The name of the tenant's plan.
    pub plan: String,
}

/// Who may do what without being known.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who may call health.
    pub health: Exposure,
    /// Who may ask for the protos.
    pub reflection: Exposure,
    /// What a client certificate may do.
    pub certificate_scopes: Vec<String>,
}

impl Default for Rules {
    /// Health and reflection for anybody; all scopes but `admin` for certificates.
    fn default() -> Self {
        let scopes = Scope::ALL.iter().filter(|scope| **scope != Scope::Admin);
        Self {
            health: Exposure::Open,
            reflection: Exposure::Open,
            certificate_scopes: scopes.map(|scope| scope.as_str().to_owned()).collect(),
        }
    }
}

/// The layer.
#[derive(Clone)]
pub struct Auth {
    doors: Arc<Doors>,
}

/// Every way in.
struct Doors {
    keys: Keys,
    certificates: Certificates,
    rules: Rules,
}

impl Auth {
    /// Keys and tenants as `store` has them.
    pub fn new(store: Arc<dyn Store>, rules: Rules) -> Self {
        let certificates = Certificates::new(Arc::clone(&store), rules.certificate_scopes.clone());
        let keys = Keys { store, cache: Mutex::default() };
        Self { doors: Arc::new(Doors { keys, certificates, rules }) }
    }
}

impl<S> Layer<S> for Auth {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { inner, doors: Arc::clone(&self.doors) }
    }
}

/// A service under [`Auth`].
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    doors: Arc<Doors>,
}

impl<S, B> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let route = methods::route(request.uri().path());
        let exposure = match route {
            Route::Keyed(_) => Exposure::Keyed,
            Route::System(System::Health) => self.doors.rules.health,
            Route::System(System::Reflection) => self.doors.rules.reflection,
            Route::None => Exposure::Off,
        };
        match exposure {
            Exposure::Keyed => {}
            Exposure::Open => return Box::pin(self.inner.call(request)),
            Exposure::Off => {
                let refused = status::plain(Code::Unimplemented, "NO_SUCH_METHOD", "no such method");
                return Box::pin(std::future::ready(Ok(refused.into_http())));
            }
        }
        let scope = if let Route::Keyed(method) = route { Some(method.scope) } else { None };
        // The service that was polled ready goes with the request; its clone waits for the next one.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let doors = Arc::clone(&self.doors);
        // Only where no key is given: a key is a choice, a certificate is just there.
        let identity = match request.headers().contains_key(AUTHORIZATION) {
            true => None,
            false => Identity::of(request.extensions()),
        };
        Box::pin(async move {
            let admitted = match identity {
                Some(identity) => doors.certificates.admit(&identity).await,
                None => admit(&doors.keys, request.headers()).await,
            };
            let caller = match admitted.and_then(|caller| check_scope(caller, scope)) {
                Ok(caller) => caller,
                Err(refused) => return Ok(refused.into_http()),
            };
            tracing::Span::current().record("tenant", caller.tenant.as_str());
            // Nothing further in needs the secret.
            request.headers_mut().remove(AUTHORIZATION);
            request.extensions_mut().insert(caller);
            inner.call(request).await
        })
    }
}

async fn admit(keys: &Keys, headers: &HeaderMap) -> Result<Caller, Status> {
    let (key_id, secret) = credentials(headers).ok_or_else(unauthenticated)?;
    let known = keys.find(key_id).await.map_err(|error| status::of_store(&error))?;
    let hash: [u8; 32] = Sha256::digest(secret).into();
    // An unknown key is compared as well, so that the answer takes as long.
    let expected = known.as_ref().map_or([0; 32], |known| known.key.secret_hash);
    let same = bool::from(hash.ct_eq(&expected));
    let known = known.filter(|known| same && known.is_valid()).ok_or_else(unauthenticated)?;
    let ApiKey { key_id, tenant, scopes, .. } = known.key;
    Ok(Caller { tenant, key_id, scopes, plan: plan::STANDARD.to_owned() })
}

/// Whether `caller` may do what asks for `scope`; what asks for none, any caller may.
fn check_scope(caller: Caller, scope: Option<Scope>) -> Result<Caller, Status> {
    match scope {
        Some(scope) if !caller.scopes.iter().any(|word| scope.is_granted_by(word)) => {
            let message = format!("this key does not have the scope {}", scope.as_str());
            Err(status::plain(Code::PermissionDenied, "SCOPE_MISSING", message))
        }
        Some(_) | None => Ok(caller),
    }
}

/// The same for every reason: what exists is not told to those who have no key.
pub(super) fn unauthenticated() -> Status {
    status::plain(Code::Unauthenticated, "UNAUTHENTICATED", "a valid API key is required: Bearer <key>")
}

/// Key id and secret of the one `authorization` header.
pub(super) fn credentials(headers: &HeaderMap) -> Option<(&str, &str)> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let (key_id, secret) = token.trim().split_once('.')?;
    let fits = scheme.eq_ignore_ascii_case("bearer")
        && (1..=KEY_ID_MAX_LEN).contains(&key_id.len())
        && (1..=SECRET_MAX_LEN).contains(&secret.len());
    fits.then_some((key_id, secret))
}

/// A key, and when it was read.
#[derive(Clone)]
struct Known {
    key: ApiKey,
    read_at: Instant,
    /// Database time of the reading; only asked for where the key expires.
    db_now: Option<Timestamp>,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < CACHE_TTL
    }

    fn is_valid(&self) -> bool {
        let expired = match (self.key.expires_at, self.db_now) {
            (Some(ends), Some(read)) => ends <= read + self.read_at.elapsed(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.key.revoked_at.is_none() && !expired
    }
}

struct Keys {
    store: Arc<dyn Store>,
    /// Keys that exist; ids that do not would let anybody fill it.
    cache: Mutex<HashMap<String, Known>>,
}

impl Keys {
    async fn find(&self, key_id: &str) -> store::Result<Option<Known>> {
        let cached = self.lock().get(key_id).filter(|known| known.is_fresh()).cloned();
        if cached.is_some() {
            return Ok(cached);
        }
        let read_at = Instant::now();
        let Some(key) = self.store.key(key_id).await? else { return Ok(None) };
        let db_now = match key.expires_at {
            Some(_) => Some(self.store.now().await?),
            None => None,
        };
        let known = Known { key, read_at, db_now };
        insert(&mut self.lock(), key_id, known.clone());
        Ok(Some(known))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(cache: &mut HashMap<String, Known>, key_id: &str, known: Known) {
    if cache.len() >= CACHE_MAX {
        cache.retain(|_, known| known.is_fresh());
    }
    if cache.len() < CACHE_MAX {
        cache.insert(key_id.to_owned(), known);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn reads_bearer_keys_only() {
        assert_eq!(credentials(&headers(&["Bearer tk_1.s.e.c"])), Some(("tk_1", "s.e.c")));
        assert_eq!(credentials(&headers(&["bearer a.b"])), Some(("a", "b")));
        for bad in ["", "Bearer", "Bearer ", "Bearer a", "Bearer .b", "Bearer a.", "Basic a.b", "a.b"] {
            assert_eq!(credentials(&headers(&[bad])), None, "{bad}");
        }
        assert_eq!(credentials(&headers(&["Bearer a.b", "Bearer a.b"])), None);
        assert_eq!(credentials(&headers(&[&format!("Bearer {}.b", "a".repeat(65))])), None);
        assert_eq!(credentials(&headers(&[&format!("Bearer a.{}", "b".repeat(257))])), None);
        assert_eq!(credentials(&HeaderMap::new()), None);
    }

    fn known(revoked_at: Option<i64>, expires_at: Option<i64>) -> Known {
        let key = ApiKey {
            key_id: "k".into(),
            tenant: "acme".parse().unwrap(),
            secret_hash: [0; 32],
            scopes: Vec::new(),
            expires_at: expires_at.map(Timestamp::from_secs),
            revoked_at: revoked_at.map(Timestamp::from_secs),
        };
        Known { key, read_at: Instant::now(), db_now: Some(Timestamp::from_secs(100)) }
    }

    #[tokio::test(start_paused = true)]
    async fn revoked_and_expired_keys_are_refused() {
        assert!(known(None, None).is_valid());
        assert!(!known(Some(1), None).is_valid());
        assert!(!known(None, Some(100)).is_valid());
        let soon = known(None, Some(102));
        assert!(soon.is_valid());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!soon.is_valid() && soon.is_fresh());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!soon.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded() {
        let mut cache = HashMap::new();
        for i in 0..CACHE_MAX + 10 {
            insert(&mut cache, &i.to_string(), known(None, None));
        }
        assert_eq!(cache.len(), CACHE_MAX);
        tokio::time::advance(CACHE_TTL).await;
        insert(&mut cache, "new", known(None, None));
        assert_eq!(cache.len(), 1);
    }
}
