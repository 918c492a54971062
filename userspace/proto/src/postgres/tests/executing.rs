//! SQL's PREPARE, EXECUTE and DEALLOCATE.

use types::command::{Action, Risk};

use super::*;

/// What each command asked to do: its verb, its actions, whether it is opaque.
fn asked(seen: &Transcript) -> Vec<(&'static str, Vec<Action>, bool)> {
    let asked = seen.commands().into_iter().map(|command| {
        let actions = command.statement.accesses.iter().map(|access| access.action).collect();
        (command.statement.verb, actions, command.statement.risks.contains(Risk::OPAQUE))
    });
    asked.collect()
}

#[test]
fn an_execute_is_what_it_runs() {
    let seen = check_opened(&[
        agent(&[query("PREPARE s (int) AS DELETE FROM t WHERE a = $1")]),
        server(&[complete("PREPARE"), ready(b'I')]),
        agent(&[query("EXECUTE s (1)")]),
        server(&[complete("DELETE 1"), ready(b'I')]),
        agent(&[query("EXPLAIN EXECUTE s (1)")]),
        server(&[columns(&["QUERY PLAN"]), row(&[Some("x")]), complete("EXPLAIN"), ready(b'I')]),
        agent(&[query("EXPLAIN ANALYZE EXECUTE s (1)")]),
        server(&[columns(&["QUERY PLAN"]), row(&[Some("x")]), complete("EXPLAIN"), ready(b'I')]),
        agent(&[query("EXECUTE other")]),
        server(&[failed("26000", "there is none"), ready(b'I')]),
    ]);
    let found = asked(&seen);
    assert_eq!(found[0], ("PREPARE", vec![Action::Delete], false));
    assert_eq!(found[1], ("EXECUTE", vec![Action::Delete], false));
    assert_eq!(found[2], ("EXPLAIN", vec![Action::Select], false));
    assert_eq!(found[3], ("EXPLAIN", vec![Action::Delete], false));
    assert_eq!(found[4], ("EXECUTE", vec![Action::Call], true));
}

#[test]
fn names_are_shared_with_the_protocol() {
    let seen = check_opened(&[
        agent(&[parse("s", "SELECT 1", &[]), sync()]),
        server(&[done(b'1'), ready(b'I')]),
        agent(&[query("EXECUTE s")]),
        server(&[columns(&["a"]), row(&[Some("1")]), complete("SELECT 1"), ready(b'I')]),
        agent(&[query("DEALLOCATE s; PREPARE s AS SELECT ssn FROM t")]),
        server(&[complete("DEALLOCATE"), complete("PREPARE"), ready(b'I')]),
        agent(&[bind("", "s", false, &[], &[]), execute(""), sync()]),
        server(&[
            done(b'2'),
            columns(&["ssn"]),
            row(&[Some("078-05-1120")]),
            complete("SELECT 1"),
            ready(b'I'),
        ]),
    ]);
    let found = asked(&seen);
    assert_eq!(found[0], ("EXECUTE", vec![Action::Select], false));
    assert_eq!(found[3], ("SELECT", vec![Action::Select], false));
    assert!(!seen.down.windows(11).any(|part| part == b"078-05-1120"));
}

#[test]
fn what_failed_or_is_gone_stands_for_nothing() {
    let select = "SELECT ssn FROM t";
    for (second, ends, opaque) in [
        // It fails: the name stands for what it stood for.
        ("PREPARE s AS SELECT 1", failed("42P05", "exists"), false),
        ("DEALLOCATE s", complete("DEALLOCATE"), true),
        ("DEALLOCATE ALL", complete("DEALLOCATE ALL"), true),
        ("DISCARD ALL", complete("DISCARD ALL"), true),
        // A function may have prepared anything.
        ("SELECT f()", failed("42883", "no f"), true),
    ] {
        let seen = check_opened(&[
            agent(&[query(&format!("PREPARE s AS {select}"))]),
            server(&[complete("PREPARE"), ready(b'I')]),
            agent(&[query(second)]),
            server(&[ends, ready(b'I')]),
            agent(&[query("EXECUTE s")]),
            server(&[failed("26000", "none"), ready(b'I')]),
        ]);
        let commands = seen.commands();
        let statement = &commands[2].statement;
        assert_eq!(statement.risks.contains(Risk::OPAQUE), opaque, "{second}");
        assert_eq!(statement.outputs.is_some(), !opaque, "{second}");
    }
}

#[test]
fn an_execute_waits_for_what_its_name_depends_on() {
    // The second PREPARE fails, and the server goes on with the EXECUTE: that is of the first.
    let seen = check_opened(&[
        agent(&[query("PREPARE s AS DELETE FROM t WHERE a = 1")]),
        server(&[complete("PREPARE"), ready(b'I')]),
        agent(&[query("PREPARE s AS SELECT 1"), query("EXECUTE s")]),
        server(&[failed("42P05", "exists"), ready(b'I')]),
        server(&[complete("DELETE 0"), ready(b'I')]),
    ]);
    assert_eq!(asked(&seen)[2], ("EXECUTE", vec![Action::Delete], false));
}

#[test]
fn in_one_string_a_name_is_what_was_just_said() {
    let seen = check_opened(&[
        agent(&[query("PREPARE s AS SELECT 1; EXECUTE s; DEALLOCATE s; EXECUTE s")]),
        server(&[
            complete("PREPARE"),
            columns(&["a"]),
            complete("SELECT 0"),
            complete("DEALLOCATE"),
            failed("26000", "none"),
            ready(b'I'),
        ]),
    ]);
    let found = asked(&seen);
    assert_eq!(found[1], ("EXECUTE", vec![Action::Select], false));
    assert!(found[3].2);
}

#[test]
fn an_execute_by_the_protocol_is_described_each_time() {
    let hidden =
        [columns(&["ssn"]), row(&[Some("078-05-1120")]), complete("SELECT 1"), ready(b'I')];
    let seen = check_opened(&[
        agent(&[query("PREPARE s AS SELECT ssn FROM t")]),
        server(&[complete("PREPARE"), ready(b'I')]),
        agent(&[parse("e", "EXECUTE s", &[]), describe(b'S', "e"), sync()]),
        server(&[done(b'1'), message(b't', &[0, 0]), columns(&["a"]), ready(b'I')]),
        agent(&[bind("", "e", false, &[], &[]), execute(""), sync()]),
        server(&[done(b'2'), hidden.concat()]),
    ]);
    assert!(!seen.down.windows(11).any(|part| part == b"078-05-1120"));
    assert_eq!(seen.statuses(), [Status::Ok, Status::Ok]);
}
