//! Every command of the binary, run as a user runs it: in a pipe, against real nodes and files, and in a terminal
//! where that makes a difference.

#[path = "../support/mod.rs"]
mod support;

mod about;
mod ctldb;
mod doctor;
mod many;
mod mistakes;
mod node;
mod one_row;
mod schema;
mod signals;
mod snapshot;
mod stage;
mod tables;
mod terminal;
mod transfer;
mod watch;
mod writers;
