//! The kernel's list of sockets, and ending them: sock_diag(7), linux/inet_diag.h.
//!
//! Each request looks at the network namespace of the thread that opened the [`Diag`].

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use types::id::CgroupId;

use crate::Error;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const INET_DIAG_CGROUP_ID: u16 = 21;
const UNIX_DIAG_PEER: u16 = 2;
const UDIAG_SHOW_PEER: u32 = 4;
/// `struct nlmsghdr`, `struct inet_diag_msg`, `struct unix_diag_msg`.
const HEADER: usize = 16;
const INET_MESSAGE: usize = 72;
const UNIX_MESSAGE: usize = 16;
/// `struct inet_diag_sockid`: ports, addresses, interface and cookie, as they stand.
const SOCKET_ID: usize = 48;
const COOKIE_AT: usize = 40;

/// The kernel answers a dump in parts of at most 32 KiB (`NLMSG_GOODSIZE` and larger readers').
const ANSWER_BYTES: usize = 64 * 1024;
/// Parts of one dump: 65,536 × 32 KiB hold 15 million sockets.
const PARTS_MAX: u32 = 65_536;
/// A socket that the kernel does not answer on is broken.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// TCP and UDP, in IPv4 and IPv6: what can be listed and ended.
const KINDS: [(u8, u8); 4] = [(2, 6), (10, 6), (2, 17), (10, 17)];

/// A socket in the kernel's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    family: u8,
    protocol: u8,
    id: [u8; SOCKET_ID],
    /// The cgroup it was made in; none for one that has only its last packets to come.
    pub(crate) cgroup: Option<CgroupId>,
    /// As `SO_COOKIE` says.
    pub(crate) cookie: u64,
}

/// A way to ask.
#[derive(Debug)]
pub(crate) struct Diag {
    socket: OwnedFd,
}

impl Diag {
    /// Opens it in this thread's network namespace.
    pub(crate) fn open() -> Result<Self, Error> {
        let call =
            |call| move |error: rustix::io::Errno| Error::Call { call, source: error.into() };
        let flags = SocketFlags::CLOEXEC;
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = rustix::net::socket_with(family, kind, flags, Some(SOCK_DIAG));
        let socket = socket.map_err(call("socket NETLINK_SOCK_DIAG"))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))
            .map_err(call("bind NETLINK_SOCK_DIAG"))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .map_err(call("setsockopt SO_RCVTIMEO"))?;
        Ok(Self { socket })
    }

    /// All TCP and UDP sockets of the namespace, in whatever state.
    pub(crate) fn sockets(&self) -> Result<Vec<Listed>, Error> {
        let mut found = Vec::new();
        for (family, protocol) in KINDS {
            let request = inet_request(family, protocol, &[0; SOCKET_ID]);
            let listed = self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, |message| {
                found.extend(parse_inet(protocol, message));
            });
            listed.map_err(|source| Error::Call { call: "listing sockets", source })?;
        }
        Ok(found)
    }

    /// Ends a socket: who waits on it sees ECONNABORTED. False if it has ended by itself.
    pub(crate) fn destroy(&self, socket: &Listed) -> Result<bool, Error> {
        let request = inet_request(socket.family, socket.protocol, &socket.id);
        match self.ask(SOCK_DESTROY, NLM_F_ACK, &request, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(Error::Call { call: "SOCK_DESTROY", source }),
        }
    }

    /// The inode of the Unix socket that the one with this inode is connected to; none if it is
    /// connected to none.
    pub(crate) fn unix_peer(&self, inode: u32) -> Result<Option<u32>, Error> {
        // struct unix_diag_req: family, protocol, pad, states, inode, show, no cookie.
        let mut request = vec![1, 0, 0, 0];
        request.extend(u32::MAX.to_ne_bytes());
        request.extend(inode.to_ne_bytes());
        request.extend(UDIAG_SHOW_PEER.to_ne_bytes());
        request.extend([0xff; 8]);
        let mut peer = None;
        self.ask(SOCK_DIAG_BY_FAMILY, 0, &request, |message| {
            let found = message.get(UNIX_MESSAGE..).and_then(|a| attribute(a, UNIX_DIAG_PEER));
            peer = found.and_then(|value| word(value, 0));
        })
        .map_err(|source| Error::Call { call: "looking a Unix socket up", source })?;
        Ok(peer)
    }

    /// Sends a request and passes each answer's payload on. Without NLM_F_DUMP and NLM_F_ACK, the
    /// first answer is all.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(payload);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut buffer = vec![0; ANSWER_BYTES];
        for _ in 0..PARTS_MAX {
            let (_, length) =
                rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
            let mut rest = buffer.get(..length).ok_or_else(|| malformed("a part too long"))?;
            while !rest.is_empty() {
                let length = word(rest, 0).ok_or_else(|| malformed("no header"))? as usize;
                let kind = half(rest, 4).ok_or_else(|| malformed("no header"))?;
                let body = rest.get(HEADER..length).ok_or_else(|| malformed("a wrong length"))?;
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return error_in(body),
                    _ => each(body),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            if flags == 0 {
                return Ok(());
            }
        }
        Err(malformed("more parts than sockets can be"))
    }
}

