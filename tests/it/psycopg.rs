//! psycopg 3: text and binary results, the extended protocol, pipelines, COPY, server-side cursors.

use integration::World;

/// Runs a script of the writing agent and compares its output.
#[track_caller]
pub(crate) fn check(script: &str, expected: &str) -> World {
    let world = World::start().unwrap();
    let seen = world.writer().python(script).unwrap().ok().unwrap();
    assert_eq!(seen.trim(), expected.trim(), "{}", world.daemon.log());
    world
}

#[test]
fn parameters_in_text_and_binary() {
    let world = check(
        "
import psycopg, datetime, decimal
with psycopg.connect(autocommit=True) as c:
    for binary in (False, True):
        cur = c.cursor(binary=binary)
        cur.execute('SELECT id, balance, opened_on FROM accounts WHERE id = %s AND kind <> %b', (42, 'loan'))
        row = cur.fetchone()
        print(type(row[0]).__name__, type(row[1]).__name__, type(row[2]).__name__, row[0])
        cur.execute('SELECT ssn, email FROM customers WHERE id = %s', (41,))
        print(len(cur.fetchall()))
",
        "int Decimal date 42\n1\nint Decimal date 42\n1",
    );
    let raw = world.bank.sql("SELECT ssn FROM customers WHERE id = 41").unwrap();
    let script = "
import psycopg
with psycopg.connect() as c:
    for binary in (False, True):
        print(c.cursor(binary=binary).execute('SELECT ssn FROM customers WHERE id = %s', (41,)).fetchone()[0])
";
    let seen = world.writer().python(script).unwrap().ok().unwrap();
    assert_eq!(seen.lines().count(), 2, "{seen}");
    assert!(!seen.contains(raw.trim()), "{seen}");
}

#[test]
fn a_refused_prepared_statement_leaves_the_session_usable() {
    check(
        "
import psycopg
with psycopg.connect(autocommit=True) as c:
    for sql in ('DROP TABLE customers', 'DELETE FROM customers'):
        try:
            c.execute(sql, prepare=True)
            print('went through')
        except psycopg.errors.InsufficientPrivilege as e:
            print(e.sqlstate)
    for _ in range(8):
        row = c.execute('SELECT id FROM customers WHERE id = %s', (7,), prepare=True).fetchone()
    print(row[0])
",
        "42501\n42501\n7",
    );
}

/// Without a Sync between them a pipeline's commands are one transaction (PostgreSQL, "Pipelining"):
/// the refused one takes its neighbours back, by the server itself.
#[test]
fn a_refusal_in_a_pipeline_rolls_its_neighbours_back() {
    let world = check(
        "
import psycopg
with psycopg.connect(autocommit=True) as c:
    try:
        with c.pipeline() as p:
            c.execute('INSERT INTO case_notes (marker, body) VALUES (1, %s)', ('before',))
            c.execute('DROP TABLE cards')
            c.execute('INSERT INTO case_notes (marker, body) VALUES (2, %s)', ('behind',))
            p.sync()
        print('went through')
    except psycopg.errors.InsufficientPrivilege as e:
        print(e.sqlstate)
    with c.pipeline() as p:
        c.execute('INSERT INTO case_notes (marker, body) VALUES (3, %s)', ('later',))
        p.sync()
    print([r[0] for r in c.execute('SELECT marker FROM case_notes ORDER BY 1')])
",
        "42501\n[3]",
    );
    assert_eq!(world.bank.sql("SELECT count(*) FROM cards").unwrap().trim(), "25000");
}

#[test]
fn a_long_pipeline_keeps_its_order() {
    check(
        "
import psycopg
with psycopg.connect(autocommit=True) as c:
    with c.pipeline():
        cursors = [c.execute('SELECT id FROM customers WHERE id = %s', (n,)) for n in range(1, 1001)]
    print(all(cur.fetchone()[0] == n for n, cur in enumerate(cursors, 1)))
",
        "True",
    );
}

#[test]
fn copy_in_and_out() {
    check(
        "
import psycopg
with psycopg.connect() as c:
    with c.cursor() as cur:
        with cur.copy('COPY case_notes (marker, body) FROM STDIN') as copy:
            for n in range(10000):
                copy.write_row((n, 'note %d' % n))
        with cur.copy('COPY (SELECT marker FROM case_notes ORDER BY marker) TO STDOUT') as copy:
            rows = list(copy.rows())
        print(len(rows), rows[-1])
        with cur.copy('COPY (SELECT marker, body FROM case_notes) TO STDOUT (FORMAT binary)') as copy:
            copy.set_types(['int4', 'text'])
            print(sum(1 for _ in copy.rows()))
",
        "10000 ('9999',)\n10000",
    );
}

#[test]
fn server_side_cursors() {
    check(
        "
import psycopg
with psycopg.connect() as c:
    with c.cursor(name='walk') as cur:
        cur.itersize = 500
        cur.execute('SELECT id, ssn FROM customers ORDER BY id')
        total = leaked = 0
        for row in cur:
            total += 1
            leaked += row[1] is not None and row[1][:3].isdigit() and row[1][4:6].isdigit()
    print(total, leaked)
    print(c.execute('SELECT id FROM cards WHERE id = 9').fetchone()[0])
",
        "20000 0\n9",
    );
}

#[test]
fn a_native_error_comes_through_as_it_is() {
    check(
        "
import psycopg
with psycopg.connect(autocommit=True) as c:
    try:
        c.execute('SELECT nothing FROM customers')
    except psycopg.errors.UndefinedColumn as e:
        print(e.sqlstate)
    try:
        c.execute('SELECT 1 / (id - id) FROM customers LIMIT 1')
    except psycopg.errors.DivisionByZero as e:
        print(e.sqlstate)
    print(c.execute('SELECT id FROM customers WHERE id = 1').fetchone()[0])
",
        "42703\n22012\n1",
    );
}
