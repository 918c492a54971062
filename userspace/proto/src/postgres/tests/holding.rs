//! Commands that wait: nothing of them goes up, all else goes on, and each end of it is the protocol's.

use types::command::Transaction;

use super::*;

/// A part of an exchange.
enum Act {
    Bytes(Step),
    /// What becomes of the command that waits.
    Decide(fn() -> Verdict),
    /// Something that holds at this point, whatever the cuts were.
    Sees(fn(&mut PostgresSession)),
}

fn refusal() -> Refusal {
    Refusal::new("p1".into(), "not allowed".into())
}

fn allow() -> Verdict {
    Verdict::Allow
}

fn deny() -> Verdict {
    Verdict::Deny(refusal())
}

fn roll_back() -> Verdict {
    Verdict::RollBack(refusal())
}

fn act(acts: &[Act], cut: &mut dyn FnMut(usize) -> usize) -> Transcript {
    let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
    session.set_cancel_key(Secret::new(std::array::from_fn(|at| if at == 3 { 2 } else { 0 })));
    let mut transcript = Transcript::default();
    let mut decided = 0;
    for (side, bytes) in opened() {
        session.handle_input(side, &bytes, Timestamp::default());
        settle(&mut session, &mut transcript);
        drain(&mut session, &mut transcript);
    }
    transcript = Transcript::default();
    for act in acts {
        match act {
            Act::Bytes((side, bytes)) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() && !session.is_ended() {
                    let (head, tail) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
                    session.handle_input(*side, head, Timestamp::default());
                    settle(&mut session, &mut transcript);
                    rest = tail;
                }
            }
            Act::Decide(verdict) => {
                let waits = transcript.held[decided];
                decided += 1;
                session.handle_decision(waits, verdict());
                settle(&mut session, &mut transcript);
            }
            Act::Sees(seen) => seen(&mut session),
        }
        drain(&mut session, &mut transcript);
    }
    transcript.ended = session.is_ended();
    session.handle_eof(Side::Upstream, Timestamp::default());
    settle(&mut session, &mut transcript);
    transcript
}

/// As `check`, behind a login.
fn check_acts(acts: &[Act]) -> Transcript {
    let whole = act(acts, &mut |left| left);
    assert_eq!(act(acts, &mut |_| 1), whole, "byte by byte");
    let mut state = 0x9e37_79b9_u64;
    for round in 0..20 {
        let mut cut = |left: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 40).unwrap() % left.min(60) + 1
        };
        assert_eq!(act(acts, &mut cut), whole, "random cuts, round {round}");
    }
    whole
}

fn notice() -> Vec<u8> {
    message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0")
}

fn begun() -> [Act; 2] {
    let answered = server(&[complete("BEGIN"), ready(b'T')]);
    [Act::Bytes(agent(&[query("BEGIN")])), Act::Bytes(answered)]
}

fn steps(sql: &str) -> Vec<Vec<u8>> {
    vec![parse("", sql, &[]), bind("", "", false, &[], &[]), execute(""), sync()]
}

#[test]
fn a_statement_waits_and_nothing_else_does() {
    let acts = [
        Act::Bytes(agent(&[query("DELETE FROM held"), query("SELECT 1")])),
        Act::Sees(|session| {
            assert!(session.is_settled() && !session.may_hold_locks() && !session.is_left());
            assert!(session.transmit(Side::Upstream).is_empty());
            session.tell_held("waits", "for whom");
        }),
        Act::Bytes(server(&[notice(), message(b'A', &[0, 0, 0, 1, b'c', 0, b'x', 0])])),
        Act::Decide(allow),
        Act::Bytes(server(&[complete("DELETE 3"), ready(b'I')])),
        Act::Bytes(server(&[
            columns(&["a"]),
            row(&[Some("1")]),
            complete("SELECT 1"),
            ready(b'I'),
        ])),
    ];
    let seen = check_acts(&acts);
    assert_eq!(seen.up, [query("DELETE FROM held"), query("SELECT 1")].concat());
    let told = message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mwaits\0Dfor whom\0\0");
    let down = [told, notice(), message(b'A', &[0, 0, 0, 1, b'c', 0, b'x', 0])].concat();
    assert!(seen.down.starts_with(&down));
    assert_eq!(seen.statuses(), [Status::Ok, Status::Ok]);
    assert_eq!(seen.outcomes()[0].rows, Some(3));
}

