//! Drivers and tools above them that the other modules do not use: psycopg 2, SQLAlchemy, tokio-postgres,
//! and a pooler between the door and the server.

use integration::daemon::Supervisor;
use integration::world::{READER, WRITER, WRITER_POLICY};
use integration::{Agent, Daemon, Evidence, Pgbouncer, Postgres, World, bank, paths, process};

use crate::psycopg::check;

#[test]
fn psycopg_2() {
    check(
        "
import io, psycopg2, psycopg2.extras
c = psycopg2.connect('')
cur = c.cursor()
cur.execute('SELECT id, balance, opened_on FROM accounts WHERE id = %s AND kind <> %s', (42, 'loan'))
print(*(type(value).__name__ for value in cur.fetchone()))
psycopg2.extras.execute_values(cur, 'INSERT INTO case_notes (marker, body) VALUES %s', [(n, 'note') for n in range(500)])
cur.execute('SELECT count(*) FROM case_notes')
print(cur.fetchone()[0])
try:
    cur.execute('DELETE FROM customers')
except psycopg2.errors.InsufficientPrivilege as e:
    print(e.pgcode, 'no-write-without-where' in str(e))
try:
    cur.execute('SELECT 1')
except psycopg2.errors.InFailedSqlTransaction as e:
    print(e.pgcode)
c.rollback()
cur.copy_expert('COPY case_notes (marker, body) FROM STDIN', io.StringIO('7\\tseven\\n8\\teight\\n'))
out = io.StringIO()
cur.copy_expert('COPY (SELECT marker, body FROM case_notes ORDER BY 1) TO STDOUT', out)
print(repr(out.getvalue()))
c.commit()
named = c.cursor('walk', withhold=True)
named.itersize = 700
named.execute('SELECT id, ssn FROM customers')
rows = list(named)
print(len(rows), sum(ssn[0].isdigit() for _, ssn in rows))
named.close()
c.commit()
c.set_session(isolation_level='REPEATABLE READ', readonly=True)
cur = c.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
cur.execute('SELECT id FROM cards WHERE id = ANY(%s) ORDER BY id', ([3, 1, 2],))
print([row['id'] for row in cur.fetchall()])
c.close()
",
        "int Decimal date\n500\n42501 True\n25P02\n'7\\tseven\\n8\\teight\\n'\n20000 0\n[1, 2, 3]",
    );
}

/// What SQLAlchemy asks by itself: versions, schemas, columns, keys, and rows in batches.
const SQLALCHEMY: &str = "
from sqlalchemy import MetaData, Table, create_engine, exc, inspect, select, func, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

class Base(DeclarativeBase): pass
class Note(Base):
    __tablename__ = 'case_notes'
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    marker: Mapped[int] = mapped_column(Integer)
    body: Mapped[str] = mapped_column(String)

engine = create_engine('postgresql+DRIVER://', pool_pre_ping=True, pool_size=2)
looked = inspect(engine)
print(sorted(looked.get_table_names()))
print([column['name'] for column in looked.get_columns('cards')], looked.get_pk_constraint('cards')['constrained_columns'])
print(looked.get_foreign_keys('cards')[0]['referred_table'], looked.get_unique_constraints('customers')[0]['column_names'])
accounts = Table('accounts', MetaData(), autoload_with=engine)
with Session(engine) as session:
    notes = [Note(marker=n, body='b') for n in range(1500)]
    session.add_all(notes)
    session.flush()
    print(len({note.id for note in notes}))
    session.commit()
    print(session.scalar(select(func.count()).select_from(Note).where(Note.marker < 10)))
    print(session.execute(select(accounts.c.kind, func.count()).group_by(accounts.c.kind).order_by(accounts.c.kind)).all())
    note = session.get(Note, notes[0].id)
    note.body = 'changed'
    session.commit()
    session.refresh(note)
    print(note.body)
    try:
        session.execute(Table('cards', MetaData(), autoload_with=engine).delete())
    except exc.ProgrammingError as e:
        print(e.orig.sqlstate if hasattr(e.orig, 'sqlstate') else e.orig.pgcode)
    session.rollback()
    print(session.scalar(select(Note.body).where(Note.id == notes[0].id)))
