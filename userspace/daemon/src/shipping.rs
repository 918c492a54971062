//! Ships what is sealed to the configured store, in a thread of its own: after each seal, and while something is due
//! again and again. Nothing waits for it.

mod config;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use archive::witnessed;
use journal::recorder::Recorder;
use ship::ShipError;
use ship::hold;
use ship::pass::{Shipped, Shipper};
use ship::prune::{self, Limits};
use ship::remote::Remote;
use tlog::policy::Policy;
use tracing::{info, warn};
use types::clock::Clock;
use types::control::ShipStanding;
use types::hex::hex;

pub(crate) use config::{Prune, ShipRule, variables};

use crate::app::note;
use crate::archiver::{be_nice, keep_delta};
use crate::config::Config;
use crate::environment::Environment;

/// How long a store that fails is left alone at first; twice as long after each failure, and up to half as long again.
const PAUSE_MIN: Duration = Duration::from_secs(2);

/// How long at most: a store that is back is used within it.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// Cosignatures come after a seal: how long until they are looked for.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);

/// How often is looked for what may go: all manifests are read then.
const LET_GO_INTERVAL_US: i64 = 3_600_000_000;

const DAY_US: i64 = 86_400_000_000;

/// The shipment of an archive.
pub(crate) struct Shipping {
    wake: SyncSender<()>,
    standing: Arc<Mutex<ShipStanding>>,
}

/// What the thread has.
struct Work {
    archive: PathBuf,
    origin: String,
    state_dir: PathBuf,
    place: ship::place::Place,
    prune: Prune,
    keep_days: u32,
    policy: Option<Policy>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    shipper: Option<Shipper>,
    /// When files were let go last.
    let_go_us: i64,
    /// The rows up to which the store holds what holds are on.
    held_upto: Option<u64>,
    /// What was recorded last: the same trouble is one record.
    trouble: Option<String>,
}

