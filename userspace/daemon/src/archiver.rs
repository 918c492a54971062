//! Turning the journal into the archive, one at a time, at low priority.

use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use archive::Archive;
use archive::attest::{Attestation, Document};
use archive::delta;
use archive::key::{KeyError, Retired, Rotation, Signer};
use archive::layout;
use archive::seal::{SealError, Sealed};
use archive::worm;
use journal::recorder::Recorder;
use tracing::{info, warn};
use types::clock::Clock;
use types::control::{ShipStanding, WitnessStanding};
use types::hex::hex;

use crate::app::{EPOCH, note, record};
use crate::asker::Asker;
use crate::config::{Config, RetentionRule};
use crate::environment::Environment;
use crate::shipping::Shipping;
use crate::signing::TokenRule;
use crate::witnesses::Witnesses;

/// Requests waiting for the archiver: a timer's and a few people's.
const WAITING_MAX: usize = 16;

/// How often a token that is away is looked for.
const TOKEN_RETRY: Duration = Duration::from_secs(5);

/// The niceness of the archiver's thread: queries come first.
const NICENESS: i32 = 10;

/// What the archiver is asked for.
enum Ask {
    Seal,
    /// A new key; the size beyond which what the old one signs does not stand by itself.
    Rotate(Option<u64>),
}

/// The archive and the key that signs for it.
pub(crate) struct Vault {
    archive: Archive,
    signer: Signer,
    origin: String,
    has_delta: bool,
}

impl Vault {
    /// Opens them; the key is made on first use.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let dir = config.archive_dir();
        let mut archive = Archive::open(&dir, &config.node())
            .with_context(|| format!("archive in {}", dir.display()))?;
        if config.archive.immutable {
            archive = protected(archive, &dir, &config.node())?;
        }
        let token = config.archive.key.as_ref().map(TokenRule::token).transpose()?;
        let what = "the key that signs checkpoints";
        let signer = Signer::open(&config.keys_dir(), &config.node(), token).context(what)?;
        if let Some(rule) = config.archive.key.as_ref().filter(|_| signer.is_to_move()) {
            rule.try_out().context(what)?;
        }
        let origin = layout::origin(&config.node(), i32::try_from(EPOCH)?);
        let has_delta = config.archive.delta;
        Ok(Self { archive, signer, origin, has_delta })
    }

    /// The rows that are signed for: a journal that holds fewer was rolled back.
    pub(crate) fn sealed_rows(&self, epoch: u32) -> Result<u64> {
        Ok(self.archive.sealed_rows(i32::try_from(epoch)?, &self.signer)?)
    }
}

/// An archive whose sealed files can't be changed, those from before as well.
fn protected(archive: Archive, dir: &Path, node: &str) -> Result<Archive> {
    worm::probe(dir).with_context(|| {
        format!(
            "archive.immutable: {} takes no immutable attribute (ext4, XFS and Btrfs do, for a process with CAP_LINUX_IMMUTABLE)",
            dir.display()
        )
    })?;
    let files = worm::protect_sealed(dir, node, i32::try_from(EPOCH)?)
        .context("archive.immutable: what is sealed can't be protected")?;
    if files > 0 {
        info!(files, "sealed files can't be changed from now on");
    }
    Ok(archive.immutable())
}

/// The archiver's thread; it alone has the key.
pub(crate) struct Archiver {
    requests: mpsc::SyncSender<Job>,
    witnesses: Option<Arc<Witnesses>>,
    shipping: Option<Arc<Shipping>>,
    dir: PathBuf,
    origin: String,
    retention: RetentionRule,
    is_immutable: bool,
    /// Held by whoever sets or releases a hold, disposes or shreds: what one has looked at, no other changes.
    keeping: Mutex<()>,
    trouble: Trouble,
}

/// Why what is recorded is not sealed now.
type Trouble = Arc<Mutex<Option<String>>>;

/// What it is asked for, and who is answered.
enum Job {
    Seal(Ask, mpsc::Sender<Result<Sealed>>),
    Attest {
        document: Document,
        sha256: [u8; 32],
        asker: Asker,
        reply: mpsc::Sender<Result<Attested>>,
    },
    Destroy {
        names: Vec<String>,
        asker: Asker,
        reply: mpsc::Sender<Result<Vec<String>>>,
    },
}

