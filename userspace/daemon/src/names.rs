//! The DNS forwarder's place in the daemon: what it is given, and who it serves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use proxy::door::{Door, LocalService};
use proxy::flows::Bytes;
use proxy::targets::Mention;
use redirect::Kernel;
use resolver::counters::Counters;
use resolver::hosts::Hosts;
use resolver::{Asker, Handle, Options, Progress, Resources, Socket, Targets};
use tokio::sync::watch;
use tracing::{info, warn};
use types::accepted::Accepted;
use types::principal::Principal;

use crate::config::Config;

/// The forwarder, once it runs.
#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) progress: Arc<Progress>,
    pub(crate) counters: Arc<Counters>,
    handle: OnceLock<Handle>,
}

impl Service {
    /// Starts the forwarder for this process's own network namespace; the kernel side must be armed,
    /// so that its sockets are the daemon's.
    pub(crate) fn start(
        &self,
        config: &Config,
        door: &Arc<Door>,
        (kernel, hosts): (&Arc<Kernel>, Arc<Hosts>),
        stop: watch::Receiver<bool>,
    ) -> Result<JoinHandle<()>> {
        let resources = Resources {
            asker: Arc::new(Agents { door: Arc::clone(door), kernel: Arc::clone(kernel) }),
            targets: Arc::new(Configured(Arc::clone(door))),
            enrollments: Arc::clone(&door.enrollments),
            processes: Arc::clone(&door.processes),
            guarded: door.guarded,
            policy: Arc::clone(&door.policy),
            recorder: door.recorder.clone(),
            clock: Arc::clone(&door.clock),
            names: Arc::clone(&door.names),
            counters: Arc::clone(&self.counters),
        };
        let options = Options {
            upstream: config.dns.upstream()?,
            hosts,
            queries_per_second: config.dns.queries_per_second,
        };
        let port = config.dns.port;
        let own = kernel.own_netns();
        let sockets = bind(port)
            .with_context(|| format!("UDP port {port} can't be bound; see dns.port"))?
            .into_iter()
            .map(|socket| Socket { netns_cookie: own, socket })
            .collect();
        let (handle, thread) = resolver::start(resources, options, sockets, &self.progress, stop)?;
        ensure!(self.handle.set(handle).is_ok(), "started twice");
        info!(port, "answering look-ups");
        Ok(thread)
    }

    /// Answers look-ups from another network namespace as well.
    pub(crate) fn listen(&self, netns_cookie: u64, sockets: Vec<UdpSocket>) {
        let Some(handle) = self.handle.get() else { return };
        for socket in sockets {
            if !handle.listen(Socket { netns_cookie, socket }) {
                warn!(netns_cookie, "look-ups of a network namespace are not answered");
            }
        }
    }

    /// Closes the sockets of a network namespace.
    pub(crate) fn forget(&self, netns_cookie: u64) {
        if let Some(handle) = self.handle.get()
            && !handle.forget(netns_cookie)
        {
            warn!(netns_cookie, "the sockets of a network namespace stay");
        }
    }

    /// Look-ups that were no question, nobody's, or too many.
    pub(crate) fn dropped(&self) -> u64 {
        let Counters { malformed, strangers, limited, .. } = &*self.counters;
        malformed.get() + strangers.get() + limited.get()
    }

    /// Whether look-ups are answered.
    pub(crate) fn is_running(&self) -> bool {
        self.handle.get().is_some()
    }
}

impl LocalService for Service {
    fn serve(&self, stream: TcpStream, accepted: Accepted, principal: Principal) -> bool {
        self.handle.get().is_some_and(|handle| handle.serve(stream, accepted, principal))
    }
}

/// Sockets for look-ups on 127.0.0.1 and ::1, on one port; any that is free where it is 0.
pub(crate) fn bind(port: u16) -> io::Result<Vec<UdpSocket>> {
    let v4 = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    let port = v4.local_addr()?.port();
    match UdpSocket::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(v6) => Ok(vec![v4, v6]),
        // Without IPv6, or without ::1, there is nothing in IPv6 to redirect to.
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => Ok(vec![v4]),
        Err(error) => Err(error),
    }
}

/// Who asks, by the pinned maps.
struct Agents {
    door: Arc<Door>,
    kernel: Arc<Kernel>,
}

impl Asker for Agents {
    fn asker(&self, netns_cookie: u64, client: SocketAddr) -> io::Result<Accepted> {
        self.kernel.datagram(netns_cookie, client).map_err(io::Error::other)
    }

    fn connection_ended(&self, socket_cookie: u64, sent: u64, received: u64) {
        let (flows, now) = (&self.door.flows, self.door.clock.now());
        if let Some(difference) = flows.session_ended(socket_cookie, Bytes { sent, received }, now)
        {
            self.door.record_difference(&difference);
        }
    }
}

/// What the configured targets say of names.
struct Configured(Arc<Door>);

impl Targets for Configured {
    fn is_target(&self, name: &str) -> bool {
        self.0.targets.mention(name) > Mention::None
    }

    fn is_listed(&self, name: &str) -> bool {
        self.0.targets.mention(name) == Mention::Exact
    }

    fn has_address(&self, ip: IpAddr) -> bool {
        self.0.targets.has_address(ip)
    }
}
