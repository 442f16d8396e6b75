//! How every server of the node is set up: its bounds, and what stands around its
//! routes. Who calls this owns the server's life.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::KeepAlive;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use socket2::SockRef;

use super::error::HttpError;
use super::observe::Observer;
use super::origin;
use super::shortcut::{Shortcuts, WithShortcuts};

/// A server's bounds.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Threads that answer requests.
    pub workers: usize,
    /// Connections at one time, over all workers.
    pub max_connections: usize,
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
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(10),
            answers_half_closed: true,
        }
    }
}

/// Builds a server on a bound socket and sets it going. `routes` is called once
/// per worker, and gives those of them that the worker answers without its router; `()` is
/// none. Unknown paths are 404, known ones with another method 405.
pub fn serve<S: Into<Shortcuts>>(
    listener: TcpListener,
    options: &ServerOptions,
    observer: Observer,
    routes: impl Fn(&mut ServiceConfig) -> S + Clone + Send + 'static,
) -> io::Result<Server> {
    // Every connection that is accepted inherits it.
    SockRef::from(&listener).set_tcp_user_timeout(Some(options.stall_timeout))?;
    let app = move || {
        let (mut shortcuts, around) = (Shortcuts::default(), observer.clone());
        let application = App::new()
            .configure(|config| shortcuts = routes(config).into())
            .default_service(web::to(|| async { Err::<String, _>(HttpError::not_found("no such route")) }))
            .wrap(from_fn(origin::refuse_foreign))
            .wrap(from_fn(move |request, next| around.clone().observe(request, next)));
        WithShortcuts::new(application, shortcuts, observer.clone())
    };
    let server = HttpServer::new(app)
        .workers(options.workers)
        .max_connections((options.max_connections / options.workers).max(1))
        .client_request_timeout(options.header_timeout)
        .keep_alive(KeepAlive::Timeout(options.idle_timeout))
        .shutdown_timeout(options.shutdown_timeout.as_secs())
        .h1_allow_half_closed(options.answers_half_closed)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(server)
}
