-- The tables that an executive needs in an SQLite ctldb. It makes the missing ones and
-- never alters an existing one. {ledger} stands for the ledger table's name.

CREATE TABLE IF NOT EXISTS families (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(191) NOT NULL UNIQUE
);

CREATE TABLE IF NOT EXISTS mutators (
    writer VARCHAR(191) NOT NULL PRIMARY KEY,
    secret VARCHAR(255) NOT NULL,
    cookie BLOB(1024) NOT NULL,
    clock  BIGINT NOT NULL DEFAULT 0
);

-- leader_ts is TEXT: Go reflectors fail on every row of a DATETIME column.
CREATE TABLE IF NOT EXISTS {ledger} (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    leader_ts TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now')),
    statement MEDIUMTEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS locks (
    id    VARCHAR(191) NOT NULL PRIMARY KEY,
    clock BIGINT NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO locks (id, clock) VALUES ('ledger', 0);

CREATE TABLE IF NOT EXISTS max_table_sizes (
    family_name     VARCHAR(30) NOT NULL,
    table_name      VARCHAR(50) NOT NULL,
    warn_size_bytes BIGINT NOT NULL,
    max_size_bytes  BIGINT NOT NULL,
    PRIMARY KEY (family_name, table_name)
);

CREATE TABLE IF NOT EXISTS max_writer_rates (
    writer_name         VARCHAR(50) NOT NULL PRIMARY KEY,
    max_rows_per_minute BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS writer_usage (
    writer_name VARCHAR(50) NOT NULL,
    bucket      BIGINT NOT NULL,
    amount      BIGINT NOT NULL,
    PRIMARY KEY (writer_name, bucket)
);

-- The rest is ours, and the Go programs ignore it.
CREATE TABLE IF NOT EXISTS ctlstore_meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- The ledger's definition of each table, as of the ledger row with that seq. Empty for a dropped table.
CREATE TABLE IF NOT EXISTS ctlstore_table_definition (
    table_name TEXT NOT NULL PRIMARY KEY,
    ledger_seq BIGINT NOT NULL,
    statement  TEXT NOT NULL
);
