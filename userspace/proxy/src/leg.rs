//! One side's socket: reading into a shared buffer, writing from the session's own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use proto::session::Transmit;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket and whether its two directions are still open.
#[derive(Debug)]
pub(crate) struct Leg {
    stream: TcpStream,
    ended: bool,
}

impl Leg {
    /// Takes a connected socket.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ended: false }
    }

    /// Whether the peer has ended its stream.
    pub(crate) fn ended(&self) -> bool {
        self.ended
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
