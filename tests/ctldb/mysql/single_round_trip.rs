//! Groups that go to the server as one batch, because they assume the state that the last commit left. A change by
//! another executive is noticed (changes by hand: `external_changes`). If a statement of the batch fails, nothing of it
//! is written, and no other request gets the blame.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ctlstore_core::schema::{FamilyName, FieldType};
use ctlstore_ctldb::executive::{
    Credentials, Executive, Mutation, MutationRequest, RateLimit, Refusal, RegisterWriter, Request, Secret, WriteRules,
    WrittenRequest,
};
use ctlstore_ctldb::{Ctldb, CtldbError, SchemaChange};
use mysql_async::prelude::Queryable;
use serde_json::value::RawValue;

use super::lost::through_proxy;
use support::ctldb::proxy::{Cut, Proxy};
use support::ctldb::*;
use support::{Flavour, PrivateServer, TestDatabase, wait_until};

/// A period that does not end while the test runs.
const LIMIT: RateLimit = RateLimit { amount: 1_000, period: Duration::from_secs(1 << 40) };

fn credentials(writer: usize) -> Credentials {
    Credentials { writer: self::writer(&format!("writer-{writer}")), secret: Secret::shown(b"secret") }
}

/// A write of a writer's own row.
#[derive(Clone)]
pub struct Put {
    pub writer: usize,
    pub value: i64,
    pub check: Option<String>,
}

impl Put {
    fn request(&self) -> Arc<MutationRequest> {
        self.request_of(self.writer)
    }

    /// As [`Put::request`], but the writer `by` sends it.
    fn request_of(&self, by: usize) -> Arc<MutationRequest> {
        let family = FamilyName::new("fam").unwrap();
        let json = |text: String| RawValue::from_string(text).unwrap();
        let Self { writer, value, check } = self;
        let values = vec![("k".to_owned(), json(format!("\"{writer}\""))), ("v".to_owned(), json(value.to_string()))];
        let mutation = Mutation::new(&family, "tab", false, values).unwrap();
        let cookie = format!("cookie of {by} with {value}").into_bytes();
        let check = check.as_ref().map(|cookie| cookie.clone().into_bytes());
        Arc::new(MutationRequest::new(credentials(by), cookie, check, vec![mutation]).unwrap())
    }
}

/// One request of each writer.
pub fn group(writers: usize, value: i64) -> Vec<Put> {
    (0..writers).map(|writer| Put { writer, value, check: None }).collect()
}

/// An executive, a table, and writers that write to it together.
pub struct Writers<C> {
    pub executive: Executive<C>,
}

impl<C: Ctldb> Writers<C> {
    /// Makes the table and the writers.
    pub async fn new(ctldb: C, database: &TestDatabase, writers: usize) -> Self {
        make_table(&ctldb, "fam___tab").await;
        let this = Self::join(ctldb);
        for writer in 0..writers {
            let Credentials { writer, secret } = credentials(writer);
            RegisterWriter { writer, secret }.execute(&this.executive, soon()).await.unwrap();
        }
        assert_eq!(database.value("SELECT COUNT(*) FROM mutators").unwrap(), writers.to_string());
        this
    }

    /// The same with another executive.
    fn join(ctldb: C) -> Self {
        Self { executive: Executive::new(ctldb, WriteRules { writer_limit: LIMIT, ..WriteRules::default() }) }
    }

    pub async fn try_write(&self, group: &[Put]) -> Result<Vec<Result<WrittenRequest, Refusal>>, CtldbError> {
        self.executive.mutate(group.iter().map(Put::request).collect(), soon()).await
    }

    /// Writes the group and returns each request's seq.
    pub async fn write(&self, group: &[Put]) -> Vec<i64> {
        let written = self.try_write(group).await.unwrap();
        written.into_iter().map(|written| written.unwrap().seq.0).collect()
    }

