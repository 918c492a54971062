//! Disks that refuse for a while: nothing is acknowledged then, and the journal goes on by itself behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use journal::clock::SystemClock;
use journal::disk::{Disk, DiskFile, Os};
use journal::record::Lsn;
use journal::recorder::{AppendError, Health, Options, Recorder};
use journal::row::{Row, Table};

use crate::world::{World, close, controls, count, end, options, rows, segments};

/// How a disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ill {
    Not,
    /// No new file has room.
    Full,
    /// Nothing can be changed.
    ReadOnly,
    /// Syncs fail, and half of what was written since the last one is lost; a later sync says nothing of that.
    Losing,
}

/// A disk that can be made ill.
#[derive(Clone, Debug)]
struct Patient(Arc<AtomicU8>);

impl Patient {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(0)))
    }

    fn make(&self, ill: Ill) {
        self.0.store(ill as u8, Ordering::SeqCst);
    }

    fn is(&self, ill: Ill) -> bool {
        self.0.load(Ordering::SeqCst) == ill as u8
    }

    fn change(&self) -> io::Result<()> {
        if self.is(Ill::ReadOnly) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::ROFS.raw_os_error()));
        }
        Ok(())
    }

    fn file(&self, real: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(PatientFile { disk: self.clone(), real, unsynced: Mutex::default() })
    }
}

impl Disk for Patient {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        self.change()?;
        if self.is(Ill::Full) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        Ok(self.file(Os.create(path, bytes)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.change()?;
        Ok(self.file(Os.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change().and_then(|()| Os.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change().and_then(|()| Os.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Os.sync_dir(dir)
    }
}

#[derive(Debug)]
struct PatientFile {
    disk: Patient,
    real: Box<dyn DiskFile>,
    unsynced: Mutex<Vec<(u64, usize)>>,
}

impl PatientFile {
    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.disk.change()?;
        let unsynced = std::mem::take(&mut *self.unsynced.lock().unwrap());
        if !self.disk.is(Ill::Losing) {
            return sync();
        }
        for (offset, bytes) in unsynced {
            let lost = vec![0; bytes.div_ceil(2)];
            self.real.write_all_at(&lost, offset + (bytes - lost.len()) as u64).unwrap();
        }
        Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()))
    }
}

impl DiskFile for PatientFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.real.read_exact_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change()?;
        self.unsynced.lock().unwrap().push((offset, bytes.len()));
        self.real.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.change().and_then(|()| self.real.set_len(bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|| self.real.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|| self.real.sync_all())
    }

    fn forget(&self) {
        self.real.forget();
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        self.real.space()
    }
}

/// A journal on such a disk.
fn open_on(dir: &Path, disk: &Patient) -> Recorder {
    let options = Options { disk: Arc::new(disk.clone()), ..options(dir) };
    Recorder::open(&options, Arc::new(SystemClock), Box::new(|_| {})).unwrap().0
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("never {what}");
}

/// Runs commands until the journal refuses one, or one of it is not durable; answers how many were acknowledged,
/// and how many begun.
fn run_until_refused(world: &World, recorder: &Recorder, from: u32) -> (u32, u32) {
    for command in from.. {
        let Ok(begun) = world.begin(recorder, 1, command) else {
            return (command - 1, command - 1);
        };
        if recorder.wait(begun).is_err() {
            return (command - 1, command);
        }
        end(recorder, 1, command).unwrap();
    }
    unreachable!("the disk refuses")
}

fn resumed(rows: &[Row]) -> Vec<serde_json::Value> {
    let detail = |row: &Row| match row {
        Row::Control(row) if row.kind == "log.resumed" => {
            Some(serde_json::from_str(&row.detail).unwrap())
        }
        _ => None,
    };
    rows.iter().filter_map(detail).collect()
}

#[test]
fn it_goes_on_by_itself_when_the_disk_works_again() {
    for ill in [Ill::Full, Ill::ReadOnly, Ill::Losing] {
        let dir = tempfile::tempdir().unwrap();
        let (world, disk) = (World::new(), Patient::new());
        let recorder = open_on(dir.path(), &disk);
        world.open(&recorder, 1).unwrap();
        for command in 1..=20 {
            recorder.wait(world.begin(&recorder, 1, command).unwrap()).unwrap();
            end(&recorder, 1, command).unwrap();
        }
        disk.make(ill);
        let (acknowledged, begun) = run_until_refused(&world, &recorder, 21);
        assert!(matches!(recorder.health(), Health::Failing(_)), "{ill:?}");
        let before = recorder.durable();
        // Nothing new begins; what ends, and what is said, is kept for later. None of it is acknowledged.
        let refused = world.begin(&recorder, 1, begun + 1);
        assert!(matches!(refused, Err(AppendError::Failing(_))), "{ill:?}: {refused:?}");
        if begun > acknowledged {
            end(&recorder, 1, begun).unwrap();
        }
        let said = recorder.control("heartbeat", "{}").unwrap();
        recorder.commit_here();
        assert!(recorder.wait(said).is_err(), "{ill:?}");
        // It tries again, in vain.
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(recorder.durable(), before, "{ill:?}");
        disk.make(Ill::Not);
        until("goes on", || recorder.health() == Health::Open && recorder.durable() >= said);
        let next = begun + 2;
        recorder.wait(world.begin(&recorder, 1, next).unwrap()).unwrap();
        recorder.close().unwrap();
        // A session and a command are open at the end.
        drop(open_on(dir.path(), &disk));
        let rows = rows(dir.path());
        let events = count(&rows, Table::Events);
        assert_eq!(events, usize::try_from(begun + 1).unwrap(), "{ill:?}: what was taken is there");
        let resumed = resumed(&rows);
        assert_eq!(resumed.len(), 1, "{ill:?}: {:?}", controls(&rows));
        assert!(resumed[0]["refused"].as_u64().unwrap() >= 1, "{ill:?}: {resumed:?}");
        assert!(resumed[0]["from_us"].as_i64() < resumed[0]["to_us"].as_i64(), "{ill:?}");
        assert_eq!(controls(&rows).iter().filter(|kind| *kind == "heartbeat").count(), 1);
    }
}

/// What is kept for later has its limit, and an end of a session is kept whatever that is.
#[test]
fn sessions_that_end_while_nothing_more_can_be_kept_have_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let (world, disk) = (World::new(), Patient::new());
    let mut options = Options { disk: Arc::new(disk.clone()), ..options(dir.path()) };
    options.pending_bytes_max = 2000;
    let (recorder, _) = Recorder::open(&options, Arc::new(SystemClock), Box::new(|_| {})).unwrap();
    for session in 1..=30 {
        world.open(&recorder, session).unwrap();
        recorder.wait(world.begin(&recorder, session, 1).unwrap()).unwrap();
    }
    disk.make(Ill::ReadOnly);
    run_until_refused(&world, &recorder, 2);
    while recorder.control("heartbeat", "{}").is_ok() {}
    let is_refused = |told| matches!(told, Err(AppendError::Failing(_)));
    assert!(is_refused(end(&recorder, 2, 1)), "nothing more can be kept");
    for session in 2..=30 {
        assert!(is_refused(close(&recorder, session)), "{session}");
    }
    // Said twice, it has one.
    assert!(is_refused(close(&recorder, 30)));
    disk.make(Ill::Not);
    until("goes on", || recorder.health() == Health::Open);
    // The ids are free again, and what was not closed is open.
    world.open(&recorder, 30).unwrap();
    end(&recorder, 1, 1).unwrap();
    recorder.close().unwrap();
    let rows = rows(dir.path());
    assert_eq!(count(&rows, Table::Sessions), 29);
    let interrupted =
        |row: &&Row| matches!(row, Row::Event(event) if event.status == "interrupted");
    assert_eq!(rows.iter().filter(interrupted).count(), 29, "a command of each");
    let closed = |row: &Row| match row {
        Row::Session(session) => Some(session.close_reason.clone()),
        _ => None,
    };
    assert!(rows.iter().filter_map(closed).all(|reason| reason.as_deref() == Some("client")));
}

