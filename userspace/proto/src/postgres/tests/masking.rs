use types::limits::ROW_BYTES_MAX;

use super::*;

#[test]
fn values_are_masked_where_the_plan_says() {
    let seen = check_opened(&[
        agent(&[query("SELECT id, ssn, note FROM t")]),
        server(&[
            columns(&["id", "ssn", "note"]),
            row(&[Some("1"), Some("078-05-1120"), Some("plain")]),
            row(&[Some("2"), None, Some("plain")]),
            row(&[None, None, Some("a secret")]),
            row(&[Some("3"), Some("null"), None]),
            complete("SELECT 4"),
            ready(b'I'),
        ]),
    ]);
    assert_eq!(
        seen.down,
        [
            columns(&["id", "ssn", "note"]),
            row(&[Some("1"), Some("***"), Some("plain")]),
            row(&[Some("2"), None, Some("plain")]),
            row(&[None, None, Some("***")]),
            row(&[Some("3"), None, None]),
            complete("SELECT 4"),
            ready(b'I'),
        ]
        .concat()
    );
    let outcome = seen.outcomes()[0];
    assert_eq!(outcome.masked[0].count, 3);
    assert_eq!(outcome.sample, b"1\t***\tplain\n2\t\\N\tplain\n\\N\t\\N\t***\n3\t\\N\t\\N\n");
}

#[test]
fn a_full_sample_changes_nothing_but_the_sample() {
    let rows: Vec<Vec<u8>> =
        (0..3_000).map(|at| row(&[Some(&at.to_string()), Some("x")])).collect();
    let masked: Vec<Vec<u8>> =
        (0..3_000).map(|at| row(&[Some(&at.to_string()), Some("***")])).collect();
    for (name, expected) in [("ssn", &masked), ("plain", &rows)] {
        let reply = [columns(&["id", name]), rows.concat(), complete("SELECT 3000"), ready(b'I')];
        let seen = run_opened(&[agent(&[query("SELECT id, x FROM t")]), server(&reply)]);
        let expected =
            [columns(&["id", name]), expected.concat(), complete("SELECT 3000"), ready(b'I')];
        assert!(seen.down == expected.concat(), "{name}");
        assert_eq!(seen.outcomes()[0].sample.len(), types::limits::RESPONSE_SAMPLE_BYTES_MAX);
    }
}

#[test]
fn rows_too_large_to_hold_are_masked_in_pieces() {
    let mut big = "x".repeat(ROW_BYTES_MAX + 100_000);
    // Across the border of two pieces, and at the end.
    for at in [16_384 - 3, ROW_BYTES_MAX + 99_994] {
        big.replace_range(at..at + 6, "secret");
    }
    let reply = |note: &str, ssn: &str| {
        [
            columns(&["id", "note", "ssn"]),
            row(&[Some("1"), Some(note), Some(ssn)]),
            complete("SELECT 1"),
            ready(b'I'),
        ]
        .concat()
    };
    let seen = run_opened(&[
        agent(&[query("SELECT id, note, ssn FROM t")]),
        (Side::Upstream, reply(&big, "078")),
    ]);
    assert!(seen.down == reply(&big.replace("secret", "******"), "***"));
    assert_eq!(seen.outcomes()[0].rows, Some(1));
}

/// As `check_opened` in two cuts only, for exchanges of megabytes.
fn run_opened(steps: &[Step]) -> Transcript {
    let opening = opened();
    let before = run(&opening, &mut |left| left);
    let mut all = opening;
    all.extend_from_slice(steps);
    let mut whole = run(&all, &mut |left| left);
    let mut size = 0;
    let cut = run(&all, &mut |_| {
        size = (size + 4_099) % 65_536;
        size
    });
    assert!(whole == cut, "cuts differ");
    whole.events.drain(..4);
    whole.down.drain(..before.down.len());
    whole
}

#[test]
fn texts_of_the_server_are_masked_too() {
    let leak = message(b'E', b"SERROR\0C23505\0Mduplicate\0DKey (a)=(secret)\0\0");
    let seen = check_opened(&[
        agent(&[query("INSERT INTO t VALUES (1)")]),
        server(&[
            message(b'N', b"SNOTICE\0C00000\0Msecret\0\0"),
            message(b'A', b"\0\0\0\x01ch\0secret\0"),
            leak,
            ready(b'I'),
        ]),
    ]);
    assert_eq!(
        seen.down,
        [
            message(b'N', b"SNOTICE\0C00000\0M***\0\0"),
            message(b'A', b"\0\0\0\x01ch\0***\0"),
            message(b'E', b"SERROR\0C23505\0Mduplicate\0D***\0\0"),
            ready(b'I'),
        ]
        .concat()
    );
}

