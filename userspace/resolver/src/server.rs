//! The forwarder's thread: its sockets, who is let in, how it ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use identity::names::Names;
use identity::{Enrollments, Processes};
use journal::recorder::{Durable as Committed, Health, Recorder};
use policy::PolicySet;
use tokio::net::UdpSocket;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tracing::{debug, error, warn};
use types::accepted::Accepted;
use types::clock::Clock;
use types::principal::Principal;

use crate::answer::Transport;
use crate::budget::Budgets;
use crate::client::Clients;
use crate::counters::Counters;
use crate::hosts::Hosts;
use crate::ledger::{Durable, Ledger};
use crate::message::{QUESTION_BYTES_MAX, Question, Unfit};
use crate::stream::{self, Connection};
use crate::upstream::Upstream;
use crate::{Asker, Targets};

/// Datagrams taken up at once, before it is known whose they are: 2,048 × (4 KiB + a task of about
/// 4 KiB) = 16 MiB. More are dropped, and asked again by their clients.
const DATAGRAMS_MAX: usize = 2_048;

/// Connections at once: 256 × 16 KiB = 4 MiB.
const CONNECTIONS_MAX: usize = 256;

/// Connections and sockets handed over and not yet taken up.
const HANDED_OVER_MAX: usize = 256;

/// How often idle sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// After a failed receive the loop rests, so that it does not spin.
const RECEIVE_REST: Duration = Duration::from_millis(50);

/// What the forwarder shares with the rest of the daemon.
pub struct Resources {
    /// The kernel's records of datagrams.
    pub asker: Arc<dyn Asker>,
    /// What targets say of names.
    pub targets: Arc<dyn Targets>,
    /// Which cgroup is which agent.
    pub enrollments: Arc<Enrollments>,
    /// What is known of agents' processes.
    pub processes: Arc<Processes>,
    /// Whether BPF LSM programs hold the agents of this host.
    pub guarded: bool,
    /// Which names may be looked up.
    pub policy: Arc<PolicySet>,
    /// The journal.
    pub recorder: Recorder,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Where answers are kept, for targets that have names.
    pub names: Arc<Names>,
    /// Counts.
    pub counters: Arc<Counters>,
}

/// How the forwarder works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The servers to ask; those of `/etc/resolv.conf` where there are none.
    pub upstream: Vec<SocketAddr>,
    /// The hosts file.
    pub hosts: Arc<Hosts>,
    /// Questions that one agent may ask a second.
    pub queries_per_second: u32,
}

/// A socket that datagrams come to, and its network namespace's cookie.
#[derive(Debug)]
pub struct Socket {
    /// The cookie.
    pub netns_cookie: u64,
    /// The socket; answers leave by it.
    pub socket: StdUdpSocket,
}

/// How far the journal is durable, told to the forwarder.
#[derive(Debug, Default)]
pub struct Progress(watch::Sender<Durable>);

impl Progress {
    /// Takes the committer's word.
    pub fn publish(&self, committed: &Committed) {
        let Committed { lsn, rows: _, health } = committed;
        let has_failed = matches!(health, Health::Failing(_) | Health::Failed(_));
        self.0.send_modify(|durable| {
            durable.lsn = durable.lsn.max(lsn.0);
            durable.has_failed = has_failed;
        });
    }
}

/// Hands things over to the forwarder.
#[derive(Clone, Debug)]
pub struct Handle {
    connections: mpsc::Sender<Connection>,
    changes: mpsc::Sender<Change>,
}

#[derive(Debug)]
enum Change {
    Listen(Socket),
    Forget(u64),
}

impl Handle {
    /// Hands over a connection that an agent made to a DNS server; answers whether it was taken.
    pub fn serve(
        &self,
        stream: std::net::TcpStream,
        accepted: Accepted,
        principal: Principal,
    ) -> bool {
        self.connections.try_send(Connection { stream, accepted, principal }).is_ok()
    }

    /// Hands over the socket of a network namespace; answers whether it was taken.
    pub fn listen(&self, socket: Socket) -> bool {
        self.changes.try_send(Change::Listen(socket)).is_ok()
    }

    /// Closes the sockets of a network namespace that is gone; answers whether that was heard.
    pub fn forget(&self, netns_cookie: u64) -> bool {
        self.changes.try_send(Change::Forget(netns_cookie)).is_ok()
    }
}

/// Starts the forwarder on a thread of its own. It ends when `stop` becomes true: sessions are
/// closed, each with its record.
pub fn start(
    resources: Resources,
    options: Options,
    sockets: Vec<Socket>,
    progress: &Progress,
    stop: watch::Receiver<bool>,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let (connections, arriving) = mpsc::channel(HANDED_OVER_MAX);
    let (changes, changing) = mpsc::channel(HANDED_OVER_MAX);
    let progress = progress.0.subscribe();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            let forwarder = Rc::new(Forwarder::new(resources, options, progress));
            let mut listeners = Listeners::default();
            for socket in sockets {
                listeners.listen(&forwarder, socket);
            }
            let work = attend(&forwarder, listeners, arriving, changing);
            tokio::select! {
                () = work => {}
                () = stopped(stop) => {}
            }
            forwarder.clients.close(&forwarder.ledger);
        });
    };
    let thread = thread::Builder::new().name("resolver".into()).spawn(work)?;
    Ok((Handle { connections, changes }, thread))
}

