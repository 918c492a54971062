//! One side's socket: reading into a shared buffer, writing from the session's own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use proto::session::Transmit;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use crate::tls::Counted;

/// A connected socket, with TLS or without.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Without.
    Plain(Counted),
    /// An agent's, to which we are the server.
    Agent(Box<server::TlsStream<Counted>>),
    /// A target's, to which we are the client.
    Target(Box<client::TlsStream<Counted>>),
}

impl Stream {
    /// Whether it is an agent's with TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Agent(_))
    }

    /// The socket below.
    pub(crate) fn wire(&self) -> &Counted {
        match self {
            Self::Plain(wire) => wire,
            Self::Agent(tls) => tls.get_ref().0,
            Self::Target(tls) => tls.get_ref().0,
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(wire) => Pin::new(wire).poll_read(cx, read),
            Self::Agent(tls) => Pin::new(tls).poll_read(cx, read),
            Self::Target(tls) => Pin::new(tls).poll_read(cx, read),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(wire) => Pin::new(wire).poll_write(cx, bytes),
            Self::Agent(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Target(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Agent(tls) => Pin::new(tls).poll_flush(cx),
            Self::Target(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Agent(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Target(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// A socket and whether its two directions are still open.
#[derive(Debug)]
pub(crate) struct Leg {
    stream: Stream,
    ended: bool,
    /// What was written may still lie in TLS's own buffer (at most one write of ours, 64 KiB).
    unflushed: bool,
}

impl Leg {
    /// Takes a connected socket.
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, ended: false, unflushed: false }
    }

    /// Whether the peer has ended its stream.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the peer has gone, though it may not be read yet.
    pub(crate) fn is_closed(&self) -> bool {
        self.ended || self.stream.wire().is_closed()
    }

    /// Bytes that came over the wire: read, or about to be dropped unread.
    pub(crate) fn came(&self) -> u64 {
        self.stream.wire().came()
    }

    /// Ends the connection; nobody reads it any more.
    pub(crate) fn part(&self) {
        self.stream.wire().part();
    }

    /// Bytes written to the wire.
    pub(crate) fn written(&self) -> u64 {
        self.stream.wire().written()
    }

    /// Reads once; an empty slice is the end of the stream, told once.
    pub(crate) fn poll_read<'b>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &'b mut [u8],
    ) -> Poll<io::Result<&'b [u8]>> {
        let mut read = ReadBuf::new(buffer);
        match ready!(self.stream.poll_read(cx, &mut read)) {
            Ok(()) => {}
            // Who closes without TLS's own end: the protocol above says whether anything is missing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        let count = read.filled().len();
        self.ended = count == 0;
        Poll::Ready(Ok(buffer.get(..count).unwrap_or_default()))
    }

    /// Writes until nothing is left or the socket is full; answers whether anything was written.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &mut Transmit,
    ) -> Poll<io::Result<bool>> {
        let mut moved = false;
        while !transmit.is_empty() {
            match self.stream.poll_write(cx, transmit.pending()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    transmit.consume(count);
                    self.unflushed = true;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if moved => return Poll::Ready(Ok(true)),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if !moved => Poll::Pending,
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(moved)),
        }
    }

    /// Ready once what was written is on the wire.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(self.stream.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says the end of the stream, where TLS has a word for it.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}
