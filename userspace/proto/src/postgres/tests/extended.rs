use types::command::ParameterValue;
use types::event::Status;

use super::*;

#[test]
fn executions_carry_their_parameters() {
    let up = [
        parse("s", "SELECT a FROM t WHERE b = $1", &[23]),
        bind("", "s", true, &[&7_i32.to_be_bytes()], &[]),
        describe(b'P', ""),
        execute(""),
        sync(),
    ];
    let down = [
        done(b'1'),
        done(b'2'),
        columns(&["a"]),
        row(&[Some("x")]),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    let seen = check_opened(&[agent(&up), server(&down)]);
    assert_eq!((seen.up, seen.down), (up.concat(), down.concat()));
    let seen = check_opened(&[agent(&up), server(&down)]);
    let command = seen.commands()[0];
    assert_eq!(command.parameters[0].type_oid, 23);
    assert_eq!(command.parameters[0].value, ParameterValue::Text { text: "7".into(), bytes: 4 });
    assert_eq!(seen.outcomes()[0].rows, Some(1));
}

#[test]
fn a_refused_execution_fails_among_its_neighbours() {
    let step = |sql: &str| {
        [parse("", sql, &[]), bind("", "", false, &[], &[]), describe(b'P', ""), execute("")]
            .concat()
    };
    let seen = check_opened(&[
        agent(&[
            step("INSERT INTO t VALUES (1)"),
            step("DELETE FROM denied"),
            step("INSERT INTO t VALUES (3)"),
            sync(),
        ]),
        server(&[
            done(b'1'),
            done(b'2'),
            done(b'n'),
            complete("INSERT 0 1"),
            done(b'1'),
            done(b'2'),
            done(b'n'),
            failed("42601", "syntax error"),
            ready(b'I'),
        ]),
        agent(&[step("SELECT 1"), sync()]),
        server(&[
            done(b'1'),
            done(b'2'),
            columns(&["a"]),
            row(&[Some("1")]),
            complete("SELECT 1"),
            ready(b'I'),
        ]),
    ]);
    assert_eq!(seen.statuses(), [Status::Ok, Status::Denied, Status::Skipped, Status::Ok]);
    let first = step("INSERT INTO t VALUES (1)");
    let denied = [
        parse("", "DELETE FROM denied", &[]),
        bind("", "", false, &[], &[]),
        describe(b'P', ""),
        failing_parse(),
    ]
    .concat();
    assert!(seen.up.starts_with(&[first, denied].concat()));
    let error_at = [
        done(b'1'),
        done(b'2'),
        done(b'n'),
        complete("INSERT 0 1"),
        done(b'1'),
        done(b'2'),
        done(b'n'),
        refused(),
        ready(b'I'),
    ]
    .concat();
    assert!(seen.down.starts_with(&error_at));
}

#[test]
fn an_execution_that_nobody_described_is_described_by_us() {
    let up =
        [parse("s", "SELECT ssn FROM t", &[]), bind("", "s", false, &[], &[]), execute(""), sync()];
    let down = [
        done(b'1'),
        done(b'2'),
        columns(&["ssn"]),
        row(&[Some("123")]),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    let again = [bind("", "s", false, &[], &[]), execute(""), sync()];
    let seen = check_opened(&[
        agent(&up),
        server(&down),
        agent(&again),
        server(&[done(b'2'), row(&[Some("456")]), complete("SELECT 1"), ready(b'I')]),
    ]);
    let [p, b, e, s] = up;
    assert_eq!(seen.up, [p, b, describe(b'P', ""), e, s, again.concat()].concat());
    assert_eq!(
        seen.down,
        [
            done(b'1'),
            done(b'2'),
            row(&[Some("***")]),
            complete("SELECT 1"),
            ready(b'I'),
            done(b'2'),
            row(&[Some("***")]),
            complete("SELECT 1"),
            ready(b'I'),
        ]
        .concat()
    );
}

#[test]
fn a_parse_that_fails_leaves_the_statement_as_it_was() {
    // "s" deletes; an attempt to make it harmless fails, and then it is executed.
    let first = [parse("s", "DELETE FROM denied", &[]), sync()];
    let second =
        [parse("s", "SELECT 1", &[]), sync(), bind("", "s", false, &[], &[]), execute(""), sync()];
    for pipelined in [false, true] {
        let mut steps = vec![agent(&first), server(&[done(b'1'), ready(b'I')])];
        let answer = [failed("42P05", "exists"), ready(b'I')];
        if pipelined {
            steps.extend([agent(&second), server(&answer)]);
        } else {
            steps.extend([agent(&second[..2]), server(&answer), agent(&second[2..])]);
        }
        steps.push(server(&[done(b'2'), failed("42601", "syntax error"), ready(b'I')]));
        let seen = check_opened(&steps);
        assert_eq!(&*seen.commands()[0].statement.text, "DELETE FROM denied");
        assert_eq!(seen.statuses(), [Status::Denied]);
        assert!(!seen.ended);
    }
}

#[test]
fn what_stands_behind_an_error_is_skipped_to_its_sync() {
    let seen = check_opened(&[
        agent(&[parse("", "SELECT x", &[]), bind("", "", false, &[], &[]), execute("")]),
        server(&[failed("42703", "no x")]),
        agent(&[
            parse("", "SELECT 1", &[]),
            bind("", "", false, &[], &[]),
            execute(""),
            query("SELECT 2"),
            sync(),
        ]),
        server(&[ready(b'I')]),
        agent(&[query("SELECT 3")]),
        server(&[columns(&["a"]), complete("SELECT 0"), ready(b'I')]),
    ]);
    assert_eq!(seen.statuses().last(), Some(&Status::Ok));
    assert!(seen.statuses()[..seen.statuses().len() - 1].iter().all(|one| *one != Status::Ok));
    assert!(!seen.ended);
}

#[test]
fn suspended_portals_go_on() {
    let run = message(b'E', &[0, 0, 0, 0, 1]);
    let seen = check_opened(&[
        agent(&[
            parse("", "SELECT a FROM t", &[]),
            bind("", "", false, &[], &[]),
            describe(b'P', ""),
            run.clone(),
            message(b'H', &[]),
        ]),
        server(&[done(b'1'), done(b'2'), columns(&["a"]), row(&[Some("1")]), done(b's')]),
        agent(&[run, sync()]),
        server(&[row(&[Some("2")]), complete("SELECT 1"), ready(b'I')]),
    ]);
    assert_eq!(seen.statuses(), [Status::Ok, Status::Ok]);
    assert!(seen.outcomes().iter().all(|outcome| outcome.rows == Some(1)));
}

#[test]
fn unknown_portals_are_refused() {
    let seen = check_opened(&[
        agent(&[execute("nobody"), sync()]),
        server(&[failed("42601", "syntax error"), ready(b'I')]),
    ]);
    assert_eq!(seen.statuses(), [Status::Denied]);
    assert_eq!(seen.up, [failing_parse(), sync()].concat());
}

#[test]
fn segments_do_not_wait_for_each_other_without_need() {
    let step = |sql: &str| {
        [
            parse("", sql, &[]),
            bind("", "", false, &[], &[]),
            describe(b'P', ""),
            execute(""),
            sync(),
        ]
        .concat()
    };
    let up = [step("SELECT 1"), step("SELECT 2"), step("SELECT 3")];
    let seen = check_opened(&[agent(&up)]);
    assert_eq!(seen.up, up.concat(), "no answer came, and all went up");
    assert_eq!(seen.commands().len(), 3);
}

#[test]
fn deallocated_names_are_gone_and_no_others() {
    let seen = check_opened(&[
        agent(&[parse("s_1", "SELECT 1", &[]), parse("s_12", "SELECT 2", &[]), sync()]),
        server(&[done(b'1'), done(b'1'), ready(b'I')]),
        agent(&[query("DEALLOCATE s_12")]),
        server(&[complete("DEALLOCATE"), ready(b'I')]),
        agent(&[bind("", "s_1", false, &[], &[]), execute(""), sync()]),
        server(&[done(b'2'), columns(&["a"]), complete("SELECT 0"), ready(b'I')]),
        agent(&[bind("", "s_12", false, &[], &[]), execute(""), sync()]),
        server(&[failed("26000", "no statement s_12"), ready(b'I')]),
    ]);
    assert_eq!(seen.statuses(), [Status::Ok, Status::Ok, Status::Denied]);
}

#[test]
fn closed_names_are_gone() {
    let seen = check_opened(&[
        agent(&[parse("s", "SELECT 1", &[]), close(b'S', "s"), sync()]),
        server(&[done(b'1'), done(b'3'), ready(b'I')]),
        agent(&[bind("", "s", false, &[], &[]), execute(""), sync()]),
        server(&[failed("26000", "no statement s"), ready(b'I')]),
    ]);
    assert_eq!(seen.statuses(), [Status::Denied]);
    assert_eq!(
        seen.down.len(),
        [done(b'1'), done(b'3'), ready(b'I'), failed("26000", "no statement s"), ready(b'I')]
            .concat()
            .len()
    );
}
