//! Snapshots: how they are taken, checked and published, to every kind of store; and hosts that start from them.

mod bootstrap;
mod crash;
mod digest;
mod fetch;
mod load;
mod mixed;
mod publish;
mod refusals;
mod shared_copy;
mod snapshotter_actor;
mod stores;
mod take;
mod troubles;
mod versioned;
