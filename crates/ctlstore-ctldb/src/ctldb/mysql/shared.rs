//! [`Shared`]: the state that all transactions on one server share. It is made once for each ctldb.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::sizes::TableSizes;

use super::attempts::Counts;
use super::catalog::Catalog;
use super::optimistic::LastCommit;
use super::pooled_connection::Connections;
use super::prepare::Server;

/// Writes that may run at once: one at work, and one that waits for the ledger lock. The second one
/// begins as soon as the first one's commit is done, and not a round trip later.
const TURNS: usize = 2;

pub(super) struct Shared {
    pub connections: Connections,
    pub ledger: LedgerTable,
    /// `Some` once the server was prepared.
    server: Mutex<Option<Server>>,
    pub catalog: Catalog,
    pub last_commit: LastCommit,
    pub sizes: TableSizes,
    pub turns: Semaphore,
    pub counts: Counts,
}

impl Shared {
    pub fn new(connections: Connections, ledger: LedgerTable) -> Self {
        Self {
            connections,
            ledger,
            server: Mutex::default(),
            catalog: Catalog::default(),
            last_commit: LastCommit::default(),
            sizes: TableSizes::default(),
            turns: Semaphore::new(TURNS),
            counts: Counts::default(),
        }
    }

    pub fn set_server(&self, server: Server) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    pub fn server(&self) -> Result<Server, CtldbError> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        server.ok_or_else(|| CtldbError::Unavailable("not prepared yet".to_owned()))
    }
}
