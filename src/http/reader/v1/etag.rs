//! Entity tags. Entry points: [`Conditions::at`] makes the tag of an answer, and
//! [`Conditions::knows`] tells whether the client has that answer. An answer stays the same while
//! the LDB's file, its seq and the bounds of answers do. So one read of the seq is enough for 304,
//! whatever the client asked for.

use actix_web::HttpRequest;
use actix_web::http::header::{ETag, EntityTag, Header, IF_NONE_MATCH, IfNoneMatch};
use sha2::{Digest, Sha256};

use ctlstore_core::ledger::Seq;
use ctlstore_reader::read::{AnswerLimits, ReadError, ReadTransaction};

/// Count this up when the form of an answer changes: tags outlive the process.
const FORM: u8 = 2;

/// The resource that a request asks for, and the tags of answers that its client has.
pub struct Conditions {
    resource: String,
    limits: AnswerLimits,
    known: Option<IfNoneMatch>,
}

/// The point in time at which an answer was read, with the answer's tag.
#[derive(Debug)]
pub struct PointInTime {
    pub seq: Seq,
    tag: EntityTag,
    /// Whether the client wants no answer if there is one.
    pub is_known_if_any: bool,
}

impl Conditions {
    /// An `If-None-Match` that can't be read matches nothing.
    pub fn of(request: &HttpRequest, limits: AnswerLimits) -> Self {
        let is_given = request.headers().contains_key(IF_NONE_MATCH);
        let known = is_given.then(|| IfNoneMatch::parse(request).ok()).flatten();
        Self { resource: request.uri().to_string(), limits, known }
    }

    pub fn at(&self, now: &ReadTransaction<'_>) -> Result<PointInTime, ReadError> {
        let position = now.position()?;
        let file = now.file_id();
        let mut digest = Sha256::new();
        digest.update([FORM]);
        digest.update(file.device.to_be_bytes());
        digest.update(file.inode.to_be_bytes());
        digest.update(position.seq.0.to_be_bytes());
        // A new file may get the inode of a removed one. A ledger that was restored from a backup
        // may give its seqs again.
        let written_at = position.leader_ts.map_or(i64::MIN, |at| at.unix_micros());
        digest.update(written_at.to_be_bytes());
        // After a restart with other settings an answer may be refused.
        digest.update(self.limits.max_rows.unwrap_or(0).to_be_bytes());
        digest.update((self.limits.max_bytes as u64).to_be_bytes());
        // A NUL separates them, since neither an id nor a path has one.
        digest.update(position.ledger_id.unwrap_or_default());
        digest.update([0]);
        digest.update(&self.resource);
        let tag = format!("{}-{}", position.seq, hex::encode(&digest.finalize()[..12]));
        let is_known_if_any = matches!(self.known, Some(IfNoneMatch::Any));
        Ok(PointInTime { seq: position.seq, tag: EntityTag::new_strong(tag), is_known_if_any })
    }

    pub fn are_none(&self) -> bool {
        self.known.is_none()
    }

    /// Whether the client has the answer of this point in time.
    pub fn knows(&self, point: &PointInTime) -> bool {
        match &self.known {
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&point.tag)),
            _ => false,
        }
    }
}

impl PointInTime {
    pub fn tag(&self) -> ETag {
        ETag(self.tag.clone())
    }
}
