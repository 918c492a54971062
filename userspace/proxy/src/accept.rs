//! Accepting, and the workers that serve.
//!
//! One thread accepts and deals connections out in turn; each worker is a thread with a
//! single-threaded runtime of its own, so a session never crosses threads.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener as AsyncListener;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, LocalSet};
use tracing::{error, warn};

use crate::door::Door;
use crate::durability::Waiters;
use crate::serve::{Worker, serve};

/// Connections dealt to one worker and not yet taken up: a burst of 1,024 waits here, the rest in
/// the kernel's backlog.
const DEALT_MAX: usize = 1_024;

/// After a failed accept (no file descriptors left) the loop rests, so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A worker's stack: the SQL grammar measures its depth against it. Virtual; touched only as deep as
/// statements nest.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Connections accepted and not yet sessions or refused, at most: each has a file open beside those that sessions
/// have, and the journal needs some, too. One more waits for each listener, others in the kernel's backlog.
const ENTERING_MAX: u64 = 1_024;

type Dealt = (std::net::TcpStream, SocketAddr, OwnedSemaphorePermit);

/// The running data path.
#[derive(Debug)]
pub struct Running {
    threads: Vec<thread::JoinHandle<()>>,
}

impl Running {
    /// Waits until every worker has ended, which they do once `stop` was sent.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a worker panicked");
            }
        }
    }
}

/// Tells the accept thread where to accept, at any time.
#[derive(Clone, Debug)]
pub struct Accepting(mpsc::UnboundedSender<Change>);

/// Two of these for each namespace that an agent enters and leaves, taken up at once.
#[derive(Debug)]
enum Change {
    Open(u64, Vec<TcpListener>),
    Close(u64),
}

impl Accepting {
    /// Accepts on a network namespace's listeners from now on; those it had before are closed.
    pub fn open(&self, netns_cookie: u64, listeners: Vec<TcpListener>) {
        self.change(Change::Open(netns_cookie, listeners));
    }

    /// Closes a network namespace's listeners; sessions stay.
    pub fn close(&self, netns_cookie: u64) {
        self.change(Change::Close(netns_cookie));
    }

    fn change(&self, change: Change) {
        if self.0.send(change).is_err() {
            warn!("the accept thread has ended");
        }
    }
}

/// Starts `workers` workers and the accept thread, with no listener yet. They end when `stop`
/// becomes true: the listeners close first, then sessions are cut, each with its record.
pub fn start(
    door: &Arc<Door>,
    workers: usize,
    stop: &watch::Receiver<bool>,
) -> io::Result<(Running, Accepting)> {
    let mut dealers = Vec::new();
    let mut threads = Vec::new();
    for number in 0..workers {
        let (dealer, dealt) = mpsc::channel(DEALT_MAX);
        dealers.push(dealer);
        let (door, stop) = (Arc::clone(door), stop.clone());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let local = LocalSet::new();
            local.block_on(&runtime, work(door, number, dealt, stop));
        };
        let worker = thread::Builder::new().name(format!("worker-{number}"));
        threads.push(worker.stack_size(STACK_BYTES).spawn(work)?);
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let stop = stop.clone();
    // Sessions have three eighths of few files, two each: a quarter of them is a tenth of the files.
    let entering = (door.sessions_max / 4).clamp(16, ENTERING_MAX);
    let entering = Arc::new(Semaphore::new(usize::try_from(entering).unwrap_or(16)));
    let (accepting, changes) = mpsc::unbounded_channel();
    let accept = move || {
        let local = LocalSet::new();
        local.spawn_local(accept_everywhere(changes, dealers, entering));
        local.block_on(&runtime, stopped(stop));
    };
    threads.push(thread::Builder::new().name("accept".into()).spawn(accept)?);
    Ok((Running { threads }, Accepting(accepting)))
}

/// Has a task for each listener; which there are, changes.
async fn accept_everywhere(
    mut changes: mpsc::UnboundedReceiver<Change>,
    dealers: Vec<mpsc::Sender<Dealt>>,
    entering: Arc<Semaphore>,
) {
    let mut tasks: BTreeMap<u64, Vec<JoinHandle<()>>> = BTreeMap::new();
    while let Some(change) = changes.recv().await {
        let (netns_cookie, listeners) = match change {
            Change::Open(netns_cookie, listeners) => (netns_cookie, listeners),
            Change::Close(netns_cookie) => (netns_cookie, Vec::new()),
        };
        for task in tasks.remove(&netns_cookie).unwrap_or_default() {
            task.abort();
        }
        if !listeners.is_empty() {
            let start = |listener| {
                let entering = Arc::clone(&entering);
                tokio::task::spawn_local(accept(listener, dealers.clone(), entering))
            };
            tasks.insert(netns_cookie, listeners.into_iter().map(start).collect());
        }
    }
    // Nobody can change it any more: what is open stays so until the stop.
    std::future::pending::<()>().await;
}

async fn accept(
    listener: TcpListener,
    dealers: Vec<mpsc::Sender<Dealt>>,
    entering: Arc<Semaphore>,
) {
    let listener = match AsyncListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "the listener can't be used"),
    };
    for dealer in dealers.iter().cycle() {
        let (stream, peer) = loop {
            match listener.accept().await.and_then(|(s, peer)| Ok((s.into_std()?, peer))) {
                Ok(accepted) => break accepted,
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        };
        // Now, and not before: a listener that nobody connects to takes no place from others.
        let Ok(place) = Arc::clone(&entering).acquire_owned().await else { return };
        if dealer.send((stream, peer, place)).await.is_err() {
            return;
        }
    }
}

async fn work(
    door: Arc<Door>,
    number: usize,
    mut dealt: mpsc::Receiver<Dealt>,
    stop: watch::Receiver<bool>,
) {
    let waiters = Rc::new(Waiters::new(Arc::clone(door.durability()), number));
    let worker = Rc::new(Worker::new(door, Rc::clone(&waiters)));
    let (committing, committed) = (Rc::clone(&worker), Rc::clone(&waiters));
    tokio::task::spawn_local(async move { committed.commit(&committing.door.recorder).await });
    tokio::task::spawn_local(async move { waiters.run().await });
    let serving = async {
        while let Some((stream, peer, place)) = dealt.recv().await {
            match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => {
                    let serving = serve(Rc::clone(&worker), stream, peer, place);
                    drop(tokio::task::spawn_local(serving));
                }
                Err(error) => warn!(%error, "an accepted connection can't be used"),
            }
        }
        stopped(stop.clone()).await;
    };
    tokio::select! {
        () = serving => {}
        () = stopped(stop.clone()) => {}
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    drop(stop.wait_for(|stopped| *stopped).await);
}
