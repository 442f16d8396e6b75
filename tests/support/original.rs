//! A ctldb as the original makes it on a server, with its columns and types and a collation that is not binary. The
//! statements are our own.

/// The statements in their order.
pub const SCHEMA: [&str; 8] = [
    "CREATE TABLE families (id INTEGER AUTO_INCREMENT PRIMARY KEY, name VARCHAR(191) NOT NULL UNIQUE)
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "CREATE TABLE mutators (writer VARCHAR(191) PRIMARY KEY, secret VARCHAR(255) NOT NULL,
     cookie BLOB(1024) NOT NULL, clock BIGINT NOT NULL DEFAULT 0) DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "CREATE TABLE ctlstore_dml_ledger (seq INTEGER AUTO_INCREMENT PRIMARY KEY,
     leader_ts DATETIME DEFAULT CURRENT_TIMESTAMP, statement MEDIUMTEXT NOT NULL)
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "CREATE TABLE locks (id VARCHAR(191) PRIMARY KEY, clock BIGINT NOT NULL DEFAULT 0)
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "INSERT INTO locks VALUES ('ledger', 0)",
    "CREATE TABLE max_table_sizes (family_name VARCHAR(30) NOT NULL, table_name VARCHAR(50) NOT NULL,
     warn_size_bytes BIGINT NOT NULL, max_size_bytes BIGINT NOT NULL, PRIMARY KEY (family_name, table_name))
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "CREATE TABLE max_writer_rates (writer_name VARCHAR(50) PRIMARY KEY, max_rows_per_minute BIGINT NOT NULL)
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "CREATE TABLE writer_usage (writer_name VARCHAR(50) NOT NULL, bucket BIGINT NOT NULL, amount BIGINT NOT NULL,
     PRIMARY KEY (writer_name, bucket)) DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
];
