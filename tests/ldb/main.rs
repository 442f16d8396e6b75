//! The local database as the applier writes it: its statements, its files, full disks, and kills at any moment.

mod apply;
mod crash;
mod disk_full;
mod files;
mod foreign_files;
mod paths;
mod readers;
