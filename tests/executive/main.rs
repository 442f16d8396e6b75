//! The executive: writes and their rules, secrets and limits over HTTP, on every kind of ctldb, alone and beside others,
//! also when it is killed.

mod crash;
mod http;
mod mysql;
mod status;
mod two_executives;
mod writer_secrets;
mod writes;
