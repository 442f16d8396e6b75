//! A node held against what is written about it: the exchanges recorded from the original, the OpenAPI documents, the
//! compose example, and values on their way from the executive to every reader and back.

mod compose;
mod executive;
mod openapi;
mod reader;
mod round_trip;