";

const SQLALCHEMY_SEEN: &str = "
['accounts', 'cards', 'case_notes', 'customers', 'transfers']
['id', 'customer_id', 'card_number', 'expires_on', 'is_blocked'] ['id']
customers ['ssn']
1500
10
[('checking', 10000), ('loan', 10000), ('savings', 10000)]
changed
42501
changed";

#[test]
fn sqlalchemy_on_psycopg_3() {
    check(&SQLALCHEMY.replace("DRIVER", "psycopg"), SQLALCHEMY_SEEN);
}

#[test]
fn sqlalchemy_on_psycopg_2() {
    check(&SQLALCHEMY.replace("DRIVER", "psycopg2"), SQLALCHEMY_SEEN);
}

/// The program is `tests/examples/tokio_client.rs`.
#[test]
fn tokio_postgres() {
    let world = World::start().unwrap();
    let program = paths::programs().unwrap().join("examples/tokio_client");
    let mut client = world.writer().command(program);
    let seen = process::run(&mut client, 60).unwrap().ok().unwrap();
    let expected = "\
simple: 41
prepared: 41 true
pipelined: 500 in order
refused: 42501
after it: 1
in a transaction: 42501, then 25P02
portal: 3 3 3
copied in: 1000
copied out: 1000
cancelled: 57014
";
    assert_eq!(seen, expected, "{}", world.daemon.log());
    let evidence = world.evidence().unwrap();
    let (reads, copies) = ("verb = 'SELECT'", "verb = 'COPY'");
    let count = |what: &str| evidence.count(&format!("SELECT count(*) FROM events WHERE {what}"));
    assert!(count(reads).unwrap() > 500 && count(copies).unwrap() == 2);
}

/// In transaction mode every transaction may go to another of the server's sessions.
#[test]
fn a_target_may_be_a_pooler() {
    for mode in ["session", "transaction"] {
        let bank = Postgres::start().unwrap();
        let pooler = Pgbouncer::start(&bank, mode).unwrap();
        let daemon =
            Daemon::start_with(Supervisor::None, pooler.port(), 2, &[WRITER_POLICY], "").unwrap();
        let writer = Agent::new(&daemon, WRITER, bank::ROLE, pooler.port());
        let script = "
import psycopg, threading
def work(n, seen):
    with psycopg.connect(prepare_threshold=None) as c:
        for step in range(20):
            with c.transaction():
                c.execute('INSERT INTO case_notes (marker, body) VALUES (%s, %s)', (n, str(step)))
            row = c.execute('SELECT id, ssn FROM customers WHERE id = %s', (step + 1,)).fetchone()
            seen.append((row[0] == step + 1, row[1][0].isdigit()))
            c.commit()
        try:
            c.execute('DROP TABLE cards')
        except psycopg.errors.InsufficientPrivilege as e:
            seen.append((e.sqlstate == '42501', False))
seen = []
threads = [threading.Thread(target=work, args=(n, seen)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(seen), set(seen))
";
        let seen = writer.python(script).unwrap().ok().unwrap();
        assert_eq!(seen, "168 {(True, False)}\n", "{mode}: {}", daemon.log());
        assert_eq!(bank.sql("SELECT count(*) FROM case_notes").unwrap().trim(), "160");
        let psql = Agent::new(&daemon, READER, bank::ROLE, pooler.port());
        assert_eq!(psql.psql("SELECT id FROM cards WHERE id = 9").unwrap().ok().unwrap(), "9\n");
        let evidence = Evidence::seal(&daemon).unwrap();
        let inserts = "SELECT count(*) FROM events WHERE verb = 'INSERT'";
        assert_eq!(evidence.count(inserts).unwrap(), 160);
    }
}
