//! A hub of its own: an embedded database (redb: one file, copy on write, checksums; no C, built in seconds).
//!
//! Statements' texts are in memory alone, so that none is left in the file's free pages: after a restart their hosts
//! say them again.

mod commit;
mod tables;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use approval::Vote;
use approval::desk::{Standing, Which};
use redb::{Database, ReadableDatabase};
use types::id::RequestId;

use super::{Bell, Cast, Progress, StoreError, TEXT_BYTES_MAX, Text, Word};
use crate::protocol::{DueVote, Hello, Settled, VoteId};
use commit::Committer;

/// The file.
#[derive(Debug)]
pub struct FileStore {
    database: Arc<Database>,
    committer: Committer,
    texts: Arc<Mutex<Texts>>,
    bell: Bell,
}

/// What of the file is kept in memory: all that waits and the newest pages of what is over.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// What waiting requests say, by their ids: there before a request is seen to wait, and until it is seen to be over.
#[derive(Debug, Default)]
struct Texts {
    of: HashMap<RequestId, Text>,
    bytes: usize,
    /// New with the transaction that is not durable yet.
    added: HashSet<RequestId>,
    /// Over by it.
    over: HashSet<RequestId>,
}

impl FileStore {
    /// Opens the file, or makes it; nobody else may have it open.
    ///
    /// # Errors
    /// If it can't be opened, or is of a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        tables::prepare(&database)?;
        let database = Arc::new(database);
        let texts: Arc<Mutex<Texts>> = Arc::default();
        let settled = Arc::clone(&texts);
        let committer = Committer::start(Arc::clone(&database), move |is_durable| {
            lock(&settled).settle(is_durable);
        });
        Ok(Self { database, committer, texts, bell: Bell::default() })
    }

    pub(super) async fn tell(
        &self,
        node: &str,
        mut standings: Vec<Standing>,
    ) -> Result<(), StoreError> {
        let mut texts = Vec::with_capacity(standings.len());
        for Standing { request, ended, .. } in &mut standings {
            let text = Text::take(request);
            texts.push((request.id, ended.is_none().then_some(text)));
        }
        let (node, kept) = (node.to_owned(), Arc::clone(&self.texts));
        self.committer
            .run(move |transaction| {
                lock(&kept).check(&texts)?;
                let mut taken = HashSet::new();
                let told = tables::tell(transaction, &node, &standings, &mut taken);
                // Where there was no room for all, some are taken nevertheless.
                let mut kept = lock(&kept);
                for (id, text) in texts.into_iter().filter(|(id, _)| taken.contains(id)) {
                    kept.take(id, text);
                }
                told
            })
            .await?;
        self.bell.tell(&Word::Standings);
        Ok(())
    }

    pub(super) async fn hello(
        &self,
        node: &str,
        hello: Hello,
    ) -> Result<Vec<RequestId>, StoreError> {
        let (node, kept) = (node.to_owned(), Arc::clone(&self.texts));
        let (wanted, ended) = self
            .committer
            .run(move |transaction| {
                let mut kept = lock(&kept);
                let has_text = |id| kept.of.contains_key(&id);
                let (wanted, ended) = tables::hello(transaction, &node, &hello, has_text)?;
                kept.over.extend(&ended);
                Ok((wanted, ended))
            })
            .await?;
        if !ended.is_empty() {
            self.bell.tell(&Word::Standings);
        }
        Ok(wanted)
    }

    pub(super) async fn due(&self, node: &str, most: usize) -> Result<Vec<DueVote>, StoreError> {
        let node = node.to_owned();
        self.read(move |transaction| tables::due(transaction, &node, most)).await
    }

    pub(super) async fn settle(&self, node: &str, settled: Vec<Settled>) -> Result<(), StoreError> {
        let node = node.to_owned();
        let ids = settled.iter().map(|settled| settled.id).collect();
        self.committer.run(move |transaction| tables::settle(transaction, &node, &settled)).await?;
        self.bell.tell(&Word::Settled(ids));
        Ok(())
    }

    pub(super) async fn cast(&self, id: RequestId, vote: Vote) -> Result<Cast, StoreError> {
        let (cast, node) =
            self.committer.run(move |transaction| tables::cast(transaction, id, &vote)).await?;
        if let (Cast::Kept(_), Some(node)) = (cast, node) {
            self.bell.tell(&Word::Votes(node));
        }
        Ok(cast)
    }

    pub(super) async fn progress(&self, id: VoteId) -> Result<Progress, StoreError> {
        self.read(move |transaction| tables::progress(transaction, id)).await
    }

    pub(super) async fn list(
        &self,
        which: Which,
        most: usize,
    ) -> Result<Vec<Standing>, StoreError> {
        let listed = self.read(move |transaction| tables::list(transaction, which, most)).await?;
        let texts = lock(&self.texts);
        Ok(listed.into_iter().map(|standing| texts.complete(standing)).collect())
    }

    pub(super) async fn show(&self, id: RequestId) -> Result<Option<Standing>, StoreError> {
        let shown = self.read(move |transaction| tables::show(transaction, id)).await?;
        Ok(shown.map(|standing| lock(&self.texts).complete(standing)))
    }

    pub(super) async fn sweep(&self, late_us: i64, old_us: i64) -> Result<(u64, u64), StoreError> {
        let kept = Arc::clone(&self.texts);
        let (ended, forgotten) = self
            .committer
            .run(move |transaction| {
                let (ended, forgotten) = tables::sweep(transaction, late_us, old_us)?;
                lock(&kept).over.extend(&ended);
                Ok((ended.len(), forgotten))
            })
            .await?;
        if ended > 0 {
            self.bell.tell(&Word::Standings);
        }
        Ok((u64::try_from(ended).unwrap_or(u64::MAX), forgotten))
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Runs what only reads, off the thread that answers.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        let looked = tokio::task::spawn_blocking(move || look(&database.begin_read()?)).await;
        looked.unwrap_or(Err(StoreError::Closed))
    }
}

fn lock(texts: &Mutex<Texts>) -> MutexGuard<'_, Texts> {
    // Whoever panicked with it left a map: texts are put and taken whole.
    texts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Texts {
    fn check(&self, more: &[(RequestId, Option<Text>)]) -> Result<(), StoreError> {
        let new = more.iter().filter(|(id, _)| !self.of.contains_key(id));
        let new: usize = new.filter_map(|(_, text)| text.as_ref()).map(Text::bytes).sum();
        if new > 0 && self.bytes.saturating_add(new) > TEXT_BYTES_MAX {
            return Err(StoreError::Texts);
        }
        Ok(())
    }

    /// Takes what a request says; with nothing, it is over.
    fn take(&mut self, id: RequestId, text: Option<Text>) {
        let Some(text) = text else {
            self.over.insert(id);
            return;
        };
        self.over.remove(&id);
        self.bytes += text.bytes();
        match self.of.insert(id, text) {
            Some(before) => self.bytes -= before.bytes(),
            None => _ = self.added.insert(id),
        }
    }

    /// Lets go of what is over by the transaction, or, where that failed, of what would have been new.
    fn settle(&mut self, is_durable: bool) {
        let (added, over) = (std::mem::take(&mut self.added), std::mem::take(&mut self.over));
        for id in if is_durable { over } else { added } {
            self.bytes -= self.of.remove(&id).map_or(0, |text| text.bytes());
        }
    }

    fn complete(&self, mut standing: Standing) -> Standing {
        if let Some(text) = self.of.get(&standing.request.id)
            && standing.ended.is_none()
        {
            text.clone().give(&mut standing.request);
        }
        standing
    }
}
