//! The applier's answer to a report that the LDB is damaged: it starts an integrity check, and
//! records whether the LDB was given up. Entry point: the handler of [`InspectLdb`].

use actix::prelude::*;

use crate::actors::failures::kind_of_ldb;
use crate::messages::ledger::{ApplyFailed, HasLdb, InspectLdb};
use crate::metrics::ErrorKind;
use ctlstore_ldb::{IntegrityVerdict, LdbError};

use super::Applier;
use super::thread::Job;
use super::work::Work;

impl Applier {
    /// Records that the LDB is damaged, or that it could not be checked.
    pub(super) fn record_corruption(&mut self, work: Work, error: &LdbError) -> ApplyFailed {
        // The writer thread closes a damaged LDB in the same case.
        self.is_given_up |= error.is_corrupt() && self.record.is_some();
        self.record_failure(work, kind_of_ldb(error), error)
    }
}

impl Handler<InspectLdb> for Applier {
    type Result = ResponseActFuture<Self, Result<IntegrityVerdict, ApplyFailed>>;

    fn handle(&mut self, _: InspectLdb, _: &mut Self::Context) -> Self::Result {
        if std::mem::replace(&mut self.is_looking, true) {
            let message = "the ldb is being looked at already".to_owned();
            return Box::pin(fut::err(ApplyFailed { kind: ErrorKind::Contention, message }));
        }
        let abort = self.abort.clone();
        let outcome = self.ask(|reply| Job::Inspect(Box::new(move || abort.is_aborted()), reply));
        Box::pin(outcome.into_actor(self).map(|outcome, this, _| {
            this.is_looking = false;
            let verdict = outcome?.map_err(|error| this.record_corruption(Work::Inspect, &error))?;
            this.record_success(Work::Inspect);
            Ok(verdict)
        }))
    }
}

impl Handler<HasLdb> for Applier {
    type Result = bool;

    fn handle(&mut self, _: HasLdb, _: &mut Self::Context) -> bool {
        !self.is_given_up
    }
}
