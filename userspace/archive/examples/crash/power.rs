//! Power losses: writers append under load, and at any instant the disk keeps what was synced and any part of
//! the rest. What somebody was told to be durable must be there, nothing made up, nothing out of order.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use journal::assemble::{AssembleError, Rows};
use journal::clock::SystemClock;
use journal::disk::Os;
use journal::prune::{self, Limits};
use journal::reader::Reader;
use journal::record::Lsn;
use journal::recorder::{Options, Recorder, Seals};
use journal::sealing::{self, Secret};
use journal::segment;
use journal::start::Start;
use types::clock::Clock;

use crate::disk::{Dice, Recorded};
use crate::world::{self, NODE, World};

/// What became of the crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) crashes: u64,
    /// Records that somebody was told to be durable, and that are not there.
    pub(crate) lost: u64,
    /// Journals that did not open, had a gap or did not verify.
    pub(crate) gaps: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        let Self { crashes, lost, gaps } = other;
        self.crashes += crashes;
        self.lost += lost;
        self.gaps += gaps;
    }
}

/// How it is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) seed: u64,
    /// Power losses of one load.
    pub(crate) crashes: u64,
    /// The disk answers syncs that it does not make.
    pub(crate) lies: bool,
    /// Seals and verifies each time.
    pub(crate) seals: bool,
}

/// Runs one load, and loses power again and again.
pub(crate) fn run(trial: Trial) -> Counts {
    let mut dice = Dice(trial.seed);
    let dir = scratch();
    let home = dir.path().join("journal");
    std::fs::create_dir(&home).unwrap();
    if !trial.lies {
        sealing::begin(&Os, &home.join(SEAL), &secret()).unwrap();
    }
    let mut disk = Recorded::over(&home);
    disk.lies = trial.lies;
    let writers = *dice.pick(&[1, 2, 5, 16]);
    // All that was ever written, also what the journal lets go meanwhile.
    let all = dir.path().join("all");
    std::fs::create_dir(&all).unwrap();
    let gone = (!trial.lies && dice.below(2) == 0).then_some(all.as_path());
    load(&home, &disk, (writers, *dice.pick(&[10, 40, 120])), gone);
    keep(&home, &all, Lsn(u64::MAX));
    let written = frames(&all).expect("what was written without a crash is sound");
    let mut counts = Counts::default();
    for number in 0..trial.crashes {
        let image = dir.path().join(format!("crash-{number}"));
        let memory = disk.memory();
        let before = usize::try_from(dice.below(memory.ops.len() as u64 + 1)).unwrap();
        std::fs::create_dir(&image).unwrap();
        let acknowledged = memory.lose_power(before, &mut dice, &image);
        drop(memory);
        let image = if dice.below(3) == 0 { lose_again(&image, &mut dice) } else { image };
        counts.add(check(&image, acknowledged, &written, trial));
        std::fs::remove_dir_all(&image).unwrap();
    }
    counts
}

/// Memory is a faster place, and as good: what is lost is decided here.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn options(dir: &Path) -> Options {
    let path = dir.join(SEAL);
    // As often as there are commits, about.
    let seals = path.exists().then_some(Seals { path, interval: Duration::from_millis(1) });
    // What was let go is taken for archived.
    let start = Start::read(dir).ok().flatten();
    let checkpointed_rows = start.map_or(0, |start| start.seq);
    Options { segment_bytes: 24 * 1024, seals, checkpointed_rows, ..world::options(dir) }
}

/// The file with the key of the next seal.
const SEAL: &str = "seal";

fn secret() -> Secret {
    Secret::new([5; 32])
}

