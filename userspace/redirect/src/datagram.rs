//! Datagrams of agents: who asks the DNS forwarder, and what may go out without it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use redirect_common::{AF_INET, AF_INET6, AllowedKey, DatagramKey};
use types::accepted::Accepted;
use types::id::CgroupId;

use crate::original_destination::{accepted, words};
use crate::{Error, Kernel, sys};

/// How long a datagram may wait for the forwarder. The record of its sender is written anew with
/// each datagram, so one that is older is of a socket that is gone and did not take it along, and
/// its port may be another's by now.
const PATIENCE: Duration = Duration::from_secs(10);

impl Kernel {
    /// The kernel's record of who sends DNS datagrams from `client` in a network namespace; where
    /// to is the server that was asked. [`Error::NoRecord`] means that the datagram must be
    /// dropped: its sender is not an agent, or has closed its socket.
    pub fn datagram(&self, netns_cookie: u64, client: SocketAddr) -> Result<Accepted, Error> {
        let key = DatagramKey {
            netns_cookie,
            address: words(client.ip().to_canonical()),
            port: client.port(),
            ..DatagramKey::default()
        };
        let record = self.maps.datagram(&key)?;
        if is_old(record.at_ns)? {
            return Err(Error::NoRecord);
        }
        accepted(&record, client)
    }

    /// Lets agents of an enrolled cgroup send datagrams to `to`, unaltered and past the daemon,
    /// until the enrolment ends. Answers are not looked at. Not for port 53, which always goes to
    /// the forwarder.
    pub fn allow_datagrams(&self, cgroup: CgroupId, to: SocketAddr) -> Result<(), Error> {
        if !self.maps.knows(cgroup)? {
            return Err(Error::NotEnrolled(cgroup));
        }
        let ip = to.ip().to_canonical();
        let family = if matches!(ip, IpAddr::V4(_)) { AF_INET } else { AF_INET6 };
        self.maps.allow(AllowedKey {
            enrolled: cgroup.0,
            address: words(ip),
            family,
            port: to.port(),
            pad: 0,
        })
    }

    /// Forgets senders of datagrams that have sent none for a while.
    pub(crate) fn forget_old_datagrams(&self) -> Result<(), Error> {
        self.maps.forget_datagrams(|record| is_old(record.at_ns).unwrap_or(false))
    }
}

fn is_old(at_ns: u64) -> Result<bool, Error> {
    let failed = |source| Error::Call { call: "clock_gettime", source };
    let now_ns = sys::boottime_ns().map_err(failed)?;
    Ok(Duration::from_nanos(now_ns.saturating_sub(at_ns)) > PATIENCE)
}
