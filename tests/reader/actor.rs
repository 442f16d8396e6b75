//! The reader's actor and the server that a node runs beside it: what the actor says of the reader, and how both stop.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use actix::{Actor, Addr};
use actix_web::dev::ServerHandle;
use ctlstore::actors::reader::{ReaderActor, ReaderState};
use ctlstore::http::reader::serve;
use ctlstore::messages::ledger::CaughtUp;
use ctlstore::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use ctlstore::messages::stop::Stop;
use ctlstore::metrics::Metrics;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;

use support::reader_server::{OriginalLdb, options};
use support::wait::wait_for_async;

const DEADLINE: Duration = Duration::from_secs(20);
const TABLE: &str = r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"));"#;

/// Both, as a node has them.
struct Reader {
    actor: Addr<ReaderActor>,
    server: ServerHandle,
    address: String,
}

impl Reader {
    /// In the order of a node's stop.
    async fn stop(self) {
        self.actor.send(Stop).await.unwrap();
        self.server.stop(true).await;
    }
}

fn start(ldb_path: &Path, ready_max_lag: Duration) -> Reader {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let metrics = Metrics::new();
    let options = options(ldb_path);
    let state = ReaderState::start(&options, &metrics).unwrap();
    let ReaderState { feed, freshness, corruption } = &state;
    let server = serve(listener, &options, feed, freshness, corruption, &metrics).unwrap();
    let handle = server.handle();
    actix::spawn(async { server.await.unwrap() });
    let actor = ReaderActor::new(options.ldb_reader(), ready_max_lag, state, Vec::new(), metrics).start();
    Reader { actor, server: handle, address }
}

async fn status_until(reader: &Addr<ReaderActor>, what: &str, is: impl Fn(&RoleStatus) -> bool) -> RoleStatus {
    wait_for_async(what, DEADLINE, async || Some(reader.send(GetStatus).await.unwrap()).filter(|status| is(status)))
        .await
}

fn set_last_update(ldb: &OriginalLdb, at: Timestamp) {
    ldb.0.execute("UPDATE _ldb_last_update SET timestamp = ?1", [at.to_string()]).unwrap();
}

#[actix::test]
async fn status_follows_the_ldb_and_readiness_its_lag() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let reader = start(&path, Duration::from_secs(3600));
    let status = status_until(&reader.actor, "it looked", |status| status.state == RoleState::Running).await;
    assert_eq!((status.role, status.last_seq, status.lag_seconds), (ActorKind::Reader, None, None));
    assert_eq!(status.not_ready.as_deref(), Some("the ldb is not there yet"));

    let ldb = OriginalLdb::create(&path);
    let status = status_until(&reader.actor, "it sees the ldb", |status| status.last_seq.is_some()).await;
    assert_eq!(status.not_ready.as_deref(), Some("nothing has been applied yet"));

    ldb.apply([TABLE]);
    let now = Timestamp::now();
    let ago = |seconds: i64| Timestamp::from_unix_micros(now.unix_micros() - seconds * 1_000_000);
    set_last_update(&ldb, ago(2 * 3600));
    let late = status_until(&reader.actor, "it sees the old row", |status| status.lag_seconds.is_some()).await;
    assert_eq!(late.last_seq, Some(Seq(1)));
    assert!(late.lag_seconds.unwrap() >= 7200.0, "{late:?}");
    assert!(late.not_ready.unwrap().contains("at most 3600 s"));

    // A quiet ledger whose end was seen a minute ago is no stale host.
    reader.actor.send(CaughtUp { seq: Seq(1), at: ago(60) }).await.unwrap();
    let ready = reader.actor.send(GetStatus).await.unwrap();
    assert_eq!(ready.not_ready, None);
    assert!((60.0..3600.0).contains(&ready.lag_seconds.unwrap()), "{ready:?}");

    ldb.apply([r#"REPLACE INTO fam___tab ("k","v") VALUES('a','1')"#]);
    status_until(&reader.actor, "it sees the next row", |status| status.last_seq == Some(Seq(2))).await;
    reader.stop().await;
}

#[actix::test]
async fn without_a_bound_on_lag_an_ldb_is_enough_to_be_ready() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    OriginalLdb::create(&path).apply([TABLE]);
    let reader = start(&path, Duration::ZERO);
    status_until(&reader.actor, "it is ready", |status| status.not_ready.is_none()).await;
    reader.stop().await;
}

#[actix::test]
async fn an_ldb_that_cannot_be_read_is_in_the_status_until_it_can() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    std::fs::write(&path, "no database at all, but longer than a header of one".repeat(50)).unwrap();
    let reader = start(&path, Duration::ZERO);
    let status = status_until(&reader.actor, "it fails", |status| status.state == RoleState::Retrying).await;
    assert!(status.last_error.unwrap().message.contains("not a database"));
    assert!(status.not_ready.is_some());
    std::fs::remove_file(&path).unwrap();
    OriginalLdb::create(&path).apply([TABLE]);
    status_until(&reader.actor, "it works again", |status| status.state == RoleState::Running).await;
    reader.stop().await;
}

#[actix::test]
async fn a_stop_closes_idle_connections_and_the_socket() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    OriginalLdb::create(&path).apply([TABLE]);
    let reader = start(&path, Duration::ZERO);
    let address = reader.address.clone();
    let talk = address.clone();
    let mut idle = tokio::task::spawn_blocking(move || {
        let mut idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&talk).unwrap()).collect();
        for stream in idle.iter_mut().skip(10) {
            stream.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
        }
        idle
    })
    .await
    .unwrap();
    reader.stop().await;
    for stream in &mut idle {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut rest = Vec::new();
        // An end or a reset: either way the server closed the connection, and not the test's time-out.
        let closed = stream.read_to_end(&mut rest);
        assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
    assert!(TcpStream::connect(&address).is_err(), "the socket still listens");
}

#[actix::test]
async fn a_request_in_flight_is_answered_before_the_end() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    OriginalLdb::create(&path).apply([TABLE, r#"REPLACE INTO fam___tab ("k","v") VALUES('a','1')"#]);
    let reader = start(&path, Duration::ZERO);
    let address = reader.address.clone();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head =
        "POST /get-rows-by-key-prefix/fam/tab HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut stream = tokio::task::spawn_blocking(move || {
        // The server asks for the body, so the request has begun.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    })
    .await
    .unwrap();
    let stopped = actix::spawn(reader.stop());
    wait_for_async("the socket is closed", DEADLINE, async || TcpStream::connect(&address).is_err().then_some(()))
        .await;
    stream.write_all(b"{}").unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#"[{"k":"a","v":"1"}]"#), "{answer}");
    stopped.await.unwrap();
}
