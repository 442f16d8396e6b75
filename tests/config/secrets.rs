//! Secrets of the settings: they are read from files, and never printed.

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
fn what_looks_like_an_escape_in_a_password_file_is_not_one() {
    let dir = scratch_dir();
    let file = dir.path().join("c.toml");
    let text = format!(
        "node.data_dir = {:?}\nctldb.url = \"mysql://us%40er@h/d\"\nctldb.password_file = \"password\"\n",
        dir.path()
    );
    fs::write(&file, text).unwrap();
    for password in ["%41", "100%", "%zz%", "a#b/c?d@e:f", "[::1]", " \"'\\&=+ ", "\t", "z\u{fc}rich \u{1f600}", "\n\n"]
    {
        fs::write(dir.path().join("password"), format!("{password}\n")).unwrap();
        let settings = load(&Sources { file: Some(file.clone()), ..Sources::default() }).unwrap();
        let CtldbUrl::Mysql(url) = &settings.ctldb.url else { panic!("not a MySQL URL") };
        let options = Opts::from_url(url.expose()).unwrap();
        assert_eq!((options.user(), options.pass()), (Some("us@er"), Some(password)));
        let shown = settings.to_toml().unwrap();
        assert!(shown.contains("mysql://us%40er:***@h/d"), "{shown}");
    }
}

#[test]
fn secret_files_that_cannot_be_a_secret_are_told() {
    let dir = scratch_dir();
    let data_dir = dir.path().to_str().unwrap();
    for (content, reason) in [
        ("\n".to_owned(), format!("{data_dir}/secret cannot be read: it is empty")),
        ("x".repeat(5000), format!("{data_dir}/secret cannot be read: longer than 4096 bytes")),
        ("x".repeat(101), "the secret has 101 bytes, it must have 3 to 100".to_owned()),
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
        // Each of these is refused, with a line of its own.
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

#[test]
fn a_comma_in_a_signed_url_splits_no_secret_off() {
    let load_urls = |urls: &str| {
        let variable = ("CTLSTORE__BOOTSTRAP__URLS".into(), urls.into());
        load(&Sources { environment: vec![variable], ..Sources::default() })
    };
    let signed = "https://h/a.db?X-Amz-Signature=hun,ter2&sig=ter2,x";
    for (list, count) in [
        (signed.to_owned(), 1),
        (format!("file:///a.db, {signed} ,s3://b/c.db"), 3),
        (format!("{signed},{signed}"), 2),
        ("https://u:hun,ter2@h/a.db".to_owned(), 1),
        ("file:a.db,,file:b.db,".to_owned(), 2),
    ] {
        let settings = load_urls(&list).unwrap_or_else(|problems| panic!("{list}: {problems}"));
        assert_eq!(settings.bootstrap.urls.len(), count, "{list}");
        assert!(!settings.to_toml().unwrap().contains("ter2"), "{list}");
    }
    for list in [
        "https://h/a.db?X-Amz-Signature=hun,ter2#x",
        "s3://b/a.db,sig=hunter2",
        "az://c/a.db?sv=1&sig=hunter2",
        "az://c/a.db?sig=hun,ter2",
        "s3://b/a.db?sig=a@b&c=hunter2",
        "ftp://h/a.db?hunter2",
        "HTTPS://h:0/a.db?sig=hun,ter2",
        "https://u:hunter2",
        "https://u:hun,ter2@h:0/a.db",
        "X-Amz-Signature=hunter2,file:a.db",
        "file:///x/eu#1.db,https://h/a.db?token=hunter2",
    ] {
        let refused = load_urls(list).expect_err(list).to_string();
        assert!(refused.starts_with("bootstrap.urls") && !refused.contains("ter2"), "{list}: {refused}");
    }
}
