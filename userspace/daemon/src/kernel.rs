//! The kernel's records, as the proxy asks for them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use identity::processes::Host;
use proxy::door::OriginalDestination;
use redirect::Kernel;
use types::accepted::Accepted;
use types::exec::Exec;
use types::id::CgroupId;

/// Answers the proxy from the pinned maps.
pub(crate) struct Records(pub(crate) Arc<Kernel>);

impl OriginalDestination for Records {
    fn original_destination(&self, fd: BorrowedFd<'_>, source: SocketAddr) -> io::Result<Accepted> {
        self.0.accepted(fd, source).map_err(io::Error::other)
    }
}

impl Host for Records {
    fn take_execs(&self, each: &mut dyn FnMut(Exec)) {
        self.0.take_execs(each);
    }

    fn cgroup_path(&self, cgroup: CgroupId) -> Option<String> {
        let path = self.0.cgroup_path(cgroup).ok()?;
        Some(path.to_string_lossy().into_owned())
    }
}
