//! Where an accepted connection wanted to go, and who made it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use redirect_common::{AF_INET, AF_INET6, ConnectRecord, ProcessRecord};
use types::accepted::Accepted;
use types::addr::OrigDst;
use types::id::CgroupId;
use types::principal::{Inode, Process, ProcessKey, Provenance};

use crate::{Error, Kernel};

impl Kernel {
    /// The kernel's record of an accepted connection; `source` is the peer's address. One system
    /// call. [`Error::NoRecord`] means that the connection must be dropped.
    pub fn accepted(&self, fd: BorrowedFd<'_>, source: SocketAddr) -> Result<Accepted, Error> {
        accepted(self.maps.record(fd)?, source)
    }
}

fn accepted(record: ConnectRecord, source: SocketAddr) -> Result<Accepted, Error> {
    let ConnectRecord {
        socket_cookie,
        netns_cookie,
        enrolled,
        at_ns: _,
        address,
        family,
        port,
        pad: _,
        process,
    } = record;
    let [first, ..] = address;
    let ip = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::from(first.to_ne_bytes())),
        // An IPv4-mapped address means the IPv4 host.
        AF_INET6 => Ipv6Addr::from(
            address.map(u32::from_be).iter().fold(0, |all, word| (all << 32) | u128::from(*word)),
        )
        .to_canonical(),
        other => return Err(Error::Family(other)),
    };
    Ok(Accepted {
        orig_dst: OrigDst(SocketAddr::new(ip, port)),
        source,
        process: into_process(process),
        confinement: None,
        enrolled: CgroupId(enrolled),
        netns_cookie,
        socket_cookie,
    })
}

fn into_process(record: ProcessRecord) -> Process {
    let ProcessRecord {
        cgroup,
        start_ns,
        parent_start_ns,
        exe_ino,
        exe_dev,
        tgid,
        parent_tgid,
        uid,
        gid,
        pad: _,
        comm,
    } = record;
    let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Process {
        key: ProcessKey { tgid, start_ns },
        provenance: Provenance {
            ancestors: (parent_tgid != 0)
                .then_some(ProcessKey { tgid: parent_tgid, start_ns: parent_start_ns })
                .into_iter()
                .collect(),
            ..Provenance::default()
        },
        uid,
        gid,
        cgroup: CgroupId(cgroup),
        exe: (exe_ino != 0).then_some(Inode { dev: exe_dev, ino: exe_ino }),
        exe_path: None,
        exe_sha256: None,
        comm: String::from_utf8_lossy(comm).into(),
    }
}