    /// Writes until a group goes as one batch. Returns the value that it wrote.
    pub async fn settle(&self, writers: usize, proxy: &Proxy) -> i64 {
        let end = soon();
        for value in 1.. {
            let before = proxy.sent();
            self.write(&group(writers, value)).await;
            if proxy.sent() - before == 1 {
                return value;
            }
            assert!(Instant::now() < end, "no group goes as one text");
        }
        unreachable!("there is no last number")
    }
}

/// Two writers whose next group goes as one batch, the proxy to the server, and the last value that they wrote.
pub async fn settled(database: &TestDatabase) -> (Writers<impl Ctldb + use<>>, Proxy, i64) {
    let (ctldb, proxy) = through_proxy(database).await;
    let writers = Writers::new(ctldb, database, 2).await;
    writers.executive.ctldb().refresh_table_sizes().await.unwrap();
    let last = writers.settle(2, &proxy).await;
    (writers, proxy, last)
}

/// The values in the rows of the two writers.
pub fn stored(database: &TestDatabase) -> [i64; 2] {
    [0, 1].map(|k| database.value(&format!("SELECT v FROM fam___tab WHERE k = '{k}'")).unwrap().parse().unwrap())
}

/// Whether cookies, usage and ledger show `commits` groups of two rows, the last of which wrote `value`.
fn check_all(database: &TestDatabase, commits: i64, value: i64) {
    assert_eq!(stored(database), [value; 2]);
    assert_eq!(contiguous_ledger(database).len() as i64, 1 + 2 * commits);
    assert_eq!(database.value("SELECT SUM(amount) FROM writer_usage").unwrap(), (2 * commits).to_string());
    for writer in 0..2 {
        let cookie = database.value(&format!("SELECT cookie FROM mutators WHERE writer = 'writer-{writer}'"));
        assert_eq!(cookie.unwrap(), format!("cookie of {writer} with {value}"));
    }
}

#[tokio::test]
async fn ledger_rows_have_the_time_after_the_lock_was_had() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        let mut other = stranger(database).await;
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop("SELECT clock FROM locks WHERE id = 'ledger' FOR UPDATE").await.unwrap();
        let released = once_it_runs(database, "UPDATE locks%", async move {
            let now = other.query_first::<String, _>("SELECT CAST(NOW(6) AS CHAR)").await.unwrap().unwrap();
            other.query_drop("ROLLBACK").await.unwrap();
            now
        });
        writers.write(&group(2, last + 1)).await;
        let released = released.join().unwrap();
        let earlier = format!(
            "SELECT COUNT(*) FROM ctlstore_dml_ledger WHERE seq > {} AND leader_ts < '{released}'",
            1 + 2 * last
        );
        assert_eq!(database.value(&earlier).unwrap(), "0", "rows from before the lock was released");
        assert_eq!(writers.executive.ctldb().counters().contention_retries, 0);
        check_all(database, last + 1, last + 1);
    })
    .await;
}

#[tokio::test]
async fn executives_in_turn_see_what_the_other_one_left() {
    on_every_server(async |database| {
        let (writers, _proxy, mut last) = settled(database).await;
        let commits = last;
        let other = Writers::join(prepared(database).await);
        let checked = |last: i64, from: i64| {
            let mut puts = group(2, last + 1);
            for put in &mut puts {
                put.check = Some(format!("cookie of {} with {from}", put.writer));
            }
            puts
        };
        for turn in [1, 3, 1, 2, 4, 1] {
            for _ in 0..turn {
                writers.write(&checked(last, last)).await;
                last += 1;
            }
            let stale = other.try_write(&checked(last, last - 1)).await.unwrap();
            assert!(stale.iter().all(|outcome| matches!(outcome, Err(Refusal::CookieMismatch))));
            other.write(&checked(last, last)).await;
            last += 1;
            let stale = writers.try_write(&checked(last, last - 1)).await.unwrap();
            assert!(stale.iter().all(|outcome| matches!(outcome, Err(Refusal::CookieMismatch))));
        }
        assert_eq!(last, commits + 18);
        check_all(database, last, last);
    })
    .await;
}

