//! Hosts whose LDB is versioned, as real processes: how versions appear and go, what is refused, that readers of every
//! kind go from one to the next without an error, and that no crash shows a part of one.

mod appearing;
mod fixture;
mod killed;
mod reading;
mod sources;