/// `struct inet_diag_req_v2`: every state, no extensions.
fn inet_request(family: u8, protocol: u8, id: &[u8; SOCKET_ID]) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(id);
    request
}

fn parse_inet(protocol: u8, message: &[u8]) -> Option<Listed> {
    let family = *message.first()?;
    let id: [u8; SOCKET_ID] = message.get(4..4 + SOCKET_ID)?.try_into().ok()?;
    let cookie = u64::from(word(&id, COOKIE_AT)?) | u64::from(word(&id, COOKIE_AT + 4)?) << 32;
    let cgroup = attribute(message.get(INET_MESSAGE..)?, INET_DIAG_CGROUP_ID);
    let cgroup = cgroup.and_then(|value| value.first_chunk::<8>());
    let cgroup = cgroup.map(|bytes| CgroupId(u64::from_ne_bytes(*bytes)));
    Some(Listed { family, protocol, id, cgroup, cookie })
}

/// The value of the first attribute of a kind (`struct rtattr`: length and kind, 16 bits each).
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if half(attributes, 2)? == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// `struct nlmsgerr`: zero is an acknowledgement.
fn error_in(body: &[u8]) -> io::Result<()> {
    match word(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(malformed("an error without a number")),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt::socket_cookie;

    use super::*;

    #[test]
    fn a_connection_is_listed_with_its_cgroup_and_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let cookie = socket_cookie(&stream).unwrap();
        let diag = Diag::open().unwrap();
        let find = || diag.sockets().unwrap().into_iter().find(|listed| listed.cookie == cookie);
        let listed = find().unwrap();
        assert!(listed.cgroup.is_some());
        assert!(diag.destroy(&listed).unwrap());
        let ended = stream.read(&mut [0]).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(find(), None);
        assert!(!diag.destroy(&listed).unwrap());
    }

    #[test]
    fn a_unix_socket_has_its_peer() {
        use std::os::unix::fs::MetadataExt;
        use std::os::unix::net::UnixStream;
        let inode = |stream: &UnixStream| {
            let fd = std::os::fd::AsRawFd::as_raw_fd(stream);
            let link = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap();
            u32::try_from(link.ino()).unwrap()
        };
        let (one, other) = UnixStream::pair().unwrap();
        let diag = Diag::open().unwrap();
        assert_eq!(diag.unix_peer(inode(&one)).unwrap(), Some(inode(&other)));
    }

    #[test]
    fn garbage_is_no_socket() {
        assert_eq!(parse_inet(6, &[2; 71]), None);
        assert_eq!(attribute(&[3, 0, 21, 0], 21), None);
        assert!(error_in(&[1]).is_err());
    }
}