#[track_caller]
fn told(sql: &str, error: &[(u8, &str)], expected: &[(u8, &str)]) {
    let reply = |fields: &[(u8, &str)]| {
        let mut body = Vec::new();
        for (field, text) in fields {
            body.push(*field);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        [message(b'E', &body), ready(b'I')].concat()
    };
    let seen = check_opened(&[agent(&[query(sql)]), (Side::Upstream, reply(error))]);
    assert_eq!(String::from_utf8_lossy(&seen.down), String::from_utf8_lossy(&reply(expected)));
}

#[test]
fn what_may_quote_masked_values_is_withheld() {
    const WITHHELD: &str = "[withheld: it may quote masked values]";
    let error = [
        (b'S', "ERROR"),
        (b'C', "22P02"),
        (b'M', "bad \"x\" for \"y\" at 12"),
        (b'D', "0278"),
        (b'W', "row 0278"),
        (b't', "people"),
    ];
    told("SELECT 1", &error, &error);
    let kept = [
        (b'S', "ERROR"),
        (b'C', "22P02"),
        (b'M', "bad \"...\" at ..."),
        (b'D', WITHHELD),
        (b'W', WITHHELD),
        (b't', "people"),
    ];
    told("SELECT quoted", &error, &kept);
    let none = [
        (b'S', "ERROR"),
        (b'C', "22P02"),
        (b'M', WITHHELD),
        (b'D', WITHHELD),
        (b'W', WITHHELD),
        (b't', WITHHELD),
    ];
    told("SELECT anything", &error, &none);
    // About the statement's own text, unless it is about one that it computed.
    let own = [(b'S', "ERROR"), (b'C', "42703"), (b'M', "column \"x1\" is not there"), (b'P', "8")];
    told("SELECT quoted", &own, &own);
    let other = [(b'S', "ERROR"), (b'C', "42601"), (b'M', "at \"0278\""), (b'P', "8"), (b'W', "x")];
    let kept =
        [(b'S', "ERROR"), (b'C', "42601"), (b'M', "at \"...\""), (b'P', "8"), (b'W', WITHHELD)];
    told("SELECT quoted", &other, &kept);
    let foreign = [(b'S', "FEHLER"), (b'C', "22P02"), (b'M', "ung\u{fc}ltig: \u{bb}0278\u{ab}")];
    told("SELECT quoted", &foreign, &[(b'S', "FEHLER"), (b'C', "22P02"), (b'M', WITHHELD)]);
}

#[test]
fn without_masks_no_value_passes() {
    let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
    let mut transcript = Transcript::default();
    let mut steps = opened();
    steps.truncate(2);
    steps.push(agent(&[query("SELECT a FROM t")]));
    steps.push(server(&[columns(&["a"]), row(&[Some("1")]), complete("SELECT 1"), ready(b'I')]));
    for (side, bytes) in steps {
        session.handle_input(side, &bytes, Timestamp::default());
        while let Some(event) = session.poll_event() {
            match event {
                Event::Command(command) => session.handle_decision(command.id, Verdict::Allow),
                Event::ProbeWanted => session.skip_probe(),
                _ => {}
            }
        }
    }
    drain(&mut session, &mut transcript);
    assert!(transcript.down.ends_with(&[row(&[None]), complete("SELECT 1"), ready(b'I')].concat()));
}

#[test]
fn a_server_that_lies_about_its_rows_ends_the_session() {
    let short = message(b'D', &[0, 1, 0, 0, 0, 9, b'x']);
    for (rows, names) in
        [(row(&[Some("1"), Some("2")]), ["ssn"].as_slice()), (row(&[]), &["id"]), (short, &["ssn"])]
    {
        let seen =
            check_opened(&[agent(&[query("SELECT a FROM t")]), server(&[columns(names), rows])]);
        assert!(seen.ended);
        assert_eq!(seen.violation(), Some("a row that does not match its description"));
        assert!(seen.down.starts_with(&[columns(names), vec![b'E']].concat()));
    }
    for undue in [
        row(&[Some("1")]),
        complete("SELECT 1"),
        done(b'1'),
        message(b'?', b""),
        message(b'd', b"x"),
    ] {
        let seen = check_opened(&[server(&[undue])]);
        assert!(seen.ended && seen.violation().is_some());
    }
}
