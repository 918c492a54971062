//! Where an accepted connection wanted to go, and who made it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use redirect_common::{AF_INET, AF_INET6, ConnectRecord, DatagramKey, ProcessRecord};
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

    /// The kernel's record of who sends DNS datagrams from `client` in a network namespace; where
    /// to is the server that was asked. [`Error::NoRecord`] means that the datagram must be dropped.
    pub fn datagram(&self, netns_cookie: u64, client: SocketAddr) -> Result<Accepted, Error> {
        let key = DatagramKey {
            netns_cookie,
            address: words(client.ip().to_canonical()),
            port: client.port(),
            ..DatagramKey::default()
        };
        accepted(self.maps.datagram(&key)?, client)
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
    let ip = ip(family, address).ok_or(Error::Family(family))?;
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

/// An address as the programs write it; none for another family.
pub(crate) fn ip(family: u32, address: [u32; 4]) -> Option<IpAddr> {
    let [first, ..] = address;
    match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(first.to_ne_bytes()))),
        // An IPv4-mapped address means the IPv4 host.
        AF_INET6 => Some(
            Ipv6Addr::from(
                address
                    .map(u32::from_be)
                    .iter()
                    .fold(0, |all, word| (all << 32) | u128::from(*word)),
            )
            .to_canonical(),
        ),
        _ => None,
    }
}

/// An address as the programs read it.
fn words(ip: IpAddr) -> [u32; 4] {
    match ip {
        IpAddr::V4(ip) => [u32::from_ne_bytes(ip.octets()), 0, 0, 0],
        IpAddr::V6(ip) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(ip.octets().as_chunks::<4>().0) {
                *word = u32::from_ne_bytes(*bytes);
            }
            words
        }
    }
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
