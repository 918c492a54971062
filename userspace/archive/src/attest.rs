//! What a signer says of a document: its digest, what it is and when, in a C2SP signed note. No checkpoint can be read
//! out of it, nor it out of a checkpoint: its second line is no number.

use types::clock::utc;
use types::hex::{hex, unhex};

use crate::merkle::Hash;
use crate::note::{self, PublicKey};

/// What kinds of documents there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// The manifest of an evidence kit.
    Kit,
    /// A report on controls.
    Controls,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// What the document is.
    pub document: Document,
    /// Its SHA-256.
    pub sha256: Hash,
    /// When, to the second, microseconds since 1970 UTC.
    pub at_us: i64,
}

impl Document {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kit => "evidence-kit",
            Self::Controls => "controls-report",
        }
    }

    /// The document of that word; `None` where there is none.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Kit, Self::Controls].into_iter().find(|document| document.as_str() == word)
    }
}

impl Attestation {
    /// The note's text, without signatures.
    pub fn text(&self) -> String {
        let Self { document, sha256, at_us } = self;
        let (word, digest, at) = (document.as_str(), hex(sha256), utc(*at_us));
        format!("vestibule/attestation/v1\ndocument {word}\nsha256 {digest}\nat {at}\n")
    }
}

/// The digest that `note` says `key` signed for such a document; `None` where it did not.
pub fn attested(note: &str, key: &PublicKey, document: Document) -> Option<Hash> {
    let mut lines = note::open(note, key)?.lines();
    let head = ["vestibule/attestation/v1".to_owned(), format!("document {}", document.as_str())];
    let is_it = head.iter().all(|line| lines.next() == Some(line));
    unhex(lines.next()?.strip_prefix("sha256 ")?).filter(|_| is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Signer;
    use crate::note::Checkpoint;

    #[test]
    fn what_is_attested_is_read_back_and_is_no_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::load_or_create(dir.path(), "n1").unwrap();
        let said = Attestation { document: Document::Kit, sha256: [7; 32], at_us: 0 };
        let note = signer.attest(&said).unwrap();
        assert_eq!(attested(&note, signer.public(), Document::Kit), Some([7; 32]));
        assert_eq!(attested(&note, signer.public(), Document::Controls), None);
        assert_eq!(Checkpoint::parse(&said.text()), None);
        let (origin, manifest) = ("vestibule/attestation/v1".to_owned(), [0; 32]);
        let checkpoint = Checkpoint { origin, size: 1, root: [7; 32], manifest };
        assert_eq!(
            attested(&signer.sign(&checkpoint).unwrap(), signer.public(), Document::Kit),
            None
        );
        let other = Signer::load(&dir.path().join("n1.key"), "vestibule/signer/x").unwrap();
        assert_eq!(attested(&note, other.public(), Document::Kit), None);
    }
}
