//! Deadlines: the client's `grpc-timeout`, and for unary calls the server's own. A call past its
//! deadline ends with DEADLINE_EXCEEDED, a stream too; what it started goes on in its own task.
//!
//! tonic has a timeout outside all layers that answers CANCELLED; ours starts earlier, and is
//! polled first.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, Response};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::body;
use super::methods::{self, Route};
use super::status;
use crate::domain::Violation;

/// The client's deadline.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The longest number in a `grpc-timeout`.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests>
const TIMEOUT_DIGITS_MAX: usize = 8;
/// How long a health stream lives on when the server drains, to say NOT_SERVING.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The layer.
#[derive(Debug, Clone)]
pub struct Deadline {
    unary_max: Duration,
    draining: CancellationToken,
}

impl Deadline {
    /// Bounds unary calls by `unary_max`. Health and reflection streams, which have no end of their
    /// own, end when `draining` is canceled.
    pub const fn new(unary_max: Duration, draining: CancellationToken) -> Self {
        Self { unary_max, draining }
    }

    /// How long a call of `path` with `headers` may take.
    fn allowed(&self, path: &str, headers: &HeaderMap) -> Result<Option<Duration>, Violation> {
        let asked = headers.get(GRPC_TIMEOUT).map(|value| parse(value.as_bytes())).transpose()?;
        let unary = matches!(methods::route(path), Route::Keyed(method) if !method.streams);
        Ok(match (asked, unary) {
            (Some(asked), true) => Some(asked.min(self.unary_max)),
            (None, true) => Some(self.unary_max),
            (asked, false) => asked,
        })
    }
}

/// Reads a `grpc-timeout`: 1 to 8 digits and a unit.
fn parse(text: &[u8]) -> Result<Duration, Violation> {
    let malformed =
        || Violation::new("grpc-timeout", "must be 1 to 8 digits and one of H, M, S, m, u and n");
    let (unit, digits) = text.split_last().ok_or_else(malformed)?;
    if !(1..=TIMEOUT_DIGITS_MAX).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3_600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(malformed()),
    }
}

fn exceeded() -> Status {
    status::plain(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline passed first")
}

impl<S> Layer<S> for Deadline {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, deadline: self.clone() }
    }
}

/// A service under [`Deadline`].
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    inner: S,
    deadline: Deadline,
}

impl<S, B> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let path = request.uri().path();
        let ends_with_drain = matches!(methods::route(path), Route::System(_));
        let allowed = match self.deadline.allowed(path, request.headers()) {
            Ok(allowed) => allowed,
            Err(violation) => {
                let refused = status::of_violation(&violation).into_http();
                return Box::pin(std::future::ready(Ok(refused)));
            }
        };
        // An instant that the clock cannot name is no deadline.
        let ends_at = allowed.and_then(|allowed| started.checked_add(allowed));
        let draining = ends_with_drain.then(|| self.deadline.draining.clone());
        let response = self.inner.call(request);
        Box::pin(async move {
            let Some(ends_at) = ends_at else {
                let response = response.await?;
                return Ok(match draining {
                    Some(draining) => response.map(|inner| body::cut(inner, drained(draining))),
                    None => response,
                });
            };
            tokio::select! {
                biased;
                response = response => Ok(response?.map(|inner| body::cut(inner, async move {
                    sleep_until(ends_at).await;
                    exceeded()
                }))),
                () = sleep_until(ends_at) => Ok(exceeded().into_http()),
            }
        })
    }
}

async fn drained(draining: CancellationToken) -> Status {
    draining.cancelled().await;
    sleep(LAST_WORD).await;
    status::draining()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::codegen::Bytes;

    use super::*;

    const UNARY: &str = "/trunkline.v1.Leads/GetLead";
    const STREAM: &str = "/trunkline.v1.OutboundQueue/WatchRun";
    const HEALTH: &str = "/grpc.health.v1.Health/Watch";

    fn layer() -> Deadline {
        Deadline::new(Duration::from_secs(60), CancellationToken::new())
    }

    fn request(path: &str, timeout: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(path);
        if let Some(timeout) = timeout {
            request = request.header(GRPC_TIMEOUT, timeout);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn reads_what_the_protocol_allows() {
        assert_eq!(parse(b"1H"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse(b"2M"), Ok(Duration::from_secs(120)));
        assert_eq!(parse(b"99999999S"), Ok(Duration::from_secs(99_999_999)));
        assert_eq!(parse(b"10m"), Ok(Duration::from_millis(10)));
        assert_eq!(parse(b"7u"), Ok(Duration::from_micros(7)));
        assert_eq!(parse(b"7n"), Ok(Duration::from_nanos(7)));
        for bad in ["", "S", "1", "-1S", "1s", "1.5S", "123456789S", "1 S", "+1S"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_server_bounds_unary_calls_only() {
        let allowed =
            |path, timeout| layer().allowed(path, request(path, timeout).headers()).unwrap();
        assert_eq!(allowed(UNARY, None), Some(Duration::from_secs(60)));
        assert_eq!(allowed(UNARY, Some("2H")), Some(Duration::from_secs(60)));
        assert_eq!(allowed(UNARY, Some("5S")), Some(Duration::from_secs(5)));
        assert_eq!(allowed(STREAM, None), None);
        assert_eq!(allowed(STREAM, Some("2H")), Some(Duration::from_secs(7_200)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_call_ends_in_time() {
        let inner =
            tower::service_fn(|_: Request<()>| std::future::pending::<Result<_, Infallible>>());
        let started = Instant::now();
        let response = layer().layer(inner).call(request(UNARY, Some("500m"))).await.unwrap();
        assert_eq!(body::code_of(response.headers()), Some(Code::DeadlineExceeded));
        assert!(started.elapsed() < Duration::from_millis(510));
    }

    /// A frame each 100 ms, for ever.
    fn endless() -> Response<Body> {
        let frames = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok::<_, Status>(http_body::Frame::data(Bytes::from_static(b"x"))), ()))
        });
        Response::new(Body::new(StreamBody::new(frames)))
    }

    async fn read(response: Response<Body>) -> (usize, Option<Code>) {
        let (mut body, mut frames) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_trailers() {
                Ok(trailers) => return (frames, body::code_of(&trailers)),
                Err(_) => frames += 1,
            }
        }
        (frames, None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_in_time() {
        let inner = tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(endless()) });
        let response = layer().layer(inner).call(request(STREAM, Some("1050m"))).await.unwrap();
        assert_eq!(read(response).await, (10, Some(Code::DeadlineExceeded)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_health_stream_ends_with_the_server() {
        let deadline = layer();
        let inner = tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(endless()) });
        let response = deadline.layer(inner).call(request(HEALTH, None)).await.unwrap();
        let draining = deadline.draining.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(350)).await;
            draining.cancel();
        });
        assert_eq!(
            read(response).await,
            (8, Some(Code::Unavailable)),
            "half a second for the last word"
        );
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let inner = tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(endless()) });
        let response = layer().layer(inner).call(request(UNARY, Some("soon"))).await.unwrap();
        assert_eq!(body::code_of(response.headers()), Some(Code::InvalidArgument));
    }
}
