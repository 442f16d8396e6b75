//! The executive over HTTP: writes and their rules, secrets and limits, on every kind of ctldb. Alone, beside another
//! executive, and killed.

mod crash;
mod http;
mod mixed_fleet;
mod mysql;
mod status;
mod stopped_writer;
mod two_executives;
mod writer_secrets;
mod writes;
