//! Statements under a limit of two rows (every text with `limited`).

use types::event::Status;

use super::*;

/// How the agent is told, and the server's answer to our cancel request.
fn told(detail: &str) -> Vec<u8> {
    let message = "limit reached: no more than 2 rows in one statement";
    let mut out = Vec::new();
    let detail = format!("policy p2: {message}{detail}");
    super::super::message::error(&mut out, "ERROR", *b"54000", message, &detail);
    out
}

fn cancelled() -> Vec<u8> {
    failed("57014", "canceling statement due to user request")
}

fn rows(count: usize) -> Vec<u8> {
    row(&[Some("x")]).repeat(count)
}

#[track_caller]
fn limited(seen: &Transcript, cancels: usize) {
    assert_eq!((seen.violation(), seen.cancels), (None, cancels));
    let outcome = seen.outcomes()[0];
    assert_eq!(
        (outcome.status, outcome.error_code, outcome.rows),
        (Status::Limited, Some(*b"54000"), Some(2))
    );
}

const STANDS: &str = "; the server had ended the statement, and what it changed stands";

#[test]
fn what_fits_is_not_touched() {
    let reply = [columns(&["a"]), rows(2), complete("SELECT 2"), ready(b'I')];
    let seen = check_opened(&[agent(&[query("SELECT a FROM limited")]), server(&reply)]);
    assert_eq!((seen.down, seen.cancels), (reply.concat(), 0));
}

#[test]
fn a_simple_query_is_cut_and_cancelled_and_ends_as_an_error() {
    let seen = check_opened(&[
        agent(&[query("SELECT a FROM limited"), query("SELECT 1")]),
        server(&[columns(&["a"]), rows(5), cancelled(), ready(b'I')]),
        server(&[columns(&["a"]), rows(1), complete("SELECT 1"), ready(b'I')]),
    ]);
    limited(&seen, 1);
    let next = [columns(&["a"]), rows(1), complete("SELECT 1"), ready(b'I')].concat();
    let down = [columns(&["a"]), rows(2), told(""), ready(b'I'), next].concat();
    assert_eq!(String::from_utf8_lossy(&seen.down), String::from_utf8_lossy(&down));
    assert_eq!(seen.statuses(), [Status::Limited, Status::Ok]);
}

#[test]
fn a_server_that_was_done_before_is_an_error_all_the_same() {
    let seen = check_opened(&[
        agent(&[query("SELECT a FROM limited")]),
        server(&[columns(&["a"]), rows(5), complete("SELECT 5"), ready(b'I')]),
    ]);
    limited(&seen, 1);
    assert_eq!(seen.down, [columns(&["a"]), rows(2), told(STANDS), ready(b'I')].concat());
}

#[test]
fn a_transaction_that_goes_on_is_made_to_fail() {
    let seen = check_opened(&[
        agent(&[query("SELECT a FROM limited"), query("COMMIT")]),
        server(&[columns(&["a"]), rows(5), complete("SELECT 5"), ready(b'T')]),
        server(&[failed("42601", "syntax error"), ready(b'E')]),
        server(&[complete("ROLLBACK"), ready(b'I')]),
    ]);
    limited(&seen, 1);
    let mut failing = Vec::new();
    super::super::message::failing_query(&mut failing);
    assert_eq!(
        seen.up,
        [query("SELECT a FROM limited"), failing, query("COMMIT")].concat(),
        "nothing goes up behind it before it ended"
    );
    let end = [ready(b'E'), complete("ROLLBACK"), ready(b'I')].concat();
    assert_eq!(seen.down, [columns(&["a"]), rows(2), told(""), end].concat());
}

fn steps(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", false, &[], &[]), describe(b'P', ""), execute("")].concat()
}

fn described() -> Vec<u8> {
    [done(b'1'), done(b'2'), columns(&["a"])].concat()
}

#[test]
fn a_pipeline_behind_it_waits_and_is_skipped() {
    let up = [steps("SELECT a FROM limited"), steps("INSERT INTO t VALUES (1)"), sync()];
    let seen = check_opened(&[
        agent(&up),
        server(&[described(), rows(5), cancelled()]),
        server(&[ready(b'I')]),
    ]);
    limited(&seen, 1);
    assert_eq!(seen.down, [described(), rows(2), told(""), ready(b'I')].concat());
    assert_eq!(seen.commands().len(), 2);
    assert_eq!(seen.statuses(), [Status::Limited, Status::Skipped]);
}

#[test]
fn a_pipeline_behind_one_that_was_done_is_made_to_skip() {
    let up = [steps("SELECT a FROM limited"), steps("INSERT INTO t VALUES (1)"), sync()];
    let seen = check_opened(&[
        agent(&up),
        server(&[described(), rows(5), complete("SELECT 5")]),
        server(&[failed("42601", "syntax error")]),
        server(&[ready(b'I')]),
    ]);
    limited(&seen, 1);
    let mut failing = Vec::new();
    super::super::message::failing_parse(&mut failing);
    let at = memchr::memmem::find(&seen.up, &failing).expect("a Parse that fails goes up");
    assert!(
        memchr::memmem::find(&seen.up, b"INSERT").unwrap() > at,
        "and what is skipped behind it"
    );
    assert_eq!(seen.down, [described(), rows(2), told(""), ready(b'I')].concat());
    assert_eq!(seen.statuses(), [Status::Limited, Status::Skipped]);
}

