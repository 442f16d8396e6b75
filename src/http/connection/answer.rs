//! How every answer of a server goes out, also those of fast paths: HEAD is answered as GET without
//! the body, HTTP/1.0 gets no chunks, and the connection is told when its request is answered. Entry
//! point: [`PendingAnswer`].

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::{ConnectionType, HttpMessage, Request, Version};
use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Response;
use actix_web::http::Method;
use actix_web::web::Bytes;

use super::state::ConnectionState;

/// Marks a request that its client sent as HEAD, and that its route sees as GET.
pub struct AskedByHead;

/// A request whose answer is still to be made, as far as it decides how the answer goes out.
pub struct PendingAnswer {
    is_head: bool,
    /// HTTP/1.0.
    is_old: bool,
    answering: Option<Answering>,
}

/// A request that is being answered, until this is dropped.
struct Answering(Rc<ConnectionState>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}

impl PendingAnswer {
    /// Notes how the answer has to go out, and turns HEAD into GET.
    pub fn begin(request: &mut Request) -> Self {
        let this = Self {
            is_head: request.method() == Method::HEAD,
            is_old: request.version() < Version::HTTP_11,
            answering: request.conn_data::<Rc<ConnectionState>>().cloned().map(Answering),
        };
        if this.is_head {
            request.head_mut().method = Method::GET;
            request.extensions_mut().insert(AskedByHead);
        }
        this
    }

    /// The answer as it goes out.
    pub fn finish(self, outcome: Result<Response<BoxBody>, Error>) -> Response<AnswerBody> {
        let mut response = outcome.unwrap_or_else(Response::from);
        let size = response.body().size();
        if self.is_old && size == BodySize::Stream {
            response.head_mut().no_chunking(true);
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response.map_body(|_, body| AnswerBody {
            content: if self.is_head { Content::Omitted(size) } else { Content::Sent(body) },
            _answering: self.answering,
        })
    }
}

/// An answer's body. When it is dropped, the request is answered.
pub struct AnswerBody {
    content: Content,
    _answering: Option<Answering>,
}

enum Content {
    Sent(BoxBody),
    /// Of HEAD: only the size is told.
    Omitted(BodySize),
}

impl MessageBody for AnswerBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        match &self.content {
            Content::Sent(body) => body.size(),
            Content::Omitted(size) => *size,
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match &mut self.content {
            Content::Sent(body) => Pin::new(body).poll_next(context),
            Content::Omitted(_) => Poll::Ready(None),
        }
    }
}
