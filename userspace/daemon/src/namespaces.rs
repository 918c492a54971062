//! The network namespaces that agents connect from, each with listeners of its own.
//!
//! The kernel refuses and announces connections from a namespace it has no listener for. We enter
//! it, listen there, and tell the kernel; the next connection is redirected. A namespace is let go
//! when no agent's process is in it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};
use journal::recorder::Recorder;
use proxy::accept::Accepting;
use proxy::door::Netns;
use proxy::listener;
use redirect::netns::{Namespace, loopback_up};
use redirect::{AgentProcess, Kernel};
use tracing::{info, warn};
use types::id::CgroupId;

use crate::names::{self, Service};
use crate::store::{self, Pair};

/// Namespaces of one agent at once: containers of one pod share one, so 64 are plenty, and 16
/// agents that make them as fast as they can still leave none to the others' expense.
const PER_AGENT_MAX: usize = 64;

/// Threads of one process that are looked at for their namespace.
const THREADS_MAX: usize = 4_096;

/// The namespaces with a listener.
pub(crate) struct Namespaces {
    kernel: Arc<Kernel>,
    recorder: Recorder,
    port: u16,
    /// Who answers look-ups, in whatever namespace.
    names: Arc<Service>,
    /// Namespaces other than this process's own, by cookie.
    places: Mutex<BTreeMap<u64, Place>>,
    accepting: OnceLock<Accepting>,
}

struct Place {
    namespace: Arc<Namespace>,
    inode: u64,
    /// Whose process was first seen in it.
    agent: CgroupId,
    /// Nobody was in it at the last sweep.
    is_empty: bool,
}

impl Namespaces {
    /// None yet; `port` is the listener's, wherever it is free.
    pub(crate) fn new(
        kernel: Arc<Kernel>,
        recorder: Recorder,
        (port, names): (u16, Arc<Service>),
    ) -> Self {
        let (places, accepting) = (Mutex::default(), OnceLock::new());
        Self { kernel, recorder, port, names, places, accepting }
    }

    /// Listens in this process's own namespace and in those that agents are in: with the sockets
    /// that the supervisor kept, or new ones.
    pub(crate) fn open(&self, accepting: Accepting) -> Result<()> {
        let proxy = self.kernel.proxy_cgroup()?;
        let mut stored = store::take(proxy);
        let own = self.kernel.own_netns();
        let kept = stored.remove(&own).filter(|pair| listens_on(pair, self.port));
        let taken = kept.is_some();
        let pair = if let Some(pair) = kept {
            pair
        } else {
            store::forget(own, proxy);
            let pair = listener::bind(self.port).with_context(|| {
                format!("port {} can't be listened on; see listener.port", self.port)
            })?;
            store::keep(own, proxy, &pair);
            pair
        };
        info!(port = self.port, from_store = taken, "listening");
        accepting.open(own, pair);
        ensure!(self.accepting.set(accepting).is_ok(), "opened twice");
        for cookie in self.kernel.listening()? {
            if cookie != own && !stored.contains_key(&cookie) {
                self.kernel.unlisten(cookie)?;
            }
        }
        for (cookie, pair) in stored {
            if let Err(error) = self.resume(cookie, pair) {
                warn!(cookie, error = format!("{error:#}"), "a namespace is given up");
                self.kernel.unlisten(cookie)?;
                store::forget(cookie, proxy);
            }
        }
        self.discover();
        Ok(())
    }

    /// Takes up a namespace with the listeners that an earlier daemon made there.
    fn resume(&self, cookie: u64, pair: Pair) -> Result<()> {
        let first = pair.first().context("no listener")?;
        let port = first.local_addr()?.port();
        ensure!(listens_on(&pair, port), "its listeners are on different ports");
        let namespace = Namespace::of_socket(std::os::fd::AsFd::as_fd(first))?;
        let inode = namespace.inode()?;
        let there = self.kernel.processes()?;
        let agent = there.iter().find(|process| is_in(**process, inode));
        let agent = agent.context("no agent is in it")?.enrolled;
        let sockets = self.sockets_for_names(&namespace);
        self.places().insert(cookie, Place::new(namespace, inode, agent));
        self.kernel.listen(cookie, port, port_of(&sockets))?;
        self.accept(cookie, pair);
        self.names.listen(cookie, sockets);
        Ok(())
    }

