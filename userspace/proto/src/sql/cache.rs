//! Analysed texts or shapes of texts, least recently used forgotten first; keyed by the exact text or
//! shape and its reading.
//!
//! A hit hashes the text once and compares it once. The hash is seeded per process, and never
//! trusted alone.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use types::command::Statement;
use types::limits::{STATEMENT_CACHE_ENTRIES, STATEMENT_CACHE_TEXT_MAX};

use super::Reading;

/// Shards, so that sessions seldom wait for each other.
const SHARDS: usize = 16;

/// Text bytes kept in all: 8 MiB. Each byte is held at most three times (key, statement, normalized),
/// and 16,384 entries of some 512 B beside: 32 MiB, whatever agents send; twice that for texts and shapes. Where values are
/// kept, an analysis has at most two places of 8 B for each constant, which has 2 bytes of text, and 64 more: 72 MiB.
const TEXT_BYTES: usize = 8 * 1024 * 1024;

/// The cache.
pub(super) struct Cache {
    seed: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

struct Shard {
    entries: LruCache<u64, Entry>,
    text_bytes: usize,
}

struct Entry {
    text: Box<[u8]>,
    reading: Reading,
    statements: Arc<[Arc<Statement>]>,
}

impl Cache {
    /// An empty cache.
    pub(super) fn new() -> Self {
        let capacity =
            NonZeroUsize::new(STATEMENT_CACHE_ENTRIES / SHARDS).unwrap_or(NonZeroUsize::MIN);
        let shard = || Mutex::new(Shard { entries: LruCache::new(capacity), text_bytes: 0 });
        Self { seed: RandomState::new(), shards: std::array::from_fn(|_| shard()) }
    }

    /// What is known of `text`, if anything.
    pub(super) fn get(&self, text: &[u8], reading: Reading) -> Option<Arc<[Arc<Statement>]>> {
        if text.len() > STATEMENT_CACHE_TEXT_MAX {
            return None;
        }
        let hash = self.seed.hash_one(text);
        let mut shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entries.get(&hash)?;
        (entry.reading == reading && *entry.text == *text).then(|| Arc::clone(&entry.statements))
    }

    /// Remembers `statements` as what `text` means, unless the text is too long to keep.
    pub(super) fn put(&self, text: &[u8], reading: Reading, statements: &Arc<[Arc<Statement>]>) {
        if text.len() > STATEMENT_CACHE_TEXT_MAX {
            return;
        }
        let hash = self.seed.hash_one(text);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry { text: text.into(), reading, statements: Arc::clone(statements) };
        if let Some((_, old)) = shard.entries.push(hash, entry) {
            shard.text_bytes -= old.text.len();
        }
        shard.text_bytes += text.len();
        while shard.text_bytes > TEXT_BYTES / SHARDS {
            let Some((_, old)) = shard.entries.pop_lru() else { break };
            shard.text_bytes -= old.text.len();
        }
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::try_from(hash >> 32).ok()? % SHARDS)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}
