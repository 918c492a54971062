//! PREPARE and EXECUTE, DECLARE and FETCH in SQL: decided and masked as what they run, by psql and psycopg.

use integration::World;

/// What psql says to a script, and what each line of it that is masked must not hold.
fn psql(world: &World, script: &str) -> (Vec<String>, String) {
    let said = world.writer().psql_script(script).unwrap();
    (said.stdout.lines().map(str::to_owned).collect(), said.stderr)
}

fn number(world: &World, id: u32) -> String {
    world.bank.sql(&format!("SELECT ssn FROM customers WHERE id = {id}")).unwrap().trim().to_owned()
}

#[test]
fn psql_prepares_and_executes() {
    let world = World::start().unwrap();
    let script = "
PREPARE p (int) AS SELECT id, ssn FROM customers WHERE id = $1;
EXECUTE p(77);
EXPLAIN (COSTS OFF) EXECUTE p(77);
PREPARE everyone AS DELETE FROM customers;
EXECUTE everyone;
PREPARE gone AS DROP TABLE cards;
PREPARE guess (text) AS SELECT id FROM customers WHERE ssn = $1;
EXECUTE guess('078-05-1120');
PREPARE write (text) AS INSERT INTO case_notes (body) VALUES ($1) RETURNING body;
EXECUTE write('by EXECUTE');
DEALLOCATE p;
EXECUTE p(77);
SELECT 'and on';
";
    let (told, errors) = psql(&world, script);
    let raw = number(&world, 77);
    let shown = format!("77|***-**-{}", &raw[7..]);
    assert!(told.contains(&shown), "{told:?} {errors}");
    for wanted in ["by EXECUTE", "and on"] {
        assert!(told.iter().any(|line| line == wanted), "{wanted}: {told:?} {errors}");
    }
    assert!(!format!("{told:?}{errors}").contains(&raw), "{told:?} {errors}");
    // Refused by what they would run: a DELETE without a condition, what PREPARE can't prepare, a probe; one of
    // no known name as well.
    let refused: Vec<&str> =
        errors.lines().filter_map(|line| line.strip_prefix("ERROR:  42501: ")).collect();
    let reasons = [
        "UPDATE and DELETE need a WHERE",
        "code that cannot be analysed is not allowed",
        "the statement's effect is not known",
        "no policy permits probe of us_ssn: what the statement does depends on masked values",
        "code that cannot be analysed is not allowed",
        "code that cannot be analysed is not allowed",
    ];
    assert_eq!(refused, reasons, "{errors}");
    assert_eq!(world.bank.sql("SELECT count(*) FROM customers").unwrap().trim(), "20000");
    let evidence = world.evidence().unwrap();
    let run = "SELECT count(*) FROM events WHERE verb = 'EXECUTE' AND status = 'ok' \
               AND CAST(objects AS VARCHAR) LIKE '%customers%'";
    assert_eq!(evidence.count(run).unwrap(), 1);
}

#[test]
fn psql_declares_and_fetches() {
    let world = World::start().unwrap();
    let script = "
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, ssn, reverse(ssn) FROM customers WHERE id BETWEEN 76 AND 79 ORDER BY id;
FETCH 2 FROM c;
MOVE 1 IN c;
FETCH NEXT FROM c;
FETCH ABSOLUTE 1 FROM c;
CLOSE c;
COMMIT;
BEGIN;
DECLARE d CURSOR FOR SELECT id FROM customers WHERE ssn LIKE '078%';
FETCH ALL FROM d;
ROLLBACK;
BEGIN;
DECLARE kept CURSOR WITH HOLD FOR SELECT id, ssn FROM customers WHERE id = 77;
COMMIT;
FETCH ALL FROM kept;
SELECT 'and on';
";
    let (told, errors) = psql(&world, script);
    let rows: Vec<&str> =
        told.iter().filter(|line| line.contains('|')).map(String::as_str).collect();
    let shown: Vec<&str> = rows.iter().map(|row| row.split('|').next().unwrap()).collect();
    assert_eq!(shown, ["76", "77", "79", "76", "77"], "{told:?} {errors}");
    for id in 76..80 {
        let raw = number(&world, id);
        let back: String = raw.chars().rev().collect();
        assert!(!rows.iter().any(|row| row.contains(&raw) || row.contains(&back)), "{rows:?}");
    }
    assert!(errors.contains("probe of us_ssn"), "{errors}");
    assert_eq!(told.last().unwrap(), "and on", "{errors}");
}

/// The same by the extended protocol, with results in text and binary.
#[test]
fn psycopg_prepares_executes_declares_and_fetches() {
    let world = World::start().unwrap();
    let script = "
import psycopg
def tried(c, sql):
    try:
        c.execute(sql)
        print('went through')
    except psycopg.Error as e:
        print(e.sqlstate)
with psycopg.connect(autocommit=True) as c:
    c.execute('PREPARE p (int) AS SELECT id, ssn FROM customers WHERE id = $1')
    for binary in (False, True):
        for prepare in (False, True):
            cur = c.cursor(binary=binary)
            row = cur.execute('EXECUTE p(77)', prepare=prepare).fetchone()
            print(row[0], row[1][:7])
    tried(c, 'PREPARE everyone AS DELETE FROM customers')
    tried(c, 'EXECUTE everyone')
    tried(c, \"PREPARE guess AS SELECT id FROM customers WHERE ssn LIKE '078%'\")
    c.execute('DEALLOCATE p')
    c.execute('PREPARE p AS SELECT id, city FROM customers WHERE id = 77')
    print(c.execute('EXECUTE p').fetchone()[0])
    for binary in (False, True):
        with c.transaction():
            c.execute('DECLARE walk CURSOR FOR SELECT id, ssn, reverse(ssn) FROM customers WHERE id > 76 ORDER BY id')
            cur = c.cursor(binary=binary)
            rows = cur.execute('FETCH 2 FROM walk').fetchall() + cur.execute('FETCH 1 FROM walk').fetchall()
            print([(row[0], row[1][:7], row[2]) for row in rows])
            c.execute('CLOSE walk')
    try:
        with c.transaction():
            tried(c, \"DECLARE guess CURSOR FOR SELECT id FROM customers WHERE ssn LIKE '078%'\")
            tried(c, 'FETCH ALL FROM guess')
    except psycopg.Error as e:
        print(e.sqlstate)
    print(c.execute('SELECT id FROM customers WHERE id = 5').fetchone()[0])
";
    let seen = world.writer().python(script).unwrap().ok().unwrap();
    let masked = "77 ***-**-\n".repeat(4);
    let rows =
        "[(77, '***-**-', '[us_ssn]'), (78, '***-**-', '[us_ssn]'), (79, '***-**-', '[us_ssn]')]\n";
    let expected = format!("{masked}42501\n42501\n42501\n77\n{rows}{rows}42501\n25P02\n5\n");
    assert_eq!(seen, expected, "{}", world.daemon.log());
}
