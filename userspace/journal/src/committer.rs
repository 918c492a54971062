//! Committing: taking what waits, writing it, syncing it, saying so.
//!
//! A thread does it; so may any other that has nothing better to do until then, which saves waking
//! the one and being woken by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use types::clock::Clock;

use crate::queue::{Queue, Rest};
use crate::record::{Control, Frame, Lsn};
use crate::recorder::{Durable, Health, Reserve, Stats};
use crate::writer::{Committed, Writer};

/// Commits between two looks at the free space: at 10,000 commits/s that is every 6 ms, in which
/// a disk takes at most some tens of MiB of a reserve of more than 1 GiB.
const SPACE_CHECK_COMMITS: u64 = 64;

/// How often the free space is looked at while it is under the reserve.
const PRESSURE_RECHECK: Duration = Duration::from_secs(1);

/// How long ends of commands and sessions wait for a commit that somebody needs before they get
/// one of their own. Nothing is held back for them: after a crash within it they read interrupted.
pub(crate) const DOZE: Duration = Duration::from_millis(10);

/// A commit buffer larger than this is given back after use.
const BUFFER_BYTES_KEPT: usize = 4 * 1024 * 1024;

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
}

impl Shared {
    /// The state of a journal just opened.
    pub(crate) fn new(queue: Queue, pending_bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
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

    fn publish(&self, writer: &Writer, committed: Committed) {
        let lsn = writer.next_lsn().0 - 1;
        let Committed { frames, bytes } = committed;
        let before = self.rows.swap(writer.next_seq(), Ordering::AcqRel);
        self.rows_done.fetch_add(writer.next_seq() - before, Ordering::Relaxed);
        self.frames_done.fetch_add(frames, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.commits_done.fetch_add(1, Ordering::Relaxed);
        self.durable.store(lsn, Ordering::Release);
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
        let batch = Vec::new();
        let press = Press {
            shared: Arc::clone(&shared),
            writer,
            reserve,
            on_durable,
            batch,
            commits: 0,
            failed: false,
        };
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
        // A failure ends the committing thread.
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

/// What writes: whoever holds it commits.
struct Press {
    shared: Arc<Shared>,
    writer: Writer,
    reserve: Reserve,
    on_durable: Box<dyn Fn(Durable) + Send>,
    batch: Vec<u8>,
    commits: u64,
    /// Something went wrong: nothing is written any more.
    failed: bool,
}

impl Press {
    /// Commits what waits, if anything does; false once the journal has failed.
    fn commit(&mut self) -> bool {
        if self.failed {
            return false;
        }
        let mut queue = self.shared.lock();
        queue.swap(&mut self.batch);
        let awaited = queue.awaited.space > 0;
        drop(queue);
        if self.batch.is_empty() {
            return true;
        }
        if awaited {
            self.shared.space.notify_all();
        }
        let segment = self.writer.first_lsn();
        match self.writer.commit(&mut self.batch, self.shared.clock.as_ref()) {
            Ok(committed) => self.shared.publish(&self.writer, committed),
            Err(error) => {
                self.fail(&error.to_string());
                return false;
            }
        }
        // Whoever has found it not durable under the lock waits by the time this has it.
        let awaited = self.shared.lock().awaited.commit > 0;
        if awaited {
            self.shared.committed.notify_all();
        }
        self.report();
        self.batch.clear();
        self.batch.shrink_to(BUFFER_BYTES_KEPT);
        self.commits += 1;
        if self.commits.is_multiple_of(SPACE_CHECK_COMMITS) || segment != self.writer.first_lsn() {
            self.check_space();
        }
        !self.failed
    }

    fn check_space(&mut self) {
        let (free, floor) = match self.writer.space(self.reserve) {
            Ok(space) => space,
            Err(error) => return self.fail(&error.to_string()),
        };
        let under = free < floor;
        let mut queue = self.shared.lock();
        if under == (*queue.health() == Health::Pressure) {
            return;
        }
        let (health, kind) = if under {
            (Health::Pressure, "log.pressure")
        } else {
            (Health::Open, "log.pressure_over")
        };
        queue.set_health(health);
        let detail = format!(r#"{{"free_bytes":{free},"reserve_bytes":{floor}}}"#);
        let at = self.shared.clock.now();
        // Refused only where the journal failed or closes; both end it anyway.
        let _refused = queue.push(&Frame::Control(Control { at, kind, detail: &detail }), None);
        drop(queue);
        self.report();
        // It looks again before long.
        self.shared.wake(true);
    }

    fn fail(&mut self, reason: &str) {
        self.failed = true;
        self.shared.lock().set_health(Health::Failed(reason.into()));
        self.report();
    }

    fn report(&self) {
        let health = self.shared.lock().health().clone();
        let lsn = Lsn(self.shared.durable.load(Ordering::Acquire));
        let rows = self.shared.rows.load(Ordering::Acquire);
        (self.on_durable)(Durable { lsn, rows, health });
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
                if work == Work::Space {
                    press.check_space();
                }
                press.commit()
            };
            if !self.press(commit) {
                return;
            }
        }
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
            if matches!(queue.health(), Health::Failed(_)) {
                return None;
            }
            if queue.is_urgent() || (dozed && waits) {
                queue.set_rest(Rest::Awake);
                return Some(Work::Frames);
            }
            if queue.is_closing() {
                return waits.then_some(Work::Frames);
            }
            if dozed && *queue.health() != Health::Pressure {
                queue.set_rest(Rest::Asleep);
                queue = self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
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
