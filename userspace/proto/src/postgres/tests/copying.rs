use types::event::Status;

use super::*;

fn copy_response(tag: u8, binary: bool, count: u8) -> Vec<u8> {
    let mut body = vec![u8::from(binary), 0, count];
    body.extend((0..count).flat_map(|_| [0, u8::from(binary)]));
    message(tag, &body)
}

fn data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', bytes)
}

#[track_caller]
fn copied(sql: &str, binary: bool, frames: &[&[u8]], expected: &[&[u8]]) {
    let frame_all =
        |payloads: &[&[u8]]| payloads.iter().flat_map(|one| data(one)).collect::<Vec<u8>>();
    let reply = |frames| {
        [
            copy_response(b'H', binary, 2),
            frame_all(frames),
            done(b'c'),
            complete("COPY 2"),
            ready(b'I'),
        ]
        .concat()
    };
    let seen = check_opened(&[agent(&[query(sql)]), (Side::Upstream, reply(frames))]);
    assert_eq!(seen.violation(), None);
    assert_eq!(String::from_utf8_lossy(&seen.down), String::from_utf8_lossy(&reply(expected)));
    assert_eq!((seen.statuses(), seen.outcomes()[0].rows), (vec![Status::Ok], Some(2)));
}

#[test]
fn copy_out_is_masked_in_its_form() {
    copied(
        "COPY t (id, ssn) TO STDOUT",
        false,
        &[b"1\t078\n", b"2\t\\N\n"],
        &[b"1\t***\n", b"2\t\\N\n"],
    );
    copied(
        "COPY t (id, note) TO STDOUT",
        false,
        &[b"a\\tb\ta \\\\ secr", b"et\nx\ty\n"],
        &[b"a\\tb\t***\nx\ty\n"],
    );
    copied(
        "COPY t (id, ssn) TO STDOUT (FORMAT csv, HEADER)",
        false,
        &[b"id,ssn\n", b"\"a,\n\"\"b\",\"0,\n78\"\n", b"1,\n"],
        &[b"id,ssn\n", b"\"a,\n\"\"b\",\"***\"\n", b"1,\n"],
    );
    // What one who expects other quotes would take for the columns `"x,y"`, number, `~p`, `q~`.
    copied(
        "COPY t (id, ssn) TO STDOUT (FORMAT csv, QUOTE '~')",
        false,
        &[b"\"x,078\n", b"~y,\"~~~,~07~~8~\n"],
        &[b"\"x,~***~\n", b"~y,\"~~~,~***~\n"],
    );
    copied(
        "COPY t (id, ssn) TO STDOUT (FORMAT csv, ESCAPE '\\')",
        false,
        &[b"\"x\\\",\",078\n", b"1,\"0\\\"78\"\n"],
        &[b"\"x\\\",\",\"***\"\n", b"1,\"***\"\n"],
    );
    // A value that equals the marker is not told from NULL.
    copied(
        "COPY t (id, ssn) TO STDOUT (NULL '078')",
        false,
        &[b"078\t078\n", b"1\t079\n"],
        &[b"078\t***\n", b"1\t***\n"],
    );
    copied("COPY t (id, name) TO STDOUT", false, &[b"raw", b" bytes"], &[b"raw", b" bytes"]);
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".as_slice();
    let row = |value: &[u8]| {
        let mut row =
            vec![0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, u8::try_from(value.len()).unwrap()];
        row.extend_from_slice(value);
        row
    };
    copied(
        "COPY t (id, ssn) TO STDOUT (FORMAT binary)",
        true,
        &[&[head, &row(b"078-05")].concat(), &row(b"x"), &[0xff, 0xff]],
        &[&[head, &row(b"***")].concat(), &row(b"***"), &[0xff, 0xff]],
    );
}

#[test]
fn copy_data_that_is_not_what_was_asked_ends_the_session() {
    for frames in [
        vec![data(b"1\n")],
        vec![data(b"1\t2\t3\n")],
        vec![data(b"1\t2"), done(b'c')],
        vec![data(&vec![b'x'; types::limits::ROW_BYTES_MAX + 1])],
    ] {
        let reply = [copy_response(b'H', false, 2), frames.concat()].concat();
        let mut steps = opened();
        steps.extend([agent(&[query("COPY t (id, ssn) TO STDOUT")]), (Side::Upstream, reply)]);
        let seen = run(&steps, &mut |left| left);
        assert!(seen.ended && seen.violation().is_some());
    }
}

#[test]
fn copy_in_goes_up_and_its_syncs_are_ignored() {
    let up = [
        parse("", "COPY t FROM STDIN", &[]),
        bind("", "", false, &[], &[]),
        describe(b'P', ""),
        execute(""),
        sync(),
    ];
    let rows = [data(b"1\n"), data(&[b'x'; 9_000]), done(b'c'), sync()];
    let seen = check_opened(&[
        agent(&up),
        server(&[done(b'1'), done(b'2'), done(b'n'), copy_response(b'G', false, 1)]),
        agent(&rows),
        server(&[complete("COPY 2"), ready(b'I')]),
        agent(&[query("SELECT 1")]),
        server(&[columns(&["a"]), complete("SELECT 0"), ready(b'I')]),
    ]);
    assert_eq!(seen.up, [up.concat(), rows.concat(), query("SELECT 1")].concat());
    assert_eq!(seen.statuses(), [Status::Ok, Status::Ok]);
    assert!(seen.outcomes()[0].bytes_in > 9_000);
    assert!(!seen.ended);
}

#[test]
fn a_copy_in_that_fails_leaves_the_session_in_step() {
    let seen = check_opened(&[
        agent(&[query("COPY t FROM STDIN")]),
        server(&[copy_response(b'G', false, 1)]),
        agent(&[data(b"1\n")]),
        server(&[failed("22P02", "no number"), ready(b'I')]),
        agent(&[data(b"2\n"), done(b'c'), query("SELECT 1")]),
        server(&[columns(&["a"]), complete("SELECT 0"), ready(b'I')]),
    ]);
    assert_eq!(seen.statuses(), [Status::Error, Status::Ok]);
}
