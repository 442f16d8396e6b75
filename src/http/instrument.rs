//! Counts every request of a server by route and status, times it, and turns a panic into that one
//! request's 500. Entry points: [`Observer::observe`] around the routes, [`Observer::watch`] around a
//! fast path, and [`is_answering`] for the node's panic hook.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use futures::FutureExt;

use crate::metrics::{Component, ErrorKind, Method, Metrics, Route, Server};

use super::connection::AskedByHead;
use super::error::HttpError;

/// The status that is counted if the client left before its answer was made. No client sees it.
const CLIENT_LEFT: u16 = 499;

/// Counts the requests of one server.
#[derive(Debug, Clone)]
pub struct Observer {
    server: Server,
    metrics: Arc<Metrics>,
}

impl Observer {
    pub fn new(server: Server, metrics: Arc<Metrics>) -> Self {
        Self { server, metrics }
    }

    pub fn server(&self) -> Server {
        self.server
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Middleware. It must be the outermost of its server.
    pub async fn observe<B: MessageBody>(
        self,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<B>, Error> {
        let is_head = request.extensions().contains::<AskedByHead>();
        let method = if is_head { Method::Head } else { Method::of(request.method().as_str()) };
        // The request itself can't be kept until the end, since routing needs the only reference to it.
        let route = Route::of(request.match_pattern().as_deref());
        let panicked = |error: HttpError| Err(error.into());
        let status = |outcome: &Result<ServiceResponse<B>, Error>| match outcome {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        self.watch(route, method, next.call(request), panicked, status).await
    }

    /// Waits for one request's answer and counts it with its status. If the handler panics,
    /// `panicked` makes the answer.
    pub async fn watch<T>(
        &self,
        route: Route,
        method: Method,
        answering: impl Future<Output = T>,
        panicked: impl FnOnce(HttpError) -> T,
        status: impl FnOnce(&T) -> StatusCode,
    ) -> T {
        let mut count = Count { observer: self, route, method, status: CLIENT_LEFT, start: Instant::now() };
        let answering = MarkedFuture(pin!(answering));
        let outcome = AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(|_| {
            self.metrics.error(self.component(), ErrorKind::Internal);
            tracing::error!(route = route.as_str(), "a request handler panicked");
            panicked(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
        });
        count.status = status(&outcome).as_u16();
        outcome
    }

    fn component(&self) -> Component {
        match self.server {
            Server::Executive => Component::Executive,
            Server::Reader => Component::Reader,
            Server::Ops => Component::Ops,
        }
    }
}

/// One request. It is counted when this is dropped, with or without an answer.
struct Count<'o> {
    observer: &'o Observer,
    route: Route,
    method: Method,
    status: u16,
    start: Instant,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let Self { observer, route, method, status, start } = self;
        observer.metrics.http.answered(observer.server, *route, *method, *status, start.elapsed());
    }
}

thread_local! {
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a request's handler now, so that a panic ends only that request.
pub fn is_answering() -> bool {
    ANSWERING.get()
}

/// Runs a part of one request's work on another thread under the same rule.
pub fn answering<T>(work: impl FnOnce() -> T) -> T {
    let _mark = Mark::set();
    work()
}

/// Marks the thread until it is dropped, also if a panic drops it.
struct Mark;

impl Mark {
    fn set() -> Self {
        ANSWERING.set(true);
        Self
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        ANSWERING.set(false);
    }
}

/// A handler's future. The thread is marked while it is polled.
struct MarkedFuture<'f, F>(Pin<&'f mut F>);

impl<F: Future> Future for MarkedFuture<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _mark = Mark::set();
        self.0.as_mut().poll(context)
    }
}
