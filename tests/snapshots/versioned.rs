//! Hosts with a versioned LDB, as real processes: how versions appear and go, and what is refused. Readers of
//! every kind go from one version to the next without an error, and no crash shows a part of one.

mod appearing;
mod fixture;
mod killed;
mod reading;
mod sources;
