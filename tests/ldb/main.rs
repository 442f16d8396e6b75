//! Tests of the local database as the applier writes it: statements, files, full disks, and kills at
//! any moment.

mod apply;
mod crash;
mod disk_full;
mod files;
mod foreign_files;
mod in_place;
mod in_place_disk;
mod in_place_readers;
mod integer_keys;
mod paths;
mod readers;
