//! An executive inside the test's own process: the real actor, the real server on a real socket, the real ctldb. It is
//! for tests that need options which no setting has, or the actor's own status.

pub mod hold;
pub mod replay;

use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::{Actor, Recipient, System};
use ctlstore::actors::executive::{ExecutiveActor, ExecutiveOptions};
use ctlstore::http::executive::server;
use ctlstore::http::instrument::Observer;
use ctlstore::http::serve::ServerOptions;
use ctlstore::messages::executive::LedgerGrew;
use ctlstore::messages::status::{GetStatus, RoleStatus};
use ctlstore::messages::stop::Stop;
use ctlstore::metrics::{Metrics, Server};
use ctlstore_ctldb::{AnyCtldb, LedgerTable, Location};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{TestDatabase, http, wait_until};

/// A running executive. Dropping it stops it in order.
pub struct Executive {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub metrics: Arc<Metrics>,
    status: Recipient<GetStatus>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// An upsert of one row of `tab`.
pub fn row(id: i64, v: &str) -> Value {
    json!({"table": "tab", "delete": false, "values": {"id": id, "v": v}})
}

/// The credentials in the protocol's recorded examples.
pub fn destructive() -> ExecutiveOptions {
    let mut settings = ExecutiveOptions::default();
    settings.rules.destructive_schema_changes = true;
    settings
}

impl Executive {
    /// Starts one on the ctldb with this URL. Returns when the socket is bound; the ctldb may still be unreachable.
    pub fn start(url: &str, settings: ExecutiveOptions) -> Self {
        let location = Location::parse(url).expect("a ctldb's url");
        let open = move || AnyCtldb::open(&location, LedgerTable::default()).expect("open the ctldb");
        Self::run(open, settings, None)
    }

    pub fn run(
        ctldb: impl FnOnce() -> AnyCtldb + Send + 'static,
        settings: ExecutiveOptions,
        poller: Option<Recipient<LedgerGrew>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let metrics = Metrics::new();
        let (stop, stopped) = oneshot::channel();
        let (started, running) = mpsc::channel();
        let counted = Arc::clone(&metrics);
        let thread = std::thread::spawn(move || {
            System::new().block_on(async move {
                let timeout = settings.request_timeout + Duration::from_secs(5);
                let actor = ExecutiveActor::new(ctldb(), settings, Arc::clone(&counted), poller).start();
                let recipients = ExecutiveActor::recipients(&actor);
                let observer = Observer::new(Server::Executive, counted);
                let server = server(listener, &ServerOptions::default(), observer, recipients, timeout);
                let server = server.expect("build the server");
                let handle = server.handle();
                actix::spawn(server);
                started.send(actor.clone().recipient()).expect("the test waits");
                let _ = stopped.await;
                handle.stop(true).await;
                actor.send(Stop).await.expect("the executive stops");
            });
        });
        let status = running.recv_timeout(Duration::from_secs(60)).expect("the executive starts");
        Self { url, metrics, status, stop: Some(stop), thread: Some(thread) }
    }

    /// Starts one and waits until it serves.
    pub fn serving(database: &TestDatabase, settings: ExecutiveOptions) -> Self {
        let executive = Self::start(&database.url, settings);
        let status = executive.at("/status");
        wait_until("the executive serves", Duration::from_secs(60), || http::is_ok(&status));
        executive
    }

    /// Makes family `fam`, table `tab` (`id` integer key, `v` text) and writer `writer` with secret `secret`.
    pub fn furnish(&self) -> &Self {
        http::post(&self.at("/families/fam"), "").expect(200);
        let table = json!({"fields": [["id", "integer"], ["v", "text"]], "keyFields": ["id"]});
        http::post(&self.at("/families/fam/tables/tab"), table.to_string()).expect(200);
        http::post(&self.at("/writers/writer"), "secret").expect(200);
        self
    }

    /// Sends a mutation request to family `fam` as `writer`.
    pub fn mutate(&self, body: &Value) -> http::Answer {
        self.mutate_as("writer", "secret", body)
    }

    pub fn mutate_as(&self, writer: &str, secret: &str, body: &Value) -> http::Answer {
        let credentials = [("ctlstore-writer", writer), ("ctlstore-secret", secret)];
        http::request("POST", &self.at("/families/fam/mutations"), &credentials, body.to_string())
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The actor's status.
    pub fn status(&self) -> RoleStatus {
        let asked = self.status.send(GetStatus);
        futures::executor::block_on(asked).expect("the executive answers")
    }

    /// Waits until a commit of so many requests is running.
    pub fn wait_until_committing(&self, requests: usize) {
        wait_until("the commit is on its way", Duration::from_secs(60), || {
            self.status().details["committing"] == json!(requests)
        });
    }

    /// Stops it in order and waits for its end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the executive's thread ends well");
            }
        }
    }
}

impl Drop for Executive {
    fn drop(&mut self) {
        self.end();
    }
}
