//! The embedded ctldb: one SQLite file that one process writes, on one thread that holds the connection.
//! Entry points: [`SqliteCtldb`] writes, [`SqliteSource`] reads the ledger. DDL is transactional here and
//! a commit's answer is never lost, so a write is one plain transaction.

mod catalog;
mod definitions;
mod error;
mod file;
mod ledger_head;
mod measure;
mod open_mark;
mod ownership;
mod physical;
mod rows;
mod session;
mod source;
mod thread;
mod writer;

pub use ownership::{refuse_foreign, refuse_other_database};
pub use source::SqliteSource;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::file::OwnedFile;
use self::open_mark::OpenMark;
use self::thread::CtldbWriterThread;
use self::writer::CtldbWriter;

use super::error::CtldbError;
use super::own_tables::LedgerTable;
use super::session::{Ctldb, CtldbOperation};
use super::sizes::TableSizes;

/// The time for making the schema on a slow disk.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);

/// The statements that make a ctldb in a file.
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
    /// Claims the file at `path` for this process and starts the writer thread. Fails if another process has
    /// claimed it, and names that process. Also fails if no ctldb can be at `path`.
    pub fn open(path: &Path, ledger: LedgerTable) -> Result<Self, CtldbError> {
        // Before any file is made beside it.
        ownership::refuse_foreign(path, &ledger)?;
        let lock = file::claim(path)?;
        let sizes = TableSizes::default();
        let connection = file::open_writer(path).map_err(|error| match error {
            CtldbError::Failed(reason) => CtldbError::Failed(format!("{}: {reason}", path.display())),
            other => other,
        })?;
        OpenMark::at(path).check(&connection)?;
        let writer = CtldbWriter::new(connection, OwnedFile::at(path)?, ledger, sizes.clone());
        Ok(Self { writer: Arc::new(CtldbWriterThread::start(path, writer, lock)?), sizes })
    }
}

impl Ctldb for SqliteCtldb {
    async fn prepare(&self) -> Result<(), CtldbError> {
        self.writer.run(Instant::now() + PREPARE_TIMEOUT, CtldbWriter::prepare).await
    }

    async fn write<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        self.writer.run(deadline, move |writer| writer.write(&operation, deadline)).await
    }

    async fn read<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        self.writer.run(deadline, move |writer| writer.read(&operation)).await
    }

    async fn check_writable(&self, after_failure: bool, deadline: Instant) -> Result<(), CtldbError> {
        self.writer.run(deadline, move |writer| writer.check_writable(after_failure)).await
    }

    async fn refresh_table_sizes(&self) -> Result<(), CtldbError> {
        let writer = self.writer.clone();
        let known = Arc::new(self.sizes.begin());
        let by = Arc::clone(&known);
        let measured = tokio::task::spawn_blocking(move || measure::measure(writer.path(), &by)).await;
        let measured = measured.map_err(|e| CtldbError::Failed(format!("measure the tables: {e}")));
        let measured = measured.and_then(|measured| Ok(measured?));
        // Changes by hand need no check here: they change SQLite's schema version.
        self.writer.run(Instant::now() + PREPARE_TIMEOUT, CtldbWriter::record_definitions).await?;
        let (sizes, unfinished) = measured.inspect_err(|_| self.sizes.unfinished(known.written.iter().cloned()))?;
        self.sizes.replace(sizes);
        self.sizes.unfinished(unfinished);
        Ok(())
    }

    async fn close(&self) {
        let writer = self.writer.clone();
        // A panic during the close was reported when it happened. Nothing is left to close.
        let _ = tokio::task::spawn_blocking(move || writer.close()).await;
    }
}