/// The folder itself is away, as while a file system is unmounted and repaired: no file of it is held meanwhile.
#[test]
fn its_file_system_can_be_taken_away_and_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let (home, away) = (dir.path().join("journal"), dir.path().join("away"));
    let world = World::new();
    let recorder = open_on(&home, &Patient::new());
    world.open(&recorder, 1).unwrap();
    std::fs::rename(&home, &away).unwrap();
    let (acknowledged, begun) = run_until_refused(&world, &recorder, 1);
    let held: Vec<PathBuf> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|path| path.starts_with(dir.path()))
        .collect();
    assert!(held.is_empty(), "{held:?}");
    std::fs::rename(&away, &home).unwrap();
    until("goes on", || recorder.health() == Health::Open);
    until("durable", || recorder.durable_rows() > 0);
    recorder.close().unwrap();
    let found = count(&rows(&home), Table::Events);
    assert!(found >= usize::try_from(acknowledged).unwrap(), "{found} {acknowledged} {begun}");
    assert_eq!(controls(&rows(&home)).last().unwrap(), "log.resumed");
}

#[test]
fn what_was_durable_and_is_gone_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (world, disk) = (World::new(), Patient::new());
    let recorder = open_on(dir.path(), &disk);
    world.open(&recorder, 1).unwrap();
    let durable = world.begin(&recorder, 1, 1).unwrap();
    recorder.wait(durable).unwrap();
    end(&recorder, 1, 1).unwrap();
    disk.make(Ill::ReadOnly);
    let (_, _) = run_until_refused(&world, &recorder, 2);
    let last = segments(dir.path()).pop().unwrap();
    std::fs::File::options().write(true).open(&last).unwrap().set_len(300).unwrap();
    disk.make(Ill::Not);
    until("failed", || matches!(recorder.health(), Health::Failed(_)));
    let refused = recorder.control("heartbeat", "{}");
    assert!(matches!(refused, Err(AppendError::Failed(_))), "{refused:?}");
    assert!(recorder.close().is_err());
}

#[test]
fn closed_while_the_disk_refuses_it_says_what_is_not_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (world, disk) = (World::new(), Patient::new());
    let recorder = open_on(dir.path(), &disk);
    world.open(&recorder, 1).unwrap();
    disk.make(Ill::Losing);
    let (acknowledged, _) = run_until_refused(&world, &recorder, 1);
    let error = recorder.close().unwrap_err();
    assert!(error.lsn > recorder.durable() && error.lsn > Lsn(0), "{error:?}");
    drop(recorder);
    disk.make(Ill::Not);
    drop(open_on(dir.path(), &disk));
    assert!(count(&rows(dir.path()), Table::Events) >= usize::try_from(acknowledged).unwrap());
}
