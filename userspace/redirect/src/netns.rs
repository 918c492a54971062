//! Network namespaces: which one a socket or a process is in, and doing something inside one.
//!
//! A thread enters a namespace and ends there; nothing of this process stays behind in it but the
//! sockets made. A socket keeps the namespace (and the cgroup) it was made in, wherever it is used.
#![expect(unsafe_code, reason = "setns, ioctl and socket options without a safe wrapper")]

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

/// ioctl_ns(2)'s sibling for sockets: a descriptor of the socket's network namespace.
const SIOCGSKNS: libc::Ioctl = 0x894c;

/// A network namespace, which lives as long as this does.
#[derive(Debug)]
pub struct Namespace {
    file: OwnedFd,
    cookie: u64,
}

impl Namespace {
    /// The calling thread's.
    pub fn own() -> io::Result<Self> {
        Self::of_socket(UdpSocket::bind(("127.0.0.1", 0))?.as_fd())
    }

    /// The one that a file below `/proc/PID/ns` or a bind mount of it names.
    pub fn open(file: File) -> io::Result<Self> {
        let mut namespace = Self { file: file.into(), cookie: 0 };
        namespace.cookie = namespace.within(|| cookie_of(datagram()?.as_fd()))?;
        Ok(namespace)
    }

    /// The one that a socket was made in. Needs `CAP_NET_ADMIN` there.
    pub fn of_socket(socket: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: the call takes a socket and no argument.
        let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
        check(fd)?;
        // SAFETY: the call has just made it, for us alone.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file, cookie: cookie_of(socket)? })
    }

    /// Its cookie: a number that no other namespace has or will have until the next boot.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Its inode number, as `/proc/PID/ns/net` links name it.
    pub fn inode(&self) -> io::Result<u64> {
        File::from(self.file.try_clone()?).metadata().map(|metadata| metadata.ino())
    }

    /// Runs `work` on a thread inside the namespace and waits for it: some 50 µs.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let enter_and_work = || {
                // SAFETY: the call changes this thread alone, which ends here.
                check(unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) })?;
                work()
            };
            let thread = thread::Builder::new().name("netns".into());
            let thread = thread.spawn_scoped(scope, enter_and_work)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })
    }
}

/// The cookie of the network namespace that a socket was made in (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn cookie_of(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut size = 8;
    // SAFETY: both pointers are to live variables of the size said.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    check(answer)?;
    Ok(cookie)
}

/// Brings up the loopback device of the calling thread's namespace. A namespace begins with it
/// down, and then nothing in it can be redirected.
pub fn loopback_up() -> io::Result<()> {
    let socket = datagram()?;
    // SAFETY: zero is a valid value of every field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the request lives and has a name that ends in NUL.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: the call above has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    if flags & up != 0 {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: as above.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) })
}

/// A socket to ask about its namespace: unbound, as an address may not be there yet.
fn datagram() -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: the call has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_socket_is_in_the_namespace_it_was_made_in() {
        let own = Namespace::own().unwrap();
        let name = format!("vestibule-ns-{}", std::process::id());
        let ip = |verb: &str| Command::new("ip").args(["netns", verb, &name]).status().unwrap();
        assert!(ip("add").success());
        let other = Namespace::open(File::open(format!("/run/netns/{name}")).unwrap());
        ip("delete");
        let other = other.unwrap();
        assert_ne!(own.cookie(), other.cookie());
        assert_ne!(own.inode().unwrap(), other.inode().unwrap());
        let listen = || {
            loopback_up()?;
            TcpListener::bind(("127.0.0.1", 0))
        };
        let listener = other.within(listen).unwrap();
        assert_eq!(cookie_of(listener.as_fd()).unwrap(), other.cookie());
        let again = Namespace::of_socket(listener.as_fd()).unwrap();
        assert_eq!(
            (again.cookie(), again.inode().unwrap()),
            (other.cookie(), other.inode().unwrap())
        );
        // This thread is where it was.
        assert_eq!(Namespace::own().unwrap().cookie(), own.cookie());
    }
}
