//! Restricts ledger statements to the rows of families' tables and to the protocol's changes of such
//! tables. Entry points: [`StatementAuthorizer::install`] once for each connection, and
//! [`StatementAuthorizer::restrict`] around each statement.
//!
//! Everything that is not listed here is refused: the applier's own tables, temporary tables,
//! triggers, views, indexes, pragmas, other files, and functions whose answer differs between hosts. A
//! statement also ends when its time or memory is used up, or when the node stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result};

use super::statement_class::StatementClass;
use super::statement_watch::StatementWatch;
use ctlstore_reader::read::query::cost;
use ctlstore_reader::read::query::memory::MemoryBudget;
use ctlstore_reader::read::query::restriction::{
    LimitGuard, MAX_PATTERN_BYTES, PURE_FUNCTIONS, RefusedAction, has_name,
};

/// Steps of SQLite's machine between two calls of the progress handler. One step of a hostile
/// statement can take milliseconds.
const STEPS: i32 = 100;
/// Calls of the handler between two looks at the clock while a statement of the protocol's own forms
/// runs. There are many of these, and each ends soon without help.
const CALLS_PER_LOOK: u32 = 64;

/// The functions that SQLite itself calls to write a new column into the schema.
const ADD_COLUMN_FUNCTIONS: [&str; 3] = ["printf", "substr", "length"];

const SCHEMA: &str = "sqlite_master";
/// The beginning of the names of a table's own indexes: those of PRIMARY KEY and UNIQUE.
const AUTOMATIC_INDEX: &str = "sqlite_autoindex_";
/// Beginnings of names of tables that no statement may count. If a statement reads no column of a
/// table, SQLite tells only a name, which may be a subquery's; so these real tables are named here.
const NOT_COUNTED: [&str; 5] = ["_ldb_", "sqlite_", "pragma_", "json_", "dbstat"];

/// The bounds of a ledger statement that is not in one of the protocol's forms. Those forms need no
/// bound: each touches one row, or reads one table once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLimits {
    pub max_time: Duration,
    /// The most bytes of the statement, and of any value or row that it makes.
    pub max_bytes: usize,
    /// The most bytes of memory that SQLite may take for it.
    pub max_memory_bytes: usize,
}

impl Default for StatementLimits {
    fn default() -> Self {
        Self { max_time: Duration::from_secs(600), max_bytes: 32 << 20, max_memory_bytes: 512 << 20 }
    }
}

/// Why a statement was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The statement's own fault, in words that complete "it".
    Refused(String),
    /// The node stops.
    Stopped,
}

const RUNNING: u8 = 0;
const OUT_OF_TIME: u8 = 1;
const STOPPED: u8 = 2;
const OUT_OF_MEMORY: u8 = 3;

/// The state that the connection's hooks look at.
#[derive(Debug, Default)]
struct Rights {
    /// The class of the running ledger statement; 0 if none runs. On the same connection the applier
    /// itself begins, commits and writes its position, which is not restricted.
    class: AtomicU8,
    is_limited: AtomicBool,
    calls: AtomicU32,
    ended: AtomicU8,
    refused: RefusedAction,
}

/// The restrictions of one connection.
#[derive(Debug, Clone)]
pub struct StatementAuthorizer {
    rights: Arc<Rights>,
    limits: StatementLimits,
    watch: Arc<StatementWatch>,
}

