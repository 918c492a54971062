//! The node's signing keys: in files only their owner reads, or in a token that never gives them away, the first made on
//! first use; and the statement by which one follows another.

mod held;
mod retired;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::held::Held;
pub use self::held::{Keep, Sign, TokenFailure};
pub use self::retired::Retired;
use crate::attest::Attestation;
use crate::files;
use crate::note::{self, Checkpoint, PublicKey};

/// Keys of one node at most: one a week in ten years.
const KEYS_MAX: usize = 520;

/// Signs checkpoints.
pub struct Signer {
    dir: PathBuf,
    node: String,
    keys: Vec<PublicKey>,
    key: Held,
    /// The key that was made to follow, and whether a record of that is under the next checkpoint.
    next: Option<(Held, PublicKey, bool)>,
    /// Where keys are made; in files where absent.
    token: Option<Box<dyn Keep>>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused.
    #[error("cannot read or write the key {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold 32 bytes, or not the keys' lines.
    #[error("key {} is not as it was written", .0.display())]
    Malformed(PathBuf),
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// The token that holds the key can't be used.
    #[error("the token that holds the key `{name}` can't be used")]
    Token {
        /// The key's name there.
        name: String,
        /// Why not.
        #[source]
        source: TokenFailure,
    },
    /// The key is in a token, and nobody says in which.
    #[error("the key that {} names is in a token: say in which ([archive.key])", .0.display())]
    NoToken(PathBuf),
    /// The key signs, or is not this node's.
    #[error("`{0}` is no key that another has followed")]
    InUse(String),
    /// The token has no name left for a key.
    #[error("the token has keys up to `{0}`: remove what is not in use")]
    Names(String),
}

/// That one key follows another: the detail of a record of this kind. From the checkpoint on that covers the
/// record, the new one signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// A note (C2SP signed-note), signed with both keys.
    pub note: String,
}

/// What such a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The key before.
    pub old: PublicKey,
    /// The key from then on.
    pub new: PublicKey,
    /// The size up to which checkpoints of the old key stand, where it is not all: it is known to others.
    pub revoked_from: Option<u64>,
}

impl Rotation {
    /// The kind of the record.
    pub const KIND: &'static str = "key.rotated";

    const HEAD: &'static str = "vestibule/key-event/v1";

    /// What the detail of a record of that kind says; `None` where it is not of the log `origin`, or not signed
    /// with both keys.
    pub fn open(detail: &str, origin: &str) -> Option<Rotated> {
        let Self { note } = serde_json::from_str(detail).ok()?;
        let (text, lines) = note::split(&note)?;
        let mut words = text.lines();
        let is_ours = words.next()? == Self::HEAD && words.next()? == origin;
        let old = PublicKey::parse(&format!("{}\n", words.next()?))?;
        let new = PublicKey::parse(&format!("{}\n", words.next()?))?;
        let revoked_from = match words.next()? {
            "stands" => None,
            line => Some(line.strip_prefix("stands to ")?.parse().ok()?),
        };
        let rotated = Rotated { old, new, revoked_from };
        let is_whole = Self::text(origin, &rotated) == text && words.next().is_none();
        let signed =
            [&rotated.old, &rotated.new].iter().all(|key| note::is_signed(text, &lines, key));
        (is_ours && is_whole && signed).then_some(rotated)
    }

    fn text(origin: &str, rotated: &Rotated) -> String {
        let Rotated { old, new, revoked_from } = rotated;
        let stands = revoked_from.map(|size| format!(" to {size}")).unwrap_or_default();
        format!("{}\n{origin}\n{}{}stands{stands}\n", Self::HEAD, old.line(), new.line())
    }
}

impl Signer {
    /// The key of `node` in `dir`: `<node>.key` (mode 0600), and `<node>.vkey` beside it, its public keys in
    /// C2SP's form, the newest last; made where absent.
    pub fn load_or_create(dir: &Path, node: &str) -> Result<Self, KeyError> {
        Self::open(dir, node, None)
    }

    /// The same with keys in `token`: `<node>.key` has the name of the key there. One that was in a file before stays in
    /// force until it is replaced.
    pub fn open(dir: &Path, node: &str, token: Option<Box<dyn Keep>>) -> Result<Self, KeyError> {
        let path = dir.join(format!("{node}.key"));
        let key = match Held::read(&path, token.as_deref())? {
            Some(key) => key,
            None => Held::make(&path, token.as_deref(), &[])?,
        };
        let public = key.public(own_name(node));
        let list = dir.join(format!("{node}.vkey"));
        let text = fs::read_to_string(&list).unwrap_or_default();
        let mut keys = parse_all(&text).ok_or_else(|| KeyError::Malformed(list.clone()))?;
        // Of before keys were replaced; or a crash was between the key and the list.
        if keys.last() != Some(&public) {
            keys.push(public);
        }
        let next = Held::read(&dir.join(format!("{node}.key.next")), token.as_deref())?;
        let next = next.map(|key| {
            let public = key.public(own_name(node));
            (key, public, false)
        });
        let signer = Self { dir: dir.to_owned(), node: node.to_owned(), keys, key, next, token };
        signer.write_list()?;
        Ok(signer)
    }

