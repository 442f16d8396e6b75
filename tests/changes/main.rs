//! The ways in which a program that caches rows learns of changes: the changelog beside the LDB, and the feed over
//! HTTP.

mod changelog_entries;
mod changelog_file;
mod changelog_follow;
mod changelog_statement_vs_hook;
mod feed;
mod feed_bootstrap;
mod feed_history;
mod feed_random;