#[test]
fn a_sync_goes_up_with_it_and_nothing_behind_that() {
    let seen = check_opened(&[
        agent(&[steps("SELECT a FROM limited"), sync(), query("SELECT 1")]),
        server(&[described(), rows(5), complete("SELECT 5"), ready(b'I')]),
        server(&[columns(&["a"]), rows(1), complete("SELECT 1"), ready(b'I')]),
    ]);
    limited(&seen, 1);
    let next = [columns(&["a"]), rows(1), complete("SELECT 1"), ready(b'I')].concat();
    assert_eq!(seen.down, [described(), rows(2), told(STANDS), ready(b'I'), next].concat());
}

#[test]
fn a_portal_counts_over_its_fetches() {
    let up = |count: i32| {
        let mut body = b"p\0".to_vec();
        body.extend_from_slice(&count.to_be_bytes());
        message(b'E', &body)
    };
    let flush = message(b'H', &[]);
    let seen = check_opened(&[
        agent(&[
            parse("", "SELECT a FROM limited", &[]),
            bind("p", "", false, &[], &[]),
            describe(b'P', "p"),
            up(1),
            flush.clone(),
        ]),
        server(&[described(), rows(1), done(b's')]),
        agent(&[up(1), flush.clone()]),
        server(&[rows(1), done(b's')]),
        agent(&[up(1), sync()]),
        server(&[rows(1), cancelled(), ready(b'I')]),
    ]);
    assert_eq!((seen.violation(), seen.cancels), (None, 1));
    let down = [described(), rows(1), done(b's'), rows(1), done(b's'), told(""), ready(b'I')];
    assert_eq!(String::from_utf8_lossy(&seen.down), String::from_utf8_lossy(&down.concat()));
    assert_eq!(seen.statuses(), [Status::Ok, Status::Ok, Status::Limited]);
}

#[test]
fn a_cursor_counts_over_its_fetches_in_one_string_too() {
    let declared = [complete("BEGIN"), complete("DECLARE CURSOR")].concat();
    let seen = check_opened(&[
        agent(&[query("BEGIN; DECLARE c CURSOR FOR SELECT a FROM limited; FETCH 1 FROM c")]),
        server(&[declared.clone(), columns(&["a"]), rows(1), complete("FETCH 1"), ready(b'T')]),
        agent(&[query("FETCH 5 FROM c")]),
        server(&[columns(&["a"]), rows(5), cancelled(), ready(b'E')]),
    ]);
    assert_eq!((seen.violation(), seen.cancels), (None, 1));
    let first = [declared, columns(&["a"]), rows(1), complete("FETCH 1"), ready(b'T')].concat();
    let down = [first, columns(&["a"]), rows(1), told(""), ready(b'E')].concat();
    assert_eq!(String::from_utf8_lossy(&seen.down), String::from_utf8_lossy(&down));
}

#[test]
fn copy_data_is_cut_and_lines_of_names_are_no_rows() {
    let start = message(b'H', &[0, 0, 1, 0, 0]);
    let data = |text: &str| message(b'd', text.as_bytes());
    for (sql, head) in [
        ("COPY limited (id) TO STDOUT (FORMAT csv, HEADER)", vec![data("id\n")]),
        ("COPY limited (id) TO STDOUT", vec![]),
        ("COPY limited (ssn) TO STDOUT (FORMAT csv, HEADER)", vec![data("ssn\n")]),
    ] {
        let head = head.concat();
        let lines = |count| data("null\n").repeat(count);
        let whole = [start.clone(), head.clone(), lines(2), done(b'c'), complete("COPY 2")];
        let seen = check_opened(&[agent(&[query(sql)]), server(&whole), server(&[ready(b'I')])]);
        assert_eq!(seen.statuses(), [Status::Ok], "{sql}");
        for end in [cancelled(), [done(b'c'), complete("COPY 9")].concat()] {
            let stands = if end == cancelled() { "" } else { STANDS };
            let seen = check_opened(&[
                agent(&[query(sql)]),
                server(&[start.clone(), head.clone(), lines(9), end, ready(b'I')]),
            ]);
            limited(&seen, 1);
            let seen = String::from_utf8_lossy(&seen.down).into_owned();
            let end = String::from_utf8_lossy(&[told(stands), ready(b'I')].concat()).into_owned();
            assert!(seen.ends_with(&end), "{sql}: {seen:?}");
        }
    }
}

#[test]
fn what_stands_behind_it_in_one_string_is_not_shown() {
    let sql = "SELECT a FROM limited; SELECT 2; SELECT 3";
    let result = [columns(&["b"]), rows(1), complete("SELECT 1")].concat();
    let seen = check_opened(&[
        agent(&[query(sql)]),
        server(&[columns(&["a"]), rows(5), complete("SELECT 5"), result, cancelled(), ready(b'I')]),
    ]);
    limited(&seen, 1);
    assert_eq!(seen.down, [columns(&["a"]), rows(2), told(""), ready(b'I')].concat());
}
