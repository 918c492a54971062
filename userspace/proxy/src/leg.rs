//! One side's socket: reading into a shared buffer, writing from the session's own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use proto::session::Transmit;
use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket and whether its two directions are still open.
#[derive(Debug)]
pub(crate) struct Leg {
    stream: TcpStream,
    ended: bool,
    read: u64,
    written: u64,
}

impl Leg {
    /// Takes a connected socket.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ended: false, read: 0, written: 0 }
    }

    /// Whether the peer has ended its stream.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Bytes that came from the peer: read, or about to be dropped unread.
    pub(crate) fn came(&self) -> u64 {
        self.read + ioctl_fionread(&self.stream).unwrap_or(0)
    }

    /// Bytes written to the peer.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Reads once; an empty slice is the end of the stream, told once.
    pub(crate) fn poll_read<'b>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &'b mut [u8],
    ) -> Poll<io::Result<&'b [u8]>> {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        let count = read.filled().len();
        self.ended = count == 0;
        self.read += count as u64;
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
            match Pin::new(&mut self.stream).poll_write(cx, transmit.pending()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    transmit.consume(count);
                    self.written += count as u64;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if moved => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(moved))
    }
}
