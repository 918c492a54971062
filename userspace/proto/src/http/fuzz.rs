//! The fuzzers' entry point: heads and targets of any bytes, and sides of connections.

use super::pieces::Pieces;
use super::{head, read};
use crate::piece::Piece;

/// Runs one input: nothing panics, and what is recorded of a request has no digits of its values in its template.
///
/// # Panics
/// If a promise is broken.
pub fn one_input(input: &[u8]) {
    for sent in [true, false] {
        every_byte_is_told(sent, input);
    }
    // Either answer is right.
    let _ = head::examine(input);
    let text = String::from_utf8_lossy(input);
    let (path, query) =
        text.split_once('?').map_or((&*text, None), |(path, query)| (path, Some(query)));
    let Ok(asked) = read("GET", path, query) else { return };
    let again = read("GET", &asked.wire, None).expect("what goes up can be read");
    assert_eq!((&again.path, &again.wire), (&asked.path, &asked.wire), "it has one reading");
    assert!(!asked.template.contains('@') && !asked.template.contains(' '));
}

/// What is told of a side are its bytes, in order, and lengths of what is left out; wherever it is cut.
fn every_byte_is_told(sent: bool, input: &[u8]) {
    let cut = input.first().map_or(1, |byte| usize::from(*byte) + 1);
    let told = |cut: usize| {
        let mut pieces = if sent { Pieces::sent() } else { Pieces::received() };
        let mut told: Vec<Result<u8, &str>> = Vec::new();
        let mut each = |_: bool, piece: Piece<'_>| match piece {
            Piece::Bytes(bytes) => told.extend(bytes.iter().copied().map(Ok)),
            Piece::Gap(count, why) => told.extend((0..count).map(|_| Err(why.as_str()))),
        };
        input.chunks(cut).for_each(|bytes| pieces.push(bytes, &mut each));
        pieces.finish(&mut each);
        told
    };
    let whole = told(input.len().max(1));
    assert_eq!(whole, told(cut), "cut each {cut}");
    assert_eq!(whole.len(), input.len());
    assert!(whole.iter().zip(input).all(|(told, byte)| told.is_err() || *told == Ok(*byte)));
}
