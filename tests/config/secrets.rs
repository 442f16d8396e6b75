//! Secrets: read from files, and printed nowhere.

use std::fs;

use ctlstore::config::{CtldbUrl, Sources, load};
use mysql_async::Opts;
use secrecy::ExposeSecret;

use super::{config, refusal};
use support::scratch_dir;

#[test]
fn secret_files_are_read_without_their_line_end() {
    let dir = scratch_dir();
    fs::write(dir.path().join("password"), "p@ss/word\r\n").unwrap();
    fs::write(dir.path().join("secret"), "the-secret\n").unwrap();
    let file = dir.path().join("c.toml");
    let text = format!(
        "node.data_dir = {:?}\nctldb.url = \"mysql://u@h/d\"\nctldb.password_file = \"password\"\nheartbeat.secret_file = \"secret\"\n",
        dir.path()
    );
    fs::write(&file, text).unwrap();
    let settings = load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
    let CtldbUrl::Mysql(url) = &settings.ctldb.url else { panic!("not a MySQL URL") };
    let options = Opts::from_url(url.expose()).unwrap();
    assert_eq!(options.pass(), Some("p@ss/word"));
    let secret = settings.heartbeat.secret.unwrap();
    assert_eq!(secret.expose_secret(), "the-secret");
}

#[test]
fn secret_files_that_cannot_be_a_secret_are_told() {
    let dir = scratch_dir();
    let data_dir = dir.path().to_str().unwrap();
    for (content, reason) in [
        ("\n".to_owned(), "cannot be read: it is empty"),
        ("x".repeat(5000), "cannot be read: longer than 4096 bytes"),
        ("x".repeat(101), "a writer's secret has 3 to 100 bytes"),
    ] {
        fs::write(dir.path().join("secret"), content).unwrap();
        let lines =
            refusal(dir.path(), "heartbeat.secret_file = \"secret\"", &[("CTLSTORE__NODE__DATA_DIR", data_dir)], &[]);
        assert_eq!(lines, [format!("heartbeat.secret_file = \"secret\" (file c.toml): {reason}")]);
    }
}

#[test]
fn no_secret_is_ever_printed() {
    let dir = scratch_dir();
    for (file, printed) in [
        ("ctldb.url = \"mysql://u:hunter2@h/d\"", "mysql://u:***@h/d"),
        ("heartbeat.secret = \"hunter2\"", "secret = \"***\""),
        // Each of these is refused, in words of its own.
        ("ctldb.url = \"mysql://u:hunter2@h\"", "mysql://***@h"),
        ("ctldb.url = \"u:hunter2@tcp(h:3306)/d\"", "***@tcp(h:3306)/d"),
        ("ctldb.url = \"mysql://u:hunter2@h/d\"\nops.bind = \"127.0.0.1:3000\"", "same port"),
        ("snapshotter.urls = [\"s3://key:hunter2@bucket/a.db\"]", "s3://***@bucket/a.db"),
        ("snapshotter.urls = [\"https://h/a.db?sig=hunter2\"]", "https://h/a.db?***"),
        ("snapshotter.urls = [\"data:hunter2=\"]", "data:***"),
        ("heartbeat.secert = \"hunter2\"", "heartbeat.secert = ***"),
        ("ctldb.password = \"hunter2\"", "ctldb.password = ***"),
        ("heartbeat.secret = [\"hunter2\"]", "heartbeat.secret = ***"),
        ("heartbeat.secret = \"hunter2\" x", "not TOML at line 1"),
    ] {
        let output = config(dir.path(), file, &[], &[]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains(printed), "{file}: {text}");
        assert!(!text.contains("hunter2"), "{file}: {text}");
    }
    let settings = load(&Sources {
        environment: vec![
            ("CTLSTORE__CTLDB__URL".into(), "mysql://u:hunter2@h/d".into()),
            ("CTLSTORE__HEARTBEAT__SECRET".into(), "hunter2".into()),
        ],
        ..Sources::default()
    });
    assert!(!format!("{:?}", settings.unwrap()).contains("hunter2"));
}