#[test]
fn what_is_refused_at_last_is_refused_as_at_once() {
    let acts = [
        Act::Bytes(agent(&[query("DELETE FROM held"), query("SELECT 1")])),
        Act::Decide(deny),
        Act::Bytes(server(&[failed("42601", "syntax error"), ready(b'I')])),
        Act::Bytes(server(&[columns(&["a"]), complete("SELECT 0"), ready(b'I')])),
    ];
    let seen = check_acts(&acts);
    assert_eq!(seen.up, [failing_query(), query("SELECT 1")].concat());
    assert!(seen.down.starts_with(&[refused(), ready(b'I')].concat()));
    assert_eq!(seen.statuses(), [Status::Denied, Status::Ok]);
}

#[test]
fn of_one_message_each_waits_and_one_refusal_refuses_all() {
    let sql = "SELECT 1; DELETE FROM held; DELETE FROM held";
    let acts = |last| {
        let answer = server(&[failed("42601", "syntax error"), ready(b'I')]);
        [
            Act::Bytes(agent(&[query(sql)])),
            Act::Decide(allow),
            Act::Sees(|session| assert!(session.transmit(Side::Upstream).is_empty())),
            Act::Decide(last),
            Act::Bytes(answer),
        ]
    };
    let seen = check_acts(&acts(deny));
    assert_eq!((seen.up, seen.held.len()), (failing_query(), 2));
    assert_eq!(seen.down, [refused(), ready(b'I')].concat());
    assert_eq!(check_acts(&acts(allow)).up, query(sql));
}

#[test]
fn what_is_prepared_for_it_is_taken_back() {
    let before = steps("SELECT 1");
    let held = steps("DELETE FROM held");
    let answered = [done(b'1'), done(b'2'), message(b'n', &[]), complete("DELETE 3"), ready(b'I')];
    let acts = [
        Act::Bytes(agent(&[before.concat(), held.concat(), query("SELECT 2")])),
        Act::Sees(|session| assert!(!session.is_settled() && !session.may_hold_locks())),
        Act::Bytes(server(&[
            done(b'1'),
            done(b'2'),
            columns(&["a"]),
            complete("SELECT 0"),
            ready(b'I'),
        ])),
        Act::Sees(|session| assert!(session.is_settled() && !session.may_hold_locks())),
        Act::Decide(allow),
        Act::Bytes(server(&answered)),
        Act::Bytes(server(&[columns(&["a"]), complete("SELECT 0"), ready(b'I')])),
    ];
    let seen = check_acts(&acts);
    let described = |steps: &[Vec<u8>]| {
        let portal = message(b'D', b"P\0");
        [&steps[0], &steps[1], &portal, &steps[2], &steps[3]].map(Clone::clone).concat()
    };
    assert_eq!(seen.up, [described(&before), described(&held), query("SELECT 2")].concat());
    assert_eq!(seen.statuses(), [Status::Ok; 3]);
}

#[test]
fn what_is_at_the_server_already_may_hold_locks() {
    let [first, second, third, last] = steps("DELETE FROM held").try_into().unwrap();
    let acts = [
        Act::Bytes(agent(&[first.clone(), second.clone()])),
        Act::Bytes(agent(&[third, last.clone()])),
        Act::Sees(|session| {
            assert!(session.is_settled() && session.may_hold_locks());
            // Nothing is asked that would end the transaction.
            session.ask_timeout();
            assert!(session.transmit(Side::Upstream).is_empty());
        }),
        Act::Decide(roll_back),
        Act::Bytes(server(&[done(b'1'), done(b'2'), failed("42601", "syntax error"), ready(b'I')])),
    ];
    let seen = check_acts(&acts);
    assert_eq!(seen.up, [first, second, failing_parse(), last].concat());
    assert_eq!(seen.down, [done(b'1'), done(b'2'), refused(), ready(b'I')].concat());
    assert_eq!(seen.statuses(), [Status::Denied]);
}

