//! The fuzzer's way in: a text, and what must hold of what is said of it whatever it is.

use std::sync::Arc;

use types::command::{Action, Class, Risk, Statement};

use super::{Reading, statement};

/// Runs one input: a byte of flags (1: backslashes escape in plain strings; 2: also as the statement
/// of an EXPLAIN ANALYZE), then the text.
pub fn one_input(input: &[u8]) {
    let Some((flags, text)) = input.split_first() else { return };
    let reading = Reading { standard_conforming_strings: flags & 1 == 0 };
    let statements = statement::read(text, reading);
    assert!(!statements.is_empty(), "every text is at least one statement");
    for statement in statements.iter() {
        check(statement);
    }
    assert_eq!(statements, statement::read(text, reading), "the same text says the same");
    if let ([one], true) = (&*statements, flags & 2 != 0) {
        explained(one, text, reading);
    }
}

fn check(statement: &Statement) {
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
    let [whole] = &*statement::read(&whole, reading) else { return };
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
