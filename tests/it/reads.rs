//! psql as it is: reads work, peers look right, sensitive values are masked.

use integration::World;

/// psql needs no flag or variable changed, and reads what is not sensitive as the server has it.
#[test]
fn psql_reads_through_the_door_unmodified() {
    let world = World::start().unwrap();
    let sql =
        "SELECT id, full_name, birth_date, city, created_at FROM customers ORDER BY id LIMIT 50";
    let seen = world.reader().psql(sql).unwrap().ok().unwrap();
    assert_eq!(seen, world.bank.sql(&format!("SET TimeZone = 'UTC'; {sql}")).unwrap());
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 1);
    assert!(world.daemon.count("commands_total").unwrap() >= 1);
}

#[test]
fn the_peer_is_the_original_destination() {
    let world = World::start().unwrap();
    let port = world.bank.port();
    let seen = world.reader().psql("\\conninfo").unwrap().ok().unwrap();
    assert!(seen.contains("127.0.0.1") && seen.contains(&port.to_string()), "{seen}");
    let script = "
import os, socket, psycopg
with psycopg.connect() as c:
    print(socket.socket(fileno=os.dup(c.pgconn.socket)).getpeername())
";
    let seen = world.reader().python(script).unwrap().ok().unwrap();
    assert_eq!(seen.trim(), format!("('127.0.0.1', {port})"));
}

/// However a column is reached by SQL, its raw value does not come out.
#[test]
fn sensitive_columns_are_masked_by_lineage() {
    let world = World::start().unwrap();
    let raw = world.bank.sql("SELECT ssn FROM customers WHERE id = 77").unwrap();
    let raw = raw.trim();
    let reversed: String = raw.chars().rev().collect();
    for sql in [
        "SELECT ssn FROM customers WHERE id = 77",
        "SELECT ssn AS harmless FROM customers WHERE id = 77",
        "SELECT * FROM customers WHERE id = 77",
        "SELECT x.y FROM (SELECT ssn AS y, id FROM customers) AS x WHERE x.id = 77",
        "WITH w AS (SELECT * FROM customers) SELECT ssn FROM w WHERE id = 77",
        "SELECT ssn || '' FROM customers WHERE id = 77",
        "SELECT reverse(ssn) FROM customers WHERE id = 77",
        "SELECT ssn::varchar(20) FROM customers WHERE id = 77",
        "SELECT max(ssn) FROM customers WHERE id = 77",
        "SELECT c FROM customers AS c WHERE id = 77",
        "SELECT row_to_json(c) FROM customers AS c WHERE id = 77",
        "SELECT CASE WHEN true THEN ssn END FROM customers WHERE id = 77",
        "SELECT 'none' UNION ALL SELECT ssn FROM customers WHERE id = 77",
        "SELECT (SELECT ssn FROM customers WHERE id = 77)",
        "SELECT string_agg(ssn, ',') FROM customers WHERE id BETWEEN 76 AND 78",
        "SELECT a.ssn FROM customers AS a JOIN accounts ON accounts.customer_id = a.id WHERE a.id = 77 LIMIT 1",
    ] {
        let output = world.reader().psql(sql).unwrap();
        let seen = format!("{}{}", output.stdout, output.stderr);
        assert!(!seen.contains(raw) && !seen.contains(&reversed), "{sql}: {seen}");
    }
    // The plain ones are answered, masked; not refused.
    let seen =
        world.reader().psql("SELECT id, ssn FROM customers WHERE id = 77").unwrap().ok().unwrap();
    assert!(seen.starts_with("77|") && seen.trim().len() > 3, "{seen}");
}

