//! The embedded ctldb: one SQLite file, one process that writes it, one thread in
//! that process that holds the connection. DDL is transactional here, and a commit's
//! answer is never lost, so a transaction is all there is to a write.

mod catalog;
mod definitions;
mod error;
mod file;
mod ledger_head;
mod measure;
mod ownership;
mod rows;
mod session;
mod source;
mod thread;
mod values;
mod writer;

pub use ownership::{refuse_foreign, refuse_other_database};
pub use source::SqliteSource;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::file::OwnedFile;
use self::thread::CtldbWriterThread;
use self::writer::CtldbWriter;

use super::sizes::TableSizes;
use super::{Ctldb, CtldbError, LedgerTable, Operation};

/// How long making the schema may wait for a disk.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);

/// What an executive creates in its file.
pub(super) fn schema_sql(ledger: &LedgerTable) -> String {
    writer::schema_sql(ledger)
}

/// A ctldb in a file of this host, for one executive process.
#[derive(Clone)]
pub struct SqliteCtldb {
    writer: Arc<CtldbWriterThread>,
    sizes: TableSizes,
}

impl SqliteCtldb {
    /// Takes the file at `path` for this process and starts its writer thread. Fails
    /// when another process has it (naming that process), or where it can't be.
    pub fn open(path: &Path, ledger: LedgerTable) -> Result<Self, CtldbError> {
        // Before anything is made beside it.
        ownership::refuse_foreign(path, &ledger)?;
        let lock = file::claim(path)?;
        let sizes = TableSizes::default();
        let connection = file::open_writer(path).map_err(|error| match error {
            CtldbError::Failed(reason) => CtldbError::Failed(format!("{}: {reason}", path.display())),
            other => other,
        })?;
        let writer = CtldbWriter::new(connection, OwnedFile::at(path)?, ledger, sizes.clone());
        Ok(Self { writer: Arc::new(CtldbWriterThread::start(path, writer, lock)?), sizes })
    }
}

impl Ctldb for SqliteCtldb {
    async fn prepare(&self) -> Result<(), CtldbError> {
        self.writer.run(Instant::now() + PREPARE_TIMEOUT, CtldbWriter::prepare).await
    }

    async fn write<O: Operation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        self.writer.run(deadline, move |writer| writer.write(&operation, deadline)).await
    }

    async fn read<O: Operation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        self.writer.run(deadline, move |writer| writer.read(&operation)).await
    }

    async fn check_writable(&self, after_failure: bool, deadline: Instant) -> Result<(), CtldbError> {
        self.writer.run(deadline, move |writer| writer.check_writable(after_failure)).await
    }

    async fn refresh_table_sizes(&self) -> Result<(), CtldbError> {
        let (writer, known) = (self.writer.clone(), Arc::new(self.sizes.begin()));
        let by = Arc::clone(&known);
        let measured = tokio::task::spawn_blocking(move || measure::measure(writer.path(), &by)).await;
        let measured = measured.map_err(|e| CtldbError::Failed(format!("measure the tables: {e}")));
        let measured = measured.and_then(|measured| Ok(measured?));
        // What was changed by hand needs no look here: SQLite's schema version tells of it.
        self.writer.run(Instant::now() + PREPARE_TIMEOUT, CtldbWriter::record_definitions).await?;
        let (sizes, unfinished) = measured.inspect_err(|_| self.sizes.unfinished(known.written.iter().cloned()))?;
        self.sizes.replace(sizes);
        self.sizes.unfinished(unfinished);
        Ok(())
    }

    async fn close(&self) {
        let writer = self.writer.clone();
        // A panic while closing was reported when it happened; there is nothing left to close.
        let _ = tokio::task::spawn_blocking(move || writer.close()).await;
    }
}
