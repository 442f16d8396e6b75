//! How every server of the node is set up: its bounds, and what stands around its
//! routes. Who calls this owns the server's life.

use std::future::ready;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive};
use actix_rt::net::TcpStream;
use actix_service::{ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse};
use socket2::SockRef;

use super::connection::{AddressLimit, ConnectionStream, Pool, PoolOptions, WithAnswers};
use super::error::HttpError;
use super::fast_path::{FastPaths, WithFastPaths};
use super::instrument::Observer;
use super::same_origin::{self, Hosts};

/// How long a connection that the server closes may take to be closed by its client.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a client beyond the bound of its address is told before its connection is closed.
const TOO_MANY_OF_ADDRESS: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\nretry-after: 1\r\n\
content-type: text/plain; charset=utf-8\r\ncontent-length: 80\r\n\r\n\
too many connections from this address (setting http.max_connections_per_client)";

/// What the servers know, route by route.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

/// A server's bounds.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Threads that answer requests.
    pub workers: usize,
    /// Connections at one time, over all workers. When there are more, those that have been
    /// idle longest are closed.
    pub max_connections: usize,
    /// Connections of one client address beyond this host; 0 is no bound.
    pub max_connections_per_client: usize,
    /// For a request's head to arrive.
    pub header_timeout: Duration,
    /// For the next request on a connection to begin.
    pub idle_timeout: Duration,
    /// For a client to take the next piece of its answer. Enforced by the kernel: a
    /// connection whose client takes nothing is cut, and what it holds is freed.
    pub stall_timeout: Duration,
    /// For requests in flight when the server is told to stop; whole seconds.
    pub shutdown_timeout: Duration,
    /// Whether a client that has closed its sending side gets an answer that is not made
    /// yet, and the rest of one that is being sent. TCP tells nobody whether it has closed the
    /// other side too; where this is false, the request is dropped: a query then ends, what
    /// waits is not begun, and a scan that runs goes on to its own bounds.
    pub answers_half_closed: bool,
    /// Which names requests may be for; `None` looks at no name.
    pub hosts: Option<Hosts>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            max_connections: 4096,
            max_connections_per_client: 0,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(10),
            answers_half_closed: true,
            hosts: None,
        }
    }
}

/// Builds a server on a bound socket and sets it going. `routes` is called once
/// per worker, and gives those of them that the worker answers without its router; `()` is
/// none. Unknown paths are 404, known ones with another method 405.
pub fn serve<S: Into<FastPaths>>(
    listener: TcpListener,
    options: &ServerOptions,
    observer: Observer,
    routes: impl Fn(&mut ServiceConfig) -> S + Clone + Send + 'static,
) -> io::Result<Server> {
    // Every connection that is accepted inherits it.
    SockRef::from(&listener).set_tcp_user_timeout(Some(options.stall_timeout))?;
    let of_worker = (options.max_connections / options.workers).max(1);
    let server = Server::build()
        .workers(options.workers)
        // A few more are taken than may stay, so that one can be closed for each.
        .max_concurrent_connections(of_worker + (of_worker / 8).clamp(1, 64))
        .shutdown_timeout(options.shutdown_timeout.as_secs())
        .disable_signals();
    let stop = server.graceful_shutdown_signal();
    let pool = PoolOptions {
        server: observer.server(),
        metrics: observer.metrics().clone(),
        limit: of_worker,
        header_timeout: options.header_timeout,
    };
    let addresses = AddressLimit::new(options.max_connections_per_client);
    let options = options.clone();
    let connections = move || {
        let (pool, addresses, stopping) = (Pool::new(pool.clone()), addresses.clone(), stop.clone());
        let enter = fn_service(move |socket: TcpStream| {
            let stopping = stopping.clone();
            pool.watch(async move { stopping.notified().await });
            ready(enter(socket, &pool, &addresses))
        });
        let (stop, routes, hosts) = (stop.clone(), routes.clone(), options.hosts.clone());
        let application = application(hosts, observer.clone(), move |config| routes(config).into());
        let http = HttpService::build()
            .keep_alive(KeepAlive::Timeout(options.idle_timeout))
            .client_request_timeout(options.header_timeout)
            .client_disconnect_timeout(CLOSE_TIMEOUT)
            .h1_allow_half_closed(options.answers_half_closed)
            .graceful_shutdown_signal(move || {
                let stop = stop.clone();
                async move { stop.notified().await }
            })
            .on_connect_ext(|stream: &ConnectionStream, data| {
                data.insert(Rc::clone(stream.connection()));
            })
            .h1(map_config(application, |()| AppConfig::default()));
        enter.and_then(http)
    };
    Ok(server.listen("http", listener, connections)?.run())
}

/// A connection of this worker and who it is from; or none, where it is one too many.
fn enter(
    socket: TcpStream,
    pool: &Rc<Pool>,
    addresses: &std::sync::Arc<AddressLimit>,
) -> Result<(ConnectionStream, Option<std::net::SocketAddr>), actix_http::error::DispatchError> {
    let peer = socket.peer_addr().ok();
    let client: Option<IpAddr> = peer.map(|peer| peer.ip());
    match addresses.enter(client) {
        Ok(place) => Ok((ConnectionStream::new(socket, pool.enter(), place), peer)),
        Err(_) => {
            pool.refused();
            // It is told if there is room for it; the connection ends in any case.
            let _ = socket.try_write(TOO_MANY_OF_ADDRESS);
            Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
        }
    }
}

/// The routes of one worker with all that stands around them.
fn application(
    hosts: Option<Hosts>,
    observer: Observer,
    routes: impl FnOnce(&mut ServiceConfig) -> FastPaths + 'static,
) -> impl ServiceFactory<
    actix_http::Request,
    Config = AppConfig,
    Response = actix_http::Response<impl actix_web::body::MessageBody>,
    Error = actix_web::Error,
    InitError = (),
> {
    let hosts = hosts.map(Rc::new);
    let (mut fast_paths, around, allowed) = (FastPaths::default(), observer.clone(), hosts.clone());
    let application = App::new()
        .configure(|config| fast_paths = routes(config))
        .default_service(web::to(no_route))
        .wrap(from_fn(move |request, next| same_origin::refuse_cross_site(allowed.clone(), request, next)))
        .wrap(from_fn(move |request, next| around.clone().observe(request, next)));
    WithAnswers::new(WithFastPaths::new(application, fast_paths, observer, hosts))
}

/// Also of `OPTIONS *`, which asks for no route but for the server.
async fn no_route(request: HttpRequest) -> Result<HttpResponse, HttpError> {
    match request.method() == Method::OPTIONS && request.path() == "*" {
        true => Ok(HttpResponse::NoContent().insert_header((ALLOW, METHODS)).finish()),
        false => Err(HttpError::not_found("no such route")),
    }
}
