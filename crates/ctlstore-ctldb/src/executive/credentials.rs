//! [`Credentials`]: a writer's name and [`Secret`]. Secrets are stored and compared only as hashes, in
//! constant time.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ctldb::{CtldbError, Session, WriterRow};
use ctlstore_core::schema::{WriterName, check_header_text};

use super::error::Refusal;
use super::limits::{MAX_SECRET_BYTES, MIN_SECRET_BYTES};

/// A writer's secret. Only its hash is kept, so that nothing can print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Lower-case hex of the SHA-256.
    hash: String,
}

impl Secret {
    /// The secret that a client shows. It may have any length: a bad one matches no writer.
    pub fn shown(bytes: &[u8]) -> Self {
        Self { hash: hex::encode(Sha256::digest(bytes)) }
    }

    /// A new secret for a writer: 3 to 100 bytes that an HTTP header can carry.
    pub fn new(bytes: &[u8]) -> Result<Self, Refusal> {
        if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&bytes.len()) {
            return Err(Refusal::SecretLength(bytes.len()));
        }
        check_header_text(bytes).map_err(Refusal::SecretText)?;
        Ok(Self::shown(bytes))
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) fn opens(&self, writer: &WriterRow) -> bool {
        self.hash.as_bytes().ct_eq(writer.secret_hash.as_bytes()).into()
    }
}

/// A writer's name and secret, as the request's headers have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub writer: WriterName,
    pub secret: Secret,
}

impl Credentials {
    /// The writer's row, `None` for an unknown writer and a wrong secret alike.
    pub(super) async fn check<S: Session>(&self, session: &mut S) -> Result<Option<WriterRow>, CtldbError> {
        Ok(session.writer(&self.writer).await?.filter(|row| self.secret.opens(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_its_own_hash() {
        let secret = Secret::new(b"secret-one").unwrap();
        let mut row = WriterRow { secret_hash: secret.hash().to_owned(), cookie: vec![], rows_per_minute: None };
        assert!(Secret::shown(b"secret-one").opens(&row));
        assert!(!Secret::shown(b"secret-two").opens(&row));
        row.secret_hash.truncate(10);
        assert!(!secret.opens(&row));
        assert_eq!(Secret::new(b"ab"), Err(Refusal::SecretLength(2)));
        assert_eq!(Secret::new(&[b's'; 101]), Err(Refusal::SecretLength(101)));
        assert!(matches!(Secret::new(b"abc\n"), Err(Refusal::SecretText(_))));
    }
}
