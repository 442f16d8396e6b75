//! The reader's own routes under /v1, beside those that the original has: each file
//! has one group. They read through the worker of their thread as all reads do.

use actix_web::web::ServiceConfig;

pub(super) fn routes(_config: &mut ServiceConfig) {}
