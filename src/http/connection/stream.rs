//! The bytes of one connection, as the HTTP library behind reads and writes them. Requests
//! are handed on one at a time: the library reads ahead otherwise, and answers a request
//! by the version, the method and the persistence of the one that came after it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_rt::net::TcpStream;
use actix_rt::time::{Sleep, sleep};
use actix_web::web::BytesMut;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Framing, MAX_HEAD};
use super::{AddressPlace, Connection};

/// A connection's socket with all that is known of it.
#[derive(Debug)]
pub struct ConnectionStream {
    socket: TcpStream,
    connection: Rc<Connection>,
    _address: Option<AddressPlace>,
    framing: Framing,
    /// Read, and not handed on: a head that is not whole, or what came behind a request.
    held: BytesMut,
    /// What of it belongs to the request under way.
    ready: usize,
    /// Whether what is held was looked at, and is only a part of a head.
    is_part_of_head: bool,
    /// Ends a head that does not come.
    head_deadline: Option<Pin<Box<Sleep>>>,
}

impl ConnectionStream {
    pub fn new(socket: TcpStream, connection: Rc<Connection>, address: Option<AddressPlace>) -> Self {
        Self {
            socket,
            connection,
            _address: address,
            framing: Framing::default(),
            held: BytesMut::new(),
            ready: 0,
            is_part_of_head: false,
            head_deadline: None,
        }
    }

    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// Whether what comes next has to wait for an answer.
    fn is_closed_to_more(&self) -> bool {
        self.framing.is_between() && self.connection.is_answering()
    }

    /// Hands on what was held, as far as it may be; how much that was.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        if self.ready == 0 && !self.is_part_of_head && !self.is_closed_to_more() {
            self.ready = take(&mut self.framing, &self.connection, &mut self.held);
            if self.framing.is_over() {
                self.held.truncate(self.ready);
            }
            self.is_part_of_head = self.ready == 0;
        }
        let length = self.ready.min(buffer.remaining());
        buffer.put_slice(&self.held.split_to(length));
        self.ready -= length;
        length
    }

    /// Holds what can't be handed on yet.
    fn hold(&mut self, bytes: &[u8]) {
        if !self.framing.is_over() {
            self.held.extend_from_slice(bytes);
            // A head ends with a line, so that it is not looked at for each byte of one.
            let may_end = memchr(b'\n', bytes).is_some() || self.held.len() >= MAX_HEAD;
            self.is_part_of_head &= !may_end;
        }
    }

    /// There is nothing to hand on for now. An error ends a head that took too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.is_starving.set(true);
        if self.held.is_empty() || self.is_closed_to_more() {
            self.head_deadline = None;
            return Poll::Pending;
        }
        self.connection.begin_head(Instant::now());
        let timeout = self.connection.pool.options.header_timeout;
        let deadline = self.head_deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Ok(()))
    }
}

/// Takes from `bytes` what belongs to one request, and marks how far it has come.
fn take(framing: &mut Framing, connection: &Connection, bytes: &mut [u8]) -> usize {
    let taken = framing.take(bytes);
    if taken.begins {
        connection.begin();
    }
    if taken.ends {
        connection.received();
    } else if taken.length > 0 {
        connection.progress();
    }
    taken.length
}

impl AsyncRead for ConnectionStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.woken_by(context.waker());
        if this.connection.is_cut.get() {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !this.held.is_empty() {
                if this.hand_on(buffer) > 0 {
                    this.head_deadline = None;
                    return Poll::Ready(Ok(()));
                }
                if this.is_closed_to_more() {
                    this.connection.is_waiting.set(true);
                    return Poll::Pending;
                }
            }
            let before = buffer.filled().len();
            match Pin::new(&mut this.socket).poll_read(context, buffer) {
                Poll::Pending => return this.wait(context),
                Poll::Ready(read) => read?,
            }
            this.connection.is_starving.set(false);
            let new = &mut buffer.filled_mut()[before..];
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut length = 0;
            if this.held.is_empty() && !this.is_closed_to_more() {
                length = take(&mut this.framing, &this.connection, new);
            }
            let rest = before + length;
            if rest < buffer.filled().len() {
                this.hold(&buffer.filled()[rest..]);
                buffer.set_filled(rest);
            }
            if length > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ConnectionStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.connection.is_aborted.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = Pin::new(&mut this.socket).poll_write(context, bytes);
        if written.is_ready() {
            this.connection.blocked.set(None);
        } else if this.connection.blocked.get().is_none() {
            this.connection.blocked.set(Some(Instant::now()));
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

impl Drop for ConnectionStream {
    fn drop(&mut self) {
        self.connection.pool.leave(&self.connection);
    }
}
