//! The reader's own routes under /v1, beside those that the original has: each file
//! has one group. They read through the worker of their thread as all reads do.

mod query;

use actix_web::web::{self, ServiceConfig};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/v1/query").post(query::query));
}
