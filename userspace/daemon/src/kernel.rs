//! The kernel's records, as the proxy asks for them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use proxy::door::OriginalDestination;
use redirect::Kernel;
use types::accepted::Accepted;

/// Answers the proxy from the pinned maps.
pub(crate) struct Records(pub(crate) Arc<Kernel>);

impl OriginalDestination for Records {
    fn original_destination(&self, fd: BorrowedFd<'_>, source: SocketAddr) -> io::Result<Accepted> {
        self.0.accepted(fd, source).map_err(io::Error::other)
    }
}