/// Sessions run commands one after the other, and each is told when its command is durable. The journal lets go of what it can
/// meanwhile, where a folder for that is given.
fn load(dir: &Path, disk: &Recorded, (writers, commands): (u64, u32), gone: Option<&Path>) {
    let options = Options { disk: Arc::new(disk.clone()), ..options(dir) };
    let (recorder, _) = Recorder::open(&options, Arc::new(SystemClock), Box::new(|_| {})).unwrap();
    let world = World::new();
    let writing = AtomicU64::new(writers);
    std::thread::scope(|scope| {
        if let Some(gone) = gone {
            let (recorder, writing) = (recorder.clone(), &writing);
            scope.spawn(move || {
                while writing.load(Ordering::Acquire) > 0 {
                    let_go(dir, disk, recorder.durable_rows(), gone);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        for number in 1..=writers {
            let (world, recorder, writing) = (&world, recorder.clone(), &writing);
            scope.spawn(move || {
                let told = |lsn: Lsn| {
                    recorder.wait(lsn).unwrap();
                    disk.acknowledged(lsn);
                };
                told(world.open(&recorder, number).unwrap());
                for command in 1..=commands {
                    let begun = recorder.gather(world.begin_frame(number, command)).unwrap();
                    if command % 3 == 0 {
                        recorder.commit_here();
                    } else {
                        recorder.commit();
                    }
                    told(begun);
                    world::end(&recorder, number, command).unwrap();
                    if command % 16 == 0 {
                        let detail = format!(r#"{{"x":"{}"}}"#, "y".repeat(3000));
                        told(recorder.control("heartbeat", &detail).unwrap());
                    }
                }
                world::close(&recorder, number).unwrap();
                writing.fetch_sub(1, Ordering::Release);
            });
        }
    });
    recorder.close().unwrap();
}

/// Lets go of all segments that can go; what they hold is kept elsewhere before.
fn let_go(dir: &Path, disk: &Recorded, rows: u64, gone: &Path) {
    let limits = Limits { rows, now: SystemClock.now(), keep: Duration::ZERO };
    if let Some(due) = prune::due(dir, &limits).unwrap() {
        keep(dir, gone, due.start.lsn);
        prune::let_go(disk, dir, &due.start).unwrap();
    }
}

/// Copies the segments before `end`.
fn keep(dir: &Path, to: &Path, end: Lsn) {
    for segment in segment::list(dir).unwrap().iter().filter(|segment| segment.first_lsn < end) {
        std::fs::copy(&segment.path, to.join(segment.path.file_name().unwrap())).unwrap();
    }
}

/// The power goes once more, while the journal is opened.
fn lose_again(image: &Path, dice: &mut Dice) -> std::path::PathBuf {
    let disk = Recorded::over(image);
    let options = Options { disk: Arc::new(disk.clone()), ..options(image) };
    let opened = Recorder::open(&options, Arc::new(SystemClock), Box::new(|_| {}));
    // Where it does not open the check says so, on what this left.
    drop(opened);
    let again = image.with_extension("again");
    std::fs::create_dir(&again).unwrap();
    let memory = disk.memory();
    let before = usize::try_from(dice.below(memory.ops.len() as u64 + 1)).unwrap();
    memory.lose_power(before, dice, &again);
    drop(memory);
    std::fs::remove_dir_all(image).unwrap();
    again
}

fn check(image: &Path, acknowledged: Lsn, written: &[Frame], trial: Trial) -> Counts {
    let mut counts = Counts { crashes: 1, ..Counts::default() };
    let start =
        Start::read(image).map(|start| start.map_or((1, 0), |start| (start.lsn.0, start.seq)));
    let Ok((first_lsn, first_seq)) = start else {
        eprintln!("seed {}: where the journal begins is torn", trial.seed);
        counts.gaps += 1;
        return counts;
    };
    let before = usize::try_from(first_lsn - 1).unwrap();
    let written = written.get(before..).unwrap_or_default();
    let opened = Recorder::open(&options(image), Arc::new(SystemClock), Box::new(|_| {}));
    let (recorder, recovery) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("seed {}: {error}", trial.seed);
            counts.gaps += 1;
            return counts;
        }
    };
    recorder.close().unwrap();
    let found = match frames(image) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("seed {}: {error}", trial.seed);
            counts.gaps += 1;
            return counts;
        }
    };
    // Frame number n has place n + 1 from the first on: none is missing or comes twice, or the reader had refused it.
    let same = written.iter().zip(&found).take_while(|(written, found)| written == found).count();
    let due = usize::try_from(acknowledged.0).unwrap().saturating_sub(before);
    if same < due {
        eprintln!("seed {}: {} records of {due} are lost", trial.seed, due - same);
        counts.lost += (due - same) as u64;
    }
    // What is behind those that were written is what recovery wrote.
    let kept = usize::try_from(recovery.last_lsn.0).unwrap().saturating_sub(before);
    let made_up = found
        .get(same..kept.min(written.len()))
        .is_some_and(|rest| rest.iter().any(|(kind, _)| !is_of_recovery(*kind)));
    if !trial.lies && !is_sealed_whole(image) {
        eprintln!("seed {}: the seals do not hold", trial.seed);
        counts.gaps += 1;
    }
    let is_sound = match first_seq {
        0 => !trial.seals || is_sealed(image, trial),
        // An archive made anew would lack what was let go.
        _ => has_rows_from(image, first_seq),
    };
    if made_up || !is_sound {
        counts.gaps += 1;
    }
    counts
}

/// A frame's kind and body.
type Frame = (journal::frame::FrameKind, Vec<u8>);

fn is_of_recovery(kind: journal::frame::FrameKind) -> bool {
    use journal::frame::FrameKind::{Control, End, SessionClose};
    matches!(kind, Control | End | SessionClose)
}

/// All frames that count, in order; the reader checks sums, chain and numbers.
fn frames(dir: &Path) -> Result<Vec<Frame>, String> {
    let mut reader = Reader::open(dir, Lsn(0), None).map_err(|e| e.to_string())?;
    let mut frames = Vec::new();
    loop {
        let frame = reader.next_frame().map_err(|e| format!("{e}: {}", e.fault))?;
        let Some(frame) = frame else { return Ok(frames) };
        if frame.header.is_counted() {
            frames.push((frame.header.kind, frame.body.to_vec()));
        }
    }
}

/// Whether the rows from `first` on are there, without a gap.
fn has_rows_from(image: &Path, first: u64) -> bool {
    let count = || -> Result<u64, AssembleError> {
        let (mut rows, mut due) = (Rows::open(image, 0, None)?, first);
        while let Some(row) = rows.next_row()? {
            if row.seq().0 != due {
                return Ok(0);
            }
            due += 1;
        }
        Ok(due - first)
    };
    count().is_ok_and(|count| count > 0)
}

/// Whether the forward-secure seals cover all of it: none was lost with its key, and no key was used twice.
fn is_sealed_whole(image: &Path) -> bool {
    let checked = sealing::check(image, &secret());
    checked.is_ok_and(|found| found.breaks.is_empty() && found.behind == 0 && found.seals > 0)
}

/// Whether the archive seals from a journal, and what it sealed verifies.
pub(crate) fn is_sealed(journal: &Path, trial: Trial) -> bool {
    let home = journal.with_extension("archive");
    let sealed = seal(journal, &home);
    std::fs::remove_dir_all(&home).unwrap();
    if let Err(said) = &sealed {
        eprintln!("seed {}: {said}", trial.seed);
    }
    sealed.is_ok()
}

fn seal(journal: &Path, home: &Path) -> Result<(), String> {
    let dir = home.join("archive");
    let mut signer = archive::key::Signer::load_or_create(&home.join("keys"), NODE)
        .map_err(|e| e.to_string())?;
    let node = archive::Archive::open(&dir, NODE).map_err(|e| e.to_string())?;
    node.seal(journal, Lsn(u64::MAX), &mut signer, SystemClock.now()).map_err(|e| e.to_string())?;
    let options = archive::verify::Options {
        journal: Some(journal.to_owned()),
        threads: 1,
        ..archive::verify::Options::new(dir)
    };
    let report = archive::verify::verify(&options).map_err(|e| e.to_string())?;
    if report.is_ok() { Ok(()) } else { Err(report.to_string()) }
}
