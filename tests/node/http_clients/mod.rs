//! HTTP as clients really speak it, on the three servers of a real node: what clients of other languages send by
//! default, what stands in the RFCs and few send, and what nobody should.

mod bodies;
mod clients;
mod exchange;
mod framing;
mod open_files;
mod sites;
mod stopping;
mod streams;
