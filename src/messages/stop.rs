//! How a role is asked to end.

use actix::Message;

/// Asks an actor to take no new work, to finish what is in flight, to close what
/// it holds and then to stop. The answer comes when all of that is done; who asks
/// sets the deadline.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Stop;
