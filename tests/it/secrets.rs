//! Secrets in statements and parameters are in no record, whatever became of the statement.

use std::fs;

use integration::{World, bank};

/// Each has `hunter2` where a secret stands; what is refused is recorded as well.
const STATEMENTS: [&str; 11] = [
    "ALTER ROLE app PASSWORD 'hunter2'",
    "CREATE ROLE jo LOGIN PASSWORD $x$hunter2$x$",
    "ALTER USER app PASSWORD E'hunter2\\'",
    "CREATE USER MAPPING FOR app SERVER s OPTIONS (user 'jo', password 'hunter2')",
    "CREATE SUBSCRIPTION s CONNECTION 'host=h user=jo password=hunter2' PUBLICATION p",
    "SELECT * FROM dblink('postgresql://jo:hunter2@h/d', 'SELECT 1') AS t(a int)",
    "COPY customers TO PROGRAM 'curl -H \"Authorization: Bearer hunter2\" https://h/x'",
    "COPY customers TO PROGRAM 'PGPASSWORD=hunter2 psql -h elsewhere'",
    "ALTER SYSTEM SET primary_conninfo = 'user=r password=hunter2'",
    "SET app.api_token = 'hunter2'",
    "SELECT id FROM customers WHERE full_name = '{\"password\": \"hunter2\"}'",
];

#[test]
fn secrets_are_in_no_record() {
    let world = World::start().unwrap();
    let mut script = String::from("import psycopg\nc = psycopg.connect(autocommit=True)\n");
    for sql in STATEMENTS {
        let tried = format!(
            "
for client in (psycopg.ClientCursor, psycopg.Cursor):
    try: client(c).execute({sql:?})
    except psycopg.Error as e: pass
"
        );
        script.push_str(&tried);
    }
    script += "
for sql, values in (('SELECT id FROM customers WHERE full_name = %s', ('host=h password=hunter2',)),
                    ('SELECT set_config(\\'app.secret\\', %s, false)', ('hunter2',)),
                    ('UPDATE customers SET full_name = %s, password = %s WHERE id = %s', ('Jo', 'hunter2', 3)),
                    ('INSERT INTO case_notes (marker, password) VALUES (%s, %b)', (3, 'hunter2'))):
    try: c.execute(sql, values)
    except psycopg.Error as e: pass
print(c.execute('SELECT id FROM customers WHERE id = 4').fetchone())
";
    assert_eq!(world.writer().python(&script).unwrap().ok().unwrap(), "(4,)\n");
    let evidence = world.evidence().unwrap();
    for table in ["events", "recordings", "control", "sessions"] {
        let rows = evidence.duckdb(&format!("FROM {table}")).unwrap();
        for secret in ["hunter2", bank::PASSWORD] {
            let held = rows.iter().find(|row| row.to_string().contains(secret));
            assert!(held.is_none(), "{table}: {held:?}");
        }
    }
    for (table, like, least) in [
        ("statement", "%''[secret]''%", 16),
        ("statement", "%curl%***%https://h/x%", 2),
        ("statement", "[not kept: %", 2),
        ("parameters", "%\"[secret]\"%", 4),
        ("parameters", "%\"Jo\",%", 1),
    ] {
        let sql = format!("SELECT count(*) FROM recordings WHERE {table} LIKE '{like}'");
        let shown = evidence.duckdb("SELECT statement, parameters FROM recordings").unwrap();
        assert!(evidence.count(&sql).unwrap() >= least, "{like}: {shown:?}");
    }
    let mut files = 0;
    for entry in fs::read_dir(world.daemon.journal()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        files += 1;
    }
    assert!(files > 0 && !world.daemon.log().contains("hunter2"));
}
