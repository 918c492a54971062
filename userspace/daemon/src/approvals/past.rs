//! What was asked, approved and told before the daemon was started, from its journal.
//!
//! Read are the segments that reach back as far as requests, grants and deliveries live, and only where approvals were in
//! use: a file in the state directory says so from before the first one on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use approval::{Book, Event};
use journal::frame::FrameKind;
use journal::reader::{self, Reader};
use journal::record::{ControlEntry, Lsn, Record};
use types::clock::Timestamp;
use webhook::Queue;

/// How far back is read. A request and a grant live a day at most (`policy`'s `@approve`), and a grant's record says all
/// that it is used by; a message is tried for a day (`webhook::GIVEN_UP_AFTER_S`); which hooks there are is recorded each
/// hour; and an hour more for clocks.
const REACH: Duration = Duration::from_hours(26);

/// The file that says that approvals are in use.
const MARK: &str = "approvals-in-use";

/// How far back a start reads the journal: not at all where approvals are not in use and were not.
pub(crate) fn reach(state_dir: &Path, is_used: bool) -> Duration {
    // What can't be told is taken for used.
    let is_unused = !is_used && matches!(state_dir.join(MARK).try_exists(), Ok(false));
    if is_unused { Duration::ZERO } else { REACH }
}

/// What the journal says.
#[derive(Debug)]
pub(super) struct Past {
    /// Requests and grants.
    pub(super) book: Book,
    /// What is due to webhooks.
    pub(super) queue: Queue,
    /// Events read.
    pub(super) events: u64,
}

/// What the journal in `dir` says up to its frame `end`, which is durable; where it can't be read, no grants, and what is
/// due as far as it could.
pub(super) fn of(
    state_dir: &Path,
    (dir, end): (&Path, Lsn),
    queue: Queue,
    now: Timestamp,
    is_used: bool,
) -> Result<Result<Past, (anyhow::Error, Past)>> {
    let mark = state_dir.join(MARK);
    let was_used = mark.try_exists().with_context(|| format!("{}", mark.display()))?;
    let mut past = Past { book: Book::default(), queue, events: 0 };
    let read = if was_used { past.read((dir, end), now) } else { Ok(()) };
    if is_used && !was_used {
        std::fs::File::create(&mark)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::File::open(state_dir)?.sync_all())
            .with_context(|| format!("{}", mark.display()))?;
    }
    Ok(match read {
        Ok(()) => Ok(past),
        // Of what was read in part nobody knows how often it was used.
        Err(error) => Err((error, Past { book: Book::default(), ..past })),
    })
}

impl Past {
    fn read(&mut self, (dir, end): (&Path, Lsn), now: Timestamp) -> Result<()> {
        let Some((from, _)) = reader::since(dir, now, REACH)? else { return Ok(()) };
        let mut reader =
            Reader::open(dir, from, Some(end)).context("cannot list the journal's segments")?;
        while let Some(frame) = reader.next_frame()? {
            if frame.header.kind == FrameKind::Control
                && let Some(Record::Control(control)) = frame.record()?
            {
                self.take(&control);
            }
        }
        Ok(())
    }

    fn take(&mut self, control: &ControlEntry) {
        let ControlEntry { at, kind, detail } = control;
        self.queue.read(kind, detail, at.unix_us);
        let Some(event) = Event::read(kind, detail) else { return };
        self.events += 1;
        self.book.apply(&event);
        if let Some(standing) = self.book.standing(event.request()) {
            for given_up in self.queue.follow(&event, standing) {
                self.queue.read(given_up.record_kind(), &given_up.record(), at.unix_us);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use journal::clock::SystemClock;
    use journal::recorder::{Options, Recorder, Reserve};
    use types::clock::Clock as _;

    use super::*;

    const ID: &str = "01890000-0000-7000-8000-000000000001";

    fn open(dir: &Path) -> Recorder {
        let mut options = Options::new(dir, "node", 1);
        options.reserve = Reserve { percent: 0, bytes: 0 };
        options.segment_bytes = 1024 * 1024;
        Recorder::open(&options, Arc::new(SystemClock), Box::new(drop)).unwrap().0
    }

    fn grant() -> String {
        serde_json::json!({
            "event": "granted", "id": ID, "at_us": 1, "expires_us": i64::MAX, "covers": {"alike": 3}, "binding": "b",
            "pattern": "p", "session": "s", "accesses": [], "policies": [], "approvers": ["ann@idp"],
        })
        .to_string()
    }

    fn past(state: &Path, journal: &Path, end: Lsn) -> Result<Past, Box<(anyhow::Error, Past)>> {
        of(state, (journal, end), Queue::default(), SystemClock.now(), true)
            .unwrap()
            .map_err(Box::new)
    }

    #[test]
    fn grants_come_back_as_often_used_as_they_were() {
        let (state, journal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let recorder = open(journal.path());
        recorder.control("approval.granted", &grant()).unwrap();
        let spent = serde_json::json!({
            "event": "spent", "grant": ID, "session": "s", "command": 1, "at_us": 2,
        });
        let mut last = recorder.control("approval.spent", &spent.to_string()).unwrap();
        recorder.wait(last).unwrap();
        // Nothing was in use: nothing is read, but from now on it is.
        let first = past(state.path(), journal.path(), last).unwrap();
        assert_eq!(first.events, 0);
        let second = past(state.path(), journal.path(), last).unwrap();
        assert_eq!(second.events, 2);
        let spent_of =
            |past: &Past| past.book.grants(3).map(|grant| grant.spent).collect::<Vec<_>>();
        assert_eq!(spent_of(&second), [1]);
        // A record that is none of ours is passed over.
        for (kind, detail) in [("approval.spent", "{}"), ("approval.vote_refused", "{}")] {
            last = recorder.control(kind, detail).unwrap();
        }
        recorder.wait(last).unwrap();
        assert_eq!(spent_of(&past(state.path(), journal.path(), last).unwrap()), [1]);
        drop(recorder);
        // A byte of it is another: no grant holds.
        let segment = std::fs::read_dir(journal.path()).unwrap().map(|entry| entry.unwrap().path());
        let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "vjl"));
        let mut bytes = std::fs::read(segment.as_ref().unwrap()).unwrap();
        let at = bytes.windows(7).position(|seven| seven == b"ann@idp").unwrap();
        bytes[at] ^= 1;
        std::fs::write(segment.unwrap(), bytes).unwrap();
        let (_, past) = *past(state.path(), journal.path(), last).unwrap_err();
        assert_eq!(spent_of(&past), [] as [u32; 0]);
    }
}
