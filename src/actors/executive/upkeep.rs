//! The executive's own work: getting the ctldb ready and keeping at it while it is
//! away, measuring tables, forgetting old usage, and ending.

use std::time::Instant;

use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::ctldb::Ctldb;
use crate::executive::{ExecutiveError, Ping, PruneUsage, Request};
use crate::messages::status::RoleState;

use super::ExecutiveActor;

impl<C: Ctldb + Unpin> ExecutiveActor<C> {
    /// Makes the ctldb ready, or asks whether it is back; again and again until it is.
    /// Without this a role that is not ready, and so is asked nothing, would stay so.
    pub(super) fn reach_ctldb(&mut self, ctx: &mut Context<Self>) {
        let (rules, prepared) = (self.rules.clone(), self.prepared);
        let deadline = Instant::now() + self.settings.request_timeout;
        let work = async move {
            match prepared {
                true => Ping.execute(&rules, deadline).await,
                false => Ok(rules.ctldb().prepare().await?),
            }
        };
        ctx.spawn(work.into_actor(self).map(|outcome, this, ctx| match outcome {
            Err(ExecutiveError::Ctldb(error)) => {
                this.fails(&error, ctx);
                this.look_for_ctldb(ctx);
            }
            _ => {
                this.works();
                if !std::mem::replace(&mut this.prepared, true) {
                    this.start_upkeep(ctx);
                }
            }
        }));
    }

    /// The ctldb is away: asks for it after a pause.
    pub(super) fn look_for_ctldb(&mut self, ctx: &mut Context<Self>) {
        if self.state == RoleState::Stopping {
            return;
        }
        self.state = RoleState::Retrying;
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        ctx.run_later(self.backoff.next_pause(), |this, ctx| {
            this.looking = false;
            if this.state == RoleState::Retrying {
                this.reach_ctldb(ctx);
            }
        });
    }

    fn start_upkeep(&mut self, ctx: &mut Context<Self>) {
        self.measure_tables(ctx);
        self.prune_usage(ctx);
        ctx.run_interval(self.settings.size_interval, Self::measure_tables);
        ctx.run_interval(self.settings.prune_interval, Self::prune_usage);
    }

    fn measure_tables(&mut self, ctx: &mut Context<Self>) {
        // A ctldb that takes longer than the interval is not asked twice at once.
        if self.measuring {
            return;
        }
        self.measuring = true;
        let ctldb = self.rules.ctldb().clone();
        let work = async move { ctldb.refresh_table_sizes().await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, ctx| {
            this.measuring = false;
            match outcome {
                Ok(()) => this.warned.clear(),
                Err(error) => this.fails(&error, ctx),
            }
        }));
    }

    fn prune_usage(&mut self, ctx: &mut Context<Self>) {
        let (rules, deadline) = (self.rules.clone(), Instant::now() + self.settings.request_timeout);
        let work = async move { PruneUsage.execute(&rules, deadline).await };
        ctx.spawn(work.into_actor(self).map(|outcome, this, ctx| {
            if let Err(ExecutiveError::Ctldb(error)) = outcome {
                this.fails(&error, ctx);
            }
        }));
    }

    /// Ends the actor once it was asked to and nothing is in flight any more.
    pub(super) fn finish_stop(&mut self, ctx: &mut Context<Self>) {
        if self.stopping.is_empty() || !self.idle() {
            return;
        }
        let waiting = std::mem::take(&mut self.stopping);
        let ctldb = self.rules.ctldb().clone();
        let work = async move { ctldb.close().await };
        ctx.spawn(work.into_actor(self).map(|(), _this, ctx| {
            for done in waiting {
                let _ = done.send(());
            }
            ctx.stop();
        }));
    }
}