/// A signed note, and the public key's line.
pub(crate) type Attested = (String, String);

impl Archiver {
    /// Starts the thread.
    pub(crate) fn start(
        config: &Config,
        environment: Option<&Environment>,
        vault: Vault,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let journal_dir = config.journal_dir();
        let witnesses = config.archive.witnesses.as_ref().map(|file| {
            let (origin, recorder) = (vault.origin.clone(), recorder.clone());
            Witnesses::start(file, config.archive_dir(), origin, recorder).map(Arc::new)
        });
        let witnesses = witnesses.transpose()?;
        let shipping = Shipping::start(config, environment, &vault.origin, &recorder, &clock)?;
        let shipping = shipping.map(Arc::new);
        let told = (witnesses.clone(), shipping.clone());
        let (dir, origin) = (config.archive_dir(), vault.origin.clone());
        let (retention, is_immutable) =
            (config.archive.retention.clone(), config.archive.immutable);
        // Kept or disposed of by which periods: found in the archive years later.
        let detail = serde_json::json!({
            "std7y_days": retention.std7y_days, "payload13m_days": retention.payload13m_days,
            "groups": retention.groups, "immutable": is_immutable,
        });
        recorder.control("archive.retention", &detail.to_string())?;
        let (requests, waiting) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let trouble: Trouble = Arc::default();
        let mut bench = Bench {
            vault,
            recorder,
            journal_dir,
            clock,
            trouble: Arc::clone(&trouble),
            is_away: false,
        };
        let work = move || {
            be_nice("the archiver");
            bench.work(&waiting, told);
        };
        thread::Builder::new().name("archiver".into()).spawn(work)?;
        let keeping = Mutex::new(());
        Ok(Self {
            requests,
            witnesses,
            shipping,
            dir,
            origin,
            retention,
            is_immutable,
            keeping,
            trouble,
        })
    }

    /// Archives what the journal holds now and signs a checkpoint; waits for it.
    pub(crate) fn seal(&self) -> Result<Sealed> {
        self.ask(Ask::Seal)
    }

    /// Replaces the key, and seals with the new one; waits for it.
    pub(crate) fn rotate_key(&self, revoked_from: Option<u64>) -> Result<Sealed> {
        self.ask(Ask::Rotate(revoked_from))
    }

    /// How far the witnesses are.
    pub(crate) fn witnesses(&self) -> Vec<WitnessStanding> {
        self.witnesses.as_ref().map(|witnesses| witnesses.standings()).unwrap_or_default()
    }

    /// The archive's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// How long files are kept, and who lets them go.
    pub(crate) fn retention(&self) -> &RetentionRule {
        &self.retention
    }

    /// Whether sealed files are made unchangeable.
    pub(crate) fn is_immutable(&self) -> bool {
        self.is_immutable
    }

    /// Waits until nobody else changes what is kept.
    pub(crate) fn keeping(&self) -> MutexGuard<'_, ()> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shipment; none where no store is configured.
    pub(crate) fn shipment(&self) -> Option<Arc<Shipping>> {
        self.shipping.clone()
    }

    /// How far the shipment is; none where no store is configured.
    pub(crate) fn shipping(&self) -> Option<ShipStanding> {
        self.shipping.as_ref().map(|shipping| shipping.standing())
    }

    /// Why what is recorded is not sealed now; none where it is, or was not tried.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, ask: Ask) -> Result<Sealed> {
        let (reply, sealed) = mpsc::channel();
        self.requests
            .try_send(Job::Seal(ask, reply))
            .map_err(|_| anyhow!("the archiver is busy; try again"))?;
        sealed.recv().context("the archiver has ended")?
    }

    /// Destroys keys in the token that others have followed, or says which there are; waits for it.
    pub(crate) fn destroy_keys(&self, names: Vec<String>, asker: Asker) -> Result<Vec<String>> {
        let (reply, destroyed) = mpsc::channel();
        let job = Job::Destroy { names, asker, reply };
        self.requests.try_send(job).map_err(|_| anyhow!("the archiver is busy; try again"))?;
        destroyed.recv().context("the archiver has ended")?
    }

    /// Signs what a document is, once that is recorded; waits for it.
    pub(crate) fn attest(
        &self,
        document: Document,
        sha256: [u8; 32],
        asker: Asker,
    ) -> Result<Attested> {
        let (reply, attested) = mpsc::channel();
        let job = Job::Attest { document, sha256, asker, reply };
        self.requests.try_send(job).map_err(|_| anyhow!("the archiver is busy; try again"))?;
        attested.recv().context("the archiver has ended")?
    }
}

