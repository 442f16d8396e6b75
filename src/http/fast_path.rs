//! Routes that are answered before the router: the few of a server that are asked for many thousand
//! times a second. Entry points: [`FastPaths::post`] for a server's routes, and [`ServerService`],
//! which answers all its requests. A fast path goes from the socket to its handler. It skips what
//! actix-web's application has around a route, which takes as long as reading a row. The application
//! gets all other requests. It has each fast path as a route too, for paths with escapes and for the
//! description. `instrument` and `same_origin` stand around fast paths as around every route.

use std::rc::Rc;

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, forward_ready};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Response, ServiceResponse};
use actix_web::http::Method as HttpMethod;
use actix_web::{Error, HttpResponse, ResponseError};
use futures::future::{Either, Join, LocalBoxFuture, Map, MapOk, Ready, join, ready};
use futures::{FutureExt, TryFutureExt};

use crate::metrics::{Method, Route};

use super::connection::{AnswerBody, PendingAnswer};
use super::error::HttpError;
use super::instrument::Observer;
use super::same_origin::{self, Hosts};

type Handler = dyn Fn(Request) -> LocalBoxFuture<'static, Result<HttpResponse, HttpError>>;

/// The fast paths of one worker of a server.
#[derive(Clone, Default)]
pub struct FastPaths(Vec<Rc<FastPath>>);

struct FastPath {
    /// The beginning of the path. A family and a table follow, without escapes, and nothing else.
    beginning: &'static str,
    route: Route,
    handler: Box<Handler>,
}

/// A server without any.
impl From<()> for FastPaths {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl FastPaths {
    /// Answers `POST pattern`, which ends in `/{family}/{table}`, by `handler`. [`names`] finds the
    /// two names in the path.
    pub fn post<F>(mut self, pattern: &'static str, handler: impl Fn(Request) -> F + 'static) -> Self
    where
        F: Future<Output = Result<HttpResponse, HttpError>> + 'static,
    {
        let beginning = pattern.strip_suffix("{family}/{table}").unwrap_or(pattern);
        let handler = Box::new(move |request| handler(request).boxed_local());
        self.0.push(Rc::new(FastPath { beginning, route: Route::of(Some(pattern)), handler }));
        self
    }

    fn find(&self, request: &Request) -> Option<&Rc<FastPath>> {
        let path = request.path();
        let is_it = |fast_path: &&Rc<FastPath>| {
            let rest = path.strip_prefix(fast_path.beginning).and_then(|rest| rest.split_once('/'));
            rest.is_some_and(|(family, table)| !family.is_empty() && !table.is_empty() && !table.contains('/'))
        };
        let is_plain = request.method() == HttpMethod::POST && !path.contains('%');
        self.0.iter().find(is_it).filter(|_| is_plain)
    }
}

/// The family and the table at the end of a fast path.
pub fn names(path: &str) -> (&str, &str) {
    let (rest, table) = path.rsplit_once('/').unwrap_or_default();
    let (_, family) = rest.rsplit_once('/').unwrap_or_default();
    (family, table)
}

impl FastPath {
    async fn answer(&self, request: Request, observer: Observer, hosts: Option<Rc<Hosts>>) -> HttpResponse {
        let answering = async {
            let outcome = match same_origin::check(request.head(), hosts.as_deref()) {
                Ok(()) => (self.handler)(request).await,
                Err(refusal) => Err(refusal),
            };
            outcome.unwrap_or_else(|error| error.error_response())
        };
        let panicked = |error: HttpError| error.error_response();
        observer.watch(self.route, Method::Post, answering, panicked, HttpResponse::status).await
    }
}

/// Answers every request of a server: by a fast path or by the application, and as
/// `PendingAnswer` says.
pub struct ServerService<A> {
    application: A,
    fast_paths: FastPaths,
    observer: Observer,
    hosts: Option<Rc<Hosts>>,
}

impl<A> ServerService<A> {
    pub fn new<I: IntoServiceFactory<A, Request>>(
        application: I,
        fast_paths: FastPaths,
        observer: Observer,
        hosts: Option<Rc<Hosts>>,
    ) -> Self
    where
        A: ServiceFactory<Request>,
    {
        Self { application: application.into_factory(), fast_paths, observer, hosts }
    }
}

impl<A> ServiceFactory<Request> for ServerService<A>
where
    A: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse, Error = Error>,
    A::Future: 'static,
    A::Service: 'static,
    A::InitError: 'static,
{
    type Response = Response<AnswerBody>;
    type Error = Error;
    type Config = AppConfig;
    type Service = ServerService<A::Service>;
    type InitError = A::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, A::InitError>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let fast_paths = self.fast_paths.clone();
        let observer = self.observer.clone();
        let hosts = self.hosts.clone();
        let application = self.application.new_service(config);
        application.map_ok(|application| ServerService { application, fast_paths, observer, hosts }).boxed_local()
    }
}

type Outcome = Result<Response<BoxBody>, Error>;

/// A fast path's answer, or the application's.
type Answering<F> = Either<LocalBoxFuture<'static, Outcome>, MapOk<F, fn(ServiceResponse) -> Response<BoxBody>>>;

impl<A> Service<Request> for ServerService<A>
where
    A: Service<Request, Response = ServiceResponse, Error = Error>,
{
    type Response = Response<AnswerBody>;
    type Error = Error;
    type Future = Map<
        Join<Answering<A::Future>, Ready<PendingAnswer>>,
        fn((Outcome, PendingAnswer)) -> Result<Self::Response, Error>,
    >;

    forward_ready!(application);

    fn call(&self, mut request: Request) -> Self::Future {
        let pending = PendingAnswer::begin(&mut request);
        let answering: Answering<A::Future> = match self.fast_paths.find(&request) {
            Some(fast_path) => {
                let fast_path = Rc::clone(fast_path);
                let observer = self.observer.clone();
                let hosts = self.hosts.clone();
                Either::Left(async move { Ok(fast_path.answer(request, observer, hosts).await.into()) }.boxed_local())
            }
            None => Either::Right(self.application.call(request).map_ok(Response::from)),
        };
        join(answering, ready(pending)).map(|(outcome, pending)| Ok(pending.finish(outcome)))
    }
}

#[cfg(test)]
mod tests {
    use actix_http::Request;
    use actix_web::http::{Method as HttpMethod, Uri};

    use super::*;

    fn is_found(method: &str, uri: &str) -> bool {
        let fast_paths =
            FastPaths::default().post("/get/{family}/{table}", |_| async { Ok(HttpResponse::Ok().finish()) });
        let mut request = Request::new();
        request.head_mut().method = HttpMethod::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = Uri::try_from(uri).unwrap();
        fast_paths.find(&request).is_some()
    }

    #[test]
    fn only_a_post_with_two_names_is_a_fast_path() {
        assert!(is_found("POST", "/get/family/table"));
        assert!(is_found("POST", "http://host/get/family/table?more"));
        for (method, uri) in [
            ("GET", "/get/family/table"),
            ("POST", "/get/family"),
            ("POST", "/get/family/"),
            ("POST", "/get//table"),
            ("POST", "/get/family/table/"),
            ("POST", "/get/family/table/more"),
            ("POST", "/get/f%61mily/table"),
            ("POST", "/get/family/t%61ble"),
            ("POST", "/gets/family/table"),
            ("POST", "//get/family/table"),
        ] {
            assert!(!is_found(method, uri), "{method} {uri}");
        }
    }

    #[test]
    fn names_are_the_last_two_segments() {
        assert_eq!(names("/get/family/table"), ("family", "table"));
    }
}
