// A small LDB for examples: two tables of a shop, at seq 6. Other files include it (`include!`), so it
// has no `use` of its own.

/// The LDB and its directory. The directory is removed when this value is dropped.
pub struct SmallLdb {
    directory: std::path::PathBuf,
}

impl SmallLdb {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("ctlstore-small-ldb-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory for the ldb");
        let this = Self { directory };
        let ldb = rusqlite::Connection::open(this.path()).expect("the ldb is made");
        ldb.execute_batch(
            r#"PRAGMA journal_mode = WAL;
            CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
            CREATE TABLE _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);
            INSERT INTO _ldb_seq VALUES (1, 6);
            INSERT INTO _ldb_last_update VALUES ('ledger', '2026-01-02 03:04:05.678+00:00');
            CREATE TABLE shop___flags ("name" VARCHAR(191), "on" INTEGER, "note" TEXT, PRIMARY KEY("name"));
            INSERT INTO shop___flags VALUES ('dark-mode', 1, 'for the night'), ('fast-lane', 0, NULL);
            CREATE TABLE shop___prices ("country" VARCHAR(191), "item" INTEGER, "cents" INTEGER,
                PRIMARY KEY("country","item"));
            INSERT INTO shop___prices VALUES ('de', 7, 1999), ('de', 8, 499);"#,
        )
        .expect("the ldb is filled");
        this
    }

    /// The path of the LDB.
    pub fn path(&self) -> std::path::PathBuf {
        self.directory.join("ldb.db")
    }
}

impl Drop for SmallLdb {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
