//! Holds the ledger lock from outside, as another executive's transaction does. So a test decides when writes go on.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mysql_async::prelude::Queryable;

/// Holds the lock until it is released or dropped.
pub struct Hold {
    release: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hold {
    /// Returns when the lock is held.
    pub fn on(url: &str) -> Self {
        let (release, released) = mpsc::channel();
        let (held, holding) = mpsc::channel();
        let url = url.to_owned();
        let thread = std::thread::spawn(move || match url.strip_prefix("sqlite:") {
            Some(path) => hold_sqlite(path, &held, &released),
            None => hold_mysql(&url, &held, &released),
        });
        holding.recv_timeout(Duration::from_secs(30)).expect("the lock is held");
        Self { release: Some(release), thread: Some(thread) }
    }

    /// Returns when the lock is free.
    pub fn release(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.release.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end();
    }
}

fn hold_sqlite(path: &str, held: &mpsc::Sender<()>, released: &mpsc::Receiver<()>) {
    let connection = rusqlite::Connection::open(path).expect("open the ctldb");
    connection.busy_timeout(Duration::from_secs(30)).expect("set a timeout");
    connection.execute_batch("BEGIN IMMEDIATE").expect("take the lock");
    held.send(()).expect("the test waits");
    // Dropping the sender is the release; it ends this with an error.
    let _ = released.recv();
    connection.execute_batch("ROLLBACK").expect("release the lock");
}

fn hold_mysql(url: &str, held: &mpsc::Sender<()>, released: &mpsc::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = mysql_async::Conn::from_url(url).await.expect("connect");
        connection.query_drop("BEGIN").await.expect("begin");
        connection.query_drop("SELECT clock FROM locks WHERE id = 'ledger' FOR UPDATE").await.expect("take the lock");
        held.send(()).expect("the test waits");
        let _ = released.recv();
        connection.query_drop("ROLLBACK").await.expect("release the lock");
        connection.disconnect().await.expect("disconnect");
    });
}