#[test]
fn what_fails_meanwhile_is_not_run() {
    let [first, second, third, last] = steps("DELETE FROM held").try_into().unwrap();
    let flush = message(b'H', &[]);
    let acts = [
        Act::Bytes(agent(&[first.clone(), second.clone(), flush.clone()])),
        Act::Bytes(server(&[done(b'1'), done(b'2')])),
        Act::Bytes(agent(&[third, last.clone()])),
        Act::Sees(|session| assert!(!session.is_skipping())),
        Act::Bytes(server(&[failed("57014", "statement timeout")])),
        Act::Sees(|session| assert!(session.is_skipping())),
        Act::Decide(deny),
        Act::Bytes(server(&[ready(b'I')])),
    ];
    let seen = check_acts(&acts);
    assert_eq!(seen.up, [first, second, flush, failing_parse(), last].concat());
    let told = [done(b'1'), done(b'2'), failed("57014", "statement timeout"), ready(b'I')];
    assert_eq!(seen.down, told.concat());
    assert_eq!(seen.statuses(), [Status::Denied]);
}

/// What the server answers where a transaction is rolled back: to what fails, ROLLBACK, BEGIN, what fails.
fn undone() -> Vec<Vec<u8>> {
    vec![
        failed("42601", "syntax error"),
        ready(b'E'),
        complete("ROLLBACK"),
        ready(b'I'),
        complete("BEGIN"),
        ready(b'T'),
        failed("42601", "syntax error"),
    ]
}

fn undoing() -> Vec<u8> {
    [query("ROLLBACK"), query("BEGIN")].concat()
}

#[test]
fn a_transaction_is_rolled_back_and_the_agent_finds_it_failed() {
    let [begin, answered] = begun();
    let acts = [
        begin,
        answered,
        Act::Bytes(agent(&[query("DELETE FROM held"), query("SELECT 1")])),
        Act::Sees(|session| {
            assert!(session.may_hold_locks() && session.transaction() == Transaction::Open);
        }),
        Act::Decide(roll_back),
        Act::Bytes(server(&[undone().concat(), ready(b'E')])),
        Act::Bytes(server(&[failed("25P02", "aborted"), ready(b'E')])),
    ];
    let seen = check_acts(&acts);
    let up = [query("BEGIN"), failing_query(), undoing(), failing_query(), query("SELECT 1")];
    assert_eq!(seen.up, up.concat());
    let down = [
        complete("BEGIN"),
        ready(b'T'),
        refused(),
        ready(b'E'),
        failed("25P02", "aborted"),
        ready(b'E'),
    ];
    assert_eq!(seen.down, down.concat());
    assert_eq!(seen.statuses(), [Status::Ok, Status::Denied, Status::Error]);
    assert!(seen.violation().is_none());
}

#[test]
fn so_is_one_of_the_extended_protocol() {
    let [begin, answered] = begun();
    let [first, second, third, last] = steps("DELETE FROM held").try_into().unwrap();
    let behind = steps("SELECT 1");
    let acts = [
        begin,
        answered,
        // Another statement of the same run stands behind it; it is skipped.
        Act::Bytes(agent(&[first.clone(), second.clone(), third, behind[..3].concat()])),
        Act::Bytes(agent(&[last.clone(), query("ROLLBACK")])),
        Act::Decide(roll_back),
        Act::Bytes(server(&[done(b'1'), done(b'2'), undone().concat(), ready(b'E')])),
        Act::Bytes(server(&[complete("ROLLBACK"), ready(b'I')])),
    ];
    let seen = check_acts(&acts);
    let portal = message(b'D', b"P\0");
    let skipped = [&behind[0], &behind[1], &portal, &behind[2]].map(Clone::clone).concat();
    let up = [
        query("BEGIN"),
        first,
        second,
        failing_parse(),
        sync(),
        undoing(),
        failing_parse(),
        skipped,
        last,
        query("ROLLBACK"),
    ];
    assert_eq!(seen.up, up.concat());
    let down = [
        complete("BEGIN"),
        ready(b'T'),
        done(b'1'),
        done(b'2'),
        refused(),
        ready(b'E'),
        complete("ROLLBACK"),
        ready(b'I'),
    ];
    assert_eq!(seen.down, down.concat());
    assert_eq!(
        seen.statuses(),
        [Status::Ok, Status::Denied, Status::Skipped, Status::Ok],
        "{:?}",
        seen.violation()
    );
}