    /// The key in a file of 32 bytes, whose public key is called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn load(path: &Path, name: &str) -> Result<Self, KeyError> {
        let missing =
            || KeyError::Io { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
        let key = Held::read(path, None)?.ok_or_else(missing)?;
        let keys = vec![key.public(name.to_owned())];
        let dir = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { dir, node: name.to_owned(), keys, key, next: None, token: None })
    }

    /// Whether what signs is in a file though keys are to be in a token.
    pub fn is_to_move(&self) -> bool {
        self.token.is_some() && !self.key.is_in_token()
    }

    /// Whether what signs next is at hand: a token may be away.
    ///
    /// # Errors
    /// If not, why.
    pub fn is_there(&self) -> Result<(), KeyError> {
        match &self.next {
            Some((key, _, true)) => key.is_there(),
            _ => self.key.is_there(),
        }
    }

    /// The public key that is in force.
    pub fn public(&self) -> &PublicKey {
        self.keys.last().expect("a signer has a key")
    }

    /// All of its public keys, a line each, the newest last.
    pub fn lines(&self) -> String {
        let next = self.next.iter().filter(|(_, _, follows)| *follows).map(|(_, public, _)| public);
        self.keys.iter().chain(next).map(PublicKey::line).collect()
    }

    /// The keys that the newest checkpoint can be signed with.
    pub(crate) fn keys(&self) -> Vec<&PublicKey> {
        let next = self.next.as_ref().map(|(_, public, _)| public);
        std::iter::once(self.public()).chain(next).collect()
    }

    /// Makes the key that is to follow, if there is none yet, and returns the detail of the record by which it
    /// does, in the log `origin`. With `revoked_from`, checkpoints of the old key stand only up to that size.
    pub fn rotate(&mut self, origin: &str, revoked_from: Option<u64>) -> Result<String, KeyError> {
        let path = self.path("key.next");
        if self.next.is_none() {
            let key = Held::make(&path, self.token.as_deref(), &self.keys)?;
            let public = key.public(own_name(&self.node));
            self.next = Some((key, public, false));
        }
        let Some((key, new, _)) = &self.next else { return Err(KeyError::Malformed(path)) };
        let (old, new) = (self.public().clone(), new.clone());
        let text = Rotation::text(origin, &Rotated { old, new: new.clone(), revoked_from });
        let signed =
            format!("{text}\n{}{}", self.key.line(&text, self.public())?, key.line(&text, &new)?);
        serde_json::to_string(&Rotation { note: signed })
            .map_err(|e| KeyError::Io { path, source: std::io::Error::other(e) })
    }

    /// The key that a record names follows with the next checkpoint, if it is ours.
    pub(crate) fn follow(&mut self, detail: &str) {
        let Some((_, public, follows)) = &mut self.next else { return };
        let Ok(Rotation { note }) = serde_json::from_str(detail) else { return };
        *follows |= note.lines().any(|line| public.line().trim_end() == line);
    }

    /// Puts the next key in force if `checkpoint` is signed with it: a crash came before that.
    pub(crate) fn catch_up(&mut self, checkpoint: &str) -> Result<(), KeyError> {
        if let Some((_, public, follows)) = &mut self.next {
            *follows = note::open(checkpoint, public).is_some();
        }
        self.settle()
    }

    /// Puts the key in force that a checkpoint is signed with now, and destroys the one before.
    pub(crate) fn settle(&mut self) -> Result<(), KeyError> {
        let Some((key, public, true)) = self.next.take_if(|(_, _, follows)| *follows) else {
            return Ok(());
        };
        self.keys.push(public);
        self.write_list()?;
        let (from, path) = (self.path("key.next"), self.path("key"));
        let renamed = fs::rename(&from, &path).and_then(|()| files::sync_dir(&self.dir));
        renamed.map_err(|source| KeyError::Io { path, source })?;
        self.key = key;
        Ok(())
    }

    /// The signed note of a checkpoint.
    ///
    /// # Errors
    /// If the token does not sign.
    pub fn sign(&self, checkpoint: &Checkpoint) -> Result<String, KeyError> {
        let text = checkpoint.text();
        let line = match &self.next {
            Some((key, public, true)) => key.line(&text, public)?,
            _ => self.key.line(&text, self.public())?,
        };
        Ok(format!("{text}\n{line}"))
    }

    fn write_list(&self) -> Result<(), KeyError> {
        let path = self.path("vkey");
        let text: String = self.keys.iter().map(PublicKey::line).collect();
        files::write(&path, text.as_bytes(), 0o644).map_err(|source| KeyError::Io { path, source })
    }

    fn path(&self, end: &str) -> PathBuf {
        self.dir.join(format!("{}.{end}", self.node))
    }

    /// The signed note of what is said of a document.
    ///
    /// # Errors
    /// If the token does not sign.
    pub fn attest(&self, said: &Attestation) -> Result<String, KeyError> {
        let text = said.text();
        Ok(format!("{text}\n{}", self.key.line(&text, self.public())?))
    }
}

/// The public keys in `text`, a line each; `None` where anything else is in it.
pub fn parse_all(text: &str) -> Option<Vec<PublicKey>> {
    let keys = text.lines().take(KEYS_MAX + 1).map(|line| PublicKey::parse(&format!("{line}\n")));
    keys.collect::<Option<Vec<_>>>().filter(|keys| keys.len() <= KEYS_MAX)
}

fn own_name(node: &str) -> String {
    format!("vestibule/node/{node}")
}
