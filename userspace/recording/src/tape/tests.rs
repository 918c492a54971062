//! What is sealed is opened to the byte, by its key and in its place alone.

use proptest::prelude::*;

use super::*;
use crate::chunk::{OpenError, Place, open};
use crate::entry::read;

const SESSION: SessionId = SessionId::from_bytes([7; 16]);

fn at(unix_us: i64) -> Timestamp {
    Timestamp { unix_us, mono_ns: 0 }
}

/// A sealed chunk, taken from its tape.
#[derive(Clone, Debug)]
struct Kept {
    chunk: u32,
    codec: &'static str,
    nonce: [u8; 12],
    bytes: Vec<u8>,
}

fn kept(sealed: Sealed<'_>) -> Kept {
    let Sealed { chunk, codec, nonce, bytes, .. } = sealed;
    Kept { chunk, codec, nonce, bytes: bytes.to_vec() }
}

/// Records all of `parts`, and seals after those that say so.
fn record(dek: &[u8; 32], parts: &[(Kind, Vec<u8>, bool)]) -> Vec<Kept> {
    let mut tape = Tape::new(dek, ("node", 1), SESSION, "postgresql");
    let mut chunks = Vec::new();
    for (number, (kind, bytes, seals)) in parts.iter().enumerate() {
        let (mut rest, mut is_first) = (bytes.as_slice(), true);
        while is_first || !rest.is_empty() {
            if tape.is_full() {
                chunks.extend(tape.seal(kept).unwrap());
            }
            let offset = (bytes.len() - rest.len()) as u64;
            let command = CommandId(u32::try_from(number).unwrap());
            rest = tape.put((*kind, command), at(5), offset, rest);
            is_first = false;
        }
        if *seals {
            chunks.extend(tape.seal(kept).unwrap());
        }
    }
    chunks.extend(tape.seal(kept).unwrap());
    assert!(tape.seal(kept).unwrap().is_none());
    chunks
}

fn place(chunk: u32) -> Place<'static> {
    Place { node: "node", epoch: 1, session: SESSION, stream: "postgresql", chunk }
}

fn opened(dek: &[u8; 32], one: &Kept, place: Place<'_>) -> Result<Vec<u8>, OpenError> {
    open(dek, place, (one.codec, &one.nonce), &one.bytes)
}

fn parts() -> impl Strategy<Value = Vec<(Kind, Vec<u8>, bool)>> {
    let kind = prop_oneof![
        Just(Kind::Statement),
        Just(Kind::Parameters),
        Just(Kind::Answer),
        Just(Kind::Sent),
        Just(Kind::Received),
        Just(Kind::Gap),
        Just(Kind::End)
    ];
    let text = proptest::collection::vec(any::<u8>(), 0..300);
    // Some of it longer than two chunks, some that compresses and some that does not.
    let bytes = (text, prop_oneof![3 => Just(1_usize), 1 => 100..600_usize])
        .prop_map(|(text, times)| text.repeat(times));
    proptest::collection::vec((kind, bytes, any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_is_opened_to_the_byte(dek in any::<[u8; 32]>(), parts in parts()) {
        let chunks = record(&dek, &parts);
        let mut found: Vec<(Kind, CommandId, Vec<u8>, bool)> = Vec::new();
        let (mut sent, mut received) = (0, 0);
        for (number, one) in chunks.iter().enumerate() {
            prop_assert_eq!(one.chunk, u32::try_from(number).unwrap());
            prop_assert!(one.bytes.len() <= types::limits::RECORDING_SEALED_BYTES_MAX);
            let plain = opened(&dek, one, place(one.chunk)).unwrap();
            for entry in read(&plain).unwrap() {
                let head = entry.head;
                match head.kind {
                    Kind::Sent => {
                        prop_assert_eq!(head.offset, sent);
                        sent += entry.bytes.len() as u64;
                    }
                    Kind::Received => {
                        prop_assert_eq!(head.offset, received);
                        received += entry.bytes.len() as u64;
                    }
                    _ => {}
                }
                match found.last_mut() {
                    Some((_, _, bytes, goes_on)) if *goes_on => {
                        bytes.extend_from_slice(entry.bytes);
                        *goes_on = head.goes_on;
                    }
                    _ => found.push((head.kind, head.command, entry.bytes.to_vec(), head.goes_on)),
                }
            }
        }
        prop_assert_eq!(found.len(), parts.len());
        for (number, ((kind, command, bytes, goes_on), (its, expected, _))) in found.iter().zip(&parts).enumerate() {
            prop_assert_eq!((kind, *command, *goes_on), (its, CommandId(u32::try_from(number).unwrap()), false));
            prop_assert!(bytes == expected);
        }
    }

    #[test]
    fn whatever_is_altered_or_moved_is_refused(
        dek in any::<[u8; 32]>(),
        parts in parts(),
        (which, byte, flip) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..=u8::MAX),
    ) {
        let chunks = record(&dek, &parts);
        let one = which.get(&chunks);
        let here = place(one.chunk);
        let refused = Err(OpenError::Refused(one.chunk));
        prop_assert!(opened(&dek, one, here).is_ok());
        let mut altered = one.clone();
        let at = byte.index(altered.bytes.len());
        altered.bytes[at] ^= flip;
        prop_assert_eq!(opened(&dek, &altered, here), refused.clone());
        altered.bytes.truncate(at);
        prop_assert_eq!(opened(&dek, &altered, here), refused.clone());
        let mut other_key = dek;
        other_key[0] ^= 1;
        prop_assert_eq!(opened(&other_key, one, here), refused.clone());
        for elsewhere in [
            Place { node: "nod", ..here },
            Place { epoch: 2, ..here },
            Place { session: SessionId::from_bytes([8; 16]), ..here },
            Place { stream: "http", ..here },
        ] {
            prop_assert_eq!(opened(&dek, one, elsewhere), refused.clone());
        }
        let next = place(one.chunk + 1);
        prop_assert_eq!(opened(&dek, one, next), Err(OpenError::Nonce(one.chunk + 1)));
        let renumbered = Kept { nonce: chunk::nonce(one.chunk + 1), ..one.clone() };
        prop_assert_eq!(opened(&dek, &renumbered, next), Err(OpenError::Refused(one.chunk + 1)));
        let other = if one.codec == chunk::RAW { chunk::ZSTD } else { chunk::RAW };
        let relabelled = Kept { codec: other, ..one.clone() };
        prop_assert_eq!(opened(&dek, &relabelled, here), refused);
    }
}

#[test]
fn an_idle_session_keeps_little() {
    let mut tape = Tape::new(&[1; 32], ("node", 1), SESSION, "postgresql");
    let long = vec![7; RECORDING_CHUNK_BYTES_MAX];
    assert!(!tape.put((Kind::Received, CommandId(1)), at(1), 0, &long).is_empty());
    assert!(tape.is_full());
    tape.seal(kept).unwrap().unwrap();
    assert!(tape.plain.capacity() <= RECORDING_KEPT_BYTES);
}
