//! Every command of the binary, run as a user runs it: in a pipe, against real nodes and files. If a terminal makes a
//! difference, it runs in one too.

mod about;
mod ctldb;
mod doctor;
mod fixture;
mod help_and_exit_codes;
mod many;
mod mistakes;
mod node;
mod one_row;
mod original;
mod schema;
mod signals;
mod snapshot;
mod tables;
mod terminal;
mod transfer;
mod watch;
mod writers;
