//! Examines a MySQL ctldb: what its server and its user lack. Entry point: [`examine`]. It only reads.

use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts};

use ctlstore_core::schema::Timestamp;
use ctlstore_ctldb::ServerAddress;

use super::super::output::printable;
use super::diagnosis::Diagnosis;
use super::grants;

const URL_MEND: &str = "ctldb.url = mysql://user@host:port/database of a server that runs and can be reached from here";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(15);

const READS: &[&str] = &["SELECT"];
const WRITES: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER"];
const DROPS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP"];

/// A statement of the ledger has up to 768 KiB, and twice as many bytes as hex.
const MIN_PACKET: u64 = 4 * 1024 * 1024;
/// How much the clocks may differ, in seconds.
const CLOCK_DRIFT: i64 = 5;

const VERSION: &str = "SELECT VERSION(), CURRENT_USER()";
const COLLATION: &str = "SELECT COUNT(*) FROM information_schema.collations \
                         WHERE collation_name IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')";
const SETTINGS: &str = "SELECT @@max_allowed_packet, @@innodb_flush_log_at_trx_commit, @@read_only, UNIX_TIMESTAMP()";
const TABLES: &str = "SELECT table_name, COALESCE(engine, '') FROM information_schema.tables \
                      WHERE table_schema = DATABASE() AND table_name IN ('families', 'mutators', 'locks', ?)";
/// Finds string keys of tables that another program made.
const MERGING_KEYS: &str = "SELECT table_name, column_name FROM information_schema.columns \
                            WHERE table_schema = DATABASE() AND column_key = 'PRI' AND LOCATE('___', table_name) > 1 \
                            AND data_type = 'varchar' AND collation_name NOT LIKE '%\\_bin' \
                            ORDER BY table_name, ordinal_position LIMIT 1000";
const LOCK_ROW: &str = "SELECT COUNT(*) FROM locks WHERE id = 'ledger'";

/// The things that the node needs there.
pub struct Needs {
    pub ledger: String,
    pub writes: bool,
    pub drops: bool,
}

pub async fn examine(address: &ServerAddress, needs: &Needs) -> Vec<Diagnosis> {
    let opts = match address.options() {
        Ok(options) => Opts::from(options),
        Err(error) => return vec![Diagnosis::fail(format!("ctldb: {error}"), URL_MEND)],
    };
    let server = host_and_port(&opts);
    let mut findings = Vec::new();
    match tokio::time::timeout(TIMEOUT, ask(opts, &server, needs, &mut findings)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            findings.push(Diagnosis::fail(format!("ctldb: {server}: {}", shown(&error)), mend_of(&error)))
        }
        Err(_) => {
            findings.push(Diagnosis::fail(format!("ctldb: {server} does not answer in time"), "look at its load"))
        }
    }
    findings
}

/// The server's address, without the rest of its URL.
fn host_and_port(opts: &Opts) -> String {
    let host = opts.ip_or_hostname();
    let port = opts.tcp_port();
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The error without the URL, which may hold a password. Of a broken connection, only the cause: the
/// client's own words repeat themselves.
fn shown(error: &mysql_async::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let (mysql_async::Error::Io(_), Some(inner)) = (error, cause.source()) {
        cause = inner;
    }
    printable(&cause.to_string())
}

fn mend_of(error: &mysql_async::Error) -> &'static str {
    const ACCESS_DENIED: u16 = 1045;
    const NO_ACCESS_TO_DATABASE: u16 = 1044;
    const UNKNOWN_DATABASE: u16 = 1049;
    match error {
        mysql_async::Error::Server(error) => match error.code {
            ACCESS_DENIED => "ctldb.password_file = a file with this user's password",
            NO_ACCESS_TO_DATABASE => "GRANT SELECT ON the database of ctldb.url to this user",
            UNKNOWN_DATABASE => "CREATE DATABASE with the name in ctldb.url",
            _ => "ask whoever runs the server",
        },
        _ => URL_MEND,
    }
}

async fn ask(
    opts: Opts,
    address: &str,
    needs: &Needs,
    findings: &mut Vec<Diagnosis>,
) -> Result<(), mysql_async::Error> {
    let port = opts.tcp_port();
    let database = opts.db_name().unwrap_or_default().to_owned();
    let Ok(connected) = tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(opts)).await else {
        let reason = format!("ctldb: {address} does not answer");
        findings.push(Diagnosis::fail(reason, format!("open port {port} of this server to this host")));
        return Ok(());
    };
    let mut server = connected?;
    let (version, user): (String, String) = one(&mut server, VERSION).await?;
    findings.push(Diagnosis::ok(format!("ctldb: {address} answers, {}", printable(&version))));
    privileges(&mut server, &database, &user, needs, findings).await?;
    settings(&mut server, needs, findings).await?;
    tables(&mut server, needs, findings).await?;
    server.disconnect().await
}

async fn one<T: FromRow + Send + 'static>(server: &mut Conn, sql: &str) -> Result<T, mysql_async::Error> {
    let row = server.query_first(sql).await?;
    row.ok_or_else(|| mysql_async::Error::Other(format!("no answer to {sql}").into()))
}

