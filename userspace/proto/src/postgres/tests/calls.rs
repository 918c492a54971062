//! Functions whose names the server and the database both have.

use types::command::{Output, Risk};

use super::*;

/// Checks that the last command of an exchange counts as one that calls the database's own.
fn calls_own(steps: &[Step]) {
    let seen = check_opened(steps);
    let statement = &seen.commands().last().unwrap().statement;
    assert!(statement.risks.contains(Risk::UNKNOWN_FUNCTION), "{statement:?}");
    assert_eq!(statement.unknown_functions, [Arc::from("quote_ident")]);
    let outputs = statement.outputs.as_deref().unwrap();
    assert!(matches!(outputs, [Output::Opaque, Output::Column(b)] if &*b.column == "b"));
    let probed: Vec<&str> = statement.probes.iter().map(|column| &*column.column).collect();
    assert_eq!(probed, ["a", "b"], "all that is named may go there");
}

const TEXT: &str = "SELECT quote_ident(a), b FROM t";

#[test]
fn in_a_query() {
    let rows = [columns(&["quote_ident", "b"]), complete("SELECT 0"), ready(b'I')];
    calls_own(&[agent(&[query(TEXT)]), server(&rows), agent(&[query(TEXT)]), server(&rows)]);
}

#[test]
fn in_an_execution() {
    calls_own(&[
        agent(&[parse("s", TEXT, &[]), bind("", "s", false, &[], &[]), execute(""), sync()]),
        server(&[
            done(b'1'),
            done(b'2'),
            columns(&["quote_ident", "b"]),
            complete("SELECT 0"),
            ready(b'I'),
        ]),
    ]);
}

#[test]
fn in_what_was_prepared_by_sql() {
    calls_own(&[
        agent(&[query(&format!("PREPARE s AS {TEXT}"))]),
        server(&[complete("PREPARE"), ready(b'I')]),
        agent(&[query("EXECUTE s")]),
        server(&[columns(&["quote_ident", "b"]), complete("SELECT 0"), ready(b'I')]),
    ]);
}

#[test]
fn the_servers_own_by_its_schema_is_the_servers() {
    for text in ["SELECT pg_catalog.quote_ident(a) FROM t", "SELECT lower(a) FROM t"] {
        let seen = check_opened(&[
            agent(&[query(text)]),
            server(&[columns(&["x"]), complete("SELECT 0"), ready(b'I')]),
        ]);
        let [command] = seen.commands()[..] else { panic!("one command") };
        assert!(command.statement.unknown_functions.is_empty(), "{text}");
    }
}
