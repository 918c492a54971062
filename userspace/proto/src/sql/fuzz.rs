//! The fuzzer's way in: a text, and what must hold of what is said of it whatever it is.

use std::sync::Arc;

use types::command::{Action, Class, Risk, Statement};

use super::shape::Shape;
use super::{Reading, secrets, statement};

/// Runs one input: a byte of flags (1: backslashes escape in plain strings; 2: also as the statement
/// of an EXPLAIN ANALYZE), then the text.
pub fn one_input(input: &[u8]) {
    let Some((flags, text)) = input.split_first() else { return };
    let reading = Reading { standard_conforming_strings: flags & 1 == 0 };
    let statements = statement::read(text, reading, true).statements;
    assert!(!statements.is_empty(), "every text is at least one statement");
    for statement in statements.iter() {
        check(statement);
    }
    assert_eq!(
        statements,
        statement::read(text, reading, true).statements,
        "the same text says the same"
    );
    if let ([one], true) = (&*statements, flags & 2 != 0) {
        explained(one, text, reading);
    }
    others_of_its_shape(text, reading);
}

/// What is said of a text holds for every text of its shape.
pub(super) fn others_of_its_shape(text: &[u8], reading: Reading) {
    let read = statement::read(text, reading, true);
    let Some(shape) = Shape::of(text).filter(|shape| read.is_of_shape(text, shape)) else { return };
    for (integer, string) in [("0", "''"), ("1", "'role'"), ("123456789", "'%1$*s {public.t}'")] {
        let other = shape.text_of(integer, string);
        let told = statement::read(&other, reading, true).statements;
        // What this server's grammar reads as one, it reads as one whatever its constants are.
        let [one] = &*read.statements else { unreachable!("texts with a shape are one statement") };
        assert_eq!(statement::alike(one, &other).as_slice(), &*told, "of one shape");
    }
}

fn check(statement: &Statement) {
    let found = secrets::find(&statement.text);
    assert!(found.parameters.iter().all(|number| *number > 0), "parameters count from 1");
    assert!(!statement.accesses.is_empty(), "a statement does something");
    assert!(statement.probes.is_sorted(), "probes are sorted");
    if statement.risks.contains(Risk::UNPARSED) {
        assert_eq!(&*statement.normalized, "UNKNOWN", "what does not parse is not shown");
        assert_eq!(statement.class(), Class::Unknown, "nor is it harmless");
    }
    let writes = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "MERGE", "SELECT INTO", "CALL", "DO"];
    if writes.contains(&statement.verb) || statement.verb.starts_with("CREATE ") {
        assert!(statement.needs_wal(), "{} is no read", statement.verb);
    }
    if !statement.unknown_functions.is_empty() {
        assert!(statement.risks.contains(Risk::UNKNOWN_FUNCTION), "it may write");
    }
}

/// What EXPLAIN ANALYZE runs, it does.
fn explained(one: &Arc<Statement>, text: &[u8], reading: Reading) {
    const EXPLAINED: [&str; 6] = ["SELECT", "VALUES", "INSERT", "UPDATE", "DELETE", "MERGE"];
    if !EXPLAINED.contains(&one.verb) {
        return;
    }
    let whole = [b"EXPLAIN (ANALYZE) ".as_slice(), text].concat();
    let [whole] = &*statement::read(&whole, reading, true).statements else { return };
    if whole.verb != "EXPLAIN" {
        return;
    }
    for access in &one.accesses {
        let known = whole.accesses.contains(access) || access.action == Action::Session;
        assert!(known, "an EXPLAIN ANALYZE does what it explains: {access:?}");
    }
    // But its rows stay where they are.
    let risks = one.risks - Risk::FULL_EXPORT;
    assert!(whole.risks.contains(risks), "and is as dangerous");
}
