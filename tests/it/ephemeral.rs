//! Roles that are made for one session: what they may, and that none is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use integration::process::{run, wait_until};
use integration::world::{READER, WRITER_POLICY};
use integration::{Agent, Daemon, Evidence, Output, Postgres, Supervisor, bank};

const SECRET: &str = "of the role that makes roles";

/// The account that makes roles, and what they may.
const MAKER: &str = "
    CREATE ROLE analyst_read NOLOGIN;
    GRANT SELECT ON customers TO analyst_read;
    CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'of the role that makes roles';";

/// Roles of the prefix that are at the server.
const COUNT: &str = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'vst\\_%'";

struct Made {
    daemon: Daemon,
    bank: Postgres,
    _secret: tempfile::NamedTempFile,
}

impl Made {
    fn start(supervisor: Supervisor) -> Self {
        Self::start_as("maker", supervisor)
    }

    fn start_as(account: &str, supervisor: Supervisor) -> Self {
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs::write(secret.path(), SECRET).unwrap();
        fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o600)).unwrap();
        let bank = Postgres::start().unwrap();
        bank.sql(MAKER).unwrap();
        let configuration = format!(
            "\n[[credential]]\ntarget = \"bank\"\nname = \"bank-guests\"\naccount = \"{account}\"\n\
             secret_file = \"{}\"\nephemeral = {{ grants = [\"analyst_read\"], valid_s = 600 }}\n",
            secret.path().display()
        );
        let policies = [WRITER_POLICY];
        let daemon = Daemon::start_with(supervisor, bank.port(), 2, &policies, &configuration);
        Self { daemon: daemon.unwrap(), bank, _secret: secret }
    }

    fn agent(&self) -> Agent<'_> {
        Agent::new(&self.daemon, READER, bank::ROLE, self.bank.port())
    }

    fn psql(&self, sql: &str) -> Output {
        let mut psql = self.agent().command("psql");
        run(psql.args(["-XAtw", "-c", sql]).env_remove("PGPASSWORD"), 60).unwrap()
    }

    fn roles(&self) -> u32 {
        self.bank.sql(COUNT).unwrap().trim().parse().unwrap()
    }

    fn wait_for_none(&self) {
        let none = wait_until("no role is left", 20, || Ok(self.roles() == 0));
        none.unwrap_or_else(|error| panic!("{error}\n{}", self.daemon.log()));
    }
}

#[test]
fn a_session_has_a_role_of_its_own_that_goes_with_it() {
    let world = Made::start(Supervisor::None);
    let script = "
import psycopg
def who(c): return c.execute('SELECT current_user, session_user FROM customers WHERE id = 1').fetchone()
with psycopg.connect(password='whatever') as a, psycopg.connect(password='whatever') as b:
    one, two = who(a), who(b)
    print(one[0] == one[1], two[0] == two[1], one[0] != two[0])
    print(one[0]); print(two[0])
    input()
";
    let mut agent = world.agent().start_python(script).unwrap();
    let stdin = agent.take_stdin().unwrap();
    let mut lines = {
        use std::io::BufRead;
        std::io::BufReader::new(agent.take_stdout().unwrap()).lines().map_while(Result::ok)
    };
    assert_eq!(lines.next().unwrap(), "True True True", "{}", world.daemon.log());
    let names: Vec<String> = lines.by_ref().take(2).collect();
    assert!(
        names.iter().all(|name| name.starts_with("vst_support_assistant_") && name.len() == 38)
    );
    // What it is at the server.
    let about = format!(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolinherit, rolconnlimit, \
         rolvaliduntil > now() + interval '500 s' AND rolvaliduntil < now() + interval '601 s', \
         (SELECT string_agg(g.rolname, ',') FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid \
          WHERE m.member = r.oid), left(rolpassword, 19), shobj_description(oid, 'pg_authid') \
         FROM pg_authid r WHERE rolname = '{}'",
        names[0]
    );
    let expected = format!(
        "t|f|f|f|t|1|t|analyst_read|SCRAM-SHA-256$4096:|vestibule of {}, for bank",
        world.daemon.slice()
    );
    assert_eq!(world.bank.sql(&about).unwrap().trim(), expected);
    drop(stdin);
    agent.wait(20).unwrap();
    world.wait_for_none();
    // Nothing but what was granted.
    let refused = world.psql("SELECT id FROM accounts LIMIT 1");
    assert!(refused.stderr.contains("permission denied"), "{refused:?}");
    world.wait_for_none();

    let evidence = Evidence::seal(&world.daemon).unwrap();
    for kind in ["role.create", "role.dropped"] {
        let rows = format!(
            "SELECT count(*) FROM control c JOIN sessions s \
             ON s.session_id::VARCHAR = json_extract_string(c.detail, '$.session_id') \
             WHERE c.kind = '{kind}' AND s.target_account = json_extract_string(c.detail, '$.role') \
             AND s.credential_ref = 'bank-guests' AND s.target_role = 'app' \
             AND json_extract_string(c.detail, '$.target') = 'bank'"
        );
        assert_eq!(evidence.count(&rows).unwrap(), 3, "{kind}");
    }
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
    // The password was in no statement.
    let log = world.bank.log().unwrap();
    assert!(log.contains("CREATE ROLE") && log.contains("SCRAM-SHA-256$4096:"), "{log}");
    // Once: the test's own statement.
    assert_eq!(log.matches(SECRET).count(), 1);
    assert!(!world.daemon.log().contains(SECRET));
}

