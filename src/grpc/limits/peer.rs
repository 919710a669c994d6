//! The limit of one address: before authentication, so that guessing keys is slow and costs no
//! look-ups.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{Layer, Service};
use tower_governor::GovernorError;
use tower_governor::key_extractor::KeyExtractor;

use super::{Answer, Gate, Limits, Open};
use crate::domain::plan::Rate;
use crate::grpc::methods::{self, Route};
use crate::grpc::status::{self, OverQuota};

/// Streams of health and reflection that one address may have open: they need no key, so no
/// tenant's limit holds them.
const OPEN_STREAMS_MAX: u32 = 100;
/// The bits of an IPv6 address that its owner was given; the others are the owner's to choose.
const IPV6_PREFIX_BITS: u32 = 64;

/// Where a connection comes from: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// The peer behind an address. An IPv4 address that is mapped into IPv6 is that IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => {
                let prefix = u128::from(v6) & (u128::MAX << (u128::BITS - IPV6_PREFIX_BITS));
                Self(IpAddr::V6(Ipv6Addr::from(prefix)))
            }
        }
    }

    /// The peer that tonic puts into a request. A connection that was gone before it was asked has
    /// no address: those share one.
    fn from_request(extensions: &Extensions) -> Option<Self> {
        let tcp = extensions.get::<TcpConnectInfo>().or_else(|| {
            extensions.get::<TlsConnectInfo<TcpConnectInfo>>().map(TlsConnectInfo::get_ref)
        })?;
        let address = tcp.remote_addr().as_ref().map(SocketAddr::ip);
        Some(Self::of(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))))
    }
}

#[derive(Debug, Clone, Copy)]
struct PeerKey;

impl KeyExtractor for PeerKey {
    type Key = Peer;

    fn extract<T>(&self, request: &Request<T>) -> Result<Peer, GovernorError> {
        Peer::from_request(request.extensions()).ok_or(GovernorError::UnableToExtractKey)
    }
}

/// What one address may do.
pub(super) struct Limit {
    requests: Gate<PeerKey>,
    streams: Open<Peer>,
}

impl Limit {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = OverQuota {
            reason: "PEER_RATE_LIMIT",
            subject: "peer:requests".to_owned(),
            description: format!("requests from one address: {rate}"),
        };
        Self { requests: Gate::new(rate, PeerKey, quota), streams: Open::default() }
    }

    pub(super) fn prune(&self, more_than: usize) {
        self.requests.prune(more_than);
    }
}

/// The layer.
#[derive(Clone)]
pub struct PeerLimit(Arc<Limits>);

impl PeerLimit {
    /// With the limiters of this process.
    pub const fn new(limits: Arc<Limits>) -> Self {
        Self(limits)
    }
}

impl<S> Layer<S> for PeerLimit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limits: Arc::clone(&self.0) }
    }
}

/// A service under [`PeerLimit`].
#[derive(Clone)]
pub struct Limited<S> {
    inner: S,
    limits: Arc<Limits>,
}

impl<S, B> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = &self.limits.peer;
        let keyless = matches!(methods::route(request.uri().path()), Route::System(_));
        let peer = if keyless { Peer::from_request(request.extensions()) } else { None };
        let guard = match peer.map(|peer| limit.streams.enter(&peer, OPEN_STREAMS_MAX)) {
            None => None,
            Some(Some(guard)) => Some(guard),
            Some(None) => return Box::pin(std::future::ready(Ok(too_many().into_http()))),
        };
        // The service that was polled ready goes with the request; its clone waits for the next
        // one.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        limit.requests.pass(ready, request, guard)
    }
}

fn too_many() -> tonic::Status {
    let quota = OverQuota {
        reason: "PEER_STREAMS_LIMIT",
        subject: "peer:streams".to_owned(),
        description: format!(
            "calls of health and reflection open at once from one address: {OPEN_STREAMS_MAX}"
        ),
    };
    status::over_quota(&quota, status::RETRY_AFTER_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::of(text.parse().unwrap())
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8:1:2:3:4:5:6"), peer("2001:db8:1:2::"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
    }

    #[test]
    fn the_peer_is_the_connections() {
        let tcp =
            TcpConnectInfo { local_addr: None, remote_addr: Some("192.0.2.1:5".parse().unwrap()) };
        let mut request = Request::new(());
        assert!(PeerKey.extract(&request).is_err());
        // What a client says of itself does not count.
        request
            .headers_mut()
            .insert("x-forwarded-for", http::HeaderValue::from_static("198.51.100.7"));
        request.extensions_mut().insert(tcp);
        assert_eq!(PeerKey.extract(&request).unwrap(), peer("192.0.2.1"));
    }
}
