//! Where an accepted connection wanted to go, and who made it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use redirect_common::{
    AF_INET, AF_INET6, ConnectRecord, LINEAGE_WHOLE, PROCESS_LOGIN, PROCESS_NO_NEW_PRIVS,
    ProcessRecord,
};
use types::accepted::Accepted;
use types::addr::OrigDst;
use types::id::CgroupId;
use types::principal::{Confinement, ImageKey, Inode, Login, Process, ProcessKey, Provenance};

use crate::{Error, Kernel};

/// `seccomp.mode` with a filter (linux/seccomp.h).
const SECCOMP_MODE_FILTER: u32 = 2;

impl Kernel {
    /// The kernel's record of an accepted connection; `source` is the peer's address. One system
    /// call. [`Error::NoRecord`] means that the connection must be dropped.
    pub fn accepted(&self, fd: BorrowedFd<'_>, source: SocketAddr) -> Result<Accepted, Error> {
        accepted(&self.maps.record(fd)?, source)
    }
}

pub(crate) fn accepted(record: &ConnectRecord, source: SocketAddr) -> Result<Accepted, Error> {
    let ConnectRecord {
        socket_cookie,
        netns_cookie,
        enrolled,
        at_ns: _,
        address,
        family,
        port,
        protocol: _,
        process,
    } = *record;
    let ip = ip(family, address).ok_or(Error::Family(family))?;
    Ok(Accepted {
        orig_dst: OrigDst(SocketAddr::new(ip, port)),
        source,
        process: into_process(&process),
        confinement: Some(confinement(&process)),
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
pub(crate) fn words(ip: IpAddr) -> [u32; 4] {
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

fn into_process(record: &ProcessRecord) -> Process {
    let confinement = confinement(record);
    let ProcessRecord {
        cgroup,
        start_ns,
        exe_ino,
        image_ns,
        cap_effective: _,
        ancestors,
        exe_dev,
        tgid,
        image_tgid,
        uid,
        gid,
        euid: _,
        loginuid,
        sessionid,
        seccomp: _,
        flags,
        comm,
    } = *record;
    let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    let known = ancestors.iter().take_while(|ancestor| ancestor.tgid != 0);
    Process {
        key: ProcessKey { tgid, start_ns },
        provenance: Provenance {
            ancestors: known
                .map(|id| ProcessKey { tgid: id.tgid, start_ns: id.start_ns })
                .collect(),
            whole: flags & LINEAGE_WHOLE != 0,
            image: (image_ns != 0).then_some(ImageKey { tgid: image_tgid, at_ns: image_ns }),
            command_line: None,
            container: None,
            confinement: Some(confinement),
            login: (flags & PROCESS_LOGIN != 0)
                .then_some(Login { uid: loginuid, session: sessionid }),
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

fn confinement(record: &ProcessRecord) -> Confinement {
    Confinement {
        euid: record.euid,
        effective_capabilities: record.cap_effective,
        no_new_privs: record.flags & PROCESS_NO_NEW_PRIVS != 0,
        seccomp_filter: record.seccomp == SECCOMP_MODE_FILTER,
    }
}