#[test]
fn what_a_crash_left_is_dropped_and_others_roles_are_not() {
    let mut world = Made::start(Supervisor::None);
    let script = "
import psycopg
with psycopg.connect(password='whatever') as c:
    print(c.execute('SELECT current_user FROM customers WHERE id = 1').fetchone()[0], flush=True)
    input()
";
    let mut agent = world.agent().start_python(script).unwrap();
    let stdin = agent.take_stdin().unwrap();
    wait_until("a role", 20, || Ok(world.roles() == 1)).unwrap();
    // Of another node, and of nobody.
    world
        .bank
        .sql(
            "CREATE ROLE vst_other; COMMENT ON ROLE vst_other IS 'vestibule of another, for bank'; \
         CREATE ROLE vst_nobody",
        )
        .unwrap();
    world.daemon.kill();
    drop(stdin);
    agent.wait(20).unwrap();
    assert_eq!(world.roles(), 3);
    world.daemon.restart().unwrap();
    wait_until("its own role is dropped", 20, || Ok(world.roles() == 2)).unwrap();
    let left =
        world.bank.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'vst\\_%' ORDER BY 1");
    assert_eq!(left.unwrap().trim(), "vst_nobody\nvst_other");
    // A daemon that is told to stop takes its sessions' roles along.
    let mut agent = world.agent().start_python(script).unwrap();
    let stdin = agent.take_stdin().unwrap();
    wait_until("a role", 20, || Ok(world.roles() == 3)).unwrap();
    world.daemon.stop().unwrap();
    assert_eq!(world.roles(), 2, "{}", world.daemon.log());
    drop(stdin);
    agent.wait(20).unwrap();
}

#[test]
fn agents_that_leave_before_their_role_is_made_leave_none() {
    let world = Made::start(Supervisor::None);
    let script = "
import os, socket, struct, time
body = struct.pack('!i', 196608) + b'user\\0app\\0database\\0bank\\0\\0'
for wait in (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4):
    s = socket.create_connection((os.environ['PGHOST'], int(os.environ['PGPORT'])))
    s.sendall(struct.pack('!i', len(body) + 4) + body)
    time.sleep(wait)
    s.close()
";
    world.agent().python(script).unwrap().ok().unwrap();
    let open = || Ok(world.daemon.count("sessions_open")? == 0);
    wait_until("no session is open", 10, open).unwrap();
    // A role that the server made after it was asked to drop it goes with the next sweep, in a minute.
    let none = wait_until("no role is left", 90, || Ok(world.roles() == 0));
    none.unwrap_or_else(|error| panic!("{error}\n{}", world.daemon.log()));
    assert!(world.bank.log().unwrap().contains("CREATE ROLE"));
}

#[test]
fn what_a_role_owns_stays_and_who_may_make_none_lets_nobody_in() {
    let world = Made::start(Supervisor::None);
    world.bank.sql("GRANT CREATE ON SCHEMA public TO analyst_read").unwrap();
    let script = "
import psycopg
with psycopg.connect(password='whatever') as c:
    print(c.execute('SELECT current_user FROM customers WHERE id = 1').fetchone()[0], flush=True)
    input()
";
    let mut agent = world.agent().start_python(script).unwrap();
    let stdin = agent.take_stdin().unwrap();
    wait_until("a role", 20, || Ok(world.roles() == 1)).unwrap();
    let make = "SELECT format('SET ROLE %I', rolname) FROM pg_roles WHERE rolname LIKE 'vst\\_%'";
    let set = world.bank.sql(make).unwrap();
    world.bank.sql(&format!("{}; CREATE TABLE of_a_guest (a int)", set.trim())).unwrap();
    drop(stdin);
    agent.wait(20).unwrap();
    world.wait_for_none();
    let owner = world.bank.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'of_a_guest'");
    assert_eq!(owner.unwrap().trim(), "maker");

    // An account that may not make roles.
    world.bank.sql("ALTER ROLE maker NOCREATEROLE").unwrap();
    let refused = world.psql("SELECT 1");
    assert!(
        refused.stderr.contains("vestibule could not authenticate to the target"),
        "{refused:?}"
    );
    let evidence = Evidence::seal(&world.daemon).unwrap();
    let failed =
        "SELECT count(*) FROM control WHERE kind = 'role.failed' AND detail LIKE '%create%42501%'";
    assert_eq!(evidence.count(failed).unwrap(), 1, "{}", world.daemon.log());
    let why = "SELECT count(*) FROM control WHERE kind = 'protocol.violation' \
               AND detail LIKE '%no role could be made for the session%'";
    assert_eq!(evidence.count(why).unwrap(), 1);
    // Nothing went up with a role that is not there.
    assert!(!world.bank.log().unwrap().contains("does not exist"), "{}", world.bank.log().unwrap());
}