impl StatementAuthorizer {
    /// Installs the hooks on a connection.
    pub fn install(connection: &mut Connection, limits: StatementLimits, watch: Arc<StatementWatch>) -> Result<Self> {
        let rights = Arc::new(Rights::default());
        let seen = Arc::clone(&rights);
        connection.authorizer(Some(move |context: AuthContext<'_>| seen.authorize(&context)))?;
        let seen = Arc::clone(&rights);
        let watched = Arc::clone(&watch);
        let max_time = limits.max_time;
        connection.progress_handler(STEPS, Some(move || seen.must_end(&watched, max_time)))?;
        Ok(Self { rights, limits, watch })
    }

    pub fn watch(&self) -> &Arc<StatementWatch> {
        &self.watch
    }

    pub fn limits(&self) -> &StatementLimits {
        &self.limits
    }

    /// Runs `work`: a statement of this class, in one of the protocol's forms.
    pub fn restrict<T>(&self, class: StatementClass, work: impl FnOnce() -> T) -> T {
        self.rights.class.store(code(class), Relaxed);
        let result = work();
        self.rights.class.store(0, Relaxed);
        result
    }

    /// Runs `work` as [`restrict`](Self::restrict) does, within the limits: a statement that is not in
    /// one of the protocol's forms.
    pub fn restrict_and_limit<T>(
        &self,
        connection: &Connection,
        class: StatementClass,
        text: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let StatementLimits { max_time, max_bytes, .. } = self.limits;
        // SQLite calls no hook within one instruction, so the values are kept short enough for the time.
        // To list the statement needs the same rights as to run it.
        let longest =
            self.restrict(class, || cost::longest_value(connection, text, max_time, max_bytes.max(text.len()), false))?;
        let longest = longest.min(max_bytes);
        let length = i32::try_from(longest).unwrap_or(i32::MAX);
        let bounds =
            [(Limit::SQLITE_LIMIT_LENGTH, length), (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)];
        let _limits = LimitGuard::set(connection, &bounds)?;
        self.watch.time_row();
        self.rights.is_limited.store(true, Relaxed);
        let budget = MemoryBudget::begin(self.limits.max_memory_bytes);
        let result = self.restrict(class, work);
        // Without some memory, such as that for cached pages, SQLite goes on. So only a failure counts.
        if result.is_err() && budget.was_exceeded() {
            self.rights.ended.store(OUT_OF_MEMORY, Relaxed);
        }
        drop(budget);
        self.rights.is_limited.store(false, Relaxed);
        result
    }

    /// Why the last failed statement was ended; `None` if this did not end it. A second call returns
    /// `None`.
    pub fn take_ended(&self) -> Option<Ended> {
        let refused = self.rights.refused.take();
        match (self.rights.ended.swap(RUNNING, Relaxed), refused) {
            (STOPPED, _) => Some(Ended::Stopped),
            (OUT_OF_TIME, _) => {
                let most = self.limits.max_time.as_secs_f64();
                Some(Ended::Refused(format!("took longer than reflector.statement_max_time, {most} s")))
            }
            (OUT_OF_MEMORY, _) => {
                let most = self.limits.max_memory_bytes;
                Some(Ended::Refused(format!("wants more than reflector.statement_max_memory_bytes, {most} bytes")))
            }
            (_, refused) => refused.map(|refused| Ended::Refused(format!("may not {refused}"))),
        }
    }
}

impl Rights {
    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        let Some(class) = class_of(self.class.load(Relaxed)) else { return Authorization::Allow };
        self.refused.decide(refused(class, context))
    }

    fn must_end(&self, watch: &StatementWatch, max_time: Duration) -> bool {
        if self.class.load(Relaxed) == 0 {
            return false;
        }
        let is_limited = self.is_limited.load(Relaxed);
        let calls = self.calls.load(Relaxed);
        self.calls.store(calls.wrapping_add(1), Relaxed);
        if !is_limited && !calls.is_multiple_of(CALLS_PER_LOOK) {
            return false;
        }
        let elapsed = watch.time_row();
        let ended = if watch.must_stop() {
            STOPPED
        } else if is_limited && elapsed >= max_time {
            OUT_OF_TIME
        } else {
            return false;
        };
        self.ended.store(ended, Relaxed);
        true
    }
}

const fn code(class: StatementClass) -> u8 {
    match class {
        StatementClass::Rows => 1,
        StatementClass::CreateTable => 2,
        StatementClass::AddColumn => 3,
        StatementClass::DropTable => 4,
    }
}

const fn class_of(code: u8) -> Option<StatementClass> {
    match code {
        1 => Some(StatementClass::Rows),
        2 => Some(StatementClass::CreateTable),
        3 => Some(StatementClass::AddColumn),
        4 => Some(StatementClass::DropTable),
        _ => None,
    }
}

/// The refusal of an action of a statement of this class, in words that complete "may not"; `None` if
/// it is allowed. The words name existing tables and SQLite's functions, and repeat no part of the
/// statement.
fn refused(class: StatementClass, context: &AuthContext<'_>) -> Option<String> {
    let AuthContext { action, database_name, .. } = context;
    let is_main = database_name.is_none_or(|name| name == "main");
    let is_allowed = match class {
        StatementClass::Rows => match action {
            AuthAction::Select | AuthAction::Recursive => true,
            AuthAction::Read { table_name, column_name: "" } => may_be_counted(table_name),
            AuthAction::Read { table_name, .. }
            | AuthAction::Insert { table_name }
            | AuthAction::Delete { table_name }
            | AuthAction::Update { table_name, .. } => is_main && is_table_of_a_family(table_name),
            AuthAction::Function { function_name } => has_name(&PURE_FUNCTIONS, function_name),
            _ => false,
        },
        StatementClass::CreateTable => match action {
            AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } => {
                is_main && *table_name == SCHEMA
            }
            AuthAction::Read { table_name, .. } => {
                is_main && (*table_name == SCHEMA || is_table_of_a_family(table_name))
            }
            AuthAction::CreateTable { table_name } => is_main && is_table_of_a_family(table_name),
            AuthAction::CreateIndex { index_name, table_name } => {
                is_main && index_name.starts_with(AUTOMATIC_INDEX) && is_table_of_a_family(table_name)
            }
            _ => false,
        },
        StatementClass::AddColumn => match action {
            AuthAction::AlterTable { database_name, table_name } => {
                *database_name == "main" && is_table_of_a_family(table_name)
            }
            AuthAction::Function { function_name } => has_name(&ADD_COLUMN_FUNCTIONS, function_name),
            AuthAction::Read { table_name, .. } | AuthAction::Update { table_name, .. } => {
                is_main && *table_name == SCHEMA
            }
            _ => false,
        },
        StatementClass::DropTable => match action {
            AuthAction::Delete { table_name }
            | AuthAction::Read { table_name, .. }
            | AuthAction::Update { table_name, .. } => {
                is_main && (*table_name == SCHEMA || is_table_of_a_family(table_name))
            }
            AuthAction::DropTable { table_name } => is_main && is_table_of_a_family(table_name),
            _ => false,
        },
    };
    (!is_allowed).then(|| described(class, action))
}

