//! HTTP at the node's edge: requests become messages or reader calls, and answers become responses.
//! Each server has its routes in a file or directory of its own: `executive`, `reader`, `ops`. Each
//! route is described where it is listed (`openapi`). `error` maps errors to statuses. The other files
//! are what all servers share, with `serve` as their entry point. Nothing is decided here about data.

pub mod body;
mod connection;
pub mod error;
pub mod executive;
pub mod fast_path;
pub mod instrument;
pub mod json;
pub mod json_error;
pub mod openapi;
pub mod ops;
pub mod reader;
pub mod same_origin;
pub mod serve;
