//! Routes that are answered before the router: of a server with many routes, the few
//! that are asked for many thousand times a second. A request for one of them goes from
//! the socket to its handler without what actix-web's application has around a route,
//! which takes as long as reading a row; all others go on to the application. Each of
//! them is a route there as well, for what is not in its plain form, and described
//! there. What stands around every request, `instrument` and `same_origin`, stands here too.

use std::rc::Rc;

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, forward_ready};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Response, ServiceResponse};
use actix_web::http::Method as HttpMethod;
use actix_web::{Error, HttpResponse, ResponseError};
use futures::future::{Either, LocalBoxFuture, MapOk};
use futures::{FutureExt, TryFutureExt};

use crate::metrics::{Method, Route};

use super::error::HttpError;
use super::instrument::Observer;
use super::same_origin::{self, Hosts};

type Handler = dyn Fn(Request) -> LocalBoxFuture<'static, Result<HttpResponse, HttpError>>;

/// The fast paths of one worker of a server.
#[derive(Clone, Default)]
pub struct FastPaths(Vec<Rc<FastPath>>);

struct FastPath {
    /// What the path begins with; a family and a table follow, nothing more and nothing
    /// escaped.
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
    /// Answers `POST pattern`, which ends in `/{family}/{table}`, by `handler`; the two
    /// names are what [`names`] finds.
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
        let is_it = |shortcut: &&Rc<FastPath>| {
            let rest = path.strip_prefix(shortcut.beginning).and_then(|rest| rest.split_once('/'));
            rest.is_some_and(|(family, table)| !family.is_empty() && !table.is_empty() && !table.contains('/'))
        };
        let is_plain = request.method() == HttpMethod::POST && !path.contains('%');
        self.0.iter().find(is_it).filter(|_| is_plain)
    }
}

/// The family and the table at the end of a shortcut's path.
pub fn names(path: &str) -> (&str, &str) {
    let (rest, table) = path.rsplit_once('/').unwrap_or_default();
    let (_, family) = rest.rsplit_once('/').unwrap_or_default();
    (family, table)
}

/// An application with fast paths around it.
pub struct WithFastPaths<A> {
    application: A,
    fast_paths: FastPaths,
    observer: Observer,
    hosts: Option<Rc<Hosts>>,
}

impl<A> WithFastPaths<A> {
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

impl<A> ServiceFactory<Request> for WithFastPaths<A>
where
    A: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse, Error = Error>,
    A::Future: 'static,
    A::Service: 'static,
    A::InitError: 'static,
{
    type Response = Response<BoxBody>;
    type Error = Error;
    type Config = AppConfig;
    type Service = WithFastPaths<A::Service>;
    type InitError = A::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, A::InitError>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let (fast_paths, observer, hosts) = (self.fast_paths.clone(), self.observer.clone(), self.hosts.clone());
        let application = self.application.new_service(config);
        application.map_ok(|application| WithFastPaths { application, fast_paths, observer, hosts }).boxed_local()
    }
}

impl<A> Service<Request> for WithFastPaths<A>
where
    A: Service<Request, Response = ServiceResponse, Error = Error>,
{
    type Response = Response<BoxBody>;
    type Error = Error;
    type Future = Either<
        LocalBoxFuture<'static, Result<Self::Response, Error>>,
        MapOk<A::Future, fn(ServiceResponse) -> Self::Response>,
    >;

    forward_ready!(application);

    fn call(&self, request: Request) -> Self::Future {
        match self.fast_paths.find(&request) {
            Some(shortcut) => {
                let (shortcut, observer, hosts) = (Rc::clone(shortcut), self.observer.clone(), self.hosts.clone());
                Either::Left(async move { Ok(shortcut.answer(request, observer, hosts).await.into()) }.boxed_local())
            }
            None => Either::Right(self.application.call(request).map_ok(Response::from)),
        }
    }
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
    fn only_a_post_with_two_names_is_a_shortcut() {
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
