//! What stands around every answer of a server, its direct routes' too: HEAD is answered
//! as GET without the body, HTTP/1.0 gets no chunks, and the connection is told when its
//! request is answered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::{ConnectionType, HttpMessage, Request, Version};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, forward_ready};
use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{AppConfig, Response};
use actix_web::http::Method;
use actix_web::web::Bytes;
use futures::future::{Join, LocalBoxFuture, Map, Ready, join, ready};
use futures::{FutureExt, TryFutureExt};

use super::Connection;

/// A service whose answers go out as this module says.
pub struct WithAnswers<S> {
    inner: S,
}

impl<S> WithAnswers<S> {
    pub fn new<I: IntoServiceFactory<S, Request>>(service: I) -> Self
    where
        S: ServiceFactory<Request>,
    {
        Self { inner: service.into_factory() }
    }
}

/// Marks a request that a client sent with HEAD, and that its route sees as GET.
pub struct AskedByHead;

/// What of a request decides how its answer goes out.
pub struct Asked {
    is_head: bool,
    is_old: bool,
    answering: Option<Answering>,
}

/// A request that is being answered, until this is dropped.
struct Answering(Rc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}

impl<S> ServiceFactory<Request> for WithAnswers<S>
where
    S: ServiceFactory<Request, Config = AppConfig, Response = Response<BoxBody>, Error = Error>,
    S::Future: 'static,
    S::Service: 'static,
    S::InitError: 'static,
{
    type Response = Response<AnswerBody>;
    type Error = Error;
    type Config = AppConfig;
    type Service = WithAnswers<S::Service>;
    type InitError = S::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, S::InitError>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        self.inner.new_service(config).map_ok(|inner| WithAnswers { inner }).boxed_local()
    }
}

type Outcome = (Result<Response<BoxBody>, Error>, Asked);

impl<S> Service<Request> for WithAnswers<S>
where
    S: Service<Request, Response = Response<BoxBody>, Error = Error>,
{
    type Response = Response<AnswerBody>;
    type Error = Error;
    type Future = Map<Join<S::Future, Ready<Asked>>, fn(Outcome) -> Result<Self::Response, Error>>;

    forward_ready!(inner);

    fn call(&self, mut request: Request) -> Self::Future {
        let asked = Asked {
            is_head: request.method() == Method::HEAD,
            is_old: request.version() < Version::HTTP_11,
            answering: request.conn_data::<Rc<Connection>>().cloned().map(Answering),
        };
        if asked.is_head {
            request.head_mut().method = Method::GET;
            request.extensions_mut().insert(AskedByHead);
        }
        join(self.inner.call(request), ready(asked)).map(|(outcome, asked)| Ok(asked.answer(outcome)))
    }
}

impl Asked {
    fn answer(self, outcome: Result<Response<BoxBody>, Error>) -> Response<AnswerBody> {
        let mut response = outcome.unwrap_or_else(Response::from);
        let size = response.body().size();
        if self.is_old && size == BodySize::Stream {
            response.head_mut().no_chunking(true);
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response.map_body(|_, body| AnswerBody {
            content: if self.is_head { Content::Left(size) } else { Content::Sent(body) },
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
    /// Left out; its size is told all the same.
    Left(BodySize),
}

impl MessageBody for AnswerBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        match &self.content {
            Content::Sent(body) => body.size(),
            Content::Left(size) => *size,
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match &mut self.content {
            Content::Sent(body) => Pin::new(body).poll_next(context),
            Content::Left(_) => Poll::Ready(None),
        }
    }
}