/// What the archiver's thread works with.
struct Bench {
    vault: Vault,
    recorder: Recorder,
    journal_dir: PathBuf,
    clock: Arc<dyn Clock>,
    trouble: Trouble,
    /// Whether that is the token.
    is_away: bool,
}

impl Bench {
    /// Does what it is asked for until nobody asks any more, and wakes who waits for checkpoints.
    fn work(
        &mut self,
        waiting: &mpsc::Receiver<Job>,
        (witnesses, shipping): (Option<Arc<Witnesses>>, Option<Arc<Shipping>>),
    ) {
        self.move_key();
        loop {
            let asked = if self.is_away {
                waiting.recv_timeout(TOKEN_RETRY)
            } else {
                waiting.recv().map_err(RecvTimeoutError::from)
            };
            let job = match asked {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.look_for_token();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let is_heard = match job {
                Job::Seal(ask, reply) => {
                    let sealed = self.answer(&ask);
                    if let Some(witnesses) = &witnesses {
                        witnesses.wake();
                    }
                    if let Some(shipping) = &shipping {
                        shipping.wake();
                    }
                    reply.send(sealed).is_ok()
                }
                Job::Attest { document, sha256, asker, reply } => {
                    let at_us = self.clock.now().unix_us;
                    let said = Attestation { document, sha256, at_us };
                    reply.send(attest(&self.vault, &self.recorder, &said, &asker)).is_ok()
                }
                Job::Destroy { names, asker, reply } => {
                    reply.send(self.destroy(&names, &asker)).is_ok()
                }
            };
            if !is_heard {
                warn!("whoever asked the archiver has gone");
            }
        }
    }

    fn answer(&mut self, ask: &Ask) -> Result<Sealed> {
        let Self { vault, recorder, journal_dir, clock, .. } = self;
        let sealed = match ask {
            Ask::Seal => seal(vault, recorder, journal_dir, &**clock),
            Ask::Rotate(revoked_from) => {
                rotate(vault, *revoked_from, recorder, journal_dir, &**clock)
            }
        };
        self.note(sealed.as_ref().err());
        sealed
    }

    /// Destroys retired keys in the token, recorded before and after; without names says which there are.
    fn destroy(&mut self, names: &[String], asker: &Asker) -> Result<Vec<String>> {
        if names.is_empty() {
            self.vault.signer.is_there()?;
            let mut lines: Vec<String> = self.vault.signer.retired()?.iter().map(told).collect();
            lines.push(format!("{} keys in the token sign nothing any more", lines.len()));
            return Ok(lines);
        }
        // What followed them is in force then, by a checkpoint that it signed.
        self.answer(&Ask::Seal)?;
        let Vault { archive, signer, origin, .. } = &self.vault;
        ensure!(
            signer.signs(archive.dir(), origin),
            "no checkpoint is signed with the key in force: `vestibule verify` says why"
        );
        let found = signer.retired()?;
        let is_named = |one: &&Retired| names.contains(&one.name);
        if let Some(name) = names.iter().find(|name| !found.iter().any(|one| one.name == **name)) {
            let why = format!(
                "`{name}` is no key in the token that another of this node's has followed; one that signs is replaced \
                 first (`vestibule archive rotate-key`)"
            );
            let detail = serde_json::json!({ "name": name, "by": asker, "why": why });
            record(&self.recorder, "key.destroy_refused", &detail)?;
            bail!(why);
        }
        let mut lines = Vec::new();
        for one in found.iter().filter(is_named) {
            let detail = serde_json::json!({
                "name": one.name, "key": one.public.line().trim_end(), "by": asker,
            });
            record(&self.recorder, "key.destroying", &detail)?;
            signer.destroy(one)?;
            record(&self.recorder, "key.destroyed", &detail)?;
            warn!(name = one.name, "a retired key is destroyed");
            lines.push(format!("destroyed: {}", told(one)));
        }
        self.answer(&Ask::Seal)?;
        Ok(lines)
    }

    /// Replaces a key that is in a file though it should be in a token.
    fn move_key(&mut self) {
        if !self.vault.signer.is_to_move() {
            return;
        }
        info!("the key of checkpoints moves to its token");
        if let Err(error) = self.answer(&Ask::Rotate(None)) {
            warn!(error = format!("{error:#}"), "the key stays in its file until the next start");
        }
    }

    /// Seals what waited for the token, once that is back.
    fn look_for_token(&mut self) {
        if self.vault.signer.is_there().is_err() {
            return;
        }
        if let Err(error) = self.answer(&Ask::Seal) {
            warn!(error = format!("{error:#}"), "not sealed");
        }
    }

    /// Keeps what was said last, and records when a token goes and comes.
    fn note(&mut self, error: Option<&anyhow::Error>) {
        let why = error.map(|error| format!("{error:#}"));
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&why);
        let was_away = std::mem::replace(&mut self.is_away, error.is_some_and(is_of_token));
        let (kind, detail) = match (was_away, self.is_away) {
            (false, true) => ("key.away", serde_json::json!({ "why": why })),
            (true, false) => ("key.back", serde_json::json!({})),
            _ => return,
        };
        note(&self.recorder, kind, &detail);
    }
}

