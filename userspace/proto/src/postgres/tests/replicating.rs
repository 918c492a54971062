use types::command::{Action, Risk};
use types::event::Status;

use super::*;

/// CopyBothResponse, or CopyOutResponse, without columns.
fn copying(tag: u8) -> Vec<u8> {
    message(tag, &[0, 0, 0])
}

fn data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', bytes)
}

/// A replication connection that is open: to a database, or without one.
fn replicating(kind: &str) -> Vec<Step> {
    let startup = startup(&[("user", "bob"), ("replication", kind)]);
    let mut steps = vec![agent(&[startup])];
    steps.push(server(&[message(b'R', &[0; 4]), message(b'Z', b"I")]));
    if kind == "database" {
        steps.push(server(&[complete("SELECT 0"), ready(b'I')]));
    }
    steps
}

fn check_replicating(kind: &str, steps: &[Step]) -> Transcript {
    let mut all = replicating(kind);
    all.extend_from_slice(steps);
    check(&all)
}

#[test]
fn a_stream_goes_both_ways_and_is_counted() {
    let command = query("START_REPLICATION SLOT \"s\" PHYSICAL 0/1000000");
    let log = data(&[b'w'; 5_000]);
    let ends = [done(b'c'), complete("COPY 0"), complete("START_STREAMING"), ready(b'I')];
    let next = [columns(&["systemid"]), row(&[Some("7")]), complete("IDENTIFY_SYSTEM")];
    let steps = [
        agent(std::slice::from_ref(&command)),
        server(&[copying(b'W'), log.clone()]),
        agent(&[data(&[b'r'; 34]), done(b'c')]),
        server(&ends),
        agent(&[query("identify_system")]),
        server(&[next.concat(), ready(b'I')]),
    ];
    let seen = check_replicating("true", &steps);
    assert_eq!(seen.violation(), None);
    assert_eq!(seen.statuses(), [Status::Ok; 3]);
    let outcomes = seen.outcomes();
    let stream = outcomes[1];
    let sent = (command.len() + data(&[0; 34]).len()) as u64;
    assert_eq!(stream.bytes_in, sent);
    assert!(stream.bytes_out > log.len() as u64 && stream.sample.is_empty(), "{stream:?}");
    assert_eq!(outcomes[2].sample, b"7\n");
    let verbs: Vec<_> = seen.commands().iter().map(|one| one.statement.verb).collect();
    assert_eq!(verbs, ["CONNECT", "START_REPLICATION", "IDENTIFY_SYSTEM"]);
    assert!(memchr::memmem::find(&seen.up, b"catalog").is_none(), "no SQL is asked");
}

#[test]
fn a_base_backup_has_many_results() {
    let result = |name: &str| [columns(&[name]), row(&[Some("x")]), complete("SELECT")].concat();
    let answer = [
        result("recptr"),
        result("spcoid"),
        copying(b'H'),
        data(b"nbase.tar\0\0"),
        data(&[b'd'; 9_000]),
        done(b'c'),
        result("recptr"),
        complete("BASE_BACKUP"),
        ready(b'I'),
    ]
    .concat();
    let steps =
        [agent(&[query("BASE_BACKUP (TARGET 'client')")]), (Side::Upstream, answer.clone())];
    for kind in ["true", "database"] {
        let seen = check_replicating(kind, &steps);
        assert_eq!((seen.violation(), seen.statuses()), (None, vec![Status::Ok; 2]));
        assert!(seen.down.ends_with(&answer));
    }
}

#[test]
fn sql_over_a_replication_connection_is_sql() {
    let rows = [columns(&["ssn"]), row(&[Some("078")]), complete("SELECT 1"), ready(b'I')];
    let steps = [agent(&[query("SELECT ssn FROM t")]), server(&rows)];
    let seen = check_replicating("database", &steps);
    let statement = &seen.commands()[1].statement;
    assert_eq!((statement.verb, statement.replicates()), ("SELECT", false));
    assert!(memchr::memmem::find(&seen.down, b"***").is_some());
}

#[test]
fn elsewhere_its_words_are_no_sql() {
    let seen = check_opened(&[agent(&[query("START_REPLICATION 0/0")])]);
    let statement = &seen.commands()[0].statement;
    assert_eq!(statement.accesses[0].action, Action::Unknown);
    assert!(statement.risks.contains(Risk::UNPARSED));
    // A server that streams where nobody asked is a liar.
    let seen = check_opened(&[agent(&[query("SELECT 1")]), server(&[copying(b'W')])]);
    assert!(seen.violation().is_some());
}