async fn privileges(
    server: &mut Conn,
    database: &str,
    user: &str,
    needs: &Needs,
    findings: &mut Vec<Diagnosis>,
) -> Result<(), mysql_async::Error> {
    let given: Vec<String> = server.query("SHOW GRANTS").await?;
    let wanted = match needs {
        Needs { writes: false, .. } => READS,
        Needs { drops: true, .. } => DROPS,
        Needs { .. } => WRITES,
    };
    let missing = grants::missing(&given, database, wanted);
    if missing.is_empty() {
        findings.push(Diagnosis::ok(format!("ctldb: user {user} may {} in {database}", wanted.join(", "))));
        return Ok(());
    }
    let missing = missing.join(", ");
    let account: Vec<String> = user.rsplitn(2, '@').map(|part| format!("'{part}'")).collect();
    let account = account.into_iter().rev().collect::<Vec<_>>().join("@");
    let mend = format!("GRANT {missing} ON `{database}`.* TO {account};");
    let reason = format!("ctldb: user {user} may not {missing} in {database}");
    // Grants on single tables may be enough for a reflector, and SHOW GRANTS hides what a role grants.
    let is_sure = needs.writes && !grants::has_roles(&given);
    findings.push(if is_sure { Diagnosis::fail(reason, mend) } else { Diagnosis::warn(reason, mend) });
    Ok(())
}

async fn settings(server: &mut Conn, needs: &Needs, findings: &mut Vec<Diagnosis>) -> Result<(), mysql_async::Error> {
    let (packet, flush, read_only, now): (u64, u64, u64, i64) = one(server, SETTINGS).await?;
    if packet < MIN_PACKET {
        let reason = format!("ctldb: max_allowed_packet is {packet}, large values will not fit");
        findings.push(Diagnosis::fail(reason, "SET GLOBAL max_allowed_packet = 16777216;"));
    }
    if needs.writes && flush != 1 {
        let reason = "ctldb: a commit is not flushed to the disk, a crash of the server's machine can lose it";
        findings.push(Diagnosis::warn(reason, "SET GLOBAL innodb_flush_log_at_trx_commit = 1;"));
    }
    if needs.writes && read_only != 0 {
        findings.push(Diagnosis::fail("ctldb: the server is read-only", "ctldb.url = the primary server"));
    }
    let drift = now - Timestamp::now().unix_micros() / 1_000_000;
    if drift.abs() > CLOCK_DRIFT {
        let reason = format!("ctldb: the server's clock differs from this host's by {drift} s, and so does every lag");
        findings.push(Diagnosis::warn(reason, "timedatectl set-ntp true, on both"));
    }
    let exact: u64 = one(server, COLLATION).await?;
    if needs.writes && exact == 0 {
        let reason = "ctldb: no collation tells keys that end in a space from those that don't; such keys are refused";
        findings.push(Diagnosis::warn(reason, "MariaDB 10.2, MySQL 8.0.17 or later"));
    }
    Ok(())
}

async fn tables(server: &mut Conn, needs: &Needs, findings: &mut Vec<Diagnosis>) -> Result<(), mysql_async::Error> {
    let there: Vec<(String, String)> = server.exec(TABLES, (needs.ledger.as_str(),)).await?;
    for (table, engine) in there.iter().filter(|(_, engine)| !engine.eq_ignore_ascii_case("innodb")) {
        let reason = format!("ctldb: table {table} is in {engine}, which has no transactions");
        findings.push(Diagnosis::fail(reason, format!("ALTER TABLE {table} ENGINE = InnoDB;")));
    }
    let has = |name: &str| there.iter().any(|(table, _)| table.eq_ignore_ascii_case(name));
    if !has(&needs.ledger) {
        findings.push(if needs.writes {
            Diagnosis::ok("ctldb: its tables are made at the first start")
        } else {
            let reason = format!("ctldb: no ledger table {}", needs.ledger);
            Diagnosis::fail(reason, "start an executive on this ctldb, or set ctldb.ledger_table")
        });
    }
    if needs.writes {
        merging_keys(server, findings).await?;
    }
    if needs.writes && has("locks") {
        let rows: u64 = one(server, LOCK_ROW).await?;
        if rows == 0 {
            let mend = "INSERT INTO locks (id, clock) VALUES ('ledger', 0);";
            findings.push(Diagnosis::fail("ctldb: the row 'ledger' of table locks is missing", mend));
        }
    }
    Ok(())
}

/// Finds keys that the server compares differently than an LDB. The executive compares a write with the
/// stored key first, and refuses it if it would merge two rows.
async fn merging_keys(server: &mut Conn, findings: &mut Vec<Diagnosis>) -> Result<(), mysql_async::Error> {
    let keys: Vec<(String, String)> = server.query(MERGING_KEYS).await?;
    if let Some((table, column)) = keys.first() {
        let reason = format!(
            "ctldb: {} key columns, of {table} first, take other keys for the same; such keys are refused, and \
             writes are slower",
            keys.len()
        );
        let collation = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        let mend = format!("ALTER TABLE {table} MODIFY {column} VARCHAR(191) {collation} NOT NULL;");
        findings.push(Diagnosis::warn(reason, mend));
    }
    Ok(())
}