/// Whether a token is what is missing.
fn is_of_token(error: &anyhow::Error) -> bool {
    let is_token = |error: &KeyError| matches!(error, KeyError::Token { .. });
    error.chain().any(|cause| {
        let of_seal = cause.downcast_ref::<SealError>();
        cause.downcast_ref().is_some_and(is_token)
            || of_seal.is_some_and(|error| matches!(error, SealError::Key(key) if is_token(key)))
    })
}

/// A retired key in words: its name, and its public half.
fn told(retired: &Retired) -> String {
    let Retired { name, public } = retired;
    format!("{name} ({})", public.line().trim_end())
}

/// Lets queries come before what this thread does.
pub(crate) fn be_nice(who: &str) {
    let own = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(own, NICENESS) {
        warn!(%error, "{who} keeps its priority");
    }
}

fn attest(
    vault: &Vault,
    recorder: &Recorder,
    said: &Attestation,
    asker: &Asker,
) -> Result<Attested> {
    let detail = serde_json::json!({
        "document": said.document.as_str(), "sha256": hex(&said.sha256), "by": asker,
    });
    recorder.wait(recorder.control("archive.attested", &detail.to_string())?)?;
    Ok((vault.signer.attest(said)?, vault.signer.public().line()))
}

/// Seals with the old key what was before, records that the new one follows, and seals that with the new one.
fn rotate(
    vault: &mut Vault,
    revoked_from: Option<u64>,
    recorder: &Recorder,
    journal_dir: &Path,
    clock: &dyn Clock,
) -> Result<Sealed> {
    seal(vault, recorder, journal_dir, clock)?;
    let detail = vault.signer.rotate(&vault.origin, revoked_from)?;
    recorder.wait(recorder.control(Rotation::KIND, &detail)?)?;
    let sealed = seal(vault, recorder, journal_dir, clock)?;
    info!(key = vault.signer.public().line().trim_end(), "key replaced");
    Ok(sealed)
}

fn seal(
    vault: &mut Vault,
    recorder: &Recorder,
    journal_dir: &Path,
    clock: &dyn Clock,
) -> Result<Sealed> {
    // A token that is away is said once, not at each attempt.
    vault.signer.is_there()?;
    recorder.anchor()?;
    let durable = recorder.control("archive.seal", "{}")?;
    recorder.wait(durable)?;
    let sealed = vault.archive.seal(journal_dir, durable, &mut vault.signer, clock.now())?;
    info!(rows = sealed.tree_size, files = sealed.files.len(), "sealed");
    keep_delta(vault.archive.dir(), vault.has_delta);
    Ok(sealed)
}

/// Brings the Delta logs up to what lies there, or says why not: nothing depends on them.
pub(crate) fn keep_delta(archive: &Path, make: bool) {
    if let Err(error) = delta::keep(archive, make) {
        warn!(
            error = format!("{:#}", anyhow::Error::new(error)),
            "a Delta log is not as it should be"
        );
    }
}
