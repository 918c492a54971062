//! The listening sockets that the kernel redirects to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel queues while the accept loop is busy: what 10,000 agents open in a
/// second at the measured accept rate of more than 4,096 in half a second.
const BACKLOG: i32 = 4_096;

/// How often another port is tried where the one that is free on 127.0.0.1 is taken on ::1.
const PORTS_TRIED: u32 = 16;

/// Listeners on 127.0.0.1 and ::1. The caller must have joined the proxy's cgroup before: sockets
/// belong to the cgroup they are created in, and only there does the kernel keep the record.
///
/// No `SO_REUSEPORT`: another process of the same user could join the group.
pub fn bind(port: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = listen((Ipv4Addr::LOCALHOST, port).into())?;
    let port = v4.local_addr()?.port();
    match listen((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(v6) => Ok(vec![v4, v6]),
        // Without IPv6, or without ::1, there is nothing in IPv6 to redirect to.
        Err(error)
            if [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Ok(vec![v4])
        }
        Err(error) => Err(error),
    }
}

/// Listeners as of [`bind`], on a port that is free on both addresses.
pub fn bind_anywhere() -> io::Result<Vec<TcpListener>> {
    let mut tried = 0;
    loop {
        match bind(0) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tried < PORTS_TRIED => {
                tried += 1;
            }
            bound => return bound,
        }
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
