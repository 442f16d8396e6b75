//! Entity tags: an answer is the same as long as the LDB's file, its seq and what an answer
//! may hold are. So a client that has one is told so after one read of the seq, whatever
//! it asked for.

use actix_web::HttpRequest;
use actix_web::http::header::{ETag, EntityTag, Header, IF_NONE_MATCH, IfNoneMatch};
use sha2::{Digest, Sha256};

use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::{Limits, ReadError, ReadTransaction};

/// To be counted up when the form of an answer changes: tags outlive the process.
const FORM: u8 = 2;

/// What a request asks for, and which answers its client has.
pub struct Conditions {
    resource: String,
    limits: Limits,
    known: Option<IfNoneMatch>,
}

/// The moment at which an answer was read.
#[derive(Debug)]
pub struct Moment {
    pub seq: Seq,
    tag: EntityTag,
    /// Whether the client wants no answer if there is one.
    pub is_known_if_any: bool,
}

impl Conditions {
    /// A tag that can't be read is one that nobody has.
    pub fn of(request: &HttpRequest, limits: Limits) -> Self {
        let is_given = request.headers().contains_key(IF_NONE_MATCH);
        let known = is_given.then(|| IfNoneMatch::parse(request).ok()).flatten();
        Self { resource: request.uri().to_string(), limits, known }
    }

    pub fn at(&self, now: &ReadTransaction<'_>) -> Result<Moment, ReadError> {
        let position = now.position()?;
        let file = now.file_id();
        let mut digest = Sha256::new();
        digest.update([FORM]);
        digest.update(file.device.to_be_bytes());
        digest.update(file.inode.to_be_bytes());
        digest.update(position.seq.0.to_be_bytes());
        // A file may get the inode of one that is gone, and a ledger that was restored
        // from a backup the seqs that it had before.
        let written_at = position.leader_ts.map_or(i64::MIN, |at| at.unix_micros());
        digest.update(written_at.to_be_bytes());
        // What may be answered may be refused after a restart with other settings.
        digest.update(self.limits.max_rows.unwrap_or(0).to_be_bytes());
        digest.update((self.limits.max_bytes as u64).to_be_bytes());
        // Neither an id nor a path has a NUL.
        digest.update(position.ledger_id.unwrap_or_default());
        digest.update([0]);
        digest.update(&self.resource);
        let tag = format!("{}-{}", position.seq, hex::encode(&digest.finalize()[..12]));
        let is_known_if_any = matches!(self.known, Some(IfNoneMatch::Any));
        Ok(Moment { seq: position.seq, tag: EntityTag::new_strong(tag), is_known_if_any })
    }

    pub fn are_none(&self) -> bool {
        self.known.is_none()
    }

    /// Whether the client has the answer of this moment.
    pub fn knows(&self, moment: &Moment) -> bool {
        match &self.known {
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&moment.tag)),
            _ => false,
        }
    }
}

impl Moment {
    pub fn tag(&self) -> ETag {
        ETag(self.tag.clone())
    }
}
