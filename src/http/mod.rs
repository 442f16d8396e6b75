//! HTTP at the node's edge: requests become messages or reader calls, answers
//! become responses. Nothing is decided here about data. One file maps errors to
//! statuses (`error`); what all servers share is in `serve`, `connection`,
//! `instrument`, `same_origin`, `body`, `json` and `fast_path`, and each server has its routes in a file of its own, described
//! where they are listed (`openapi`).

pub mod body;
mod connection;
pub mod error;
pub mod executive;
pub mod fast_path;
pub mod instrument;
pub mod json;
pub mod openapi;
pub mod ops;
pub mod reader;
pub mod same_origin;
pub mod serve;
