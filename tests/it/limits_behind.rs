//! Limits where something stands between the door and the server (a pooler, TLS), as psycopg and
//! node-postgres see them: the error's code and detail, and a connection that goes on.

use integration::certificates::Certificates;
use integration::world::READER;
use integration::{Agent, Daemon, Pgbouncer, Postgres, Supervisor, bank};

use crate::tls::{NAMES, VERIFIED};

const LIMITS: &str = r#"
@id("small-reads")
@limit("rows=1000, time=3s")
forbid (principal, action == Action::"select", resource);

@id("cards-by-the-hour")
@limit("rows=60/1h")
forbid (principal, action == Action::"select", resource)
when { resource is Table && resource.name == "cards" };
"#;

const PSYCOPG: &str = "
import psycopg
with psycopg.connect(autocommit=True, prepare_threshold=None) as c:
    for sql in ('SELECT id FROM customers', 'SELECT id FROM customers LIMIT 1000', 'SELECT id FROM cards LIMIT 50',
                'SELECT id FROM cards LIMIT 50', 'SELECT id FROM cards LIMIT 50'):
        n, end = 0, 'ended'
        try:
            for row in c.cursor().stream(sql): n += 1
        except psycopg.Error as e:
            end = f'{type(e).__name__} {e.sqlstate} {e.diag.message_detail[:24]}'
        print(n, end, c.info.transaction_status.name)
    try:
        c.execute('SELECT count(*) FROM customers a, customers b, customers c')
    except psycopg.Error as e:
        print(e.sqlstate, e.diag.message_primary)
    with c.transaction():
        print(c.execute('SELECT 1').fetchone())
";

const PSYCOPG_SEES: &str = "\
1000 ProgramLimitExceeded 54000 policy small-reads: limi IDLE
1000 ended IDLE
50 ended IDLE
10 ConfigurationLimitExceeded 53400 policy cards-by-the-hour IDLE
0 ConfigurationLimitExceeded 53400 policy cards-by-the-hour IDLE
54000 limit reached: no more than 3000 ms in one statement
(1,)
";

const NODE: &str = "
const { Client } = require('pg');
(async () => {
  const c = new Client(); await c.connect();
  const ask = async (query) => {
    try { console.log((await c.query(query)).rowCount, 'rows'); }
    catch (e) { console.log(e.code, e.detail.slice(0, 24)); }
  };
  await ask('SELECT id FROM customers');
  await ask({ text: 'SELECT id FROM customers WHERE id > $1', values: [5] });
  await ask({ text: 'SELECT id FROM customers WHERE id <= $1', values: [1000] });
  await ask('SELECT id FROM cards');
  await ask('BEGIN');
  await ask('SELECT id FROM customers');
  await ask('ROLLBACK');
  await ask('SELECT id FROM customers LIMIT 3');
  await c.end();
})().catch(e => { console.error(e); process.exit(1); });
";

const NODE_SEES: &str = "\
54000 policy small-reads: limi
54000 policy small-reads: limi
1000 rows
53400 policy cards-by-the-hour
null rows
54000 policy small-reads: limi
null rows
3 rows
";

/// Both clients through `daemon` to `port`; `canceled` statements reach the server in all.
fn seen_by_both(daemon: &Daemon, port: u16, bank: &Postgres) {
    let agent = Agent::new(daemon, READER, bank::ROLE, port);
    let told = agent.python_for(PSYCOPG, 60).unwrap().ok().unwrap();
    assert_eq!(told, PSYCOPG_SEES, "{}", daemon.log());
    let told = agent.node(NODE).unwrap().ok().unwrap();
    assert_eq!(told, NODE_SEES, "{}", daemon.log());
    // The endless one was cancelled at the server, not left to run.
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%customers c' AND state = 'active' \
                   AND pid <> pg_backend_pid()";
    assert_eq!(bank.sql(running).unwrap().trim(), "0");
    assert!(bank.log().unwrap().contains("canceling statement due to user request"));
}

#[test]
fn behind_a_pooler() {
    for mode in ["session", "transaction"] {
        let bank = Postgres::start().unwrap();
        let pooler = Pgbouncer::start(&bank, mode).unwrap();
        let extra = [("limits.cedar", LIMITS)];
        let daemon = Daemon::start_with(Supervisor::None, pooler.port(), 2, &extra, "").unwrap();
        seen_by_both(&daemon, pooler.port(), &bank);
    }
}

#[test]
fn with_tls_to_the_server() {
    let certificates = Certificates::make(NAMES).unwrap();
    let settings = certificates.server_settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    certificates.make_authority().unwrap();
    let bank = Postgres::with_settings(&settings).unwrap();
    let rest = certificates.daemon_settings(&format!("when = \"always\"\n{VERIFIED}"));
    let extra = [("limits.cedar", LIMITS)];
    let daemon = Daemon::start_with(Supervisor::None, bank.port(), 2, &extra, &rest).unwrap();
    seen_by_both(&daemon, bank.port(), &bank);
    assert!(bank.log().unwrap().contains("SSL enabled"));
}