    /// Listens where agents are that an earlier daemon enrolled.
    fn discover(&self) {
        let processes = match self.kernel.processes() {
            Ok(processes) => processes,
            Err(error) => return warn!(%error, "agents' processes can't be listed"),
        };
        for AgentProcess { tgid, enrolled } in processes {
            self.listen_at(tgid, enrolled);
        }
    }

    /// Listens in the namespaces of a process that is about to become, or is, an agent's. If that
    /// fails its connections stay refused.
    pub(crate) fn listen_at(&self, tgid: u32, agent: CgroupId) {
        self.listen_where(tgid, agent, |_| true);
    }

    /// Listens in a namespace that the kernel refused a connection from. The process may have gone,
    /// and its number be another's: only the namespace of that cookie is meant.
    pub(crate) fn announced(&self, cookie: u64, tgid: u32, agent: CgroupId) {
        self.listen_where(tgid, agent, |namespace| namespace.cookie() == cookie);
    }

    fn listen_where(&self, tgid: u32, agent: CgroupId, is_meant: impl Fn(&Namespace) -> bool) {
        // Before that, nobody would accept; where agents are is found out at the start.
        if self.accepting.get().is_none() {
            return;
        }
        let known: BTreeSet<u64> = self.places().values().map(|place| place.inode).collect();
        let own = fs::read_link("/proc/self/ns/net").ok();
        for path in links(tgid) {
            let Ok(link) = fs::read_link(&path) else { continue };
            if own.as_ref() == Some(&link) || inode(&link).is_none_or(|i| known.contains(&i)) {
                continue;
            }
            let listening = File::open(&path)
                .and_then(Namespace::open)
                .context("it can't be entered")
                .and_then(|namespace| {
                    if is_meant(&namespace) {
                        self.listen(namespace, agent, tgid)?;
                    }
                    Ok(())
                });
            if let Err(error) = listening {
                let error = format!("{error:#}");
                warn!(tgid, error, "no listener in a namespace: its connections are refused");
            }
        }
    }

    fn listen(&self, namespace: Namespace, agent: CgroupId, tgid: u32) -> Result<()> {
        let (cookie, inode) = (namespace.cookie(), namespace.inode()?);
        let mut places = self.places();
        if cookie == self.kernel.own_netns() || places.contains_key(&cookie) {
            return Ok(());
        }
        let of_agent = places.values().filter(|place| place.agent == agent).count();
        ensure!(of_agent < PER_AGENT_MAX, "the agent is in {PER_AGENT_MAX} namespaces already");
        let port = self.port;
        let pair = namespace.within(|| {
            loopback_up()?;
            // The namespace is the agent's: it may have taken the port there.
            listener::bind(port).or_else(|_| listener::bind_anywhere())
        })?;
        let port = pair.first().context("no listener")?.local_addr()?.port();
        let sockets = self.sockets_for_names(&namespace);
        self.kernel.listen(cookie, port, port_of(&sockets))?;
        places.insert(cookie, Place::new(namespace, inode, agent));
        drop(places);
        store::keep(cookie, self.kernel.proxy_cgroup()?, &pair);
        self.accept(cookie, pair);
        self.names.listen(cookie, sockets);
        info!(cookie, port, tgid, "listening in a network namespace");
        let detail = serde_json::json!({
            "netns_cookie": cookie, "port": port, "pid": tgid, "cgroup": agent.0,
        });
        self.recorder.control("netns.listening", &detail.to_string())?;
        Ok(())
    }

