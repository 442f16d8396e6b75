//! What a group of requests costs on the way to the server.

use std::sync::Arc;
use std::time::Duration;

use ctlstore::executive::{
    Credentials, Executive, Mutation, MutationRequest, Options, RateLimit, RegisterWriter, Request, Secret,
};
use ctlstore::schema::FamilyName;
use serde_json::value::RawValue;

use super::lost::through_proxy;
use crate::ctldb_support::*;

const WRITERS: usize = 8;
/// One that does not end while the test runs.
const LIMIT: RateLimit = RateLimit { amount: 1_000, period: Duration::from_secs(1 << 40) };

fn credentials(writer: usize) -> Credentials {
    Credentials { writer: self::writer(&format!("writer-{writer}")), secret: Secret::shown(b"secret") }
}

fn request(writer: usize, key: &str) -> Arc<MutationRequest> {
    let family = FamilyName::new("fam").unwrap();
    let json = |text: String| RawValue::from_string(text).unwrap();
    let values = vec![("k".to_owned(), json(format!("\"{key}\""))), ("v".to_owned(), json(writer.to_string()))];
    let mutation = Mutation::new(&family, "tab", false, values).unwrap();
    let cookie = format!("cookie of {writer}").into_bytes();
    Arc::new(MutationRequest::new(credentials(writer), cookie, None, vec![mutation]).unwrap())
}

#[tokio::test]
async fn a_group_of_eight_writers_takes_two_round_trips() {
    on_every_server(async |database| {
        let (ctldb, proxy) = through_proxy(database).await;
        make_table(&ctldb, "fam___tab").await;
        let executive = Executive::new(ctldb, Options { writer_limit: LIMIT, ..Options::default() });
        for writer in 0..WRITERS {
            let Credentials { writer, secret } = credentials(writer);
            RegisterWriter { writer, secret }.execute(&executive, soon()).await.unwrap();
        }
        let group = |key: &'static str| (0..WRITERS).map(move |writer| request(writer, key)).collect::<Vec<_>>();
        // The first one also asks for the table, and for usage that is not there yet.
        executive.mutate(group("a"), soon()).await.unwrap();
        let before = proxy.sent();
        let written = executive.mutate(group("b"), soon()).await.unwrap();
        assert_eq!(proxy.sent() - before, 2);
        let seqs: Vec<i64> = written.into_iter().map(|written| written.unwrap().seq.0).collect();
        assert_eq!(seqs, (seqs[0]..seqs[0] + WRITERS as i64).collect::<Vec<_>>());
        assert_eq!(contiguous_ledger(database).len(), 1 + 2 * WRITERS);
        let stored = database.query("SELECT writer, cookie FROM mutators ORDER BY writer");
        for (writer, row) in stored.iter().enumerate() {
            assert_eq!(row[1].as_deref(), Some(&*format!("cookie of {writer}")));
        }
        assert_eq!(database.value("SELECT SUM(amount) FROM writer_usage").as_deref(), Some("16"));
    })
    .await;
}
