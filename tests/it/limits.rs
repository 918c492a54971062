//! Limits on what statements bring: cut where they are reached, cancelled at the server, and ended as
//! the protocol has it, by every way that a client has to ask.

use std::fs;

use integration::{World, process};

const STATEMENT: &str = r#"
@id("small-reads")
@limit("rows=1000, bytes=2MiB, time=4s")
forbid (principal == Agent::"support-assistant", action == Action::"select", resource);

@id("small-writes")
@limit("rows=3, time=4s")
forbid (principal == Agent::"back-office", action == Action::"insert", resource);

@id("small-transfers")
@limit("rows=100")
forbid (principal == Agent::"back-office", action == Action::"select", resource)
when { resource is Table && resource.name == "transfers" };
"#;

#[test]
fn psql_goes_on_behind_what_was_cut() {
    let world = World::start_ruled(STATEMENT).unwrap();
    let script = "SELECT count(*) FROM customers;\nSELECT id FROM customers;\nSELECT 'next';\nBEGIN;\n\
                  SELECT id FROM customers;\nSELECT 'not this';\nROLLBACK;\nSELECT 'last';\n\
                  SELECT id FROM customers WHERE id <= 1000 \\; SELECT id FROM customers \\; SELECT 'nor this';\n\
                  \\copy customers (id) TO STDOUT\nSELECT 'end';\n";
    let seen = world.reader().psql_script(script).unwrap();
    let shown: Vec<&str> =
        seen.stdout.lines().filter(|line| line.parse::<u32>().is_err()).collect();
    assert_eq!(shown, ["next", "BEGIN", "ROLLBACK", "last", "end"], "{seen:?}");
    let told = "limit reached: no more than 1000 rows in one statement";
    assert_eq!(
        seen.stderr.matches(&format!("ERROR:  54000: {told}")).count(),
        4,
        "{}",
        seen.stderr
    );
    let detail = format!("DETAIL:  policy small-reads: {told}");
    assert_eq!(seen.stderr.matches(&detail).count(), 4, "{}", seen.stderr);
    assert!(seen.stderr.contains("current transaction is aborted"), "{}", seen.stderr);
    let evidence = world.evidence().unwrap();
    let limited = "SELECT count(*) FROM events WHERE status = 'limited' AND error_code = '54000' \
                   AND decision = 'allow' AND \"rows\" = 1000";
    assert_eq!(evidence.count(limited).unwrap(), 4);
    let cancels = "SELECT count(*) FROM control WHERE kind = 'session.cancel' \
                   AND json_extract_string(detail, '$.what') = 'over its limit'";
    assert_eq!(evidence.count(cancels).unwrap(), 4);
}

/// Counts what each way of asking brings, and how it ends.
const WAYS: &str = "
import psycopg
from psycopg import ClientCursor
def seen(name, bring, c):
    n, end = 0, 'ended'
    try:
        for _ in bring(): n += 1
    except psycopg.Error as e:
        end = f'{e.sqlstate} {e.diag.message_detail}'[:38]
    print(name, n, end, c.info.transaction_status.name)
    c.rollback()
sql = 'SELECT id FROM customers'
with psycopg.connect(autocommit=True) as c:
    seen('extended', lambda: c.cursor().stream(sql), c)
    seen('binary', lambda: c.cursor(binary=True).stream(sql), c)
    seen('parameters', lambda: c.cursor().stream(sql + ' WHERE id > %s', (5,)), c)
    seen('fits', lambda: c.cursor().stream(sql + ' LIMIT 1000'), c)
    for _ in range(3):
        seen('prepared', lambda: c.execute(sql + ' ORDER BY id', prepare=True), c)
    seen('simple', lambda: ClientCursor(c).execute(sql), c)
    def copy(sql):
        def bring():
            with c.cursor().copy(sql) as data: yield from data.rows()
        return bring
    seen('copy', copy('COPY customers (id) TO STDOUT'), c)
    seen('copy csv', copy('COPY customers (id) TO STDOUT (FORMAT csv, HEADER)'), c)
    seen('copy fits', copy('COPY (SELECT id FROM customers LIMIT 1000) TO STDOUT'), c)
    def binary():
        with c.cursor().copy('COPY (SELECT id FROM customers LIMIT 1000) TO STDOUT (FORMAT binary)') as data:
            data.set_types(['int4'])
            yield from data.rows()
    seen('copy binary', binary, c)
    seen('masked copy', copy('COPY customers (id, ssn) TO STDOUT'), c)
