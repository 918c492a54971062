//! What writes: whoever holds it commits.
//!
//! Where the disk refuses, what was taken stays here until the disk works again, and whoever waits for it is told
//! that it is not durable. It is not taken back: a command that was recorded and then refused is evidence, too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use types::clock::Timestamp;

use crate::committer::Shared;
use crate::frame::Header;
use crate::record::{Control, Frame, Lsn};
use crate::recorder::{Durable, Health, Reserve};
use crate::recover::{self, ResumeError};
use crate::writer::{CommitError, Rest, Writer};

/// Commits between two looks at the free space: at 10,000 commits/s that is every 6 ms, in which
/// a disk takes at most some tens of MiB of a reserve of more than 1 GiB.
const SPACE_CHECK_COMMITS: u64 = 64;

/// A commit buffer larger than this is given back after use.
const BUFFER_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// What writes.
pub(crate) struct Press {
    shared: Arc<Shared>,
    pen: Pen,
    reserve: Reserve,
    on_durable: Box<dyn Fn(Durable) + Send>,
    batch: Vec<u8>,
    commits: u64,
}

/// With what it writes.
enum Pen {
    Writing(Box<Writer>),
    /// The disk refused.
    Broken(Box<Broken>),
    /// Something went wrong: nothing is written any more.
    Failed,
}

/// Since when nothing is written, why, and where that was.
struct Broken {
    rest: Rest,
    since: Timestamp,
    reason: Arc<str>,
}

impl Press {
    /// One that writes.
    pub(crate) fn new(
        shared: Arc<Shared>,
        writer: Writer,
        reserve: Reserve,
        on_durable: Box<dyn Fn(Durable) + Send>,
    ) -> Self {
        let pen = Pen::Writing(Box::new(writer));
        Self { shared, pen, reserve, on_durable, batch: Vec::new(), commits: 0 }
    }

    /// Whether nothing is written any more.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.pen, Pen::Failed)
    }

    /// Commits what waits, if anything does; false where that is not durable.
    pub(crate) fn commit(&mut self) -> bool {
        if !matches!(self.pen, Pen::Writing(_)) {
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
        self.write()
    }

    /// Writes the batch and says so.
    fn write(&mut self) -> bool {
        let Pen::Writing(writer) = &mut self.pen else { return false };
        let segment = writer.first_lsn();
        match writer.commit(&mut self.batch, self.shared.clock.as_ref()) {
            Ok(committed) => self.shared.publish(writer, committed),
            Err(error) => {
                self.refuse(&error);
                return false;
            }
        }
        let is_new = segment != writer.first_lsn();
        // Whoever has found it not durable under the lock waits by the time this has it.
        let awaited = self.shared.lock().awaited.commit > 0;
        if awaited {
            self.shared.committed.notify_all();
        }
        self.report();
        self.batch.clear();
        self.batch.shrink_to(BUFFER_BYTES_KEPT);
        self.commits += 1;
        if self.commits.is_multiple_of(SPACE_CHECK_COMMITS) || is_new {
            self.check_space();
        }
        matches!(self.pen, Pen::Writing(_))
    }

    /// Seals what was committed, where a seal is due, or at the end is not there; false where that is not durable.
    pub(crate) fn seal(&mut self, at_the_end: bool) -> bool {
        let Pen::Writing(writer) = &mut self.pen else { return false };
        match writer.seal_alone(self.shared.clock.as_ref(), at_the_end) {
            Ok(()) => {
                self.shared.publish_seals(writer);
                true
            }
            Err(error) => {
                self.refuse(&error);
                false
            }
        }
    }

    /// Looks at the free space, and says where that is under the reserve, and where it is no more.
    pub(crate) fn check_space(&mut self) {
        let Pen::Writing(writer) = &self.pen else { return };
        let (free, floor) = match writer.space(self.reserve) {
            Ok(space) => space,
            Err(error) => return self.refuse(&error),
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

    /// Tries a disk again that refused. Where it works, what was kept is written, and from when to when nothing was
    /// acknowledged.
    pub(crate) fn try_again(&mut self) {
        let Pen::Broken(broken) = &self.pen else { return };
        let writer = match recover::resume(&broken.rest, self.shared.clock.as_ref()) {
            Ok(writer) => writer,
            Err(ResumeError::Disk(_)) => return,
            Err(error @ ResumeError::Lost(_)) => return self.fail(&error.to_string()),
        };
        let (since, reason) = (broken.since, Arc::clone(&broken.reason));
        // A commit of several segments may be durable in part.
        let kept = durable_bytes(&self.batch, writer.next_lsn());
        self.batch.drain(..kept);
        self.pen = Pen::Writing(Box::new(writer));
        if !self.batch.is_empty() && !self.write() {
            if let Pen::Broken(broken) = &mut self.pen {
                broken.since = since;
            }
            return;
        }
        self.say_resumed(since, &reason);
        self.commit();
        self.check_space();
    }

    fn say_resumed(&mut self, since: Timestamp, reason: &str) {
        let at = self.shared.clock.now();
        let mut queue = self.shared.lock();
        queue.set_health(Health::Open);
        let detail = serde_json::json!({
            "from_us": since.unix_us,
            "to_us": at.unix_us,
            "refused": queue.take_refused(),
            "reason": reason,
        });
        let (kind, detail) = ("log.resumed", detail.to_string());
        // Refused only where the journal closes; then its end says what is missing.
        let _refused = queue.push(&Frame::Control(Control { at, kind, detail: &detail }), None);
        let _refused = queue.part();
    }

    /// The disk refused: nothing is acknowledged until it works again.
    fn refuse(&mut self, error: &CommitError) {
        let pen = std::mem::replace(&mut self.pen, Pen::Failed);
        let Pen::Writing(writer) = pen else { return };
        if let CommitError::Buffer = error {
            return self.fail(&error.to_string());
        }
        let reason: Arc<str> = error.to_string().into();
        let since = self.shared.clock.now();
        let broken = Broken { rest: writer.let_go(), since, reason: Arc::clone(&reason) };
        self.pen = Pen::Broken(Box::new(broken));
        self.tell(Health::Failing(reason));
    }

    fn fail(&mut self, reason: &str) {
        self.pen = Pen::Failed;
        self.tell(Health::Failed(reason.into()));
    }

    fn tell(&mut self, health: Health) {
        self.shared.lock().set_health(health);
        self.shared.space.notify_all();
        self.shared.committed.notify_all();
        self.report();
    }

    fn report(&self) {
        let health = self.shared.lock().health().clone();
        let lsn = Lsn(self.shared.durable.load(Ordering::Acquire));
        let rows = self.shared.rows.load(Ordering::Acquire);
        (self.on_durable)(Durable { lsn, rows, health });
    }
}

/// How many bytes of a batch are of frames before `next`.
fn durable_bytes(batch: &[u8], next: Lsn) -> usize {
    let mut at = 0;
    while let Some(header) = batch.get(at..).and_then(|rest| Header::parse(rest.first_chunk()?))
        && header.lsn < next
    {
        at += header.frame_bytes();
    }
    at
}
