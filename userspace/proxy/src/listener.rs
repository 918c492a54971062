//! The listening sockets that the kernel redirects to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel queues while the accept loop is busy: what 10,000 agents open in a
/// second at the measured accept rate of more than 4,096 in half a second.
const BACKLOG: i32 = 4_096;

/// Listeners on 127.0.0.1 and ::1. The caller must have joined the proxy's cgroup before: sockets
/// belong to the cgroup they are created in, and only there does the kernel keep the record.
///
/// No `SO_REUSEPORT`: another process of the same user could join the group.
pub fn bind(port: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = listen((Ipv4Addr::LOCALHOST, port).into())?;
    match listen((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(v6) => Ok(vec![v4, v6]),
        // A host without IPv6 has no IPv6 connections to redirect.
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            Ok(vec![v4])
        }
        Err(error) => Err(error),
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
