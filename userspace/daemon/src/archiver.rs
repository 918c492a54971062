//! Turning the journal into the archive, one at a time, at low priority.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow};
use archive::Archive;
use archive::attest::{Attestation, Document};
use archive::key::Signer;
use archive::seal::Sealed;
use journal::recorder::Recorder;
use tracing::{info, warn};
use types::clock::Clock;
use types::hex::hex;

use crate::asker::Asker;
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

/// The archiver's thread; it alone has the key.
pub(crate) struct Archiver {
    requests: mpsc::SyncSender<Job>,
}

/// What it is asked for, and who is answered.
enum Job {
    Seal(mpsc::Sender<Result<Sealed>>),
    Attest {
        document: Document,
        sha256: [u8; 32],
        asker: Asker,
        reply: mpsc::Sender<Result<Attested>>,
    },
}

/// A signed note, and the public key's line.
pub(crate) type Attested = (String, String);

impl Archiver {
    /// Starts the thread.
    pub(crate) fn start(
        config: &Config,
        vault: Vault,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let journal_dir = config.journal_dir();
        let (requests, waiting) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let work = move || {
            if let Err(error) =
                rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)
            {
                warn!(%error, "the archiver keeps its priority");
            }
            for job in waiting {
                let is_heard = match job {
                    Job::Seal(reply) => {
                        reply.send(seal(&vault, &recorder, &journal_dir, &*clock)).is_ok()
                    }
                    Job::Attest { document, sha256, asker, reply } => {
                        let said = Attestation { document, sha256, at_us: clock.now().unix_us };
                        reply.send(attest(&vault, &recorder, &said, &asker)).is_ok()
                    }
                };
                if !is_heard {
                    warn!("whoever asked the archiver has gone");
                }
            }
        };
        thread::Builder::new().name("archiver".into()).spawn(work)?;
        Ok(Self { requests })
    }

    /// Archives what the journal holds now and signs a checkpoint; waits for it.
    pub(crate) fn seal(&self) -> Result<Sealed> {
        let (reply, sealed) = mpsc::channel();
        self.requests
            .try_send(Job::Seal(reply))
            .map_err(|_| anyhow!("the archiver is busy; try again"))?;
        sealed.recv().context("the archiver has ended")?
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
    Ok((vault.signer.attest(said), vault.signer.public().line()))
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
