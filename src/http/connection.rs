//! Connections of a server, between the socket and the HTTP library: their states, which one is closed
//! if places run short, and what ends at a stop. Entry points: [`ConnectionPool`], the connections of
//! one worker; [`ConnectionStream`], the bytes of one connection, one request at a time;
//! [`PendingAnswer`], a request until its answer is sent. Routes and data are not known here.

mod addresses;
mod answer;
mod framing;
mod pool;
mod state;
mod stream;

pub use addresses::AddressLimit;
pub use answer::{AnswerBody, AskedByHead, PendingAnswer};
pub use framing::MAX_TARGET;
pub use pool::{ConnectionPool, PoolOptions};
pub use stream::ConnectionStream;
