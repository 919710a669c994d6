//! Response bodies that end early, tell how they ended, or hold something open.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::{Code, Status};

/// What ends a body before its own end.
type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// A body that ends with a status of ours when `end` is ready first.
struct Cut {
    inner: Option<Body>,
    end: End,
}

/// `body`, ended by trailers with the status of `end` if that is ready first.
pub(super) fn cut(body: Body, end: impl Future<Output = Status> + Send + 'static) -> Body {
    Body::new(Cut { inner: Some(body), end: Box::pin(end) })
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        // The end first: a stream that always has a frame must not outlive its deadline.
        if let Poll::Ready(status) = this.end.as_mut().poll(cx) {
            this.inner = None;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(match status.add_header(&mut trailers) {
                Ok(()) => Ok(Frame::trailers(trailers)),
                Err(status) => Err(status),
            }));
        }
        Pin::new(inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Is told the code with which a response ended.
pub(super) trait Finish: Send + Unpin + 'static {
    /// The response ended with `code`. Called at most once; not called when the client went away.
    fn finish(&mut self, code: Code);
}

struct Observed<F> {
    inner: Body,
    finish: F,
}

/// `body`, which tells `finish` its trailers' code.
pub(super) fn observe(body: Body, finish: impl Finish) -> Body {
    Body::new(Observed { inner: body, finish })
}

impl<F: Finish> http_body::Body for Observed<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().and_then(code_of) {
                    self.finish.finish(code);
                }
            }
            Some(Err(status)) => self.finish.finish(status.code()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

struct Holding<G> {
    inner: Body,
    _guard: G,
}

/// `body`, which drops `guard` when it is dropped itself: sent to its end, or its client gone.
pub(super) fn hold<G: Send + Unpin + 'static>(body: Body, guard: G) -> Body {
    Body::new(Holding { inner: body, _guard: guard })
}

impl<G: Unpin> http_body::Body for Holding<G> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The code in headers or trailers, if they carry one.
pub(super) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}