#[test]
fn who_leaves_is_seen_to() {
    let acts = [
        Act::Bytes(agent(&[query("DELETE FROM held"), query("SELECT 1")])),
        Act::Sees(|session| assert!(!session.is_left())),
        Act::Bytes(agent(&[message(b'X', &[])])),
        Act::Sees(|session| assert!(session.is_left() && session.is_left())),
        Act::Decide(deny),
    ];
    let seen = check_acts(&acts);
    assert_eq!(seen.up, [failing_query(), query("SELECT 1"), message(b'X', &[])].concat());
    assert!(seen.ended);
}

#[test]
fn how_long_a_statement_may_run_is_asked_and_hidden() {
    let shown = |value: &str| {
        server(&[columns(&["t"]), row(&[Some(value)]), complete("SHOW"), ready(b'T')])
    };
    let [begin, answered] = begun();
    let acts = [
        begin,
        answered,
        Act::Bytes(agent(&[query("DELETE FROM held")])),
        Act::Sees(|session| {
            assert_eq!(session.statement_timeout_us(), None);
            session.ask_timeout();
        }),
        Act::Bytes(shown("5s")),
        Act::Sees(|session| assert_eq!(session.statement_timeout_us(), Some(5_000_000))),
        Act::Decide(allow),
        Act::Bytes(server(&[complete("DELETE 0"), ready(b'T')])),
    ];
    let seen = check_acts(&acts);
    let up = [query("BEGIN"), query("SHOW statement_timeout"), query("DELETE FROM held")];
    assert_eq!(seen.up, up.concat());
    let down = [complete("BEGIN"), ready(b'T'), complete("DELETE 0"), ready(b'T')];
    assert_eq!(seen.down, down.concat());
    // It may be let go before the server says.
    let [begin, answered] = begun();
    let acts = [
        begin,
        answered,
        Act::Bytes(agent(&[query("DELETE FROM held")])),
        Act::Sees(PostgresSession::ask_timeout),
        Act::Decide(allow),
        Act::Bytes(shown("0")),
        Act::Bytes(server(&[complete("DELETE 0"), ready(b'T')])),
    ];
    assert_eq!(check_acts(&acts).down, down.concat());
}

#[test]
fn what_is_bound_is_known_whole_where_it_is_cut() {
    let long = |last: u8| {
        let mut value = vec![b'x'; 2_000];
        value.push(last);
        value
    };
    let digest = |values: &[&[u8]]| {
        let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
        session.keep_wholes();
        let mut transcript = Transcript::default();
        for (side, bytes) in opened() {
            session.handle_input(side, &bytes, Timestamp::default());
            settle(&mut session, &mut transcript);
        }
        let sql = "DELETE FROM held WHERE a = $1";
        let asked = [parse("", sql, &[25]), bind("", "", false, values, &[]), execute("")];
        session.handle_input(Side::Downstream, &asked.concat(), Timestamp::default());
        settle(&mut session, &mut transcript);
        session.whole_parameters().copied()
    };
    let one = digest(&[&long(b'1')]);
    assert!(one.is_some() && one == digest(&[&long(b'1')]));
    assert_ne!(one, digest(&[&long(b'2')]));
    assert_eq!(digest(&[b"short"]), None);
}

fn transaction_of_ours(explained: &[Vec<u8>]) -> Vec<u8> {
    let begin = query("BEGIN READ ONLY; SET LOCAL statement_timeout = '2s'");
    [begin, explained.concat(), query("ROLLBACK")].concat()
}

fn begun_of_ours() -> Vec<u8> {
    [complete("BEGIN"), complete("SET"), ready(b'T')].concat()
}

