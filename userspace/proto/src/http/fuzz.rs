//! The fuzzers' entry point: heads and targets of any bytes.

use super::{head, read};

/// Runs one input: nothing panics, and what is recorded of a request has no digits of its values in its template.
///
/// # Panics
/// If a promise is broken.
pub fn one_input(input: &[u8]) {
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
