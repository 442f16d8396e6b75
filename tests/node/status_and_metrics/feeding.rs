//! Scenarios with a client of the change feed.

use super::watch::{Moved, Watch};
use support::feed::{node, open, with_table};

pub fn a_client_of_the_change_feed(moved: &Moved) {
    let node = node();
    let (process, client) = with_table(&node);
    let watch = Watch::new(process.ops_url(), moved);
    let here = ["ctlstore_reader_changes_clients", "/reader/details/changes"];
    let mut stream = watch.event("a client of the feed", &here, || open(&process.reader_url(), "", ""));
    watch.event("a change", &["ctlstore_reader_changes_events_total"], || {
        client.upsert("fam", "tab", &[(1, "one")]);
        while stream.expect().event != "change" {}
    });
    watch.event("a position of another history", &["ctlstore_reader_changes_resyncs_total"], || {
        let mut stream = open(&process.reader_url(), "", "another-1");
        assert_eq!(stream.expect().event, "start");
        assert_eq!(stream.expect().event, "resync");
    });
}
