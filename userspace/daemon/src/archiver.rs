//! Turning the journal into the archive, one at a time, at low priority.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow};
use archive::Archive;
use archive::key::Signer;
use archive::seal::Sealed;
use journal::recorder::Recorder;
use tracing::{info, warn};
use types::clock::Clock;

use crate::config::Config;

/// Requests waiting for the archiver: a timer's and a few people's.
const WAITING_MAX: usize = 16;

/// The niceness of the archiver's thread: queries come first.
const NICENESS: i32 = 10;

/// The archive and the key that signs for it.
pub(crate) struct Vault {
    archive: Archive,
    signer: Signer,
}

impl Vault {
    /// Opens them; the key is made on first use.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let dir = config.archive_dir();
        let archive = Archive::open(&dir, &config.node())
            .with_context(|| format!("archive in {}", dir.display()))?;
        let signer = Signer::load_or_create(&config.keys_dir(), &config.node())?;
        Ok(Self { archive, signer })
    }

    /// The rows that are signed for: a journal that holds fewer was rolled back.
    pub(crate) fn sealed_rows(&self, epoch: u32) -> Result<u64> {
        Ok(self.archive.sealed_rows(i32::try_from(epoch)?, &self.signer)?)
    }
}

/// The archiver's thread.
pub(crate) struct Archiver {
    requests: mpsc::SyncSender<mpsc::Sender<Result<Sealed>>>,
}

impl Archiver {
    /// Starts the thread.
    pub(crate) fn start(
        config: &Config,
        vault: Vault,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let journal_dir = config.journal_dir();
        let (requests, waiting) = mpsc::sync_channel::<mpsc::Sender<Result<Sealed>>>(WAITING_MAX);
        let work = move || {
            if let Err(error) =
                rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)
            {
                warn!(%error, "the archiver keeps its priority");
            }
            for reply in waiting {
                let sealed = seal(&vault, &recorder, &journal_dir, &*clock);
                if reply.send(sealed).is_err() {
                    warn!("whoever asked for the seal has gone");
                }
            }
        };
        thread::Builder::new().name("archiver".into()).spawn(work)?;
        Ok(Self { requests })
    }

    /// Archives what the journal holds now and signs a checkpoint; waits for it.
    pub(crate) fn seal(&self) -> Result<Sealed> {
        let (reply, sealed) = mpsc::channel();
        self.requests.try_send(reply).map_err(|_| anyhow!("the archiver is busy; try again"))?;
        sealed.recv().context("the archiver has ended")?
    }
}

fn seal(
    vault: &Vault,
    recorder: &Recorder,
    journal_dir: &Path,
    clock: &dyn Clock,
) -> Result<Sealed> {
    let durable = recorder.control("archive.seal", "{}")?;
    recorder.wait(durable)?;
    let sealed = vault.archive.seal(journal_dir, durable, &vault.signer, clock.now())?;
    info!(rows = sealed.tree_size, files = sealed.files.len(), "sealed");
    Ok(sealed)
}
