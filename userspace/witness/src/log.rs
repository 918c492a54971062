//! What a witness knows of logs, and what it answers: C2SP tlog-witness without HTTP.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tlog::cosignature;
use tlog::merkle::{Hash, Tree};
use tlog::note::{self, Line, PublicKey};
use tlog::proof;
use types::hex::hex;

use crate::keyfile::{self, Key};

/// Logs that a witness follows at most: a site's hosts.
pub const LOGS_MAX: usize = 10_000;

/// What is answered: an HTTP status, a type, a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body's type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// A witness.
pub struct Witness {
    dir: PathBuf,
    key: Key,
    logs: BTreeMap<String, Vec<PublicKey>>,
    /// One checkpoint at a time: what is compared with the last one is kept before the next is.
    turn: Mutex<()>,
}

impl Witness {
    /// A witness with its state in `dir`, of the logs in `list`: lines of an origin and a key; a log whose key was
    /// replaced has several.
    ///
    /// # Errors
    /// If the list is none, or the folder can't be made.
    pub fn new(dir: &Path, key: Key, list: &str) -> io::Result<Self> {
        let wrong = |line: &str| io::Error::other(format!("not an origin and a key: {line}"));
        let mut logs: BTreeMap<String, Vec<PublicKey>> = BTreeMap::new();
        for line in list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let (origin, key) = line.trim().rsplit_once(' ').ok_or_else(|| wrong(line))?;
            let key = PublicKey::parse(&format!("{key}\n")).ok_or_else(|| wrong(line))?;
            logs.entry(origin.to_owned()).or_default().push(key);
        }
        if logs.len() > LOGS_MAX {
            return Err(io::Error::other("too many logs"));
        }
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), key, logs, turn: Mutex::new(()) })
    }

    /// Answers `add-checkpoint` at a time, POSIX seconds.
    pub fn add(&self, body: &str, time_s: u64) -> Answer {
        let Some(asked) = Asked::parse(body) else {
            return plain(400, "not an old size, a proof and a checkpoint");
        };
        let Some(keys) = self.logs.get(asked.origin) else { return plain(404, "log is not known") };
        let is_signed = |key: &PublicKey| note::is_signed(asked.text, &asked.lines, key);
        let is_forged = |key: &PublicKey| {
            let own = asked.lines.iter().any(|line| line.name == key.name && line.id == key.id());
            own && !is_signed(key)
        };
        if !keys.iter().any(is_signed) || keys.iter().any(is_forged) {
            return plain(403, "checkpoint is not signed with a key of the log");
        }
        if asked.old > asked.size {
            return plain(400, "the old size is greater than the checkpoint's");
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match self.last(asked.origin) {
            Ok(last) => last,
            Err(error) => return plain(500, &format!("own state can't be read: {error}")),
        };
        let (known, root) = last.unwrap_or_else(|| (0, Tree::default().root()));
        if known != asked.old {
            let (status, content_type) = (409, "text/x.tlog.size");
            return Answer { status, content_type, body: format!("{known}\n") };
        }
        let is_empty_right = asked.size > 0 || asked.root == Tree::default().root();
        let continues =
            proof::is_consistent((known, &root), (asked.size, &asked.root), &asked.proof);
        if !continues || !is_empty_right {
            return plain(422, "checkpoint does not continue the last one");
        }
        let line = cosignature::cosign(asked.text, time_s, &self.key.key, &self.key.public);
        let own = asked
            .lines
            .iter()
            .filter(|line| keys.iter().any(|key| line.name == key.name && line.id == key.id()));
        let own: String = own.map(Line::to_string).collect();
        let kept = format!("{}\n{own}{line}", asked.text);
        match keyfile::write(&self.path(asked.origin), kept.as_bytes(), 0o644) {
            Ok(()) => Answer { status: 200, content_type: "text/plain; charset=utf-8", body: line },
            Err(error) => plain(500, &format!("checkpoint can't be kept: {error}")),
        }
    }

    /// Answers what was cosigned last of the log whose origin has this hash, hex.
    pub fn checkpoint(&self, origin_hash: &str) -> Answer {
        let origin = self.logs.keys().find(|origin| hash(origin) == origin_hash);
        let kept = origin.map(|origin| std::fs::read_to_string(self.path(origin)));
        match kept {
            Some(Ok(body)) => {
                Answer { status: 200, content_type: "text/plain; charset=utf-8", body }
            }
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                plain(500, &format!("own state can't be read: {error}"))
            }
            _ => plain(404, "no checkpoint of this log was cosigned"),
        }
    }

    /// Size and root of the last checkpoint; a state that can't be read is no empty one.
    fn last(&self, origin: &str) -> io::Result<Option<(u64, Hash)>> {
        let kept = match std::fs::read_to_string(self.path(origin)) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (text, lines) = note::split(&kept).ok_or(io::ErrorKind::InvalidData)?;
        // Its own word alone: whoever could write here else could have it forget.
        if cosignature::time_s(text, &lines, &self.key.public).is_none() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let head = head(text).filter(|(kept, ..)| *kept == origin);
        head.map(|(_, size, root)| Some((size, root))).ok_or(io::ErrorKind::InvalidData.into())
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.dir.join(hash(origin))
    }
}

/// SHA-256 of an origin, hex: its name in the monitoring interface.
pub fn hash(origin: &str) -> String {
    hex(&Sha256::digest(origin))
}

/// A request.
struct Asked<'a> {
    old: u64,
    proof: Vec<Hash>,
    text: &'a str,
    origin: &'a str,
    size: u64,
    root: Hash,
    lines: Vec<Line>,
}

impl<'a> Asked<'a> {
    fn parse(body: &'a str) -> Option<Self> {
        let (head_lines, note) = body.split_once("\n\n")?;
        let mut lines = head_lines.lines();
        let old = number(lines.next()?.strip_prefix("old ")?)?;
        let proof: Option<Vec<Hash>> = lines.map(decode).collect();
        let proof = proof.filter(|proof| proof.len() <= proof::HASHES_MAX)?;
        let (text, lines) = note::split(note)?;
        let (origin, size, root) = head(text)?;
        Some(Self { old, proof, text, origin, size, root, lines })
    }
}

/// Origin, size and root of a checkpoint (C2SP tlog-checkpoint), whatever extension lines follow.
fn head(text: &str) -> Option<(&str, u64, Hash)> {
    let mut lines = text.lines();
    let origin = lines.next().filter(|origin| !origin.is_empty())?;
    let (size, root) = (number(lines.next()?)?, decode(lines.next()?)?);
    lines.all(|line| !line.is_empty()).then_some((origin, size, root))
}

/// A decimal without leading zeroes.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn decode(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn plain(status: u16, text: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", body: format!("{text}\n") }
}
