//! What a program that caches rows is told of changes: the changelog beside the LDB, and the change feed over HTTP.

mod changelog_entries;
mod changelog_file;
mod changelog_follow;
mod changelog_statement_vs_hook;
mod feed;
mod feed_bootstrap;
mod feed_history;
mod feed_random;
