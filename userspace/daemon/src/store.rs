//! Listening sockets in the supervisor's keeping (systemd's file-descriptor store): they outlive a
//! kill, so that connections made meanwhile wait for the next daemon and are not refused.
//!
//! A name says what a socket is, `FAMILY-NETNS-CGROUP` with both ids in hexadecimal; what does not
//! match its name is dropped. The cgroup is the one it was made in: the kernel keeps records of
//! accepted connections only there, and a cgroup that was removed and made anew is another one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use redirect::netns;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketType, ipproto};
use sd_notify::NotifyState;
use tracing::warn;
use types::id::CgroupId;

/// Where the listeners of one network namespace are.
pub(crate) type Pair = Vec<TcpListener>;

/// Takes what an earlier daemon stored: sound listeners by their namespace's cookie. Everything
/// else is closed and struck from the store.
pub(crate) fn take(proxy: CgroupId) -> BTreeMap<u64, Pair> {
    let mut kept: BTreeMap<u64, Pair> = BTreeMap::new();
    let handed_over = redirect::inherited::take().unwrap_or_else(|error| {
        warn!(%error, "what the supervisor keeps can't be taken");
        Vec::new()
    });
    for (name, fd) in handed_over {
        match examine(&name, fd, proxy) {
            Ok((cookie, listener)) => kept.entry(cookie).or_default().push(listener),
            Err(error) => {
                warn!(name, error = format!("{error:#}"), "a stored socket is not as it should be");
                forget_name(&name);
            }
        }
    }
    kept
}

/// Gives a namespace's listeners to the supervisor as well; without one, nothing happens.
pub(crate) fn keep(cookie: u64, proxy: CgroupId, pair: &Pair) {
    for listener in pair {
        let stored = listener.local_addr().and_then(|addr| {
            let name = name(addr.ip(), cookie, proxy);
            let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
            sd_notify::notify_with_fds(&state, &[listener.as_fd()])
        });
        if let Err(error) = stored {
            warn!(%error, "a listener is not stored: a restart will refuse connections meanwhile");
        }
    }
}

/// Strikes a namespace's listeners from the store.
pub(crate) fn forget(cookie: u64, proxy: CgroupId) {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        forget_name(&name(ip, cookie, proxy));
    }
}

fn forget_name(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify(&state) {
        warn!(%error, name, "the supervisor keeps a socket that nobody needs");
    }
}

fn name(ip: IpAddr, cookie: u64, proxy: CgroupId) -> String {
    let family = if ip.is_ipv4() { TCP4 } else { TCP6 };
    format!("{family}-{cookie:x}-{:x}", proxy.0)
}

const TCP4: &str = "tcp4";
const TCP6: &str = "tcp6";

/// The listener and its namespace's cookie, if the socket is what its name says.
fn examine(name: &str, fd: OwnedFd, proxy: CgroupId) -> Result<(u64, TcpListener)> {
    let mut parts = name.split('-');
    let mut part = || parts.next().with_context(|| "the name is none of ours");
    let (family, cookie, cgroup) = (part()?, part()?, part()?);
    let host: IpAddr = match family {
        TCP4 => Ipv4Addr::LOCALHOST.into(),
        TCP6 => Ipv6Addr::LOCALHOST.into(),
        _ => anyhow::bail!("the name is none of ours"),
    };
    let cookie = u64::from_str_radix(cookie, 16).context("no cookie")?;
    let cgroup = u64::from_str_radix(cgroup, 16).context("no cgroup")?;
    ensure!(cgroup == proxy.0, "it was made in another cgroup");
    ensure!(is_tcp_listener(fd.as_fd())?, "it is no listening TCP socket");
    ensure!(netns::cookie_of(fd.as_fd())? == cookie, "it is in another network namespace");
    let listener = TcpListener::from(fd);
    ensure!(listener.local_addr()?.ip() == host, "it listens on another address");
    listener.set_nonblocking(true)?;
    Ok((cookie, listener))
}

fn is_tcp_listener(fd: BorrowedFd<'_>) -> Result<bool> {
    let protocol = rustix::net::sockopt::socket_protocol(fd)?;
    Ok(socket_type(fd)? == SocketType::STREAM
        && protocol == Some(ipproto::TCP)
        && socket_acceptconn(fd)?)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_is_taken_only_for_what_it_is() {
        let proxy = CgroupId(0x2a);
        let cookie = netns::Namespace::own().unwrap().cookie();
        let sound = name(Ipv4Addr::LOCALHOST.into(), cookie, proxy);
        let listen = |host: &str| OwnedFd::from(TcpListener::bind((host, 0)).unwrap());
        let (found, _) = examine(&sound, listen("127.0.0.1"), proxy).unwrap();
        assert_eq!(found, cookie);

        let refused = |name: &str, fd: OwnedFd| examine(name, fd, proxy).unwrap_err().to_string();
        assert!(refused(&sound, listen("127.0.0.2")).contains("address"));
        assert!(refused(&sound, listen("::1")).contains("address"));
        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        assert!(refused(&sound, udp.into()).contains("no listening TCP socket"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(refused(&sound, connected.into()).contains("no listening TCP socket"));
        let elsewhere = name(Ipv4Addr::LOCALHOST.into(), cookie + 1, proxy);
        assert!(refused(&elsewhere, listen("127.0.0.1")).contains("namespace"));
        let older = name(Ipv4Addr::LOCALHOST.into(), cookie, CgroupId(7));
        assert!(refused(&older, listen("127.0.0.1")).contains("cgroup"));
        for other in ["", "stored", "tcp4", "tcp4-x-2a", "udp4-1-2a"] {
            assert!(examine(other, listen("127.0.0.1"), proxy).is_err(), "{other}");
        }
    }
}
