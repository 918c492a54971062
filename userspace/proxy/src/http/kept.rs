//! What of an answer is recorded: its head in words, text of its body as far as policy has it kept, and a digest.

use mask::FreeText;
use sha2::{Digest, Sha256};
use types::decision::Keep;
use types::limits::{RESPONSE_RECORD_BYTES_MAX, RESPONSE_SAMPLE_BYTES_MAX};

/// Gathers it as the answer goes down.
pub(super) struct Kept {
    /// The head in words, which the sample begins with.
    head: String,
    /// Text of the body, as the agent sees it; none where it is no text.
    text: Option<Vec<u8>>,
    /// Bytes of both, at most.
    most: usize,
    /// Of all of the body as the agent sees it, where policy asks for that.
    digest: Option<Sha256>,
}

impl Kept {
    /// Nothing of the body yet.
    pub(super) fn new(head: String, is_text: bool, record: Option<Keep>) -> Self {
        let most = record
            .map_or(RESPONSE_SAMPLE_BYTES_MAX, |keep| keep.words().min(RESPONSE_RECORD_BYTES_MAX));
        Self { head, text: is_text.then(Vec::new), most, digest: record.map(|_| Sha256::new()) }
    }

    /// Takes what goes down of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Self { head: _, text, most, digest } = self;
        if let Some(text) = text {
            let room = most.saturating_sub(text.len()).min(bytes.len());
            text.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        if let Some(digest) = digest {
            digest.update(bytes);
        }
    }

    /// What is recorded in words, without secrets, and the digest.
    pub(super) fn finish(self) -> (Vec<u8>, Option<[u8; 32]>) {
        let Self { mut head, text, most, digest } = self;
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            let kept = FreeText::default().mask(&text, true, &mut None);
            head.push('\n');
            head.push_str(kept.as_deref().unwrap_or("[no text]"));
        }
        head.truncate(head.floor_char_boundary(most));
        (head.into_bytes(), digest.map(|digest| digest.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_kept_as_policy_says() {
        let kept = |record| {
            let mut kept = Kept::new("HTTP/1.1 200 text/plain".into(), true, record);
            (0..100_000).for_each(|_| kept.push(b"a"));
            let (sample, digest) = kept.finish();
            (sample.len(), digest.is_some())
        };
        for (record, expected) in [
            (None, (RESPONSE_SAMPLE_BYTES_MAX, false)),
            (Some(Keep::Digest), (0, true)),
            (Some(Keep::Head(100)), (100, true)),
            (Some(Keep::Full), (RESPONSE_RECORD_BYTES_MAX, true)),
        ] {
            assert_eq!(kept(record), expected, "{record:?}");
        }
    }
}