/// What all questions share; lives on the forwarder's thread.
pub(crate) struct Forwarder {
    pub(crate) resources: Arc<Resources>,
    pub(crate) ledger: Ledger,
    pub(crate) budgets: RefCell<Budgets>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) upstream: Upstream,
    pub(crate) clients: Clients,
    datagrams: Arc<Semaphore>,
}

impl Forwarder {
    fn new(resources: Resources, options: Options, progress: watch::Receiver<Durable>) -> Self {
        let Options { upstream, hosts, queries_per_second } = options;
        let ledger = Ledger {
            recorder: resources.recorder.clone(),
            clock: Arc::clone(&resources.clock),
            progress,
        };
        Self {
            resources: Arc::new(resources),
            ledger,
            budgets: RefCell::new(Budgets::new(queries_per_second)),
            hosts,
            upstream: Upstream::new(&upstream),
            clients: Clients::default(),
            datagrams: Arc::new(Semaphore::new(DATAGRAMS_MAX)),
        }
    }

    /// Answers one datagram, if its sender is an agent.
    async fn datagram(&self, socket: &UdpSocket, from: (u64, SocketAddr), bytes: &[u8]) {
        let (netns_cookie, peer) = from;
        let counters = &self.resources.counters;
        let Ok(accepted) = self.resources.asker.asker(netns_cookie, peer) else {
            counters.strangers.up();
            return debug!(%peer, "a datagram without a kernel record");
        };
        let answer = match Question::parse(bytes) {
            Ok(question) => match self.clients.of(accepted, &self.resources, &self.ledger).await {
                Ok(client) => {
                    let Some(client) = client.get() else { return };
                    self.answer(client, &question, (Transport::Udp, bytes.len())).await
                }
                Err(error) => return warn!(%error, "a question of nobody"),
            },
            Err(unfit) => {
                counters.malformed.up();
                match unfit {
                    Unfit::Answer(answer) => answer,
                    Unfit::Silent => return,
                }
            }
        };
        // By the socket it came to: only its namespace has a way back to the agent.
        if let Err(error) = socket.send_to(&answer, peer).await {
            debug!(%error, "an answer could not be sent");
        }
    }
}

/// The sockets of each network namespace.
#[derive(Default)]
struct Listeners(HashMap<u64, Vec<AbortHandle>>);

impl Listeners {
    fn listen(&mut self, forwarder: &Rc<Forwarder>, socket: Socket) {
        let Socket { netns_cookie, socket } = socket;
        let socket = match socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket)) {
            Ok(socket) => Rc::new(socket),
            Err(error) => return error!(%error, "a socket for questions can't be used"),
        };
        let task = spawn_local(receive(Rc::clone(forwarder), socket, netns_cookie));
        self.0.entry(netns_cookie).or_default().push(task.abort_handle());
    }

    fn forget(&mut self, netns_cookie: u64) {
        for task in self.0.remove(&netns_cookie).into_iter().flatten() {
            task.abort();
        }
    }
}

/// Takes in connections and sockets, and keeps house.
async fn attend(
    forwarder: &Rc<Forwarder>,
    mut listeners: Listeners,
    mut arriving: mpsc::Receiver<Connection>,
    mut changing: mpsc::Receiver<Change>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            Some(connection) = arriving.recv() => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    forwarder.resources.counters.limited.up();
                    continue;
                };
                let serving = stream::serve(Rc::clone(forwarder), connection);
                drop(spawn_local(async move {
                    serving.await;
                    drop(place);
                }));
            }
            Some(change) = changing.recv() => match change {
                Change::Listen(socket) => listeners.listen(forwarder, socket),
                Change::Forget(netns_cookie) => listeners.forget(netns_cookie),
            },
            _ = sweep.tick() => forwarder.clients.sweep(&forwarder.ledger),
        }
    }
}

async fn receive(forwarder: Rc<Forwarder>, socket: Rc<UdpSocket>, netns_cookie: u64) {
    // One byte more than is looked at, so that a longer one is seen to be longer.
    let mut buffer = vec![0; QUESTION_BYTES_MAX + 1];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "receive failed");
                tokio::time::sleep(RECEIVE_REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&forwarder.datagrams).try_acquire_owned() else {
            forwarder.resources.counters.limited.up();
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let (forwarder, socket) = (Rc::clone(&forwarder), Rc::clone(&socket));
        drop(spawn_local(async move {
            forwarder.datagram(&socket, (netns_cookie, peer), &bytes).await;
            drop(place);
        }));
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    drop(stop.wait_for(|stopped| *stopped).await);
}
