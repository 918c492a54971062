//! Signed checkpoints: C2SP tlog-checkpoint in a C2SP signed-note, Ed25519.

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::merkle::Hash;
use types::hex::hex;

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// SHA-256 of the newest manifest file: an extension line, `manifest` and hex.
    pub manifest: Hash,
}

impl Checkpoint {
    /// The note's text, without signatures.
    pub fn text(&self) -> String {
        let Self { origin, size, root, manifest } = self;
        format!("{origin}\n{size}\n{}\nmanifest {}\n", STANDARD.encode(root), hex(manifest))
    }

    /// The checkpoint in a note's text; `None` where it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let checkpoint = Self {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: STANDARD.decode(lines.next()?).ok()?.try_into().ok()?,
            manifest: unhex(lines.next()?.strip_prefix("manifest ")?)?,
        };
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

/// A public key with its name (C2SP signed-note "verifier key").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The name in signature lines.
    pub name: String,
    /// The key.
    pub key: VerifyingKey,
}

impl PublicKey {
    /// The key's id: first 4 bytes of SHA-256(name ‖ `\n` ‖ 0x01 ‖ key).
    pub fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update(b"\n\x01");
        hash.update(self.key.as_bytes());
        let digest: Hash = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// `name+id+key` in one line.
    pub fn line(&self) -> String {
        let mut key = vec![1];
        key.extend_from_slice(self.key.as_bytes());
        format!("{}+{}+{}\n", self.name, hex(&self.id()), STANDARD.encode(key))
    }

    /// The key in such a line; `None` where it is none, or its id is wrong.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.trim_end().split_once('+')?;
        let (_, key) = rest.split_once('+')?;
        let key: [u8; 33] = STANDARD.decode(key).ok()?.try_into().ok()?;
        let (_, key) = key.split_first_chunk::<1>()?;
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        let parsed = Self { name: name.to_owned(), key };
        (parsed.line() == line).then_some(parsed)
    }
}

/// The signed note of `text`.
pub(crate) fn seal(text: &str, key: &PublicKey, signature: &Signature) -> String {
    let mut bytes = key.id().to_vec();
    bytes.extend_from_slice(&signature.to_bytes());
    format!("{text}\n\u{2014} {} {}\n", key.name, STANDARD.encode(bytes))
}

/// The text of `note` if `key` signed it and nothing else stands in it.
pub fn open<'a>(note: &'a str, key: &PublicKey) -> Option<&'a str> {
    let (text, lines) = note.split_once("\n\n")?;
    let text = note.get(..text.len() + 1)?;
    let line = lines.strip_prefix('\u{2014}')?.strip_prefix(' ')?;
    let bytes = STANDARD.decode(line.trim_end().rsplit_once(' ')?.1).ok()?;
    let (_, signature) = bytes.split_first_chunk::<4>()?;
    let signature = Signature::from_slice(signature).ok()?;
    key.key.verify(text.as_bytes(), &signature).ok()?;
    (seal(text, key, &signature) == note).then_some(text)
}

/// 32 bytes from lower-case hex.
pub fn unhex(text: &str) -> Option<Hash> {
    let mut out = [0; 32];
    let pairs = text.as_bytes().as_chunks::<2>().0;
    for (byte, pair) in out.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (hex(&out) == text).then_some(out)
}