with psycopg.connect() as c:
    seen('transaction', lambda: c.cursor().stream(sql), c)
    def cursor():
        with c.cursor('held') as held:
            held.itersize = 300
            held.execute(sql)
            yield from held
    seen('cursor', cursor, c)
    def hold():
        with c.cursor('kept', withhold=True) as held:
            held.itersize = 1000
            held.execute(sql)
            yield from held
    seen('with hold', hold, c)
";

#[test]
fn every_way_to_ask_is_cut_at_the_same_row() {
    let world = World::start_ruled(STATEMENT).unwrap();
    let told = world.reader().python(WAYS).unwrap().ok().unwrap();
    let cut = "54000 policy small-reads: limit reached";
    let cut = &cut[..38];
    // A result that psycopg collects is lost with its error.
    let want = [
        format!("extended 1000 {cut} IDLE"),
        format!("binary 1000 {cut} IDLE"),
        format!("parameters 1000 {cut} IDLE"),
        "fits 1000 ended IDLE".to_owned(),
        format!("prepared 0 {cut} IDLE"),
        format!("prepared 0 {cut} IDLE"),
        format!("prepared 0 {cut} IDLE"),
        format!("simple 0 {cut} IDLE"),
        format!("copy 1000 {cut} IDLE"),
        format!("copy csv 1001 {cut} IDLE"),
        "copy fits 1000 ended IDLE".to_owned(),
        "copy binary 1000 ended IDLE".to_owned(),
        format!("masked copy 1000 {cut} IDLE"),
        format!("transaction 1000 {cut} INERROR"),
        format!("cursor 900 {cut} INERROR"),
        format!("with hold 1000 {cut} INERROR"),
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), want, "{}", world.daemon.log());
}

