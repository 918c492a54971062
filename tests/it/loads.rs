//! Limits on what agents copy in: none of it takes effect where there is too much, the error is the
//! limit's, and the connection goes on, by every way that a client has to send it.

use integration::World;

use crate::by_hand::READ;

const LOADS: &str = r#"
@id("small-loads")
@limit("rows=1000, bytes=1MiB, rows=6000/1h")
forbid (principal == Agent::"back-office", action == Action::"insert", resource);
"#;

const WAYS: &str = "
import psycopg
def load(name, pieces, sql='COPY case_notes (marker, body) FROM STDIN', types=None):
    end = 'loaded'
    try:
        with c.cursor().copy(sql) as data:
            if types: data.set_types(types)
            for piece in pieces:
                data.write(piece) if isinstance(piece, (str, bytes)) else data.write_row(piece)
    except psycopg.Error as e:
        end = f'{e.sqlstate} {e.diag.message_detail}'[:40]
    status = c.info.transaction_status.name
    c.rollback()
    rows = c.execute('SELECT count(*) FROM case_notes').fetchone()[0]
    c.rollback()
    print(name, end, status, rows)
csv = 'COPY case_notes (marker, body) FROM STDIN (FORMAT csv, HEADER)'
binary = 'COPY case_notes (marker, body) FROM STDIN (FORMAT binary)'
with psycopg.connect(autocommit=True) as c:
    load('fits', ((n, 'x') for n in range(1000)))
    load('one more', ((n, 'x') for n in range(1001)))
    load('in one piece', ['1\\ty\\n' * 5000])
    load('byte by byte', (byte for byte in '2\\tz\\n' * 1001))
    load('escaped', ['3\\tone\\\\nrow\\n' * 500])
    load('csv', ['marker,body\\n'] + ['4,\"one\\nrow\"\\n'] * 500, csv)
    load('csv, more', ['marker,body\\n'] + ['4,\"one\\nrow\"\\n'] * 1001, csv)
    load('binary', ((n, 'x') for n in range(100)), binary, ['int4', 'text'])
    load('binary, more', ((n, 'x') for n in range(1001)), binary, ['int4', 'text'])
    load('bytes', ['5\\t' + 'x' * 2000000 + '\\n'])
    c.autocommit = False
    load('in a transaction', ((n, 'x') for n in range(1001)))
    c.autocommit = True
    try:
        with c.cursor().copy('COPY case_notes (marker, body) FROM STDIN') as data:
            data.write_row((6, 'x'))
            raise KeyError
    except KeyError:
        print('given up', c.execute('SELECT 1').fetchone())
    try:
        with c.cursor().copy('COPY case_notes (marker, body) FROM STDIN') as data:
            data.write('no number\\tx\\n')
    except psycopg.Error as e:
        print('refused', e.sqlstate, c.execute('SELECT 1').fetchone())
";

#[test]
fn too_much_copied_in_takes_no_effect() {
    let world = World::start_ruled(LOADS).unwrap();
    let told = world.writer().python(WAYS).unwrap().ok().unwrap();
    let cut = &"54000 policy small-loads: limit reached: no more"[..40];
    let want = [
        "fits loaded IDLE 1000".to_owned(),
        format!("one more {cut} IDLE 1000"),
        format!("in one piece {cut} IDLE 1000"),
        format!("byte by byte {cut} IDLE 1000"),
        "escaped loaded IDLE 1500".to_owned(),
        "csv loaded IDLE 2000".to_owned(),
        format!("csv, more {cut} IDLE 2000"),
        "binary loaded IDLE 2100".to_owned(),
        format!("binary, more {cut} IDLE 2100"),
        format!("bytes {cut} IDLE 2100"),
        format!("in a transaction {cut} INERROR 2100"),
        "given up (1,)".to_owned(),
        "refused 22P02 (1,)".to_owned(),
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), want, "{}", world.daemon.log());
    let evidence = world.evidence().unwrap();
    let limited = "SELECT count(*) FROM events WHERE status = 'limited' AND error_code = '54000' \
                   AND decision = 'allow' AND verb = 'COPY' AND \"rows\" = 0 AND bytes_in > 0";
    assert_eq!(evidence.count(limited).unwrap(), 7);
    let loaded =
        "SELECT count(*) FROM events WHERE status = 'ok' AND verb = 'COPY' AND \"rows\" > 0";
    assert_eq!(evidence.count(loaded).unwrap(), 4);
}

#[test]
fn psql_goes_on_behind_a_load_that_was_cut() {
    let world = World::start_ruled(LOADS).unwrap();
    let lines = "7\tx\n".repeat(1001);
    let few = "8\tx\n".repeat(10);
    let script = format!(
        "COPY case_notes (marker, body) FROM STDIN;\n{lines}\\.\nSELECT 'next', count(*) FROM case_notes;\n\
         BEGIN;\nCOPY case_notes (marker, body) FROM STDIN;\n{lines}\\.\nSELECT 'not this';\nROLLBACK;\n\
         COPY case_notes (marker, body) FROM STDIN;\n{few}\\.\nSELECT 'last', count(*) FROM case_notes;\n"
    );
    let seen = world.writer().psql_script(&script).unwrap();
    assert_eq!(seen.stdout, "next|0\nBEGIN\nROLLBACK\nCOPY 10\nlast|10\n", "{seen:?}");
    let told = "ERROR:  54000: limit reached: no more than 1000 rows in one statement";
    assert_eq!(seen.stderr.matches(told).count(), 2, "{}", seen.stderr);
}

/// Sends statement, data and end at once, and what comes next behind them.
#[test]
fn data_that_does_not_wait_for_its_answer_is_counted() {
    let world = World::start_ruled(LOADS).unwrap();
    let script = format!(
        "{READ}
import os, psycopg
c = psycopg.connect(autocommit=True, sslmode='disable')
s = socket.socket(fileno=os.dup(c.fileno()))
s.setblocking(True)
def frame(tag, body): return tag + struct.pack('!i', len(body) + 4) + body
def answers(sent):
    s.sendall(sent)
    kind, told = b'', []
    while kind != b'Z':
        kind, body = message(s)
        told.append(kind.decode())
        if kind == b'E': told.append(body.split(b'\\0C')[1][:5].decode())
        if kind == b'D': told.append(body[6:].decode())
    print(*told)
def load(rows, tail):
    copy = frame(b'Q', b'COPY case_notes (marker, body) FROM STDIN\\0')
    answers(copy + rows * frame(b'd', b'9\\tx\\n') + tail)
load(1000, frame(b'c', b''))
load(1001, frame(b'c', b''))
load(1001, frame(b'f', b'no\\0'))
answers(frame(b'Q', b'SELECT count(*) FROM case_notes\\0'))
"
    );
    let told = world.writer().python(&script).unwrap().ok().unwrap();
    let want = "G C Z\nG E 54000 Z\nG E 54000 Z\nT D 1000 C Z\n";
    assert_eq!(told, want, "{}", world.daemon.log());
}
