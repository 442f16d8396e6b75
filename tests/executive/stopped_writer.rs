//! A writer whose limit is 0 is stopped: no time brings its requests through.

use serde_json::json;
use support::http::post;
use support::in_process::{Executive, destructive, row};

#[test]
fn a_writer_with_a_limit_of_0_is_told_so_and_not_to_try_again() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, destructive());
        executive.furnish();
        let limit = |amount: u32| {
            let body = json!({"amount": amount, "period": "1m"}).to_string();
            post(&executive.at("/limits/writers/writer"), body).expect(200);
        };
        limit(0);
        for rows in [vec![row(1, "v")], vec![row(1, "v"), row(2, "v")]] {
            let refused = executive.mutate(&json!({"mutations": rows}));
            assert_eq!(refused.status, 429, "{kind}");
            assert_eq!(refused.header("retry-after"), None, "{kind}");
            assert!(refused.text().contains("is stopped: its limit is 0 rows"), "{kind}: {}", refused.text());
        }
        limit(5);
        executive.mutate(&json!({"mutations": [row(1, "v")]})).expect(200);
    }
}
