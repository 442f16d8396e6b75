//! A placeholder for the node: what starts, in which order, and stops.

use crate::config::Settings;

/// Why the node could not start or ended early.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the node is not built in yet")]
    NotThere,
}

/// Plays the roles of `settings` until the process is told to stop.
pub async fn run(settings: Settings) -> Result<(), NodeError> {
    tracing::error!(roles = ?settings.node.roles, "cannot start");
    Err(NodeError::NotThere)
}
