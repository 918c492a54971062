//! Committing: taking what waits, writing it, syncing it, saying so.
//!
//! A thread does it; so may any other that has nothing better to do until then, which saves waking
//! the one and being woken by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use types::clock::Clock;

use crate::press::Press;
use crate::queue::{Queue, Rest};
use crate::record::Lsn;
use crate::recorder::{Durable, Health, Reserve, Stats};
use crate::writer::{Committed, Writer};

/// How often the free space is looked at while it is under the reserve.
const PRESSURE_RECHECK: Duration = Duration::from_secs(1);

/// How often a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long ends of commands and sessions wait for a commit that somebody needs before they get
/// one of their own. Nothing is held back for them: after a crash within it they read interrupted.
pub(crate) const DOZE: Duration = Duration::from_millis(10);

/// What appenders and the committing thread share.
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// The committer waits here for frames.
    pub(crate) work: Condvar,
    /// Appenders wait here for space.
    pub(crate) space: Condvar,
    /// Whoever waits for a frame to be durable.
    pub(crate) committed: Condvar,
    pub(crate) durable: AtomicU64,
    pub(crate) rows: AtomicU64,
    frames_done: AtomicU64,
    rows_done: AtomicU64,
    bytes_done: AtomicU64,
    commits_done: AtomicU64,
    pub(crate) pending_bytes_max: usize,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long what was committed may go without a seal, where there are any.
    pub(crate) seal_interval: Option<Duration>,
    /// The next seal's number.
    pub(crate) next_seal: AtomicU64,
    /// The last frame that a seal covers.
    pub(crate) sealed: AtomicU64,
}

impl Shared {
    /// The state of a journal just opened.
    pub(crate) fn new(
        queue: Queue,
        pending_bytes_max: usize,
        clock: Arc<dyn Clock>,
        seal_interval: Option<Duration>,
    ) -> Self {
        Self {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            space: Condvar::new(),
            committed: Condvar::new(),
            durable: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            frames_done: AtomicU64::new(0),
            rows_done: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
            commits_done: AtomicU64::new(0),
            pending_bytes_max,
            clock,
            seal_interval,
            next_seal: AtomicU64::new(0),
            sealed: AtomicU64::new(0),
        }
    }

    /// The queue; a panic elsewhere leaves it usable, because every push is whole or undone.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went through.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            frames: self.frames_done.load(Ordering::Relaxed),
            rows: self.rows_done.load(Ordering::Relaxed),
            bytes: self.bytes_done.load(Ordering::Relaxed),
            commits: self.commits_done.load(Ordering::Relaxed),
        }
    }

    /// Wakes the committer if it must be for what was pushed last: something that is `urgent`, or
    /// not.
    pub(crate) fn wake(&self, urgent: bool) {
        let wake = self.lock().take_wake(urgent);
        if wake {
            self.work.notify_one();
        }
    }

    /// Makes known what was committed.
    pub(crate) fn publish(&self, writer: &Writer, committed: Committed) {
        let lsn = writer.next_lsn().0 - 1;
        let Committed { frames, bytes } = committed;
        let before = self.rows.swap(writer.next_seq(), Ordering::AcqRel);
        self.rows_done.fetch_add(writer.next_seq() - before, Ordering::Relaxed);
        self.frames_done.fetch_add(frames, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.commits_done.fetch_add(1, Ordering::Relaxed);
        self.durable.store(lsn, Ordering::Release);
        self.publish_seals(writer);
    }

    /// Makes known how far the journal is sealed.
    pub(crate) fn publish_seals(&self, writer: &Writer) {
        if let Some((next, lsn)) = writer.seals() {
            self.next_seal.store(next, Ordering::Release);
            self.sealed.store(lsn.0, Ordering::Release);
        }
    }
}

