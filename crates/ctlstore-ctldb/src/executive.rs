//! The rules of writing: who may write, how much and where, and what a row must look like. They are the
//! same on every ctldb. Entry points: [`Executive::mutate`] for mutations, [`Request`] for everything
//! else. There is no SQL of any server, no HTTP and no actor here.
//!
//! Each rule runs as an operation under the ledger lock, so that several executives may share a ctldb. A
//! mistake of the client is a [`Refusal`], a failure of the ctldb a `CtldbError`.

mod admission;
mod apply;
mod credentials;
mod error;
mod limit_settings;
mod limits;
mod maintenance;
mod mutation;
mod prune;
mod rate_limit;
mod request;
mod tables;
mod writers;

pub use admission::OverWarnSize;
pub use apply::WrittenRequest;
pub use credentials::{Credentials, Secret};
pub use error::{ExecutiveError, Refusal};
pub use limits::MAX_MUTATIONS;
pub use maintenance::{Ping, PruneUsage};
pub use mutation::{Mutation, MutationRequest};
pub use prune::{
    HasOldRows, PruneError, PruneOrder, PruneOutcome, PrunePlan, PruneRefusal, may_be_pruned, plan, prune,
};
pub use rate_limit::{RateLimit, parse_go_duration};
pub use request::{Executive, OperationRequest, Request, RequestAnswer, WriteRules};
// The requests by subject. All public types there are requests and their answers.
pub use limit_settings::*;
pub use tables::*;
pub use writers::*;
