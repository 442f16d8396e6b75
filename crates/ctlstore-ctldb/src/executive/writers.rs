//! The requests on writers: register, change the secret, remove, and read or set the cookie. Routes for them
//! are in `http/executive/writers.rs` of the node. `admission` checks writers of mutations.

use std::time::Instant;

use crate::ctldb::{Ctldb, CtldbError, CtldbOperation, Session, WriterRow};
use ctlstore_core::schema::WriterName;

use super::credentials::{Credentials, Secret};
use super::error::{ExecutiveError, Refusal};
use super::mutation::check_cookie_length;
use super::request::{Executive, OperationRequest, Request, RequestAnswer};

/// Registers a writer. A repetition with the same secret changes nothing.
#[derive(Debug)]
pub struct RegisterWriter {
    pub writer: WriterName,
    pub secret: Secret,
}

impl Request for RegisterWriter {
    type Answer = ();

    async fn execute<C: Ctldb>(self, executive: &Executive<C>, deadline: Instant) -> Result<(), ExecutiveError> {
        // The first cookie may be any non-empty bytes. It is made here, so that a retry writes the same one.
        let cookie = uuid::Uuid::new_v4().to_string().into_bytes();
        let row = WriterRow { secret_hash: self.secret.hash().to_owned(), cookie, rows_per_minute: None };
        executive.write(Register { writer: self.writer, secret: self.secret, row }, deadline).await
    }
}

struct Register {
    writer: WriterName,
    secret: Secret,
    row: WriterRow,
}

impl CtldbOperation for Register {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        match session.writer(&self.writer).await? {
            Some(stored) if self.secret.opens(&stored) => Ok(Ok(())),
            Some(_) => Ok(Err(Refusal::WriterExists(self.writer.clone()))),
            None => session.insert_writer(&self.writer, &self.row).await.map(Ok),
        }
    }
}

/// Gives a writer another secret. The request must show the present one.
#[derive(Debug)]
pub struct RotateSecret {
    pub credentials: Credentials,
    pub secret: Secret,
}

impl OperationRequest for RotateSecret {
    type Reply = ();
}

impl CtldbOperation for RotateSecret {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let Some(stored) = self.credentials.check(session).await? else {
            return self.done_before(session).await;
        };
        // If the secret is the new one already, there is nothing to write.
        if !self.secret.opens(&stored) {
            session.set_secret(&self.credentials.writer, self.secret.hash()).await?;
        }
        Ok(Ok(()))
    }
}

impl RotateSecret {
    /// A client whose answer was lost asks again with its old secret. Its request was done before.
    async fn done_before<S: Session>(&self, session: &mut S) -> Result<Result<(), Refusal>, CtldbError> {
        let stored = session.writer(&self.credentials.writer).await?;
        let is_done = stored.is_some_and(|stored| self.secret.opens(&stored));
        Ok(if is_done { Ok(()) } else { Err(Refusal::Unauthorized) })
    }
}

/// Removes a writer with its cookie and its limit. The rows that it wrote stay.
#[derive(Debug)]
pub struct RemoveWriter(pub Credentials);

impl OperationRequest for RemoveWriter {
    type Reply = ();
}

impl CtldbOperation for RemoveWriter {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        if self.0.check(session).await?.is_none() {
            return Ok(Err(Refusal::Unauthorized));
        }
        session.delete_writer(&self.0.writer).await.map(Ok)
    }
}

/// Reads a writer's cookie.
#[derive(Debug)]
pub struct ReadCookie(pub Credentials);

impl OperationRequest for ReadCookie {
    type Reply = Vec<u8>;
    const WRITES: bool = false;
}

impl RequestAnswer for Vec<u8> {}

impl CtldbOperation for ReadCookie {
    type Output = Result<Vec<u8>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let row = self.0.check(session).await?;
        Ok(row.map(|row| row.cookie).ok_or(Refusal::NoSuchCredentials))
    }
}

/// Sets a writer's cookie, whatever it was.
#[derive(Debug)]
pub struct SetCookie {
    credentials: Credentials,
    cookie: Vec<u8>,
}

impl SetCookie {
    pub fn new(credentials: Credentials, cookie: Vec<u8>) -> Result<Self, Refusal> {
        check_cookie_length(&cookie)?;
        Ok(Self { credentials, cookie })
    }
}

impl OperationRequest for SetCookie {
    type Reply = ();
}

impl CtldbOperation for SetCookie {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        if self.credentials.check(session).await?.is_none() {
            return Ok(Err(Refusal::NoSuchCredentials));
        }
        session.set_cookie(&self.credentials.writer, &self.cookie).await.map(Ok)
    }
}
