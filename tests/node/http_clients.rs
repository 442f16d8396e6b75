//! HTTP as clients really speak it, on the three servers of a real node: requests that clients of other languages
//! send by default, rare requests that the RFCs allow, and wrong ones.

mod bodies;
mod clients;
mod exchange;
mod framing;
mod open_files;
mod sites;
mod stopping;
mod streams;