#[tokio::test]
async fn a_row_that_the_server_refuses_costs_only_its_own_request() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        // The executive is not told: only the server knows that the column is narrow now.
        database.query("ALTER TABLE fam___tab MODIFY v SMALLINT");
        let mut expected = [last; 2];
        // First as one batch, then with the lock taken first. The last statement before the commit is refused, too.
        for (value, refused) in [(last + 1, 0), (last + 2, 0), (last + 3, 1)] {
            let (mut puts, other) = (group(2, value), 1 - refused);
            puts[refused].value = 70_000;
            expected[other] = value;
            let before = contiguous_ledger(database).len();
            let outcomes = writers.try_write(&puts).await.unwrap();
            assert!(matches!(outcomes[refused], Err(Refusal::ByCtldb(_))), "{:?}", outcomes[refused]);
            assert_eq!(outcomes[other].as_ref().unwrap().seq.0, before as i64 + 1);
            assert_eq!(stored(database), expected);
            assert_eq!(contiguous_ledger(database).len(), before + 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_commit_lost_with_all_that_it_commits_is_found_or_done_again() {
    for cut in [Cut::AfterCommit, Cut::BeforeCommit] {
        on_every_server(async |database| {
            let (writers, proxy, last) = settled(database).await;
            proxy.cut(cut);
            writers.write(&group(2, last + 1)).await;
            assert!(proxy.has_cut());
            assert_eq!(writers.executive.ctldb().counters().lost_commits, 1);
            check_all(database, last + 1, last + 1);
            writers.write(&group(2, last + 2)).await;
            check_all(database, last + 2, last + 2);
        })
        .await;
    }
}

#[tokio::test]
async fn what_another_executive_wrote_does_not_prove_a_commit_that_was_lost() {
    on_every_server(async |database| {
        let (writers, proxy, last) = settled(database).await;
        let other = Writers::join(prepared(database).await);
        let ours = Put { writer: 0, value: last + 1, check: None };
        // The same row at the same seq, by another client.
        let theirs = Put { writer: 0, value: last + 1, check: None }.request_of(1);
        proxy.cut(Cut::HeldBack);
        let meanwhile = async {
            while !proxy.is_holding() {
                tokio::task::yield_now().await;
            }
            let written = other.executive.mutate(vec![theirs], soon()).await.unwrap();
            proxy.cut(Cut::BeforeCommit);
            written.into_iter().all(|written| written.is_ok())
        };
        let group = [ours];
        let (outcome, is_written) = tokio::join!(writers.try_write(&group), meanwhile);
        assert!(is_written);
        assert!(matches!(outcome, Err(CtldbError::OutcomeUnknown(_))), "{outcome:?}");
        let cookie = database.value("SELECT cookie FROM mutators WHERE writer = 'writer-0'").unwrap();
        assert_eq!(cookie, format!("cookie of 0 with {last}"));
    })
    .await;
}

/// Waits until a connection to this database runs a statement like this.
fn wait_for_statement(url: &str, like: &str) {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{like}' AND db = DATABASE() \
         AND id <> CONNECTION_ID()"
    );
    wait_until("the statement runs", Duration::from_secs(30), || {
        support::sql::query(url, &sql).unwrap() != [[Some("0".to_owned())]]
    });
}

/// Runs `then` once a statement like this runs. It has a thread of its own, because the wait blocks.
pub fn once_it_runs<T: Send + 'static>(
    database: &TestDatabase,
    like: &'static str,
    then: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let url = database.url.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        wait_for_statement(&url, like);
        runtime.block_on(then)
    })
}

