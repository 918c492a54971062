//! A socket that counts the bytes on the wire, which the kernel counts as well: below TLS.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::parting::part;

/// A socket and what went over it.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    read: u64,
    written: u64,
}

impl Counted {
    /// Counts from here on; `read` bytes were read and `written` written before.
    pub(crate) fn new(stream: TcpStream, read: u64, written: u64) -> Self {
        Self { stream, read, written }
    }

    /// Bytes that came from the peer: read, or about to be dropped unread.
    pub(crate) fn came(&self) -> u64 {
        self.read + ioctl_fionread(&self.stream).unwrap_or(0)
    }

    /// Whether the peer has closed, or sends nothing more, whatever of it is still unread.
    pub(crate) fn is_closed(&self) -> bool {
        let ready = pin!(self.stream.ready(Interest::READABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => ready.map_or(true, tokio::io::Ready::is_read_closed),
            Poll::Pending => false,
        }
    }

    /// Ends the connection as of [`part`]; what came is to be asked before.
    pub(crate) fn part(&self) {
        part(&self.stream);
    }

    /// Bytes written to the peer.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.read += (buffer.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.written += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.written += count as u64;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
