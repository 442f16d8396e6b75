//! [`MysqlCtldb`]: the ctldb on a server of the MySQL family, as `Ctldb` demands it. Reads, checks and
//! upkeep are here; `transaction` runs a write.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::{self, LedgerTable};
use crate::ctldb::session::{Counters, Ctldb, CtldbOperation};

use super::address::ServerAddress;
use super::attempts::Attempts;
use super::begin::finish_abandoned;
use super::definitions;
use super::open_transaction::OpenTransaction;
use super::pooled_connection::{Connections, PooledConnection, login};
use super::prepare;
use super::rows::quote;
use super::shared::Shared;
use super::transaction;

/// The time for preparing the schema, or for reading all tables' sizes.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(30);

/// The server's estimates. It keeps such figures, so the query is cheap.
const SIZES: &str = "SELECT table_name, CAST(COALESCE(data_length, 0) + COALESCE(index_length, 0) AS UNSIGNED) \
                     FROM information_schema.tables WHERE LOCATE('___', table_name) > 0 AND table_schema = ";

/// Writes to no row, but is refused as a write is: by a server that is read-only, or for a user without the right.
const CHANGES_NOTHING: &str = "UPDATE locks SET clock = clock WHERE 1 = 0; \
                               INSERT INTO {ledger} (seq, statement) SELECT 0, '' FROM locks WHERE 1 = 0";
const LOCK_ROWS: &str = "SELECT COUNT(*) FROM locks WHERE id = 'ledger'";
/// A row that needs room in the tablespace. The transaction is rolled back.
const TAKES_ROOM: &str = "REPLACE INTO ctlstore_table_definition (table_name, ledger_seq, statement) \
                          VALUES ('', 0, REPEAT('x', {bytes}))";
/// The bytes of that row: more than a few requests need, and less than any packet.
const ROOM: usize = 256 * 1024;

/// A ctldb on a server of the MySQL family.
#[derive(Clone)]
pub struct MysqlCtldb {
    shared: Arc<Shared>,
}

impl MysqlCtldb {
    /// Does not connect yet.
    pub fn new(address: &ServerAddress, ledger: LedgerTable) -> Result<Self, CtldbError> {
        let connections = Connections::new(login(address)?);
        Ok(Self { shared: Arc::new(Shared::new(connections, ledger)) })
    }

    /// Finishes the schema changes that a killed executive has left. Until then the original's executive sees tables
    /// that differ from the ledger. If this fails, the next write tries again and reports the failure to its client.
    async fn finish_abandoned(&self, connection: PooledConnection, deadline: Instant) {
        if let Err(error) = finish_abandoned(&self.shared, connection, deadline).await {
            tracing::warn!(role = "executive", reason = %error, "can't finish an abandoned schema change yet");
        }
    }

    async fn try_read<O: CtldbOperation>(&self, operation: &O, deadline: Instant) -> Result<O::Output, CtldbError> {
        let server = self.shared.server()?;
        let connection = self.shared.connections.get(deadline).await?;
        let mut transaction = OpenTransaction::new(&self.shared, server, connection, deadline, None);
        let output = operation.run(&mut transaction).await?;
        // Each statement was a transaction of its own, so none is open.
        transaction.connection.give_back();
        Ok(output)
    }
}

impl Ctldb for MysqlCtldb {
    async fn prepare(&self) -> Result<(), CtldbError> {
        let deadline = Instant::now() + MAINTENANCE_TIMEOUT;
        let mut connection = self.shared.connections.get(deadline).await?;
        let server = prepare::prepare(&mut connection, &self.shared.ledger, deadline).await?;
        let database = self.shared.connections.database();
        definitions::record_all(&mut connection, database, &self.shared.ledger, true, deadline).await?;
        self.shared.set_server(server);
        self.finish_abandoned(connection, deadline).await;
        Ok(())
    }

    async fn write<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        transaction::write(&self.shared, &operation, deadline).await
    }

    async fn read<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        let mut retry = Attempts::until(deadline, &self.shared.counts);
        loop {
            match self.try_read(&operation, deadline).await {
                Ok(output) => return Ok(output),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    async fn check_writable(&self, after_failure: bool, deadline: Instant) -> Result<(), CtldbError> {
        let mut connection = self.shared.connections.get(deadline).await?;
        connection.query(&self.shared.ledger.fill(CHANGES_NOTHING), deadline).await?;
        if connection.row::<i64>(LOCK_ROWS, deadline).await? == 0 {
            connection.give_back();
            return Err(own_tables::no_lock_row());
        }
        if after_failure {
            connection.query("START TRANSACTION", deadline).await?;
            // If it fails, the connection is closed, which rolls back as well.
            connection.query(&TAKES_ROOM.replace("{bytes}", &ROOM.to_string()), deadline).await?;
            connection.query("ROLLBACK", deadline).await?;
        }
        self.finish_abandoned(connection, deadline).await;
        Ok(())
    }

    async fn refresh_table_sizes(&self) -> Result<(), CtldbError> {
        let deadline = Instant::now() + MAINTENANCE_TIMEOUT;
        let mut connection = self.shared.connections.get(deadline).await?;
        let database = self.shared.connections.database();
        let sizes: Vec<(String, u64)> = connection.rows(&format!("{SIZES}{}", quote(database)), deadline).await?;
        self.shared.sizes.replace(HashMap::from_iter(sizes));
        definitions::record_all(&mut connection, database, &self.shared.ledger, false, deadline).await?;
        connection.give_back();
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
