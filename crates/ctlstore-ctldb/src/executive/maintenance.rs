//! The executive's own requests: [`Ping`] checks whether the ctldb takes writes, and [`PruneUsage`] deletes
//! old usage. The node's executive actor decides when they run.

use std::time::Instant;

use crate::ctldb::{Ctldb, CtldbError, CtldbOperation, Session};

use super::error::{ExecutiveError, Refusal};
use super::rate_limit::Buckets;
use super::request::{Executive, Request};

/// The time for which usage is kept, in seconds.
const USAGE_KEPT_SECONDS: i64 = 24 * 60 * 60;

/// Checks whether the ctldb answers and takes writes.
#[derive(Debug)]
pub struct Ping;

impl Request for Ping {
    type Answer = ();

    async fn execute<C: Ctldb>(self, executive: &Executive<C>, deadline: Instant) -> Result<(), ExecutiveError> {
        Ok(executive.ctldb.check_writable(false, deadline).await?)
    }
}

/// Deletes usage that is older than a day.
#[derive(Debug)]
pub struct PruneUsage;

impl Request for PruneUsage {
    type Answer = ();

    async fn execute<C: Ctldb>(self, executive: &Executive<C>, deadline: Instant) -> Result<(), ExecutiveError> {
        executive.write(Prune { buckets: Buckets::of(executive.rules.writer_limit) }, deadline).await
    }
}

struct Prune {
    buckets: Buckets,
}

impl CtldbOperation for Prune {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let now = session.now().await?;
        // The present bucket stays, even if it began earlier than that.
        let before = (now - USAGE_KEPT_SECONDS).min(self.buckets.bucket_at(now));
        session.prune_usage(before).await.map(Ok)
    }
}
