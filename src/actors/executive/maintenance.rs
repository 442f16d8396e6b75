//! The executive's own work: getting the ctldb ready and keeping at it while it is
//! away, measuring tables, forgetting old usage, keeping the ledger short, and ending.

use std::time::{Duration, Instant};

use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::actors::task::Task;
use crate::messages::status::RoleState;
use ctlstore_ctldb::executive::{ExecutiveError, PruneUsage, Request};
use ctlstore_ctldb::{Ctldb, CtldbError};

use super::ExecutiveActor;

/// How often a ctldb that was away is asked whether it is back. Whoever is told by
/// `/readyz` to send no requests would never find out.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often a ctldb to which nothing was written meanwhile is asked whether it takes writes.
const WRITABLE_INTERVAL: Duration = Duration::from_secs(5);

impl<C: Ctldb + Unpin> ExecutiveActor<C> {
    /// Makes the ctldb ready, again and again until it is.
    pub(super) fn prepare(&mut self, ctx: &mut Context<Self>) {
        let ctldb = self.rules.ctldb().clone();
        let work = async move { ctldb.prepare().await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, ctx| match outcome {
            Ok(()) => {
                this.prepared = true;
                this.record_success();
                this.start_upkeep(ctx);
            }
            Err(error) => {
                this.record_failure(&error);
                this.retries();
                let pause = this.backoff.next_pause();
                ctx.run_later(pause, Self::prepare);
            }
        }));
    }

    fn start_upkeep(&mut self, ctx: &mut Context<Self>) {
        self.measure_tables(ctx);
        self.prune_usage(ctx);
        ctx.run_interval(self.settings.size_interval, Self::measure_tables);
        ctx.run_interval(self.settings.prune_interval, Self::prune_usage);
        ctx.run_interval(LOOK_INTERVAL, Self::check_writable);
        self.retention.start(self.rules.ctldb().clone());
    }

    /// Whether the ctldb is back, and takes writes.
    fn check_writable(&mut self, ctx: &mut Context<Self>) {
        let was_away = self.state == RoleState::Retrying;
        let is_known = self.committing > 0 || self.writable_at.is_some_and(|at| at.elapsed() < WRITABLE_INTERVAL);
        if self.looking || !was_away && is_known {
            return;
        }
        self.looking = true;
        let (ctldb, deadline) = (self.rules.ctldb().clone(), Instant::now() + self.settings.request_timeout);
        let work = async move { ctldb.check_writable(was_away, deadline).await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, _ctx| {
            this.looking = false;
            match outcome {
                Ok(()) => {
                    this.writable_at = Some(Instant::now());
                    this.record_success();
                }
                // Somebody has a lock for a while, which says nothing of writes.
                Err(CtldbError::Contention(_)) => {}
                // Whatever else is wrong, nothing can be written.
                Err(CtldbError::Schema(reason) | CtldbError::Failed(reason)) => {
                    this.record_failure(&CtldbError::NotWritable(reason));
                }
                Err(error) => this.record_failure(&error),
            }
        }));
    }

    fn measure_tables(&mut self, ctx: &mut Context<Self>) {
        // A ctldb that takes longer than the interval is not asked twice at once.
        if self.measuring {
            return;
        }
        self.measuring = true;
        let ctldb = self.rules.ctldb().clone();
        let work = async move { ctldb.refresh_table_sizes().await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, _ctx| {
            this.measuring = false;
            match outcome {
                Ok(()) => this.warned.clear(),
                Err(error) => this.record_failure(&error),
            }
        }));
    }

    fn prune_usage(&mut self, ctx: &mut Context<Self>) {
        let (rules, deadline) = (self.rules.clone(), Instant::now() + self.settings.request_timeout);
        let work = async move { PruneUsage.execute(&rules, deadline).await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, _ctx| {
            if let Err(ExecutiveError::Ctldb(error)) = outcome {
                this.record_failure(&error);
            }
        }));
    }

    /// Ends the actor once it was asked to and nothing is in flight any more.
    pub(super) fn finish_stop(&mut self, ctx: &mut Context<Self>) {
        if self.stopping.is_empty() || !self.idle() {
            return;
        }
        let waiting = std::mem::take(&mut self.stopping);
        let (ctldb, retention) = (self.rules.ctldb().clone(), self.retention.take_task());
        let work = async move {
            Task::stop(retention).await;
            ctldb.close().await;
        };
        ctx.spawn(work.into_actor(self).map(|(), _this, ctx| {
            for done in waiting {
                let _ = done.send(());
            }
            ctx.stop();
        }));
    }
}
