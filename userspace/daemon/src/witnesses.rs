//! Has witnesses cosign what was sealed: each is asked after a seal and, while it lags, again and again. What they
//! say lies beside the checkpoint.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use archive::note::{self, Checkpoint};
use archive::{continues, files, layout};
use journal::recorder::Recorder;
use tlog::cosignature;
use tlog::policy::{Policy, Witness};
use tracing::{info, warn};
use types::control::WitnessStanding;
use witness::client::{self, Added, AskError};

/// How long a lagging witness is left alone at first; twice as long after each failure.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// How long at most: a witness that is back is asked within it.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// Witnesses of one log: each has one exchange of at most 15 s after a seal, one after the other.
const WITNESSES_MAX: usize = 16;

/// The witnesses of a log.
pub(crate) struct Witnesses {
    wake: SyncSender<()>,
    standings: Arc<Mutex<Vec<WitnessStanding>>>,
}

impl Witnesses {
    /// Those with a URL in the policy of `file`; starts the thread that asks them.
    pub(crate) fn start(
        file: &Path,
        archive: PathBuf,
        origin: String,
        recorder: Recorder,
    ) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let policy = Policy::parse(&text).with_context(|| file.display().to_string())?;
        let asked = policy.witnesses.into_iter().filter(|witness| witness.url.is_some());
        let asked: Vec<Asked> = asked.map(Asked::new).collect();
        if asked.is_empty() || asked.len() > WITNESSES_MAX {
            bail!("{}: 1 to {WITNESSES_MAX} witnesses with a URL", file.display());
        }
        let standings = asked.iter().map(Asked::standing).collect();
        let standings: Arc<Mutex<Vec<WitnessStanding>>> = Arc::new(Mutex::new(standings));
        // One waiting word is enough: whoever takes it looks at the newest checkpoint.
        let (wake, woken) = mpsc::sync_channel(1);
        let told = Arc::clone(&standings);
        let mut log = Log { archive, origin, recorder, asked };
        thread::Builder::new().name("witnesses".into()).spawn(move || {
            let mut pause = PAUSE_MIN;
            loop {
                let all = log.ask_all();
                *told.lock().unwrap_or_else(PoisonError::into_inner) =
                    log.asked.iter().map(Asked::standing).collect();
                pause = if all { PAUSE_MIN } else { pause.saturating_mul(2).min(PAUSE_MAX) };
                let word = if all {
                    woken.recv().map_err(|_| RecvTimeoutError::Disconnected)
                } else {
                    woken.recv_timeout(pause)
                };
                if word == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
        })?;
        Ok(Self { wake, standings })
    }

    /// Something was sealed.
    pub(crate) fn wake(&self) {
        if let Err(TrySendError::Disconnected(())) = self.wake.try_send(()) {
            warn!("witnesses are not asked any more");
        }
    }

    /// How far each is.
    pub(crate) fn standings(&self) -> Vec<WitnessStanding> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A witness and what is known of it.
struct Asked {
    witness: Witness,
    /// What it cosigned last.
    size: Option<u64>,
    /// The size that it is thought to know.
    known: u64,
    newest: u64,
    error: Option<String>,
}

impl Asked {
    fn new(witness: Witness) -> Self {
        Self { witness, size: None, known: 0, newest: 0, error: None }
    }

    fn standing(&self) -> WitnessStanding {
        let Self { witness: Witness { name, key: _, url }, size, known: _, newest, error } = self;
        WitnessStanding {
            name: name.clone(),
            url: url.clone().unwrap_or_default(),
            size: *size,
            rows_behind: newest.saturating_sub(size.unwrap_or(0)),
            error: error.clone(),
        }
    }
}

struct Log {
    archive: PathBuf,
    origin: String,
    recorder: Recorder,
    asked: Vec<Asked>,
}

impl Log {
    /// Asks whoever lags; false if anybody does still.
    fn ask_all(&mut self) -> bool {
        let Self { archive, origin, recorder, asked } = self;
        let newest = match continues::newest(archive, origin) {
            Ok(Some(newest)) => newest,
            Ok(None) => return true,
            Err(error) => {
                warn!(%error, "witnesses can't be asked");
                return false;
            }
        };
        let mut all = true;
        for asked in asked {
            asked.newest = newest.1.size;
            if asked.size == Some(asked.newest) {
                continue;
            }
            let error = ask(archive, origin, asked, &newest).err().map(|e| format!("{e:#}"));
            if let Some(why) = &error {
                all = false;
                if asked.error != error {
                    warn!(witness = asked.witness.name, why, "not cosigned");
                    refused(recorder, asked, why);
                }
            } else {
                info!(witness = asked.witness.name, rows = asked.newest, "cosigned");
            }
            asked.error = error;
        }
        all
    }
}

/// Records that a witness did not cosign: one that knows more, or another history, is evidence.
fn refused(recorder: &Recorder, asked: &Asked, why: &str) {
    let detail = serde_json::json!({
        "witness": asked.witness.name, "url": asked.witness.url, "knows": asked.known,
        "sealed": asked.newest, "why": why,
    });
    let kind = if asked.known > asked.newest { "log.rollback" } else { "witness.refused" };
    if let Err(error) = recorder.control(kind, &detail.to_string()) {
        warn!(%error, "that a witness did not cosign is not recorded");
    }
}

/// Has a witness cosign the newest checkpoint.
fn ask(
    archive: &Path,
    origin: &str,
    asked: &mut Asked,
    (note, says): &(String, Checkpoint),
) -> Result<()> {
    let url = asked.witness.url.as_deref().context("a witness that is asked has a URL")?;
    // Once by what it is thought to know, and once by what it says that it knows.
    for _ in 0..2 {
        if asked.known > says.size {
            bail!(
                "it knows {} rows, {} are sealed: the log was rolled back",
                asked.known,
                says.size
            );
        }
        let proof = {
            let folder = File::open(archive).context("the archive")?;
            folder.lock_shared().context("the archive can't be locked against a seal")?;
            continues::consistency(archive, origin, asked.known, says.size)?
        };
        match client::add(url, asked.known, &proof, note) {
            Ok(Added::Cosigned(lines)) => {
                keep(archive, origin, asked, says, note, &lines)?;
                (asked.known, asked.size) = (says.size, Some(says.size));
                return Ok(());
            }
            Ok(Added::Knows(size)) => asked.known = size,
            Err(AskError::Refused { status: 422, text }) => {
                bail!("it knows another history of this log: {text}")
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("it knows {} rows, and does not take what follows", asked.known)
}

/// Writes a cosignature beside the checkpoint, with those of others.
fn keep(
    archive: &Path,
    origin: &str,
    asked: &Asked,
    says: &Checkpoint,
    note: &str,
    lines: &str,
) -> Result<()> {
    let (text, _) = note::split(note).context("a checkpoint is a note")?;
    let new = note::lines(lines).context("it answers no signatures")?;
    let key = &asked.witness.key;
    cosignature::time_s(text, &new, key).context("its signature is not by the policy's key")?;
    let is_own = |line: &note::Line| line.name == key.name && line.id == key.id();
    let path = archive.join(layout::log_dir(origin)).join(layout::cosigned(says.size));
    let before = fs::read_to_string(&path).unwrap_or_default();
    let before = note::lines(&before).unwrap_or_default();
    let others = before.iter().filter(|line| !is_own(line));
    let all: String =
        others.chain(new.iter().filter(|l| is_own(l))).map(note::Line::to_string).collect();
    files::write(&path, all.as_bytes(), 0o644).with_context(|| path.display().to_string())
}