fn described(class: StatementClass, action: &AuthAction<'_>) -> String {
    match (class, action) {
        (_, AuthAction::Function { function_name }) => format!("call {function_name}"),
        (StatementClass::Rows, AuthAction::Read { column_name: "", .. }) => {
            "read tables that are no family's".to_owned()
        }
        (StatementClass::Rows, AuthAction::Read { table_name, .. }) => format!("read {table_name}"),
        (
            StatementClass::Rows,
            AuthAction::Insert { table_name }
            | AuthAction::Delete { table_name }
            | AuthAction::Update { table_name, .. },
        ) => format!("change rows of {table_name}"),
        (StatementClass::Rows, _) => "do anything but change rows".to_owned(),
        (StatementClass::CreateTable, _) => "make anything but a plain table family___table".to_owned(),
        (StatementClass::AddColumn, _) => "alter anything but a table family___table, by a plain column".to_owned(),
        (StatementClass::DropTable, _) => "drop anything but a table family___table".to_owned(),
    }
}

fn may_be_counted(name: &str) -> bool {
    let begins = |with: &&str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    !NOT_COUNTED.iter().any(begins)
}

/// Whether a table's SQL name consists of a family's and a table's. Today's rules for names don't
/// apply here, since the Go program has accepted other names.
pub(super) fn is_table_of_a_family(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_plain && name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.contains("___")
}
