//! Plain web servers of many kinds: with passwords, without lengths, with redirects.

use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::fetch::{FetchError, Fetched, Wanted, fetch};

use support::bootstrap::*;
use support::web::{Length, Manners};
use support::{Web, scratch_dir, wait_until};

fn get(url: &str) -> Result<Fetched, FetchError> {
    let directory = scratch_dir();
    let url = url.parse().unwrap_or_else(|why| panic!("{url}: {why}"));
    fetch(&url, &directory.path().join("to.db"), &Wanted::default(), &Abort::default(), &())
}

#[test]
fn a_sources_user_is_sent_as_basic_credentials_and_never_shown() {
    let origin = Origin::with_rows(50);
    let web = Web::start();
    web.put("snapshot.db", origin.snapshot());
    // `user@home` and `p:/w gehei`.
    let basic = "Basic dXNlckBob21lOnA6L3cgZ2VoZWlt";
    web.behave(Manners { authorization: Some(basic.to_owned()), ..Manners::default() });
    let address = web.url.replace("http://", "http://user%40home:p%3A%2Fw%20geheim@");
    let url = format!("{address}/snapshot.db?X-Amz-Signature=heimlich");
    let host = origin.host().set("bootstrap.urls", vec![url]).set("log.level", "trace");
    let process = host.start();
    wait_until_equal(&host, &origin);
    assert_eq!(web.requests("snapshot.db")[0].authorization.as_deref(), Some(basic));
    let log = process.log();
    for secret in ["geheim", "heimlich", "dXNlckBob21l"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    let refused = get(&format!("{}/snapshot.db", web.url)).unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}

#[test]
fn a_host_starts_from_bodies_without_a_length() {
    let origin = Origin::with_rows(2_000);
    let file = origin.snapshot();
    for length in [Length::Chunked, Length::Closed] {
        for (name, bytes, has_manifest) in
            [("plain.db", file.clone(), false), ("small.db.gz", gzip(&file), false), ("told.db.zst", zstd(&file), true)]
        {
            let web = Web::start();
            web.behave(Manners { length, ..Manners::default() });
            let url = web.put(name, bytes.clone());
            if has_manifest {
                web.put(&format!("{name}.json"), manifest(&file, &bytes, name).to_string().into_bytes());
            }
            let host = origin.host().set("bootstrap.urls", vec![url]);
            let _process = host.start();
            wait_until_equal(&host, &origin);
        }
    }
}

#[test]
fn a_body_without_a_length_that_is_cut_off_is_never_taken_for_the_whole() {
    let origin = Origin::with_rows(2_000);
    let file = origin.snapshot();
    for length in [Length::Chunked, Length::Closed] {
        for (name, bytes) in [("plain.db", file.clone()), ("small.db.gz", gzip(&file)), ("small.db.zst", zstd(&file))] {
            let web = Web::start();
            let break_after = bytes.len() / 2 / 4096 * 4096;
            // Without an etag nothing tells that the rest belongs to the same object.
            web.behave(Manners { length, breaks: u64::MAX, break_after, no_etags: true, ..Manners::default() });
            let url = web.put(name, bytes);
            let host = origin.host().set("bootstrap.urls", vec![url]).set("bootstrap.allow_empty", false);
            let process = host.start();
            wait_until_retrying(&process);
            assert!(!host.ldb_path().exists(), "{name} {length:?}");
            // It is not remembered as damaged: the next try gets the whole object.
            web.behave(Manners { length, no_etags: true, ..Manners::default() });
            wait_until_equal(&host, &origin);
        }
    }
}

#[test]
fn a_chunked_download_that_breaks_is_read_on_from_there() {
    let origin = Origin::with_rows(2_000);
    let file = origin.snapshot();
    let web = Web::start();
    let url = web.put("snapshot.db", file.clone());
    let manners = Manners { length: Length::Chunked, breaks: 2, break_after: 64 << 10, ..Manners::default() };
    web.behave(manners);
    let fetched = get(&url).expect("it is read on");
    assert_eq!(fetched.bytes, file.len() as u64);
    let offsets: Vec<_> = web.requests("snapshot.db").into_iter().map(|request| request.offset).collect();
    assert_eq!(offsets.len(), 3, "{offsets:?}");
    assert!(offsets[0].is_none() && offsets[1] > Some(0) && offsets[2] > offsets[1], "{offsets:?}");
}

#[test]
fn a_redirect_leads_to_no_other_server_and_takes_no_credentials_along() {
    let origin = Origin::with_rows(50);
    let (first, second) = (Web::start(), Web::start());
    let file = origin.snapshot();
    second.put("snapshot.db", file.clone());
    first.put("snapshot.db", file.clone());
    first.behave(Manners { redirect: Some(second.url.clone()), ..Manners::default() });
    let url = first.url.replace("http://", "http://user:geheim@") + "/snapshot.db?signature=heimlich";
    let refused = get(&url).unwrap_err().to_string();
    assert!(refused.contains(&format!("redirected to {}, which is not followed", second.url)), "{refused}");
    assert!(!refused.contains("geheim") && !refused.contains("heimlich"), "{refused}");
    assert!(second.requests("snapshot.db").is_empty() && second.requests("snapshot.db.json").is_empty());
    // A circle of redirects on one server ends.
    first.behave(Manners { redirect: Some(first.url.clone()), ..Manners::default() });
    let refused = get(&url).unwrap_err().to_string();
    assert!(refused.contains("too many in a row"), "{refused}");
}

#[test]
fn a_server_that_comes_back_is_asked_again() {
    let origin = Origin::with_rows(50);
    let web = Web::start();
    let url = web.put("snapshot.db", origin.snapshot());
    web.behave(Manners { fail: 3, status: 503, ..Manners::default() });
    get(&url).expect("it is asked again");
    wait_until("it has answered", DEADLINE, || web.manners().fail == 0);
}
