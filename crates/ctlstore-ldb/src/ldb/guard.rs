//! Keeps ledger statements to what a ledger is for: tables and their rows. A COMMIT
//! in a statement's text would publish half a batch, an ATTACH would open files, and
//! nobody but the applier writes its bookkeeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// What the names of the applier's own tables begin with.
const OWN_TABLES: &str = "_ldb_";

/// Installed once per connection; refuses only while a ledger statement runs, since
/// the applier itself begins, commits and keeps its books on the same connection.
#[derive(Debug, Clone)]
pub struct Guard {
    in_statement: Arc<AtomicBool>,
}

impl Guard {
    pub fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let in_statement = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&in_statement);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            if seen.load(Ordering::Relaxed) && is_refused(&context.action) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        }))?;
        Ok(Self { in_statement })
    }

    /// Runs `work` with the ledger's rights only.
    pub fn restrict<T>(&self, work: impl FnOnce() -> T) -> T {
        self.in_statement.store(true, Ordering::Relaxed);
        let result = work();
        self.in_statement.store(false, Ordering::Relaxed);
        result
    }
}

fn is_refused(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::CreateVtable { .. }
        | AuthAction::DropVtable { .. } => true,
        // ALTER TABLE asks about pragmas of its own making; none of them has a value.
        AuthAction::Pragma { pragma_value, .. } => pragma_value.is_some(),
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::CreateTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::AlterTable { table_name, .. } => table_name.starts_with(OWN_TABLES),
        _ => false,
    }
}
