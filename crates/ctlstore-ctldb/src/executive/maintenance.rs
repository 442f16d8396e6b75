//! Upkeep, and the question whether the ctldb answers and takes writes.

use std::time::Instant;

use crate::ctldb::{Ctldb, CtldbError, Operation, Session};

use super::error::{ExecutiveError, Refusal};
use super::rate_limit::Buckets;
use super::{Executive, Request};

/// How long usage is kept, in seconds.
const USAGE_KEPT_SECONDS: i64 = 24 * 60 * 60;

/// Asks the ctldb whether it answers and takes writes.
#[derive(Debug)]
pub struct Ping;

impl Request for Ping {
    type Answer = ();

    async fn execute<C: Ctldb>(self, executive: &Executive<C>, deadline: Instant) -> Result<(), ExecutiveError> {
        Ok(executive.ctldb.check_writable(false, deadline).await?)
    }
}

/// Forgets usage that is older than a day.
#[derive(Debug)]
pub struct PruneUsage;

impl Request for PruneUsage {
    type Answer = ();

    async fn execute<C: Ctldb>(self, executive: &Executive<C>, deadline: Instant) -> Result<(), ExecutiveError> {
        executive.write(Prune { buckets: Buckets::of(executive.options.writer_limit) }, deadline).await
    }
}

struct Prune {
    buckets: Buckets,
}

impl Operation for Prune {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let now = session.now().await?;
        // The bucket that is being counted in stays, however long ago it began.
        let before = (now - USAGE_KEPT_SECONDS).min(self.buckets.bucket_at(now));
        session.prune_usage(before).await.map(Ok)
    }
}
