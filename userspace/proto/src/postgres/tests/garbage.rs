use proptest::prelude::*;
use types::event::Status;
use types::limits::MESSAGE_BYTES_MAX;

use super::*;

#[test]
fn messages_the_agent_cannot_send_end_the_session() {
    for (bytes, code) in [
        (vec![b'?', 0, 0, 0, 4], "08P01"),
        (vec![b'Q', 0, 0, 0, 3], "08P01"),
        (vec![b'Q', 0xff, 0xff, 0xff, 0xff], "08P01"),
        (message(b'Q', b"SELECT 1\0junk\0"), "08P01"),
        (message(b'Q', b"no end"), "08P01"),
        (message(b'B', b"\0\0\0\x01\0\x07"), "08P01"),
        (message(b'p', b"password\0"), "08P01"),
        (
            [b"Q".as_slice(), (u32::try_from(MESSAGE_BYTES_MAX).unwrap()).to_be_bytes().as_slice()]
                .concat(),
            "54000",
        ),
    ] {
        let seen = check_opened(&[agent(&[bytes])]);
        assert!(seen.ended && seen.violation().is_some());
        assert!(String::from_utf8_lossy(&seen.down).contains(&format!("C{code}")));
        assert_eq!(seen.up, b"");
    }
}

#[test]
fn text_that_is_no_utf8_is_judged_unread() {
    let seen = check_opened(&[
        agent(&[message(b'Q', b"SELECT '\xff\xfe'\0")]),
        server(&[failed("42601", "syntax error"), ready(b'I')]),
    ]);
    assert_eq!(seen.statuses(), [Status::Denied]);
}

#[test]
fn what_is_in_flight_at_the_end_was_cut_off() {
    let seen = check_opened(&[agent(&[query("SELECT 1"), query("SELECT 2")])]);
    assert_eq!(seen.statuses(), [Status::Interrupted, Status::Interrupted]);
}

#[test]
fn agents_that_send_ahead_are_held_back() {
    let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
    let mut transcript = Transcript::default();
    for (side, bytes) in opened() {
        session.handle_input(side, &bytes, Timestamp::default());
        settle(&mut session, &mut transcript);
    }
    let many = sync().repeat(types::limits::COMMANDS_IN_FLIGHT_MAX);
    session.handle_input(Side::Downstream, &many, Timestamp::default());
    assert!(session.wants_input(Side::Downstream), "nothing is kept yet");
    session.handle_input(Side::Downstream, &vec![b'S'; 200_000], Timestamp::default());
    assert!(!session.wants_input(Side::Downstream));
}

#[test]
fn any_truncation_of_an_exchange_is_recorded_within_a_message_only() {
    let exchange = [
        agent(&[
            parse("s", "SELECT ssn FROM t WHERE a = $1", &[23]),
            bind("", "s", true, &[&[0, 0, 0, 1]], &[1]),
            execute(""),
            sync(),
        ]),
        server(&[
            done(b'1'),
            done(b'2'),
            columns(&["ssn"]),
            row(&[Some("x")]),
            complete("SELECT 1"),
            ready(b'I'),
        ]),
    ];
    for at in 0..2 {
        for length in 0..exchange[at].1.len() {
            let mut steps = opened();
            steps.extend_from_slice(&exchange[..at]);
            steps.push((exchange[at].0, exchange[at].1[..length].to_vec()));
            let seen = run(&steps, &mut |left| left);
            // It is the server's stream that ends.
            let within = at == 1 && !ends_message(&exchange[1].1[..length]);
            let told = within.then_some("the stream ended within a message");
            assert_eq!(seen.violation(), told, "{at} {length}");
            assert_eq!(seen.commands().len(), seen.outcomes().len(), "{at} {length}");
        }
    }
}

/// Whether `bytes` are whole messages.
fn ends_message(mut bytes: &[u8]) -> bool {
    while let [_, a, b, c, d, ..] = *bytes {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(rest) = bytes.get(1 + length..) else { return false };
        bytes = rest;
    }
    bytes.is_empty()
}

/// The fuzzer's corpus as a plain test.
#[test]
fn the_corpus_runs() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus/postgres_session");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        crate::postgres::fuzz::one_input(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 5);
}

/// What was asked ends in the records, whichever message of the server's cannot be.
#[test]
fn ends_that_are_not_due_lose_no_command() {
    let result = [columns(&["a"]), row(&[Some("1")])].concat();
    for ends in [vec![done(b's')], vec![complete("SELECT 1"), complete("SELECT 1")]] {
        let answer = [result.clone(), ends.concat()];
        let seen = check_opened(&[agent(&[query("SELECT 1")]), server(&answer)]);
        assert!(seen.violation().is_some());
        assert_eq!((seen.commands().len(), seen.outcomes().len()), (1, 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        crate::postgres::fuzz::one_input(&bytes);
    }

    #[test]
    fn an_exchange_with_flipped_bytes_never_panics(
        flips in proptest::collection::vec((0_usize..2, any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in 1_usize..80,
    ) {
        let mut steps = opened();
        let from = steps.len();
        steps.push(agent(&[
            parse("s", "COPY t (id, ssn) TO STDOUT", &[]), bind("", "s", false, &[], &[]), execute(""), sync(),
            query("SELECT 1; SELECT ssn FROM t"), message(b'F', &[0; 10]),
        ]));
        steps.push(server(&[
            done(b'1'), done(b'2'), done(b'n'), message(b'H', &[0, 0, 2, 0, 0, 0, 0]), message(b'd', b"1\t2\n"),
            done(b'c'), complete("COPY 1"), ready(b'I'),
            columns(&["a"]), row(&[Some("1")]), complete("SELECT 1"), columns(&["ssn"]), row(&[Some("123")]),
            complete("SELECT 1"), ready(b'I'), message(b'V', &[0xff; 4]), ready(b'I'),
        ]));
        for (step, index, value) in flips {
            let bytes = &mut steps[from + step].1;
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let seen = run(&steps, &mut |_| cut);
        prop_assert_eq!(seen.commands().len(), seen.outcomes().len());
    }
}
