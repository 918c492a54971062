use types::event::{Event, Status};

use super::*;

#[test]
fn an_allowed_query_goes_up_as_it_is() {
    let reply =
        [columns(&["id"]), row(&[Some("1")]), row(&[None]), complete("SELECT 2"), ready(b'I')];
    let seen = check_opened(&[agent(&[query("SELECT id FROM t")]), server(&reply)]);
    assert_eq!(seen.up, query("SELECT id FROM t"));
    assert_eq!(seen.down, reply.concat());
    let outcome = seen.outcomes()[0];
    assert_eq!((outcome.status, outcome.rows), (Status::Ok, Some(2)));
    assert_eq!(outcome.sample, b"1\n\\N\n");
    assert_eq!(outcome.bytes_in, query("SELECT id FROM t").len() as u64);
    assert_eq!(outcome.bytes_out, (reply.concat().len() - ready(b'I').len()) as u64);
    assert!(!seen.ended);
}

#[test]
fn a_refused_query_fails_in_the_server_and_the_session_goes_on() {
    for status in [b'I', b'E'] {
        let seen = check_opened(&[
            agent(&[query("DELETE FROM denied")]),
            server(&[failed("42601", "syntax error"), ready(status)]),
            agent(&[query("SELECT 1")]),
            server(&[columns(&["a"]), row(&[Some("1")]), complete("SELECT 1"), ready(status)]),
        ]);
        assert_eq!(seen.up, [failing_query(), query("SELECT 1")].concat());
        assert!(seen.down.starts_with(&[refused(), ready(status)].concat()));
        assert_eq!(seen.statuses(), [Status::Denied, Status::Ok]);
        assert_eq!(seen.outcomes()[0].error_code, Some(*b"42501"));
    }
}

#[test]
fn one_refused_statement_refuses_its_string() {
    let seen = check_opened(&[
        agent(&[query("INSERT INTO t VALUES (1); DELETE FROM denied; SELECT 1")]),
        server(&[failed("42601", "syntax error"), ready(b'I')]),
    ]);
    assert_eq!(seen.up, failing_query());
    assert_eq!(seen.statuses(), [Status::Skipped, Status::Denied, Status::Skipped]);
    let batches: Vec<u32> = seen.commands().iter().map(|command| command.batch).collect();
    assert!(batches.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn statements_of_a_string_end_one_by_one() {
    let seen = check_opened(&[
        agent(&[query("UPDATE t SET a = 1; SELECT 1; SELECT x; SELECT 2")]),
        server(&[
            complete("UPDATE 3"),
            columns(&["a"]),
            row(&[Some("1")]),
            complete("SELECT 1"),
            failed("42703", "no column x"),
            ready(b'I'),
        ]),
    ]);
    assert_eq!(seen.statuses(), [Status::Ok, Status::Ok, Status::Error, Status::Skipped]);
    assert_eq!(seen.outcomes()[0].rows, Some(3));
    assert_eq!(seen.outcomes()[2].error_code, Some(*b"42703"));
}

#[test]
fn a_substitute_that_succeeds_ends_the_session() {
    let seen = check_opened(&[
        agent(&[query("DELETE FROM denied")]),
        server(&[complete("DELETE 1"), ready(b'I')]),
    ]);
    assert!(seen.ended && seen.violation().is_some());
}

#[test]
fn pipelined_queries_keep_their_answers_apart() {
    let seen = check_opened(&[
        agent(&[query("SELECT 1"), query("DELETE FROM denied"), query("")]),
        server(&[
            columns(&["a"]),
            row(&[Some("1")]),
            complete("SELECT 1"),
            ready(b'I'),
            failed("42601", "syntax error"),
            ready(b'I'),
            done(b'I'),
            ready(b'I'),
        ]),
    ]);
    assert_eq!(seen.statuses(), [Status::Ok, Status::Denied, Status::Ok]);
    assert_eq!(seen.up, [query("SELECT 1"), failing_query(), query("")].concat());
}

#[test]
fn definitions_that_change_are_probed_again() {
    let seen = check_opened(&[
        agent(&[query("CREATE TABLE t (a int)")]),
        server(&[complete("CREATE TABLE"), ready(b'I')]),
        server(&[columns(&["t"]), complete("SELECT 0"), ready(b'I')]),
    ]);
    assert!(matches!(
        seen.events.as_slice(),
        [Event::Command(_), Event::Outcome(_), Event::ProbeWanted, Event::Probed(Some(_))]
    ));
    assert_eq!(seen.down, [complete("CREATE TABLE"), ready(b'I')].concat());
}

#[test]
fn function_calls_are_commands() {
    let call = message(b'F', &[0, 0, 4, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0]);
    let seen = check_opened(&[
        agent(std::slice::from_ref(&call)),
        server(&[message(b'V', &[0, 0, 0, 1, b'7']), ready(b'I')]),
    ]);
    // It may have defined anything.
    assert_eq!(seen.up, [call, query("SELECT catalog")].concat());
    assert_eq!(seen.statuses(), [Status::Ok]);
    assert_eq!(&*seen.commands()[0].statement.normalized, "FUNCTION 1024");
    assert_eq!(seen.commands()[0].parameters.len(), 1);
}

#[test]
fn text_is_not_read_before_a_change_of_its_reading_is_answered() {
    let seen = check_opened(&[
        agent(&[
            query("SET standard_conforming_strings = off"),
            query(r"SELECT '\'; DROP TABLE denied; --'"),
        ]),
        server(&[
            message(b'S', b"standard_conforming_strings\0off\0"),
            complete("SET"),
            ready(b'I'),
        ]),
        server(&[columns(&["a"]), complete("SELECT 0"), ready(b'I')]),
    ]);
    // With the strings' old reading this would be three statements, one of them refused.
    assert_eq!(seen.commands().len(), 2, "{:?}", seen.commands());
}

#[test]
fn encodings_that_hide_quotes_are_not_read() {
    let seen = check_opened(&[
        server(&[message(b'S', b"client_encoding\0SJIS\0")]),
        agent(&[query("SELECT 1")]),
        server(&[failed("42601", "syntax error"), ready(b'I')]),
    ]);
    assert_eq!(seen.commands()[0].statement.verb, "UNKNOWN");
    assert_eq!(seen.statuses(), [Status::Denied]);
}
