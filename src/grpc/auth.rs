//! Who calls: `authorization: Bearer <key id>.<secret>`, or a client certificate that stands for a
//! key; and whether they may.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::identity::{Certificates, Identity};
use super::keys::Keys;
use super::methods::{self, Method, Route, Scope, System};
use super::status;
use crate::domain::TenantId;
use crate::domain::access::Exposure;
use crate::store::{KnownKey, Store};

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
    /// The RPC's name; empty for health and reflection.
    pub method: &'static str,
    /// What national phones are read with where the client names no region.
    pub region: Option<String>,
    /// The name of the tenant's limits.
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
    pub fn new(store: Store, rules: Rules) -> Self {
        let certificates = Certificates::new(store.clone(), rules.certificate_scopes.clone());
        Self { doors: Arc::new(Doors { keys: Keys::new(store), certificates, rules }) }
    }

    /// Notes now and then which keys were used, until `shutdown`.
    pub(super) async fn note_uses(self, shutdown: CancellationToken) {
        self.doors.keys.note_uses(shutdown).await;
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
                let refused =
                    status::plain(Code::Unimplemented, "NO_SUCH_METHOD", "no such method");
                return Box::pin(std::future::ready(Ok(refused.into_http())));
            }
        }
        let method = if let Route::Keyed(method) = route { Some(method) } else { None };
        // The service that was polled ready goes with the request; its clone waits for the next
        // one.
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
            let caller = match admitted.and_then(|admitted| check_scope(admitted, method)) {
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

async fn admit(keys: &Keys, headers: &HeaderMap) -> Result<Admitted, Status> {
    let (key_id, secret) = credentials(headers).ok_or_else(unauthenticated)?;
    let known = keys.find(key_id).await.map_err(|error| status::of_store(&error))?;
    let hash: [u8; 32] = Sha256::digest(secret).into();
    // An unknown key is compared as well, so that the answer takes as long.
    let expected = known.as_ref().map_or([0; 32], |known| known.secret_hash());
    let same = bool::from(hash.ct_eq(&expected));
    let known = known.filter(|known| same && known.is_valid()).ok_or_else(unauthenticated)?.known;
    keys.used(key_id);
    let KnownKey { key, region, plan, .. } = known;
    let caller = Caller { tenant: key.tenant, key_id: key.key_id, method: "", region, plan };
    Ok(Admitted { caller, scopes: key.scopes })
}

/// Somebody who is known, but not yet whether for this.
pub(super) struct Admitted {
    pub caller: Caller,
    pub scopes: Vec<String>,
}

/// The caller of `method`, if it may; what is no method of a tenant's, any caller may.
fn check_scope(admitted: Admitted, method: Option<Method>) -> Result<Caller, Status> {
    let Admitted { caller, scopes } = admitted;
    let Some(method) = method else { return Ok(caller) };
    if scopes.iter().any(|word| method.scope.is_granted_by(word)) {
        return Ok(Caller { method: method.name(), ..caller });
    }
    let message = format!("this key does not have the scope {}", method.scope.as_str());
    Err(status::plain(Code::PermissionDenied, "SCOPE_MISSING", message))
}

/// The same for every reason: what exists is not told to those who have no key.
pub(super) fn unauthenticated() -> Status {
    status::plain(
        Code::Unauthenticated,
        "UNAUTHENTICATED",
        "a valid API key is required: Bearer <key>",
    )
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
        for bad in
            ["", "Bearer", "Bearer ", "Bearer a", "Bearer .b", "Bearer a.", "Basic a.b", "a.b"]
        {
            assert_eq!(credentials(&headers(&[bad])), None, "{bad}");
        }
        assert_eq!(credentials(&headers(&["Bearer a.b", "Bearer a.b"])), None);
        assert_eq!(credentials(&headers(&[&format!("Bearer {}.b", "a".repeat(65))])), None);
        assert_eq!(credentials(&headers(&[&format!("Bearer a.{}", "b".repeat(257))])), None);
        assert_eq!(credentials(&HeaderMap::new()), None);
    }
}