#[test]
fn cards_mail_and_telephones_are_masked_also_in_free_text() {
    let world = World::start().unwrap();
    let notes = world.bank.sql("SELECT notes FROM customers WHERE id = 50").unwrap();
    let card_in_text = notes.split_whitespace().last().unwrap();
    let seen =
        world.reader().psql("SELECT notes FROM customers WHERE id = 50").unwrap().ok().unwrap();
    assert!(seen.starts_with("asked by mail from "), "{seen}");
    assert!(!seen.contains(card_in_text) && !seen.contains("customer50@example.com"), "{seen}");
    for (column, table) in
        [("card_number", "cards"), ("email", "customers"), ("phone", "customers")]
    {
        let sql = format!("SELECT {column} FROM {table} WHERE id = 50");
        let raw = world.bank.sql(&sql).unwrap();
        let seen = world.reader().psql(&sql).unwrap().ok().unwrap();
        assert!(!seen.contains(raw.trim()), "{column}: {seen}");
        assert_eq!(seen.lines().count(), 1, "{column}: {seen}");
    }
}

#[test]
fn copy_out_is_masked() {
    let world = World::start().unwrap();
    let raw = world.bank.sql("SELECT ssn FROM customers ORDER BY id LIMIT 20000").unwrap();
    for sql in [
        "COPY customers TO STDOUT",
        "COPY customers (id, ssn) TO STDOUT (FORMAT csv, HEADER)",
        "COPY (SELECT id, ssn FROM customers ORDER BY id) TO STDOUT",
    ] {
        let seen = world.reader().psql(sql).unwrap().ok().unwrap();
        assert!(seen.lines().count() >= 20_000, "{sql}: {} lines", seen.lines().count());
        for ssn in raw.lines().step_by(997) {
            assert!(!seen.contains(ssn), "{sql} lets {ssn} through");
        }
    }
}

#[test]
fn a_cancel_request_reaches_the_server() {
    let world = World::start().unwrap();
    let script = "
import psycopg, threading
with psycopg.connect(autocommit=True) as c:
    threading.Timer(1.0, c.cancel).start()
    try:
        c.execute('SELECT count(*) FROM transfers a, transfers b, transfers c')
        print('ran to its end')
    except psycopg.errors.QueryCanceled as e:
        print(e.sqlstate)
    print(c.execute('SELECT id FROM customers WHERE id = 5').fetchone()[0])
";
    let seen = world.reader().python_for(script, 40).unwrap().ok().unwrap();
    assert_eq!(seen, "57014\n5\n");
    let evidence = world.evidence().unwrap();
    assert!(evidence.count("SELECT count(*) FROM events WHERE kind = 'db.cancel'").unwrap() >= 1);
}

/// What a card number in a number looks like depends on the format; a COPY of a query says no types.
#[test]
fn card_numbers_in_numbers_are_found_in_every_format() {
    let world = World::start().unwrap();
    world
        .bank
        .sql(
            "SET ROLE app; CREATE TABLE payments (id int, paid_with numeric, several numeric[], total numeric(12,2)); \
             INSERT INTO payments SELECT 1, card_number::numeric, ARRAY[1, card_number::numeric], 12345.67 \
             FROM cards WHERE id = 77",
        )
        .unwrap();
    let script = "
import psycopg
with psycopg.connect(autocommit=True) as c:
    sql = 'SELECT id, paid_with, several, ROW(paid_with, 1), total FROM payments'
    for binary in (False, True):
        row = c.cursor(binary=binary).execute(sql).fetchone()
        print([value is None for value in row], row[4])
    with c.cursor().copy('COPY (' + sql + ') TO STDOUT (FORMAT binary)') as copy:
        print([[value is None for value in row] for row in copy.rows()])
    with c.cursor().copy('COPY payments TO STDOUT (FORMAT binary)') as copy:
        print([[value is None for value in row] for row in copy.rows()])
    with c.cursor().copy('COPY (' + sql + ') TO STDOUT') as copy:
        print(b''.join(copy).decode().split('\\t')[1])
";
    let seen = world.reader().python(script).unwrap().ok().unwrap();
    let found = "[False, True, True, True, False]";
    let expected =
        format!("{found} 12345.67\n{found} 12345.67\n[{found}]\n[[False, True, True, False]]\n");
    assert!(seen.starts_with(&expected), "{seen}");
    let number = world.bank.sql("SELECT card_number FROM cards WHERE id = 77").unwrap();
    assert!(!seen.contains(number.trim()) && seen.lines().count() == 5, "{seen}");
}
