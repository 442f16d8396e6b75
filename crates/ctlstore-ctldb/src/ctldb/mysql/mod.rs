//! The ctldb on MySQL or MariaDB, which several executives may share, the original's
//! among them.
//!
//! `transaction` carries a write through, `open_transaction` is one transaction, `session` what can be
//! said in it, `ddl` how the schema changes. Used from one single-threaded runtime.

mod address;
mod attempts;
mod catalog;
mod connect;
mod ddl;
mod definitions;
mod error;
mod ledger_head;
mod open_transaction;
mod optimistic;
mod pooled_connection;
mod prefetch;
mod prepare;
mod rows;
mod session;
mod source;
mod statement_batch;
mod transaction;

pub use address::ServerAddress;
pub use source::MysqlSource;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use self::attempts::Attempts;
use self::catalog::Catalog;
use self::connect::Connections;
use self::open_transaction::OpenTransaction;
use self::optimistic::LastCommit;
use self::prepare::Server;
use self::rows::quote;

use super::counters::{Counters, Counts};
use super::meta;
use super::sizes::TableSizes;
use super::{Ctldb, CtldbError, LedgerTable, Operation};

/// What preparing the schema, or looking at all tables' sizes, may take.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes on their way: one at work and one that waits for the ledger lock, so that it
/// begins when the first one's commit is done and not a round trip later.
const TURNS: usize = 2;

/// As estimated by the server, which keeps such figures: asking is cheap.
const SIZES: &str = "SELECT table_name, CAST(COALESCE(data_length, 0) + COALESCE(index_length, 0) AS UNSIGNED) \
                     FROM information_schema.tables WHERE LOCATE('___', table_name) > 0 AND table_schema = ";

/// Writes to no row, and is refused as writes are: by a server that is read-only, and to a user without the right.
const CHANGES_NOTHING: &str = "UPDATE locks SET clock = clock WHERE 1 = 0; \
                               INSERT INTO {ledger} (seq, statement) SELECT 0, '' FROM locks WHERE 1 = 0";
const LOCK_ROWS: &str = "SELECT COUNT(*) FROM locks WHERE id = 'ledger'";
/// A row that takes room in the tablespace, for a transaction that is rolled back.
const TAKES_ROOM: &str = "REPLACE INTO ctlstore_table_definition (table_name, ledger_seq, statement) \
                          VALUES ('', 0, REPEAT('x', {bytes}))";
/// The bytes of that row: more than a few requests take, and less than any packet.
const ROOM: usize = 256 * 1024;

/// What an executive creates on a server whose collation for keys is `collation`.
pub(super) fn schema_sql(ledger: &LedgerTable, collation: &str) -> String {
    prepare::schema_sql(ledger, collation)
}

/// A ctldb on a server of the MySQL family.
#[derive(Clone)]
pub struct MysqlCtldb {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Connections,
    ledger: LedgerTable,
    /// There once the server was prepared.
    server: Mutex<Option<Server>>,
    catalog: Catalog,
    memory: LastCommit,
    sizes: TableSizes,
    turns: Semaphore,
    counts: Counts,
}

impl Shared {
    fn server(&self) -> Result<Server, CtldbError> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        server.ok_or_else(|| CtldbError::Unavailable("not prepared yet".to_owned()))
    }
}

impl MysqlCtldb {
    /// Does not connect yet.
    pub fn new(address: &ServerAddress, ledger: LedgerTable) -> Result<Self, CtldbError> {
        let connections = Connections::new(connect::login(address)?);
        let shared = Shared {
            connections,
            ledger,
            server: Mutex::default(),
            catalog: Catalog::default(),
            memory: LastCommit::default(),
            sizes: TableSizes::default(),
            turns: Semaphore::new(TURNS),
            counts: Counts::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    async fn try_read<O: Operation>(&self, operation: &O, deadline: Instant) -> Result<O::Output, CtldbError> {
        let server = self.shared.server()?;
        let link = self.shared.connections.get(deadline).await?;
        let mut unit = OpenTransaction::new(&self.shared, server, link, deadline, None);
        let output = operation.run(&mut unit).await?;
        // Each statement was a transaction of its own, so none is open.
        unit.link.give_back();
        Ok(output)
    }
}

impl Ctldb for MysqlCtldb {
    async fn prepare(&self) -> Result<(), CtldbError> {
        let deadline = Instant::now() + MAINTENANCE_TIMEOUT;
        let mut link = self.shared.connections.get(deadline).await?;
        let server = prepare::prepare(&mut link, &self.shared.ledger, deadline).await?;
        let (database, ledger) = (self.shared.connections.database(), &self.shared.ledger);
        definitions::record_all(&mut link, database, ledger, true, deadline).await?;
        link.give_back();
        *self.shared.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }

    async fn write<O: Operation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        transaction::write(&self.shared, &operation, deadline).await
    }

    async fn read<O: Operation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        let mut retry = Attempts::until(deadline, &self.shared.counts);
        loop {
            match self.try_read(&operation, deadline).await {
                Ok(output) => return Ok(output),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    async fn check_writable(&self, after_failure: bool, deadline: Instant) -> Result<(), CtldbError> {
        let mut link = self.shared.connections.get(deadline).await?;
        link.query(&self.shared.ledger.fill(CHANGES_NOTHING), deadline).await?;
        if link.row::<i64>(LOCK_ROWS, deadline).await? == 0 {
            link.give_back();
            return Err(meta::no_lock_row());
        }
        if after_failure {
            link.query("START TRANSACTION", deadline).await?;
            // Rolled back also where it fails, when the connection is closed.
            link.query(&TAKES_ROOM.replace("{bytes}", &ROOM.to_string()), deadline).await?;
            link.query("ROLLBACK", deadline).await?;
        }
        link.give_back();
        Ok(())
    }

    async fn refresh_table_sizes(&self) -> Result<(), CtldbError> {
        let deadline = Instant::now() + MAINTENANCE_TIMEOUT;
        let mut link = self.shared.connections.get(deadline).await?;
        let sql = format!("{SIZES}{}", quote(self.shared.connections.database()));
        let sizes: Vec<(String, u64)> = link.rows(&sql, deadline).await?;
        self.shared.sizes.replace(HashMap::from_iter(sizes));
        let (database, ledger) = (self.shared.connections.database(), &self.shared.ledger);
        definitions::record_all(&mut link, database, ledger, false, deadline).await?;
        link.give_back();
        self.shared.catalog.read_again();
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.shared.counts.counters()
    }

    async fn close(&self) {
        self.shared.connections.close().await;
    }
}