    /// Lets go of namespaces that no agent was in at this and the previous call: twice, so that
    /// one that is just starting has time to enter.
    pub(crate) fn sweep(&self) {
        if self.places().is_empty() {
            return;
        }
        let processes = match self.kernel.processes() {
            Ok(processes) => processes,
            Err(error) => return warn!(%error, "agents' processes can't be listed"),
        };
        let tgids = processes.iter().map(|process| process.tgid);
        let there: BTreeSet<u64> = tgids.flat_map(inodes).collect();
        let mut left = Vec::new();
        self.places().retain(|cookie, place| {
            let was_empty = std::mem::replace(&mut place.is_empty, !there.contains(&place.inode));
            let stays = !(was_empty && place.is_empty);
            if !stays {
                left.push(*cookie);
            }
            stays
        });
        for cookie in left {
            if let Err(error) = self.leave(cookie) {
                warn!(cookie, error = format!("{error:#}"), "a namespace is not let go of cleanly");
            }
        }
    }

    fn leave(&self, cookie: u64) -> Result<()> {
        self.kernel.unlisten(cookie)?;
        if let Some(accepting) = self.accepting.get() {
            accepting.close(cookie);
        }
        self.names.forget(cookie);
        store::forget(cookie, self.kernel.proxy_cgroup()?);
        info!(cookie, "no agent is in the network namespace any more");
        let detail = serde_json::json!({ "netns_cookie": cookie });
        self.recorder.control("netns.left", &detail.to_string())?;
        Ok(())
    }

    /// Sockets for look-ups in a namespace; none where they are not answered, and then the kernel
    /// refuses them there.
    fn sockets_for_names(&self, namespace: &Namespace) -> Vec<UdpSocket> {
        if !self.names.is_running() {
            return Vec::new();
        }
        namespace.within(|| names::bind(0)).unwrap_or_else(|error| {
            warn!(%error, "look-ups of a network namespace are refused");
            Vec::new()
        })
    }

    /// Takes every listener out of the supervisor's keeping: nobody will be sent to it any more.
    pub(crate) fn forget(&self) {
        match self.kernel.proxy_cgroup() {
            Ok(proxy) => {
                store::forget(self.kernel.own_netns(), proxy);
                self.places().keys().for_each(|cookie| store::forget(*cookie, proxy));
            }
            Err(error) => warn!(%error, "listeners stay with the supervisor"),
        }
    }

    fn accept(&self, cookie: u64, pair: Pair) {
        if let Some(accepting) = self.accepting.get() {
            accepting.open(cookie, pair);
        }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Netns for Namespaces {
    fn is_own(&self, cookie: u64) -> bool {
        cookie == self.kernel.own_netns()
    }

    fn within(
        &self,
        cookie: u64,
        work: &mut (dyn FnMut() -> io::Result<()> + Send),
    ) -> io::Result<()> {
        let place = self.places().get(&cookie).map(|place| Arc::clone(&place.namespace));
        let namespace = place.ok_or_else(|| io::Error::other("the network namespace is gone"))?;
        namespace.within(work)
    }
}

impl Place {
    fn new(namespace: Namespace, inode: u64, agent: CgroupId) -> Self {
        Self { namespace: Arc::new(namespace), inode, agent, is_empty: false }
    }
}

fn port_of(sockets: &[UdpSocket]) -> u16 {
    sockets.first().and_then(|socket| socket.local_addr().ok()).map_or(0, |addr| addr.port())
}

fn listens_on(pair: &Pair, port: u16) -> bool {
    let on_port = |listener: &std::net::TcpListener| {
        listener.local_addr().is_ok_and(|addr| addr.port() == port)
    };
    let has_v4 = pair.iter().any(|listener| listener.local_addr().is_ok_and(|addr| addr.is_ipv4()));
    has_v4 && pair.iter().all(on_port)
}

/// Each thread's link to its namespace: threads may be in different ones.
fn links(tgid: u32) -> impl Iterator<Item = PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{tgid}/task")).into_iter().flatten().flatten();
    tasks.take(THREADS_MAX).map(|task| task.path().join("ns/net"))
}

/// The namespaces a process's threads are in; none of one that has ended.
fn inodes(tgid: u32) -> BTreeSet<u64> {
    links(tgid).filter_map(|path| inode(&fs::read_link(path).ok()?)).collect()
}

fn is_in(process: AgentProcess, namespace: u64) -> bool {
    inodes(process.tgid).contains(&namespace)
}

/// Of `net:[INODE]` (namespaces(7)).
fn inode(link: &std::path::Path) -> Option<u64> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