impl Shipping {
    /// Starts the thread, where a store is configured.
    pub(crate) fn start(
        config: &Config,
        environment: Option<&Environment>,
        origin: &str,
        recorder: &Recorder,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>> {
        let Some(rule) = &config.archive.ship else { return Ok(None) };
        let policy = config.archive.witnesses.as_deref().map(policy).transpose()?;
        let place = rule.open(environment)?;
        let url = place.url();
        let mut work = Work {
            archive: config.archive_dir(),
            origin: origin.to_owned(),
            state_dir: config.state_dir.join("ship"),
            place,
            prune: rule.prune,
            keep_days: rule.keep_days,
            policy,
            recorder: recorder.clone(),
            clock: Arc::clone(clock),
            shipper: None,
            let_go_us: i64::MIN,
            held_upto: None,
            trouble: None,
        };
        // One waiting word is enough: whoever takes it looks at all that is sealed.
        let (wake, woken) = mpsc::sync_channel(1);
        let standing = Arc::new(Mutex::new(ShipStanding { url, ..ShipStanding::default() }));
        let told = Arc::clone(&standing);
        thread::Builder::new().name("shipping".into()).spawn(move || {
            be_nice("shipping");
            let mut pause = PAUSE_MIN;
            loop {
                let is_done = work.once(&told);
                pause = if is_done { PAUSE_MIN } else { pause.saturating_mul(2).min(PAUSE_MAX) };
                let wait =
                    if is_done { LOOK_INTERVAL } else { pause.saturating_add(jitter(pause)) };
                if woken.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
        })?;
        Ok(Some(Self { wake, standing }))
    }

    /// Something was sealed.
    pub(crate) fn wake(&self) {
        if let Err(TrySendError::Disconnected(())) = self.wake.try_send(()) {
            warn!("nothing is shipped any more");
        }
    }

    /// How far it is.
    pub(crate) fn standing(&self) -> ShipStanding {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Work {
    /// Ships and lets go what is due; false if that failed.
    fn once(&mut self, told: &Mutex<ShipStanding>) -> bool {
        self.stand(told, None);
        let done = self.ship().and_then(|()| self.hold()).and_then(|()| self.let_go());
        let error = done.as_ref().err().map(with_sources);
        if let Err(error) = &done {
            self.failed(error);
        } else if self.trouble.take().is_some() {
            self.record("ship.resumed", &serde_json::json!({ "remote": self.place.url() }));
        }
        self.stand(told, error);
        done.is_ok()
    }

    fn ship(&mut self) -> Result<(), ShipError> {
        let shipper = match &mut self.shipper {
            Some(shipper) => shipper,
            none => {
                let remote = Remote::open(&self.place)?;
                none.insert(Shipper::open(&self.archive, &self.origin, &self.state_dir, remote)?)
            }
        };
        let before = shipper.state().size;
        let Shipped { size, written, there, left, bytes } = shipper.pass()?;
        if size > before {
            info!(rows = size, objects = written, bytes, "shipped");
            let detail = serde_json::json!({
                "remote": self.place.url(), "size": size, "written": written, "there": there, "left": left,
                "bytes": bytes, "lock": self.place.lock.as_ref().map(|lock| lock.mode.as_str()),
            });
            self.record("ship.shipped", &detail);
        }
        Ok(())
    }

    /// Has the store hold what holds are on.
    fn hold(&mut self) -> Result<(), ShipError> {
        let Some(shipper) = self.shipper.as_mut() else { return Ok(()) };
        let size = shipper.state().size;
        // Holds are records of the log: without more of it they are what they were.
        if self.held_upto == Some(size) {
            return Ok(());
        }
        let Self { archive, origin, state_dir, .. } = self;
        let changed = hold::apply(archive, origin, shipper.remote(), size, state_dir)?;
        self.held_upto = Some(size);
        let hold::Changed { held, released } = changed;
        for (kind, names) in [("ship.held", held), ("ship.hold_released", released)] {
            for part in names.chunks(NAMES_MAX) {
                let detail = serde_json::json!({ "remote": self.place.url(), "files": part });
                self.record(kind, &detail);
            }
        }
        Ok(())
    }

    /// Lets files go that are safe in the store.
    fn let_go(&mut self) -> Result<(), ShipError> {
        let Some(shipper) = self.shipper.as_mut().filter(|_| self.prune != Prune::Never) else {
            return Ok(());
        };
        let now_us = self.clock.now().unix_us;
        if now_us < self.let_go_us.saturating_add(LET_GO_INTERVAL_US) {
            return Ok(());
        }
        let state = shipper.state().clone();
        let upto = match (self.prune, &self.policy) {
            (Prune::AfterRemote, _) => state.size,
            (Prune::Witnessed, Some(policy)) => {
                witnessed::upto(&self.archive, &self.origin, policy)
                    .map_err(|source| ShipError::Io { path: self.archive.clone(), source })?
            }
            (Prune::Never | Prune::Witnessed, _) => return Ok(()),
        };
        // Today's files stay in any case.
        let day = now_us.div_euclid(DAY_US) - i64::from(self.keep_days);
        let limits = Limits { upto, day, now_us };
        let gone = prune::prune(&self.archive, shipper.remote(), &state, &limits)?;
        self.let_go_us = now_us;
        let Some(first) = gone.first() else { return Ok(()) };
        keep_delta(&self.archive, false);
        info!(files = gone.len(), first = first.path, "let go: they are in the store");
        let names: Vec<_> = gone.iter().map(|e| [e.path.as_str(), e.sha256.as_str()]).collect();
        for part in names.chunks(NAMES_MAX) {
            let detail =
                serde_json::json!({ "remote": self.place.url(), "upto": upto, "files": part });
            self.record("archive.pruned", &detail);
        }
        Ok(())
    }

    /// Records that nothing is shipped and why, once for each reason.
    fn failed(&mut self, error: &ShipError) {
        let why = with_sources(error);
        let (kind, key) = match error {
            ShipError::Conflict { name, .. } => ("ship.conflict", format!("conflict {name}")),
            ShipError::Rollback(_) => ("ship.conflict", "rollback".to_owned()),
            ShipError::Lock(_) => ("ship.failed", "lock".to_owned()),
            // The words of a failing network differ from try to try.
            error if error.is_passing() => ("ship.failed", "failing".to_owned()),
            _ => ("ship.failed", why.clone()),
        };
        warn!(why, "not shipped");
        if self.trouble.as_ref() == Some(&key) {
            return;
        }
        self.trouble = Some(key);
        let mut detail = serde_json::json!({ "remote": self.place.url(), "why": why });
        if let ShipError::Conflict { name, here, there } = error {
            let sum = |sum: &ship::Sum| serde_json::json!({ "sha256": hex(&sum.sha256), "bytes": sum.bytes });
            detail["object"] = name.as_str().into();
            detail["here"] = sum(here);
            detail["there"] = sum(there);
        }
        self.record(kind, &detail);
    }

    fn record(&self, kind: &str, detail: &serde_json::Value) {
        note(&self.recorder, kind, detail);
    }

    fn stand(&self, told: &Mutex<ShipStanding>, error: Option<String>) {
        let Some(shipper) = &self.shipper else {
            told.lock().unwrap_or_else(PoisonError::into_inner).error = error;
            return;
        };
        let backlog = shipper.backlog().unwrap_or_default();
        let now = ShipStanding {
            url: self.place.url(),
            size: shipper.state().size,
            rows_behind: backlog.rows,
            files_behind: backlog.files,
            bytes_behind: backlog.bytes,
            oldest_us: backlog.oldest_sealed_us,
            error,
        };
        *told.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// Names of a record: of 200 B each, 40 KiB of a detail.
const NAMES_MAX: usize = 200;

/// The policy of witnesses in a file.
pub(crate) fn policy(path: &Path) -> Result<Policy> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Policy::parse(&text).with_context(|| path.display().to_string())
}

/// Up to half of a pause: hosts that lost a store together do not come back together.
fn jitter(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(0);
    pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

fn with_sources(error: &ShipError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
