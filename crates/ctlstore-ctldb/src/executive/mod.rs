//! The rules of writing: who may write, how much, where, and what a row must look
//! like, the same on every ctldb. Each rule runs as an [`Operation`] under the
//! ledger lock, so that several executives on one ctldb stay right.
//!
//! No SQL of any server, no HTTP and no actor here. What a client did wrong is a
//! [`Refusal`]; what the ctldb could not do is a `CtldbError`.

mod admission;
mod apply;
mod credentials;
mod error;
mod limit_settings;
mod maintenance;
mod mutation;
mod prune;
mod rate_limit;
mod schema_change;
mod schema_read;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use admission::OverWarnSize;
pub use apply::Written;
pub use credentials::{Credentials, Secret};
pub use error::{ExecutiveError, Refusal};
pub use limit_settings::{
    DeleteTableLimit, DeleteWriterLimit, ListTableLimits, ListWriterLimits, NamedTableLimit, NamedWriterLimit,
    SetTableLimit, SetWriterLimit, TableLimits, WriterLimits,
};
pub use maintenance::{Ping, PruneUsage};
pub use mutation::{MAX_MUTATIONS, Mutation, MutationRequest};
pub use prune::{
    HasOldRows, PruneError, PruneOrder, PruneOutcome, PrunePlan, PruneRefusal, may_be_pruned, plan, prune,
};
pub use rate_limit::{RateLimit, parse_go_duration};
pub use schema_change::{AddFields, ClearFamily, ClearTable, CreateFamily, CreateTables, DropTable};
pub use schema_read::{ReadFamily, ReadTable};
pub use writers::{ReadCookie, RegisterWriter, RemoveWriter, RotateSecret, SetCookie};

use crate::ctldb::{Ctldb, CtldbError, Operation, TableLimit};
use ctlstore_core::ledger::Seq;

/// What the rules can be told from outside.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether tables may be dropped and cleared.
    pub destructive_schema_changes: bool,
    /// For writers without a limit of their own.
    pub writer_limit: RateLimit,
    /// For tables without a limit of their own.
    pub table_limit: TableLimit,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            destructive_schema_changes: false,
            writer_limit: RateLimit { amount: 1000, period: Duration::from_secs(60) },
            table_limit: TableLimit { warn_bytes: 50 * 1024 * 1024, max_bytes: 100 * 1024 * 1024 },
        }
    }
}

/// The rules over one ctldb. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Executive<C> {
    ctldb: C,
    options: Arc<Options>,
}

/// A request that stands alone: everything but mutations, which are grouped
/// ([`Executive::mutate`]).
#[allow(async_fn_in_trait)] // run on the executive's own thread
pub trait Request: Send + 'static {
    type Answer: Send + 'static;
    /// Whether it is any use on a ctldb that takes no writes.
    const IS_WRITE: bool = true;

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Self::Answer, ExecutiveError>;

    /// The last seq that the request wrote, where it writes the ledger.
    fn ledger_seq(_answer: &Self::Answer) -> Option<Seq> {
        None
    }
}

/// A request that is one operation, whose answer is the operation's own.
pub trait Single: Operation<Output = Result<Self::Reply, Refusal>> {
    type Reply: Send + 'static;
    /// Whether it needs the ledger lock.
    const WRITES: bool;
}

impl<T: Single> Request for T {
    type Answer = T::Reply;
    const IS_WRITE: bool = T::WRITES;

    async fn execute<C: Ctldb>(self, executive: &Executive<C>, deadline: Instant) -> Result<T::Reply, ExecutiveError> {
        if T::WRITES { executive.write(self, deadline).await } else { executive.read(self, deadline).await }
    }
}

impl<C: Ctldb> Executive<C> {
    pub fn new(ctldb: C, options: Options) -> Self {
        Self { ctldb, options: Arc::new(options) }
    }

    pub fn ctldb(&self) -> &C {
        &self.ctldb
    }

    /// Commits the requests together, in order, and answers each by itself: what is
    /// refused leaves nothing behind and does not touch the others. An error is one
    /// for all of them.
    pub async fn mutate(
        &self,
        requests: Vec<Arc<MutationRequest>>,
        deadline: Instant,
    ) -> Result<Vec<Result<Written, Refusal>>, CtldbError> {
        let group = |requests, step_by_step| apply::MutationGroup {
            requests,
            options: Arc::clone(&self.options),
            step_by_step,
        };
        match self.ctldb.write(group(requests.clone(), false), deadline).await {
            // Of some request, nobody knows which: nothing is written, so it is done again.
            Err(CtldbError::Refused(_)) => self.ctldb.write(group(requests, true), deadline).await,
            outcome => outcome,
        }
    }

    /// Runs an operation that may refuse its input, under the ledger lock.
    async fn write<T, O>(&self, operation: O, deadline: Instant) -> Result<T, ExecutiveError>
    where
        T: Send + 'static,
        O: Operation<Output = Result<T, Refusal>>,
    {
        Ok(self.ctldb.write(operation, deadline).await??)
    }

    /// Runs an operation that may refuse its input and only reads.
    async fn read<T, O>(&self, operation: O, deadline: Instant) -> Result<T, ExecutiveError>
    where
        T: Send + 'static,
        O: Operation<Output = Result<T, Refusal>>,
    {
        Ok(self.ctldb.read(operation, deadline).await??)
    }
}
