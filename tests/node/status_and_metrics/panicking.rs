//! A request whose handler panics. No request to a node can cause that, so a real server gets one more route, which
//! panics.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use actix_web::web;
use ctlstore::http::instrument::Observer;
use ctlstore::http::ops::{OpsState, routes};
use ctlstore::http::serve::{ServerOptions, serve};
use ctlstore::metrics::{Metrics, Server};

use super::watch::{Moved, Watch};
use support::http;

async fn panics() -> &'static str {
    panic!("as the test wants it")
}

pub fn a_request_that_panics(moved: &Moved) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (started, running) = mpsc::channel();
    let server = std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let metrics = Metrics::new();
            let observer = Observer::new(Server::Ops, Arc::clone(&metrics));
            let accepting = Arc::new(AtomicBool::new(true));
            let real = routes(OpsState { actors: Arc::default(), metrics, accepting });
            let all = move |config: &mut web::ServiceConfig| {
                real(config);
                config.route("/panic", web::get().to(panics));
            };
            let server = serve(listener, &ServerOptions::default(), observer, all).expect("build the server");
            started.send(server.handle()).expect("the test waits");
            server.await.expect("serve");
        });
    });
    let handle = running.recv().expect("the server starts");
    let watch = Watch::new(url.clone(), moved);
    watch.event("a request that panics", &["ctlstore_errors_total{component=\"ops\",kind=\"internal\"}"], || {
        http::get(&format!("{url}/panic")).expect(500)
    });
    drop(handle.stop(true));
    server.join().expect("the server ends");
}
