-- The tables that an executive needs in a MySQL ctldb. It makes the missing ones and never
-- alters an existing one. {ledger} stands for the ledger table's name, {collation} for the
-- collation that compares bytes on this server. Comments hold no semicolon.

CREATE TABLE IF NOT EXISTS families (
    id   INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(191) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL UNIQUE
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS mutators (
    writer VARCHAR(191) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL PRIMARY KEY,
    secret VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    cookie BLOB(1024) NOT NULL,
    clock  BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {ledger} (
    seq       BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    leader_ts DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6),
    statement MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS locks (
    id    VARCHAR(191) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL PRIMARY KEY,
    clock BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB;

INSERT IGNORE INTO locks (id, clock) VALUES ('ledger', 0);

CREATE TABLE IF NOT EXISTS max_table_sizes (
    family_name     VARCHAR(30) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    table_name      VARCHAR(50) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    warn_size_bytes BIGINT NOT NULL,
    max_size_bytes  BIGINT NOT NULL,
    PRIMARY KEY (family_name, table_name)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS max_writer_rates (
    writer_name         VARCHAR(50) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL PRIMARY KEY,
    max_rows_per_minute BIGINT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS writer_usage (
    writer_name VARCHAR(50) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    bucket      BIGINT NOT NULL,
    amount      BIGINT NOT NULL,
    PRIMARY KEY (writer_name, bucket)
) ENGINE = InnoDB;

-- The rest is ours, and the Go programs ignore it.

CREATE TABLE IF NOT EXISTS ctlstore_meta (
    name  VARCHAR(64) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL PRIMARY KEY,
    value VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
) ENGINE = InnoDB;

-- A schema change that was begun and whose ledger row is not yet committed.
CREATE TABLE IF NOT EXISTS ctlstore_ddl_intent (
    id          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    token       CHAR(36) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL UNIQUE,
    kind        VARCHAR(16) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    table_name  VARCHAR(64) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    column_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    ledger_seq  BIGINT NOT NULL,
    statement   MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    ddl         MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
) ENGINE = InnoDB;

-- The ledger's definition of each table, as of the ledger row with that seq. Empty for a dropped table.
CREATE TABLE IF NOT EXISTS ctlstore_table_definition (
    table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL PRIMARY KEY,
    ledger_seq BIGINT NOT NULL,
    statement  MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
) ENGINE = InnoDB;
