//! Turning the journal into the archive, one at a time, at low priority.

use std::path::PathBuf;
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

/// The archiver's thread.
pub(crate) struct Archiver {
    requests: mpsc::SyncSender<mpsc::Sender<Result<Sealed>>>,
}

impl Archiver {
    /// Opens the archive and starts its thread.
    pub(crate) fn start(
        config: &Config,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let dir = config.archive_dir();
        let archive = Archive::open(&dir, &config.node())
            .with_context(|| format!("archive in {}", dir.display()))?;
        let signer = Signer::load_or_create(&config.keys_dir(), &config.node())?;
        let journal_dir = config.journal_dir();
        let (requests, waiting) = mpsc::sync_channel::<mpsc::Sender<Result<Sealed>>>(WAITING_MAX);
        let work = move || {
            if let Err(error) =
                rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)
            {
                warn!(%error, "the archiver keeps its priority");
            }
            for reply in waiting {
                let sealed = seal(&archive, &signer, &recorder, &journal_dir, &*clock);
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
    archive: &Archive,
    signer: &Signer,
    recorder: &Recorder,
    journal_dir: &PathBuf,
    clock: &dyn Clock,
) -> Result<Sealed> {
    let durable = recorder.control("archive.seal", "{}")?;
    recorder.wait(durable)?;
    let sealed = archive.seal(journal_dir, durable, signer, clock.now())?;
    info!(rows = sealed.tree_size, files = sealed.files.len(), "sealed");
    Ok(sealed)
}
