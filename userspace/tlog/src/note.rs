//! Signed checkpoints: C2SP tlog-checkpoint in a C2SP signed-note, Ed25519; ECDSA on P-256 from tokens that have nothing
//! else, as most TPMs.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use p256::ecdsa;
use sha2::{Digest, Sha256};

use crate::merkle::Hash;
use types::hex::{hex, unhex};

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
    /// The text of a note, over SHA-256 on P-256, in DER (RFC 3279 §2.2.3): 0x02.
    Ecdsa,
    /// A checkpoint, as a witness: 0x04 (C2SP tlog-cosignature).
    Cosignature,
}

impl Algorithm {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Ecdsa => 2,
            Self::Cosignature => 4,
        }
    }
}

/// A SubjectPublicKeyInfo of a key on P-256, DER, but for its uncompressed point (RFC 5480).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifierKey {
    /// On Edwards's curve.
    Ed25519(VerifyingKey),
    /// On NIST's P-256.
    P256(ecdsa::VerifyingKey),
}

impl From<VerifyingKey> for VerifierKey {
    fn from(key: VerifyingKey) -> Self {
        Self::Ed25519(key)
    }
}

impl VerifierKey {
    /// The Ed25519 key of 32 bytes (RFC 8032); `None` where they are none.
    pub fn ed25519(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().map(Self::Ed25519)
    }

    /// The key of an uncompressed point on P-256 (SEC 1 §2.3.3); `None` where it is none.
    pub fn p256(point: &[u8]) -> Option<Self> {
        ecdsa::VerifyingKey::from_sec1_bytes(point).ok().map(Self::P256)
    }

    /// As a note's key line has it: 32 bytes (RFC 8032), or a SubjectPublicKeyInfo in DER (RFC 5480).
    fn encoded(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.as_bytes().to_vec(),
            Self::P256(key) => [&P256_HEAD, key.to_encoded_point(false).as_bytes()].concat(),
        }
    }

    /// Whether it signed `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => {
                Signature::from_slice(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
            Self::P256(key) => {
                let signature = ecdsa::Signature::from_der(signature);
                signature
                    .is_ok_and(|s| ecdsa::signature::Verifier::verify(key, message, &s).is_ok())
            }
        }
    }
}

/// A public key with its name (C2SP signed-note "verifier key").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The name in signature lines.
    pub name: String,
    /// The key.
    pub key: VerifierKey,
    /// What it signs.
    pub algorithm: Algorithm,
}

impl PublicKey {
    /// The key of this name that signs notes.
    pub fn of_notes(name: String, key: VerifierKey) -> Self {
        let algorithm = match key {
            VerifierKey::Ed25519(_) => Algorithm::Ed25519,
            VerifierKey::P256(_) => Algorithm::Ecdsa,
        };
        Self { name, key, algorithm }
    }

    /// The key's id: the first 4 bytes of SHA-256(name ‖ `\n` ‖ type ‖ key), and with ECDSA of SHA-256(key).
    pub fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        if self.algorithm != Algorithm::Ecdsa {
            hash.update(self.name.as_bytes());
            hash.update([b'\n', self.algorithm.byte()]);
        }
        hash.update(self.key.encoded());
        let digest: Hash = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// `name+id+key` in one line.
    pub fn line(&self) -> String {
        let mut key = vec![self.algorithm.byte()];
        key.extend_from_slice(&self.key.encoded());
        format!("{}+{}+{}\n", self.name, hex(&self.id()), STANDARD.encode(key))
    }

    /// The key in such a line; `None` where it is none, or its id is wrong.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.trim_end().split_once('+')?;
        let (_, key) = rest.split_once('+')?;
        let key = STANDARD.decode(key).ok()?;
        let (algorithm, key) = key.split_first()?;
        let ed25519 = || VerifierKey::ed25519(key.try_into().ok()?);
        let (algorithm, key) = match algorithm {
            1 => (Algorithm::Ed25519, ed25519()?),
            2 => {
                let point = key.strip_prefix(&P256_HEAD)?;
                (Algorithm::Ecdsa, VerifierKey::p256(point)?)
            }
            4 => (Algorithm::Cosignature, ed25519()?),
            _ => return None,
        };
        let parsed = Self { name: name.to_owned(), key, algorithm };
        (parsed.line() == line).then_some(parsed)
    }

    /// The signature line of what this key signed.
    pub fn signature_line(&self, bytes: Vec<u8>) -> String {
        Line { name: self.name.clone(), id: self.id(), bytes }.to_string()
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
    public.signature_line(key.sign(text.as_bytes()).to_bytes().to_vec())
}

/// Whether `key` signed `text` in one of `lines`, and none of its name and id is another's.
pub fn is_signed(text: &str, lines: &[Line], key: &PublicKey) -> bool {
    let own = lines.iter().filter(|line| line.name == key.name && line.id == key.id());
    let mut signed = false;
    for line in own {
        signed = key.key.verifies(text.as_bytes(), &line.bytes);
        if !signed {
            return false;
        }
    }
    signed && key.algorithm != Algorithm::Cosignature
}

/// The text of `note` if `key` signed it and nothing else stands in it.
pub fn open<'a>(note: &'a str, key: &PublicKey) -> Option<&'a str> {
    let (text, lines) = split(note)?;
    let [line] = lines.as_slice() else { return None };
    let whole = format!("{text}\n{line}") == note;
    (whole && is_signed(text, &lines, key)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by OpenSSL 3.0: `ecparam -name prime256v1 -genkey`, `dgst -sha256 -sign`.
    #[test]
    fn what_openssl_signs_with_p256_is_signed() {
        let key = PublicKey::parse(KEY).unwrap();
        assert_eq!(key.algorithm, Algorithm::Ecdsa);
        let signature = STANDARD.decode(SIGNATURE).unwrap();
        let note = format!("{TEXT}\n{}", key.signature_line(signature));
        assert_eq!(open(&note, &key), Some(TEXT));
        assert_eq!(open(&note.replace("5\n", "6\n"), &key), None);
        // Another key's id under the same name, and a key of another kind.
        let other = SigningKey::from_bytes(&[3; 32]).verifying_key().into();
        let other = PublicKey::of_notes(key.name.clone(), other);
        assert_eq!(open(&note, &other), None);
        for broken in
            [KEY.replace("AgEGCC", "AgEGCB"), KEY.replace('+', "+0"), KEY.replace('A', "B")]
        {
            assert_eq!(PublicKey::parse(&broken), None, "{broken}");
        }
    }

    const TEXT: &str = "o\n5\nAAAA\n";
    const KEY: &str = "k/p256+95198ed8+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCm9RBQ4UeAlCnQgG4QiUuY2+OvyswdcdgP3DcStibE0TB33TmiDILX2WusP3vW883lLwc2/sHG2VIiw6FvXC0I=\n";
    const SIGNATURE: &str = "MEUCIQDew8eP2B1LgdOHTeJ5qbEqCzPyYn99NBfq6i2v0CxQrQIgS4ukLaFzzwwrd8HSLD/YRSlcYSEtODRahse+5QkktFU=";
}
