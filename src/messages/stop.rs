//! The message that ends an actor.

use actix::Message;

/// Asks an actor to take no new work, to finish its work in progress, to close its files and connections,
/// and then to stop. The answer comes when all of that is done. The sender sets the deadline.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Stop;
