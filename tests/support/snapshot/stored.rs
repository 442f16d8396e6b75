//! The content of a destination, read as a new host would read it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::store::{Part, StoreOptions};
use ctlstore_ldb::snapshot::{Compression, Manifest, SnapshotUrl, Store, Target};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::s3;

/// A destination on the S3 server at `endpoint`, which counts as failed after a second of silence.
pub fn s3_target(url: &str, endpoint: &str) -> Target {
    let options = StoreOptions { silence: Duration::from_secs(1), variables: s3::variables(endpoint) };
    Target { options, ..Target::new(url.parse().expect("a URL")) }
}

pub fn file_target(path: &Path) -> Target {
    Target::new(SnapshotUrl::File(path.to_owned()))
}

pub fn store(target: &Target) -> Store {
    // A server on a busy machine is slow, not silent.
    let options = StoreOptions { silence: Duration::from_secs(30), ..target.options.clone() };
    Store::with_options(&target.url, &options).expect("open the store")
}

/// The manifest; `None` if there is none yet.
#[track_caller]
pub fn manifest(store: &Store) -> Option<Manifest> {
    match store.read(&Manifest::name_of(store.name()), Manifest::MAX_BYTES, &Abort::default()) {
        Ok((bytes, _)) => Some(Manifest::parse(&bytes).expect("a good manifest")),
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("{error}"),
    }
}

pub fn bytes_of(store: &Store, name: &str) -> Option<Vec<u8>> {
    let mut object = match store.get(name, &Part::default(), &Abort::default()) {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return None,
        Err(error) => panic!("{error}"),
    };
    let mut bytes = Vec::new();
    object.read_to_end(&mut bytes).expect("read the object");
    Some(bytes)
}

pub fn decompress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut file = Vec::new();
    match compression {
        Compression::None => file = bytes.to_vec(),
        Compression::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut file).expect("gzip")),
        Compression::Zstd => drop(zstd::Decoder::new(bytes).expect("zstd").read_to_end(&mut file).expect("zstd")),
    }
    file
}

/// Whether these are the stored bytes of the manifest.
pub fn is_of(manifest: &Manifest, stored: &[u8]) -> bool {
    stored.len() as u64 == manifest.stored_bytes && hex::encode(Sha256::digest(stored)) == manifest.stored_sha256
}

/// Checks the object that the manifest and the plain key name, and returns its seq.
#[track_caller]
pub fn check_stored(store: &Store) -> i64 {
    let manifest = manifest(store).expect("there is a manifest");
    let stored = bytes_of(store, &manifest.key).expect("the object that the manifest names");
    assert!(is_of(&manifest, &stored), "{manifest:?}");
    assert_eq!(check_bytes(&stored, &manifest), manifest.seq);
    manifest.seq
}

/// Checks stored bytes against the manifest's hashes of the file and the ledger; returns their seq.
#[track_caller]
pub fn check_bytes(stored: &[u8], manifest: &Manifest) -> i64 {
    let file = decompress(stored, manifest.compression);
    assert_eq!(file.len() as u64, manifest.bytes);
    assert_eq!(hex::encode(Sha256::digest(&file)), manifest.sha256);
    assert_eq!(STANDARD.encode(Sha1::digest(&file)), manifest.sha1);
    check_file(&file)
}

/// Checks an uncompressed snapshot without a manifest.
#[track_caller]
pub fn check_file(file: &[u8]) -> i64 {
    let directory = crate::scratch_dir();
    let path = directory.path().join("fetched.db");
    fs::write(&path, file).expect("write the file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set its mode");
    crate::snapshot::check(&path)
}
