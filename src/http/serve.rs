//! Sets up every server of the node: its bounds, and what stands around its routes. Entry point:
//! [`serve`]. The caller owns the server's life.

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
use actix_web::http::header::{ALLOW, LOCATION};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse};
use socket2::SockRef;

use super::connection::{AddressLimit, ConnectionPool, ConnectionStream, PoolOptions};
use super::error::HttpError;
use super::fast_path::{FastPaths, ServerService};
use super::instrument::Observer;
use super::same_origin::{self, Hosts};

/// How long a client may take to close a connection that the server has closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The answer to a client whose address has too many connections; the connection is then closed.
const TOO_MANY_OF_ADDRESS: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\nretry-after: 1\r\n\
content-type: text/plain; charset=utf-8\r\ncontent-length: 80\r\n\r\n\
too many connections from this address (setting http.max_connections_per_client)";

/// The methods that the servers know. Each route has some of them.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

/// A server's bounds.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Threads that answer requests.
    pub workers: usize,
    /// The most connections at one time, over all workers. If there are more, those that were idle
    /// longest are closed.
    pub max_connections: usize,
    /// The most connections of one client address that is not this host's; 0 is no bound.
    pub max_connections_per_client: usize,
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its answer. The kernel enforces it: it cuts the
    /// connection, and the memory of the answer is freed.
    pub stall_timeout: Duration,
    /// How long requests that are in progress at a stop may take; whole seconds.
    pub shutdown_timeout: Duration,
    /// Whether a client that has closed its sending side still gets its answer. TCP does not tell
    /// whether the client has closed the other side too. If false, the request is dropped. A query
    /// then ends, a read that waits does not begin, and a scan that runs goes on to its own bounds.
    pub answers_half_closed: bool,
    /// The names that requests may be for; `None`: any name.
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

/// Builds a server on a bound socket and starts it. `routes` is called once for each worker: it
/// configures the worker's routes and gives its fast paths; `()` is none. An unknown path is 404, a
/// known one with another method 405.
pub fn serve<S: Into<FastPaths>>(
    listener: TcpListener,
    options: &ServerOptions,
    observer: Observer,
    routes: impl Fn(&mut ServiceConfig) -> S + Clone + Send + 'static,
) -> io::Result<Server> {
    // Accepted connections inherit it.
    SockRef::from(&listener).set_tcp_user_timeout(Some(options.stall_timeout))?;
    let of_worker = (options.max_connections / options.workers).max(1);
    let server = Server::build()
        .workers(options.workers)
        // A few more are accepted than may stay, so that an idle one can be closed for each.
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
        let pool = ConnectionPool::new(pool.clone());
        let addresses = addresses.clone();
        let stopping = stop.clone();
        let enter = fn_service(move |socket: TcpStream| {
            let stopping = stopping.clone();
            pool.watch(async move { stopping.notified().await });
            ready(enter(socket, &pool, &addresses))
        });
        let stop = stop.clone();
        let routes = routes.clone();
        let service = service(options.hosts.clone(), observer.clone(), move |config| routes(config).into());
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
                data.insert(Rc::clone(stream.state()));
            })
            .h1(map_config(service, |()| AppConfig::default()));
        enter.and_then(http)
    };
    Ok(server.listen("http", listener, connections)?.run())
}

/// Admits a connection to this worker, with its client's address; refuses one too many.
fn enter(
    socket: TcpStream,
    pool: &Rc<ConnectionPool>,
    addresses: &std::sync::Arc<AddressLimit>,
) -> Result<(ConnectionStream, Option<std::net::SocketAddr>), actix_http::error::DispatchError> {
    let peer = socket.peer_addr().ok();
    let client: Option<IpAddr> = peer.map(|peer| peer.ip());
    match addresses.enter(client) {
        Ok(place) => Ok((ConnectionStream::new(socket, pool, place), peer)),
        Err(_) => {
            pool.refused();
            // The answer is sent if the socket takes it at once. The connection ends in any case.
            let _ = socket.try_write(TOO_MANY_OF_ADDRESS);
            Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
        }
    }
}

/// The routes of one worker with all that stands around them.
fn service(
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
    let mut fast_paths = FastPaths::default();
    let around = observer.clone();
    let allowed = hosts.clone();
    let application = App::new()
        .configure(|config| fast_paths = routes(config))
        .default_service(web::to(no_route))
        .wrap(from_fn(move |request, next| same_origin::refuse_cross_site(allowed.clone(), request, next)))
        .wrap(from_fn(move |request, next| around.clone().observe(request, next)));
    ServerService::new(application, fast_paths, observer, hosts)
}

/// Answers paths without a route, and `OPTIONS *`, which asks about the server as a whole. If a client's base
/// URL ends in a slash, as the original's may, its paths begin with two: it is sent to the path with one. So a
/// proxy that guards paths sees the path that is answered.
async fn no_route(request: HttpRequest) -> Result<HttpResponse, HttpError> {
    if let Some(path) = request.uri().path_and_query().map(|path| path.as_str()).filter(|path| path.starts_with("//")) {
        let path = format!("/{}", path.trim_start_matches(['/', '\\']));
        return Ok(HttpResponse::PermanentRedirect().insert_header((LOCATION, path)).finish());
    }
    if request.method() == Method::OPTIONS && request.path() == "*" {
        return Ok(HttpResponse::NoContent().insert_header((ALLOW, METHODS)).finish());
    }
    Err(HttpError::not_found("no such route"))
}
