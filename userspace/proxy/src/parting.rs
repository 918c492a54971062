//! Closing a connection so that its peer hears of it.

use std::net::Shutdown;

use socket2::SockRef;
use tokio::net::TcpStream;
use tracing::debug;
use types::limits::READ_BYTES;

/// What is dropped unread before a socket closes, at most: what Linux keeps for one by default (`tcp_rmem`, 6 MiB).
const UNREAD_BYTES_MAX: usize = 6 << 20;

/// Ends our direction and drops what the peer has sent and nobody will read.
///
/// A socket that closes with bytes unread sends a reset (RFC 2525 §2.17), and sends it once: where the kernel's queue
/// is full (`netdev_max_backlog`) it is lost, and the peer waits for ever. The end of a stream is sent again until it
/// arrives.
pub(crate) fn part(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).shutdown(Shutdown::Write) {
        debug!(%error, "the peer has gone already");
        return;
    }
    let mut buffer = [0; READ_BYTES / 8];
    let mut dropped = 0;
    // The socket is asked, not what the runtime knows of it: of one that nobody has awaited yet that is nothing.
    while let Ok(count @ 1..) = rustix::io::read(stream, &mut buffer) {
        dropped += count;
        if dropped > UNREAD_BYTES_MAX {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream as Peer};

    use super::*;

    /// A reset would be an error here.
    #[tokio::test]
    async fn a_peer_that_had_spoken_reads_what_it_was_told_and_the_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        peer.write_all(&vec![1; 100_000]).unwrap();
        rustix::io::write(&stream, b"no").unwrap();
        part(&stream);
        drop(stream);
        let mut told = Vec::new();
        peer.read_to_end(&mut told).unwrap();
        assert_eq!(told, b"no");
    }
}
