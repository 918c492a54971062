//! Signed checkpoints: C2SP tlog-checkpoint in a C2SP signed-note, Ed25519.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::merkle::Hash;
use types::hex::hex;

/// Signature lines of a note at most: the log's and those of many witnesses.
pub const LINES_MAX: usize = 64;

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

/// What a key signs, by its first byte (C2SP signed-note "signature types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The text of a note: 0x01.
    Ed25519,
    /// A checkpoint, as a witness: 0x04 (C2SP tlog-cosignature).
    Cosignature,
}

impl Algorithm {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A public key with its name (C2SP signed-note "verifier key").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The name in signature lines.
    pub name: String,
    /// The key.
    pub key: VerifyingKey,
    /// What it signs.
    pub algorithm: Algorithm,
}

impl PublicKey {
    /// The key's id: first 4 bytes of SHA-256(name ‖ `\n` ‖ type ‖ key).
    pub fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update([b'\n', self.algorithm.byte()]);
        hash.update(self.key.as_bytes());
        let digest: Hash = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// `name+id+key` in one line.
    pub fn line(&self) -> String {
        let mut key = vec![self.algorithm.byte()];
        key.extend_from_slice(self.key.as_bytes());
        format!("{}+{}+{}\n", self.name, hex(&self.id()), STANDARD.encode(key))
    }

    /// The key in such a line; `None` where it is none, or its id is wrong.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.trim_end().split_once('+')?;
        let (_, key) = rest.split_once('+')?;
        let key: [u8; 33] = STANDARD.decode(key).ok()?.try_into().ok()?;
        let ([algorithm], key) = key.split_first_chunk::<1>()?;
        let algorithm = match algorithm {
            1 => Algorithm::Ed25519,
            4 => Algorithm::Cosignature,
            _ => return None,
        };
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        let parsed = Self { name: name.to_owned(), key, algorithm };
        (parsed.line() == line).then_some(parsed)
    }
}

/// A signature line of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// The signature, by the key's algorithm.
    pub bytes: Vec<u8>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, bytes } = self;
        let signed = [id.as_slice(), bytes].concat();
        writeln!(f, "\u{2014} {name} {}", STANDARD.encode(signed))
    }
}

/// The signature lines in `text`; `None` where anything else is in it, or more than [`LINES_MAX`].
pub fn lines(text: &str) -> Option<Vec<Line>> {
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    let parse = |line: &str| {
        let (name, signed) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let signed = STANDARD.decode(signed).ok()?;
        let (id, bytes) = signed.split_first_chunk::<4>()?;
        let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
        is_name.then(|| Line { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    };
    let lines: Option<Vec<Line>> = text.lines().take(LINES_MAX + 1).map(parse).collect();
    lines.filter(|lines| lines.len() <= LINES_MAX)
}

/// A note's text, which ends with a newline, and its signature lines; `None` where it is none.
pub fn split(note: &str) -> Option<(&str, Vec<Line>)> {
    let (text, signatures) = note.rsplit_once("\n\n")?;
    let text = note.get(..text.len() + 1)?;
    lines(signatures).filter(|lines| !lines.is_empty()).map(|lines| (text, lines))
}

/// The note of `text` signed with `key`, whose public half is `public`.
pub fn sign(text: &str, key: &SigningKey, public: &PublicKey) -> String {
    format!("{text}\n{}", signature(text, key, public))
}

/// The signature line of `text` alone.
pub fn signature(text: &str, key: &SigningKey, public: &PublicKey) -> String {
    let bytes = key.sign(text.as_bytes()).to_bytes().to_vec();
    Line { name: public.name.clone(), id: public.id(), bytes }.to_string()
}

/// Whether `key` signed `text` in one of `lines`, and none of its name and id is another's.
pub fn is_signed(text: &str, lines: &[Line], key: &PublicKey) -> bool {
    let own = lines.iter().filter(|line| line.name == key.name && line.id == key.id());
    let mut signed = false;
    for line in own {
        let signature = Signature::from_slice(&line.bytes);
        signed = signature.is_ok_and(|s| key.key.verify(text.as_bytes(), &s).is_ok());
        if !signed {
            return false;
        }
    }
    signed && key.algorithm == Algorithm::Ed25519
}

/// The text of `note` if `key` signed it and nothing else stands in it.
pub fn open<'a>(note: &'a str, key: &PublicKey) -> Option<&'a str> {
    let (text, lines) = split(note)?;
    let [line] = lines.as_slice() else { return None };
    let whole = format!("{text}\n{line}") == note;
    (whole && is_signed(text, &lines, key)).then_some(text)
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