#[tokio::test]
async fn a_lock_waited_for_too_long_within_the_text_starts_the_group_again() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        let mut other = stranger(database).await;
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop("UPDATE mutators SET clock = clock WHERE writer = 'writer-1'").await.unwrap();
        other.query_drop("SELECT * FROM mutators FOR UPDATE").await.unwrap();
        let puts = group(2, last + 1);
        let give_up = async {
            let end = soon();
            while writers.executive.ctldb().counters().contention_retries == 0 {
                assert!(Instant::now() < end, "the server did not give up waiting");
                tokio::task::yield_now().await;
            }
            other.query_drop("COMMIT").await.unwrap();
        };
        let (outcomes, ()) = tokio::join!(writers.try_write(&puts), give_up);
        assert!(outcomes.unwrap().iter().all(|outcome| outcome.is_ok()));
        check_all(database, last + 1, last + 1);
    })
    .await;
}

#[tokio::test]
async fn a_deadlock_within_the_text_starts_the_group_again() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        let mut other = stranger(database).await;
        // The transaction that has written less is the deadlock's victim: ours.
        let many: Vec<String> = (0..500).map(|i| format!("('other{i}', 60, 0)")).collect();
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop(format!("INSERT INTO writer_usage VALUES {}", many.join(","))).await.unwrap();
        other.query_drop("SELECT * FROM mutators FOR UPDATE").await.unwrap();
        let theirs = once_it_runs(database, "UPDATE mutators%", async move {
            other.query_drop("UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'").await.unwrap();
            other.query_drop("COMMIT").await.unwrap();
        });
        writers.write(&group(2, last + 1)).await;
        theirs.join().unwrap();
        assert_eq!(writers.executive.ctldb().counters().contention_retries, 1, "the deadlock did not happen");
        check_all(database, last + 1, last + 1);
    })
    .await;
}

#[tokio::test]
async fn a_text_larger_than_the_server_takes_costs_only_the_request_that_made_it_so() {
    let server = PrivateServer::start_with(Flavour::MariaDb, &["--max-allowed-packet=65536"]);
    server.execute("CREATE DATABASE test");
    let ctldb = prepared_at(&server.url("test")).await;
    let fields = [("k", FieldType::String), ("v", FieldType::Text)];
    let schema = table("fam___tab", &fields, &["k"]);
    write(&ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema))]).await;
    let writers = Writers::join(ctldb);
    for writer in 0..3 {
        let Credentials { writer, secret } = credentials(writer);
        RegisterWriter { writer, secret }.execute(&writers.executive, soon()).await.unwrap();
    }
    let request = |writer: usize, bytes: usize| {
        let family = FamilyName::new("fam").unwrap();
        let json = |text: String| RawValue::from_string(format!("\"{text}\"")).unwrap();
        let values = vec![("k".to_owned(), json(writer.to_string())), ("v".to_owned(), json("x".repeat(bytes)))];
        let mutation = Mutation::new(&family, "tab", false, values).unwrap();
        Arc::new(MutationRequest::new(credentials(writer), vec![], None, vec![mutation]).unwrap())
    };
    for round in 1..=4 {
        // Each fits into one batch, all three together need several.
        let fits = [10_000, 11_000, 12_000];
        let requests = fits.iter().enumerate().map(|(writer, bytes)| request(writer, *bytes));
        let written = writers.executive.mutate(requests.collect(), soon()).await.unwrap();
        assert!(written.iter().all(|outcome| outcome.is_ok()), "{written:?}");
        let requests = [200, 100_000, 300].iter().enumerate().map(|(writer, bytes)| request(writer, *bytes));
        let outcomes = writers.executive.mutate(requests.collect(), soon()).await.unwrap();
        assert!(matches!(outcomes[1], Err(Refusal::ByCtldb(_))), "{:?}", outcomes[1]);
        let seqs = [0, 2].map(|i| outcomes[i].as_ref().unwrap().seq.0);
        assert_eq!(seqs, [5 * round, 5 * round + 1]);
        let stored = server.execute("SELECT LENGTH(v) FROM test.fam___tab ORDER BY k");
        assert_eq!(stored, ["200", "11000", "300"].map(|length| [Some(length.to_owned())]));
    }
}
