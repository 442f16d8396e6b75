//! The bytes of one connection, as the HTTP library reads and writes them. Entry point:
//! [`ConnectionStream`]. It hands requests on one at a time. Otherwise the library would read ahead,
//! and answer a request by the version, method and persistence of the request after it.

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

use super::addresses::AddressPlace;
use super::framing::{Framing, MAX_HEAD};
use super::pool::ConnectionPool;
use super::state::ConnectionState;

/// A connection's socket with all that is known about it.
#[derive(Debug)]
pub struct ConnectionStream {
    socket: TcpStream,
    pool: Rc<ConnectionPool>,
    connection: Rc<ConnectionState>,
    _address: Option<AddressPlace>,
    framing: Framing,
    /// Bytes that were read and not handed on: a part of a head, or what follows a request.
    held: BytesMut,
    /// How many of them belong to the present request.
    ready: usize,
    /// Whether the held bytes were examined, and are only a part of a head.
    is_part_of_head: bool,
    /// Ends a head that does not arrive.
    head_deadline: Option<Pin<Box<Sleep>>>,
}

impl ConnectionStream {
    /// Adds the connection to `pool`, which it leaves when it is dropped.
    pub fn new(socket: TcpStream, pool: &Rc<ConnectionPool>, address: Option<AddressPlace>) -> Self {
        Self {
            socket,
            pool: Rc::clone(pool),
            connection: pool.enter(),
            _address: address,
            framing: Framing::default(),
            held: BytesMut::new(),
            ready: 0,
            is_part_of_head: false,
            head_deadline: None,
        }
    }

    pub fn state(&self) -> &Rc<ConnectionState> {
        &self.connection
    }

    /// Whether the next bytes have to wait for the present answer.
    fn is_closed_to_more(&self) -> bool {
        self.framing.is_between() && self.connection.is_answering()
    }

    /// Hands on held bytes, as far as they belong to the present request; how many it were.
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

    /// Holds bytes that can't be handed on yet.
    fn hold(&mut self, bytes: &[u8]) {
        if !self.framing.is_over() {
            self.held.extend_from_slice(bytes);
            // A head ends with a line end, so it is examined again only after one.
            let may_end = memchr(b'\n', bytes).is_some() || self.held.len() >= MAX_HEAD;
            self.is_part_of_head &= !may_end;
        }
    }

    /// Waits for more bytes. Ends the stream if a head takes too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.is_starving.set(true);
        if self.held.is_empty() || self.is_closed_to_more() {
            self.head_deadline = None;
            return Poll::Pending;
        }
        self.connection.begin_head(Instant::now());
        let timeout = self.pool.options.header_timeout;
        let deadline = self.head_deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Ok(()))
    }
}

/// Counts the first of `bytes` that belong to one request, and records how far it has arrived.
fn take(framing: &mut Framing, connection: &ConnectionState, bytes: &mut [u8]) -> usize {
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
        self.pool.leave(&self.connection);
    }
}