/// The thread's handle; dropping it stops the thread and waits for its last commit.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    press: Arc<Mutex<Option<Press>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(
        shared: Arc<Shared>,
        writer: Writer,
        reserve: Reserve,
        on_durable: Box<dyn Fn(Durable) + Send>,
    ) -> std::io::Result<Self> {
        shared.durable.store(writer.next_lsn().0 - 1, Ordering::Release);
        shared.rows.store(writer.next_seq(), Ordering::Release);
        shared.publish_seals(&writer);
        let press = Press::new(Arc::clone(&shared), writer, reserve, on_durable);
        let press = Arc::new(Mutex::new(Some(press)));
        let run = Run { shared: Arc::clone(&shared), press: Arc::clone(&press) };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            run.commit_until_closed();
        })?;
        Ok(Self { shared, press, thread: Mutex::new(Some(thread)) })
    }

    /// Commits what waits on the calling thread, after what is being committed.
    pub(crate) fn commit_here(&self) {
        let sound = match self.press.lock() {
            Ok(mut press) => press.as_mut().is_none_or(Press::commit),
            // A panic within a commit: what was written is unknown.
            Err(_) => false,
        };
        // A failure ends the committing thread, or has it try again.
        if !sound {
            self.shared.wake(true);
        }
    }

    /// Closes the queue, waits for the last commit, returns the last frame's place.
    pub(crate) fn stop(&self) -> Lsn {
        let last = self.shared.lock().close();
        self.shared.work.notify_all();
        self.shared.space.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic there has already marked the queue as stopped.
            drop(thread.join());
        }
        last
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The committing thread.
struct Run {
    shared: Arc<Shared>,
    press: Arc<Mutex<Option<Press>>>,
}

impl Run {
    fn commit_until_closed(self) {
        let _stopped = Stopped(Arc::clone(&self.shared), Arc::clone(&self.press));
        self.press(|press| {
            press.check_space();
            true
        });
        while let Some(work) = self.wait() {
            let commit = |press: &mut Press| {
                match work {
                    Work::Frames | Work::Seal => {}
                    Work::Space => press.check_space(),
                    Work::Retry | Work::LastTry => press.try_again(),
                }
                let is_durable = press.commit() && press.seal(false);
                !press.has_failed() && (is_durable || work != Work::LastTry)
            };
            if !self.press(commit) {
                return;
            }
        }
        // What came last is not left to a next start.
        self.press(|press| press.seal(true));
    }

    /// Does something with what writes; after a panic elsewhere this thread panics as well, and
    /// nobody waits for it.
    fn press(&self, act: impl FnOnce(&mut Press) -> bool) -> bool {
        let mut press = self.press.lock().expect("nothing panics while it commits");
        press.as_mut().is_some_and(act)
    }

    /// Waits for frames; `None` once closed and empty, or failed. Under pressure it also returns
    /// without any, from time to time.
    fn wait(&self) -> Option<Work> {
        let mut queue = self.shared.lock();
        let mut dozed = false;
        let mut seen = queue.taken();
        loop {
            let waits = queue.pending_bytes() > 0;
            match queue.health() {
                Health::Failed(_) => return None,
                Health::Failing(_) => {
                    if queue.is_closing() {
                        return Some(Work::LastTry);
                    }
                    queue.set_rest(Rest::Awake);
                    // Woken early, it tries early.
                    drop(self.shared.work.wait_timeout(queue, RETRY));
                    return Some(Work::Retry);
                }
                Health::Open | Health::Pressure => {}
            }
            if queue.is_due() || (dozed && waits) {
                queue.set_rest(Rest::Awake);
                return Some(Work::Frames);
            }
            if queue.is_closing() {
                return waits.then_some(Work::Frames);
            }
            if dozed && *queue.health() != Health::Pressure {
                queue.set_rest(Rest::Asleep);
                if let Some(interval) = self.shared.seal_interval {
                    let waited = self.shared.work.wait_timeout(queue, interval);
                    let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    queue = woken;
                    if timeout.timed_out() && !queue.is_closing() {
                        queue.set_rest(Rest::Awake);
                        return Some(Work::Seal);
                    }
                } else {
                    queue = self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                (dozed, seen) = (false, queue.taken());
                continue;
            }
            if dozed {
                queue.set_rest(Rest::Awake);
                return Some(Work::Space);
            }
            queue.set_rest(Rest::Dozing);
            let doze = if *queue.health() == Health::Pressure { PRESSURE_RECHECK } else { DOZE };
            let waited = self.shared.work.wait_timeout(queue, doze);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            // What waits now came after somebody's commit: it has not waited for long.
            dozed = timeout.timed_out() && (queue.taken() == seen || queue.pending_bytes() == 0);
            seen = queue.taken();
        }
    }
}

/// Why the committing thread looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Frames wait.
    Frames,
    /// It is time to look at the free space.
    Space,
    /// It is time to look whether a seal is due.
    Seal,
    /// It is time to try a disk again that refused.
    Retry,
    /// The same, though it closes: the last time.
    LastTry,
}

/// Whatever ends the thread, nobody waits for it any more, and the journal is let go.
struct Stopped(Arc<Shared>, Arc<Mutex<Option<Press>>>);

impl Drop for Stopped {
    fn drop(&mut self) {
        let Self(shared, press) = self;
        shared.lock().stop();
        shared.space.notify_all();
        shared.committed.notify_all();
        drop(press.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
