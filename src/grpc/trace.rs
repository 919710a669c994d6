//! A request id, a span and one log line for each request. Ids only: no body, no header, no
//! personal data.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderName, HeaderValue, Request, Response};
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field};
use uuid::Uuid;

use super::body::{self, Finish};
use super::methods::{self, Route};
use crate::metrics;

/// Where a request id comes in and goes out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id taken from a client; another is made up instead.
const REQUEST_ID_MAX_LEN: usize = 64;

/// The layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace;

impl<S> Layer<S> for Trace {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner }
    }
}

/// A service under [`Trace`].
#[derive(Debug, Clone)]
pub struct Traced<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let id = request_id(request.headers().get(REQUEST_ID));
        let method = method_name(request.uri().path());
        let span = tracing::info_span!(
            "grpc",
            method,
            request_id = id.to_str().unwrap_or_default(),
            tenant = field::Empty,
        );
        let mut line = Line { method, span: span.clone(), started: Instant::now(), written: false };
        let response = span.in_scope(|| self.inner.call(request));
        let answer = async move {
            let mut response = response.await?;
            response.headers_mut().insert(REQUEST_ID, id);
            // A trailers-only answer has its status in the headers, and a body that is never
            // polled.
            match body::code_of(response.headers()) {
                Some(code) => {
                    line.finish(code);
                    Ok(response)
                }
                None => Ok(response.map(|inner| body::observe(inner, line))),
            }
        };
        Box::pin(answer.instrument(span))
    }
}

/// The client's id if it is one, else a new one.
fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let fits = |value: &&HeaderValue| {
        (1..=REQUEST_ID_MAX_LEN).contains(&value.len()) && value.as_bytes().iter().all(plain)
    };
    given.filter(fits).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(Uuid::now_v7().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
    })
}

/// The method's path; a path that is not ours may hold anything, and stays out of the log.
fn method_name(path: &str) -> &'static str {
    match methods::route(path) {
        Route::Keyed(method) => method.path,
        Route::System(_) => "health or reflection",
        Route::None => "unknown",
    }
}

/// The log line of one request; written when its response ends, or when it is dropped before.
struct Line {
    method: &'static str,
    span: Span,
    started: Instant,
    written: bool,
}

impl Line {
    fn write(&mut self, code: Code, gone: bool) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let took = self.started.elapsed();
        metrics::grpc_ended(self.method, code_name(code), took);
        let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let _entered = self.span.enter();
        tracing::info!(code = ?code, latency_ms, client_gone = gone, "request");
    }
}

/// The code's name in gRPC's own words.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl Finish for Line {
    fn finish(&mut self, code: Code) {
        self.write(code, false);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.write(Code::Cancelled, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_ids_and_makes_up_others() {
        let id = |text: &str| request_id(Some(&HeaderValue::from_str(text).unwrap()));
        assert_eq!(id("abc-1.2_3"), "abc-1.2_3");
        for bad in ["", "a b", "a=\"b\"", &"x".repeat(65)] {
            assert_ne!(id(bad), bad);
            assert_eq!(id(bad).len(), 36);
        }
        assert_eq!(request_id(None).len(), 36);
    }

    #[test]
    fn foreign_paths_stay_out_of_the_log() {
        assert_eq!(method_name("/+14155550123"), "unknown");
        assert_eq!(method_name("/trunkline.v1.Leads/GetLead"), "/trunkline.v1.Leads/GetLead");
    }

    #[tokio::test]
    async fn echoes_the_id() {
        let inner = tower::service_fn(|_: Request<()>| async {
            Ok::<_, std::convert::Infallible>(tonic::Status::not_found("x").into_http::<Body>())
        });
        let request = Request::builder().header(REQUEST_ID, "mine").body(()).unwrap();
        let response = Trace.layer(inner).call(request).await.unwrap();
        assert_eq!(response.headers()[REQUEST_ID], "mine");
        assert_eq!(body::code_of(response.headers()), Some(Code::NotFound));
    }
}
