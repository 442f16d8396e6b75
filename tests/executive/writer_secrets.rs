//! Rotating a writer's secret and removing a writer, over HTTP, on every kind of ctldb.

use serde_json::json;

use ctlstore::actors::executive::ExecutiveOptions;
use support::http::{Answer, get, post, request};
use support::in_process::{Executive, row};

fn rotate(executive: &Executive, writer: &str, old: &str, new: &str) -> Answer {
    request("PUT", &executive.at(&format!("/writers/{writer}")), &[("ctlstore-secret", old)], new)
}

fn remove(executive: &Executive, writer: &str, secret: &str) -> Answer {
    request("DELETE", &executive.at(&format!("/writers/{writer}")), &[("ctlstore-secret", secret)], "")
}

fn write(executive: &Executive, secret: &str, id: i64) -> Answer {
    executive.mutate_as("writer", secret, &json!({"mutations": [row(id, "v")], "cookie": "AAE="}))
}

fn cookie(executive: &Executive, secret: &str) -> Answer {
    request("GET", &executive.at("/cookie"), &[("ctlstore-writer", "writer"), ("ctlstore-secret", secret)], "")
}

#[test]
fn after_a_rotation_only_the_new_secret_opens_and_the_cookie_is_kept() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        write(&executive, "secret", 1).expect(200);
        rotate(&executive, "writer", "secret", "another").expect(200);
        assert_eq!(write(&executive, "secret", 2).status, 401, "{kind}");
        assert_eq!(cookie(&executive, "another").expect(200).body, [0, 1], "{kind}");
        write(&executive, "another", 3).expect(200);
        // A repetition, as after a lost answer, succeeds.
        rotate(&executive, "writer", "secret", "another").expect(200);
        post(&executive.at("/writers/writer"), "secret").expect(409);
        post(&executive.at("/writers/writer"), "another").expect(200);
    }
}

#[test]
fn neither_is_done_for_a_wrong_secret_or_an_unknown_writer() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        for (writer, secret) in [("writer", "wrong"), ("writer", ""), ("WRITER", "secret"), ("nobody", "secret")] {
            let refused = rotate(&executive, writer, secret, "another").expect(401);
            assert_eq!(refused.text(), "unknown writer or wrong secret\n", "{kind}");
            remove(&executive, writer, secret).expect(401);
        }
        rotate(&executive, "writer", "secret", "no").expect(400);
        rotate(&executive, "ab", "secret", "another").expect(400);
        write(&executive, "secret", 1).expect(200);
    }
}

#[test]
fn a_removed_writer_is_gone_with_its_limit_and_its_name_is_free() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.furnish();
        let limit = json!({"amount": 5, "period": "1m"}).to_string();
        post(&executive.at("/limits/writers/writer"), limit).expect(200);
        write(&executive, "secret", 1).expect(200);
        remove(&executive, "writer", "secret").expect(200);
        write(&executive, "secret", 2).expect(401);
        remove(&executive, "writer", "secret").expect(401);
        assert_eq!(get(&executive.at("/limits/writers")).expect(200).json()["writers"], json!([]), "{kind}");
        post(&executive.at("/writers/writer"), "new-secret").expect(200);
        write(&executive, "new-secret", 3).expect(200);
        assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").as_deref(), Some("2"), "{kind}");
        // The ledger has nothing of this: only one table and two rows.
        assert_eq!(database.value("SELECT COUNT(*) FROM ctlstore_dml_ledger").as_deref(), Some("3"), "{kind}");
    }
}
