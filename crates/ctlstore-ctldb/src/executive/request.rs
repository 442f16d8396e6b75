//! [`Executive`]: the rules of writing over one ctldb, and how a [`Request`] runs under them. Mutations are
//! no `Request`: they are grouped (`Executive::mutate` in `apply.rs`).
//!
//! To add a request, write its type and its [`CtldbOperation`] in `tables.rs`, `writers.rs` or
//! `limit_settings.rs`, and implement [`OperationRequest`] for it. A request of several transactions
//! implements [`Request`] itself. No other file of this crate names the type.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ctldb::{Ctldb, CtldbOperation, TableLimit};
use ctlstore_core::ledger::Seq;

use super::error::{ExecutiveError, Refusal};
use super::rate_limit::RateLimit;

/// The rules that an operator can change.
#[derive(Debug, Clone)]
pub struct WriteRules {
    /// Whether tables may be dropped and cleared.
    pub destructive_schema_changes: bool,
    /// The limit of writers without a limit of their own.
    pub writer_limit: RateLimit,
    /// The limit of tables without a limit of their own.
    pub table_limit: TableLimit,
}

impl Default for WriteRules {
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
    pub(super) ctldb: C,
    pub(super) rules: Arc<WriteRules>,
}

impl<C: Ctldb> Executive<C> {
    pub fn new(ctldb: C, rules: WriteRules) -> Self {
        Self { ctldb, rules: Arc::new(rules) }
    }

    pub fn ctldb(&self) -> &C {
        &self.ctldb
    }

    /// Runs an operation that may refuse its input, under the ledger lock.
    pub(super) async fn write<T, O>(&self, operation: O, deadline: Instant) -> Result<T, ExecutiveError>
    where
        T: Send + 'static,
        O: CtldbOperation<Output = Result<T, Refusal>>,
    {
        Ok(self.ctldb.write(operation, deadline).await??)
    }

    /// Runs an operation that may refuse its input and only reads.
    pub(super) async fn read<T, O>(&self, operation: O, deadline: Instant) -> Result<T, ExecutiveError>
    where
        T: Send + 'static,
        O: CtldbOperation<Output = Result<T, Refusal>>,
    {
        Ok(self.ctldb.read(operation, deadline).await??)
    }

    pub(super) fn check_destructive(&self) -> Result<(), Refusal> {
        if self.rules.destructive_schema_changes { Ok(()) } else { Err(Refusal::DestructiveChangesOff) }
    }
}

/// A request other than mutations. It has the ctldb for itself.
#[allow(async_fn_in_trait)] // run on the executive's own thread
pub trait Request: Send + 'static {
    type Answer: RequestAnswer;
    /// Whether the request is useless on a ctldb that takes no writes.
    const IS_WRITE: bool = true;

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<Self::Answer, ExecutiveError>;
}

/// The answer to a [`Request`].
pub trait RequestAnswer: Send + 'static {
    /// The last seq that the request wrote, if it wrote to the ledger.
    fn ledger_seq(&self) -> Option<Seq> {
        None
    }
}

impl RequestAnswer for () {}

/// The answer of requests that write to the ledger.
impl RequestAnswer for Option<Seq> {
    fn ledger_seq(&self) -> Option<Seq> {
        *self
    }
}

/// A request that is one operation, with the operation's answer.
pub trait OperationRequest: CtldbOperation<Output = Result<Self::Reply, Refusal>> {
    type Reply: RequestAnswer;
    /// Whether it writes, so that it needs the ledger lock.
    const WRITES: bool = true;
    /// Whether it deletes data for good, so that the rules must allow it.
    const IS_DESTRUCTIVE: bool = false;
}

impl<T: OperationRequest> Request for T {
    type Answer = T::Reply;
    const IS_WRITE: bool = T::WRITES;

    async fn execute<C: Ctldb>(self, executive: &Executive<C>, deadline: Instant) -> Result<T::Reply, ExecutiveError> {
        if T::IS_DESTRUCTIVE {
            executive.check_destructive()?;
        }
        if T::WRITES { executive.write(self, deadline).await } else { executive.read(self, deadline).await }
    }
}