#[test]
fn a_pipeline_behind_what_was_cut_is_rolled_back() {
    let world = World::start_ruled(STATEMENT).unwrap();
    let script = "
import psycopg
with psycopg.connect(autocommit=True) as c:
    try:
        with c.pipeline() as p:
            first = c.execute(\"INSERT INTO case_notes (marker, body) VALUES (1, 'a')\")
            read = c.execute('SELECT id FROM transfers')
            last = c.execute(\"INSERT INTO case_notes (marker, body) VALUES (2, 'b')\")
    except psycopg.Error as e:
        print(e.sqlstate, e.diag.message_detail)
    print(c.execute('SELECT marker FROM case_notes ORDER BY marker').fetchall())
    cur = c.cursor()
    for body in ('d', 'e'):
        cur.execute(\"INSERT INTO case_notes (marker, body) SELECT 4, %s FROM generate_series(1, 3) RETURNING marker\", (body,))
        print(len(cur.fetchall()))
    try:
        cur.execute(\"INSERT INTO case_notes (marker, body) SELECT 5, 'x' FROM generate_series(1, 4) RETURNING marker\")
    except psycopg.Error as e:
        print(e.sqlstate)
";
    let told = world.writer().python(script).unwrap().ok().unwrap();
    let want = "54000 policy small-transfers: limit reached: no more than 100 rows in one statement\n\
                []\n3\n3\n54000\n";
    assert_eq!(told, want, "{}", world.daemon.log());
}

/// A cancel request for one statement, and the next one right behind it, many times.
#[test]
fn no_cancel_request_hits_what_comes_next() {
    let world = World::start_ruled(STATEMENT).unwrap();
    let script = "
import psycopg
cut = 0
with psycopg.connect(autocommit=True) as c:
    for n in range(150):
        # Some end at the server before the request comes, some do not: rows are made as they are sent.
        rows = 1001 if n % 2 else 20000 * (1 + n)
        try:
            c.execute(f'SELECT generate_series(1, {rows})', prepare=n % 3 == 0)
        except psycopg.errors.ProgramLimitExceeded:
            cut += 1
        assert c.execute('SELECT count(*) FROM customers a JOIN customers b USING (id)').fetchone() == (20000,)
print(cut)
";
    let seen = world.reader().python_for(script, 120).unwrap();
    assert_eq!(seen.stdout, "150\n", "{seen:?} {}", world.daemon.log());
}

#[test]
fn time_ends_statements_and_bytes_do() {
    let world = World::start_ruled(STATEMENT).unwrap();
    let script = "
import psycopg, time
with psycopg.connect(autocommit=True) as c:
    for prepare in (False, True):
        began = time.monotonic()
        try:
            c.execute('SELECT count(*) FROM customers a, customers b, customers c', prepare=prepare)
        except psycopg.Error as e:
            print(e.sqlstate, e.diag.message_primary, 3.5 < time.monotonic() - began < 8)
    n = 0
    try:
        for row in c.cursor().stream(\"SELECT repeat('x', 10000) FROM generate_series(1, 900)\"):
            n += 1
    except psycopg.Error as e:
        print(n, e.sqlstate, e.diag.message_primary)
    n = 0
    try:
        for row in c.cursor().stream(\"SELECT repeat('x', 3000000)\"):
            n += 1
    except psycopg.Error as e:
        print(n, e.sqlstate)
    print(c.execute('SELECT 1').fetchone())
";
    let seen = world.reader().python_for(script, 60).unwrap();
    let time = "54000 limit reached: no more than 4000 ms in one statement True\n";
    let bytes =
        "209 54000 limit reached: no more than 2097152 bytes in one statement\n0 54000\n(1,)\n";
    assert_eq!(seen.stdout, format!("{time}{time}{bytes}"), "{seen:?}");
}

const WINDOW: &str = r#"
@id("reads-by-time")
@limit("rows=1500/12s")
forbid (principal, action == Action::"select", resource);
"#;

#[test]
fn a_window_counts_all_sessions_of_an_agent_and_lets_go() {
    let world = World::start_ruled(WINDOW).unwrap();
    let script = "
import psycopg, threading, time
def read(rows, result):
    n = 0
    with psycopg.connect(autocommit=True) as c:
        try:
            for row in c.cursor().stream(f'SELECT id FROM customers LIMIT {rows}'): n += 1
            result.append((n, 'ended'))
        except psycopg.Error as e:
            result.append((n, e.sqlstate))
result = []
threads = [threading.Thread(target=read, args=(400, result)) for _ in range(6)]
for t in threads: t.start()
for t in threads: t.join()
print(sum(n for n, _ in result), sorted({code for _, code in result}))
again = []
read(1, again)
print(again)
time.sleep(14.5)
read(1, again)
print(again[1:])
";
    let seen = world.reader().python_for(script, 60).unwrap();
    assert_eq!(
        seen.stdout, "1500 ['53400', 'ended']\n[(0, '53400')]\n[(1, 'ended')]\n",
        "{seen:?}"
    );
    // Another agent has a window of its own.
    let other = world.writer().psql("SELECT count(*) FROM customers").unwrap().ok().unwrap();
    assert_eq!(other.trim(), "20000");
    let evidence = world.evidence().unwrap();
    let denied = "SELECT count(*) FROM events WHERE rule_id = 'reads-by-time' AND decision = 'deny' \
                  AND status = 'denied' AND error_code = '53400'";
    assert!(evidence.count(denied).unwrap() >= 1);
}

/// How far memory may move.
const FLAT_BYTES: u64 = 24 << 20;

#[test]
fn memory_is_flat_where_a_gigabyte_is_cut() {
    let world = World::start_ruled(STATEMENT).unwrap();
    world.reader().psql("SELECT id, ssn FROM customers LIMIT 500").unwrap().ok().unwrap();
    let pid = world.daemon.pid().unwrap();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = peak_bytes(pid);
    let sql = "SELECT c.id, c.ssn, repeat(c.full_name, 90) FROM customers AS c CROSS JOIN generate_series(1, 60) AS n";
    for statement in [sql.to_owned(), format!("COPY ({sql}) TO STDOUT")] {
        let mut psql = world.reader().command("sh");
        psql.args(["-c", "psql -XAt -v FETCH_COUNT=0 -c \"$0\" 2>&1 | tail -2", &statement]);
        // Were it not cancelled, the server would go on for longer.
        let told = process::run(&mut psql, 20).unwrap().ok().unwrap();
        assert!(told.contains("policy small-reads: limit reached"), "{told}");
    }
    let grown = peak_bytes(pid).saturating_sub(before);
    assert!(grown < FLAT_BYTES, "{} MiB more", grown >> 20);
    let logged = world.bank.log().unwrap().matches("canceling statement").count();
    assert_eq!(logged, 2);
}

fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
