//! Hosts that are killed while they fetch versions: every visible version is whole, and the next start goes on.

use std::os::unix::process::ExitStatusExt;

use super::fixture::*;
use support::web::Manners;
use support::{Node, Web, wait_until};

const SIGABRT: i32 = 6;
const FAILPOINTS: [&str; 5] = [
    "bootstrap-after-download",
    "bootstrap-after-check",
    "versioned-before-rename",
    "versioned-after-rename",
    "versioned-before-removal",
];

/// Every version is whole and was published. Gives their seqs.
#[track_caller]
fn assert_all_whole(host: &Node, published: &[i64]) -> Vec<i64> {
    let there = versions(&versions_of(host));
    let seqs: Vec<_> = there.iter().map(|version| look(version).expect("a version that stays").seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b) && seqs.iter().all(|seq| published.contains(seq)), "{seqs:?}");
    seqs
}

/// No file is left of what a crash interrupted.
#[track_caller]
fn assert_tidy(host: &Node) {
    let entries = std::fs::read_dir(host.data_dir()).expect("list the data directory");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().into_string().expect("utf-8")).collect();
    names.retain(|name| name != "versioned.incoming");
    names.sort();
    assert_eq!(names, ["versioned", "versioned.lock"]);
    let incoming = host.data_dir().join("versioned.incoming");
    assert_eq!(std::fs::read_dir(incoming).map_or(0, Iterator::count), 0);
}

#[test]
fn killed_at_any_failpoint_a_version_is_there_as_a_whole_or_not_at_all() {
    let origin = Origin::with_rows(200);
    let published = Published::new("snapshot.db", &origin.snapshot());
    let host = host(&[&published.url]).set("ldb.versioned_keep", 2);
    let mut seqs = vec![origin.last_seq()];
    for failpoint in FAILPOINTS {
        let mut process = host.clone().env("CTLSTORE_FAILPOINT", failpoint).spawn();
        assert_eq!(process.wait_exit(DEADLINE).signal(), Some(SIGABRT), "{failpoint}");
        let last = *seqs.last().expect("one is published");
        let has_it = assert_all_whole(&host, &seqs).contains(&last);
        let appears_before = ["versioned-after-rename", "versioned-before-removal"].contains(&failpoint);
        assert_eq!(has_it, appears_before, "{failpoint}");
        let mut process = host.start();
        wait_for_version(&host, last);
        wait_for_fetcher(&process, "it has asked", |status| !status["details"]["asked_at"].is_null());
        assert!(process.stop(DEADLINE).success());
        assert!(assert_all_whole(&host, &seqs).len() <= 2);
        assert_tidy(&host);
        seqs.push(origin.write(0, 100, failpoint));
        replace(&published, &origin.snapshot());
    }
}

#[test]
fn killed_at_random_twenty_five_times_no_part_of_a_version_is_ever_seen() {
    let origin = Origin::with_rows(300);
    let web = Web::start();
    let host = host(&[&format!("{}/snapshot.db", web.url)]).set("ldb.versioned_keep", 2);
    let watch = Watch::on(&host);
    let (mut seqs, mut unfinished) = (Vec::new(), 0);
    for round in 0..25_usize {
        seqs.push(origin.write(0, 100, &format!("round{round}")));
        let file = origin.snapshot();
        web.put("snapshot.db", file.clone());
        // The pace decides how far the download is before the kill, from nothing to all of it.
        web.behave(Manners { slow: Some(file.len() * (2 + round % 9)), ..Manners::default() });
        let mut process = host.spawn();
        let (wanted, incoming) =
            (file.len() * (round * 7 % 25) / 25, host.data_dir().join("versioned.incoming/ldb.db"));
        let last = *seqs.last().expect("one is published");
        wait_until("it has begun, or is done", DEADLINE, || {
            let length = std::fs::metadata(&incoming).map_or(0, |metadata| metadata.len() as usize);
            (incoming.exists() && length >= wanted) || newest(&host).is_some_and(|seen| seen.seq == last)
        });
        process.kill9();
        unfinished += usize::from(!assert_all_whole(&host, &seqs).contains(&last));
    }
    assert!(unfinished > 0, "no kill came before the end");
    web.behave(Manners::default());
    let mut process = host.start();
    wait_for_version(&host, *seqs.last().expect("one is published"));
    let seen = watch.end();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.rows == 300), "{seen:?}");
    assert!(process.stop(DEADLINE).success());
    assert_tidy(&host);
}