#[test]
fn the_servers_plan_is_asked_for_and_hidden() {
    let plan = [columns(&["QUERY PLAN"]), row(&[Some("[{}]")]), complete("EXPLAIN")].concat();
    let acts = [
        Act::Bytes(agent(&[query("DELETE FROM held;")])),
        Act::Sees(|session| {
            assert!(session.ask_plan() && !session.is_settled());
            assert!(!session.ask_plan(), "one at a time");
        }),
        Act::Bytes(server(&[begun_of_ours(), plan, ready(b'T'), complete("ROLLBACK")])),
        Act::Sees(|session| assert!(!session.is_settled())),
        Act::Bytes(server(&[ready(b'I')])),
        Act::Sees(|session| {
            assert!(session.is_settled() && !session.may_hold_locks());
            assert_eq!(session.plan(), Some("[{}]"));
        }),
        Act::Decide(allow),
        Act::Bytes(server(&[complete("DELETE 3"), ready(b'I')])),
    ];
    let seen = check_acts(&acts);
    let ours = transaction_of_ours(&[query("EXPLAIN (FORMAT JSON) DELETE FROM held;")]);
    assert_eq!(seen.up, [ours, query("DELETE FROM held;")].concat());
    assert_eq!(seen.down, [complete("DELETE 3"), ready(b'I')].concat());
    assert_eq!(seen.statuses(), [Status::Ok]);
}

#[test]
fn a_plan_is_of_what_is_bound_and_its_error_is_nobodys() {
    let sql = "DELETE FROM held WHERE a = $1";
    let asked =
        [parse("", sql, &[23]), bind("", "", true, &[&[0, 0, 0, 7]], &[1]), execute(""), sync()];
    let answered = [
        [begun_of_ours(), done(b'3'), done(b'1'), failed("22P03", "incorrect"), ready(b'E')]
            .concat(),
        [done(b'3'), ready(b'E'), complete("ROLLBACK"), ready(b'I')].concat(),
    ];
    let acts = [
        Act::Bytes(agent(&[asked.concat()])),
        Act::Sees(|session| assert!(session.ask_plan())),
        Act::Bytes(server(&answered)),
        Act::Sees(|session| {
            assert_eq!((session.is_settled(), session.plan()), (true, None));
        }),
        Act::Decide(deny),
        Act::Bytes(server(&[done(b'1'), done(b'2'), failed("42601", "syntax error"), ready(b'I')])),
    ];
    let seen = check_acts(&acts);
    let explained = format!("EXPLAIN (FORMAT JSON) {sql}");
    let ours = "vestibule_plan";
    let planned = transaction_of_ours(&[
        close(b'S', ours),
        parse(ours, &explained, &[23]),
        bind(ours, ours, true, &[&[0, 0, 0, 7]], &[]),
        execute(ours),
        sync(),
        close(b'S', ours),
        sync(),
    ]);
    assert!(seen.up.starts_with(&planned), "{:?}", String::from_utf8_lossy(&seen.up));
    assert_eq!(seen.down, [done(b'1'), done(b'2'), refused(), ready(b'I')].concat());
}

#[test]
fn no_plan_is_asked_for_where_its_locks_or_errors_would_be_the_agents() {
    let [begin, answered] = begun();
    let acts = [
        begin,
        answered,
        Act::Bytes(agent(&[query("DELETE FROM held")])),
        Act::Sees(|session| assert!(!session.ask_plan())),
        Act::Decide(allow),
        Act::Bytes(server(&[complete("DELETE 0"), ready(b'T')])),
    ];
    assert_eq!(check_acts(&acts).up, [query("BEGIN"), query("DELETE FROM held")].concat());
    let [first, second, third, last] = steps("DELETE FROM held").try_into().unwrap();
    let acts = [
        Act::Bytes(agent(&[first, second])),
        Act::Bytes(agent(&[third, last])),
        Act::Sees(|session| assert!(!session.ask_plan())),
    ];
    check_acts(&acts);
    let two = "SELECT 1; DELETE FROM held";
    let acts = [
        Act::Bytes(agent(&[query(two)])),
        Act::Sees(|session| assert!(!session.ask_plan())),
        Act::Decide(allow),
    ];
    assert_eq!(check_acts(&acts).up, query(two));
}
