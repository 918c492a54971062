//! Whom agents act for: by a token of a real provider, until it ends, is another, or its person is cut off.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use integration::agent::with_bank;
use integration::daemon::{ExtraPolicy, Supervisor};
use integration::idp::{ALICE, CARL, CLIENT, RESOURCES};
use integration::port::Port;
use integration::process::{Running, run, wait_until};
use integration::world::WRITER_POLICY;
use integration::{Daemon, Postgres, World, bank, paths};
use serde_json::{Value, json};

use crate::oidc::{Place, client};
use crate::oidc_flows::logged_in;

/// A provider, and a daemon that believes it.
pub(crate) struct Story {
    pub(crate) place: Place,
    pub(crate) world: World,
    _logout: Port,
}

impl Story {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts both, with more in the configuration: the provider is the ISSUER.
    pub(crate) fn start_with(more: &str) -> Self {
        Self::ruled("", &[], more)
    }

    /// The same, with more in the issuer's own table, and policies.
    pub(crate) fn ruled(issuer: &str, policies: &[ExtraPolicy<'_>], more: &str) -> Self {
        Self::before(Postgres::start().unwrap(), issuer, policies, more)
    }

    /// The same, with the daemon before this server.
    pub(crate) fn before(
        bank: Postgres,
        issuer: &str,
        policies: &[ExtraPolicy<'_>],
        more: &str,
    ) -> Self {
        let start = |policies: &[ExtraPolicy<'_>], configuration: &str, port: u16| {
            Daemon::start_with(Supervisor::None, port, 2, policies, configuration).unwrap()
        };
        Self::by(bank, (issuer, more), policies, start)
    }

    /// The same as [`Self::start_with`], with a daemon to which it is some days ago.
    pub(crate) fn days_ago(days: u32, more: &str) -> Self {
        let start = |policies: &[ExtraPolicy<'_>], configuration: &str, port: u16| {
            Daemon::start_days_ago(days, port, 2, policies, configuration).unwrap()
        };
        Self::by(Postgres::start().unwrap(), ("", more), &[], start)
    }

    fn by(
        bank: Postgres,
        (issuer, more): (&str, &str),
        policies: &[ExtraPolicy<'_>],
        start: impl Fn(&[ExtraPolicy<'_>], &str, u16) -> Daemon,
    ) -> Self {
        let place = Place::start();
        let logout = Port::take().unwrap();
        let configuration = format!(
            "[[issuer]]\nurl = '{}'\naudiences = ['{}', '{CLIENT}']\n{issuer}\n[logout]\nlisten = '127.0.0.1:{}'\n{more}",
            place.idp.issuer(),
            RESOURCES[0],
            logout.number()
        );
        let configuration = configuration.replace("ISSUER", &place.idp.issuer());
        let policies: Vec<_> = [WRITER_POLICY].iter().chain(policies).copied().collect();
        let daemon = start(&policies, &configuration, bank.port());
        let world = World { daemon, bank };
        let uri = format!("http://127.0.0.1:{}/", logout.number());
        place.idp.set_backchannel(&uri).unwrap();
        Self { place, world, _logout: logout }
    }

    /// A file with the token of a person who logged in.
    pub(crate) fn token(&self, user: &str) -> PathBuf {
        let file = self.world.daemon.directory().join(format!("{user}.jwt"));
        self.put_token(&file, user);
        file
    }

    pub(crate) fn put_token(&self, file: &Path, user: &str) {
        let access = logged_in(&self.place, &client(), user).access;
        let beside = file.with_extension("new");
        fs::write(&beside, format!("{}\n", access.expose())).unwrap();
        fs::rename(beside, file).unwrap();
    }

    /// Starts Python as an agent that acts for the person of a token.
    pub(crate) fn agent(&self, name: &str, file: &Path, script: &str) -> Running {
        let mut command = self.world.daemon.cli();
        command.args(["run", "--agent", name, "--owner", "ops", "--token-file"]).arg(file);
        self.started(name, command, script)
    }

    /// Starts what a `vestibule run` without its command says, with Python for its command.
    pub(crate) fn started(&self, name: &str, mut command: Command, script: &str) -> Running {
        command.arg("--").arg(paths::python()).args(["-u", "-c", script]);
        with_bank(&mut command, bank::ROLE, self.world.bank.port());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Running::new(name, &mut command).unwrap()
    }

    pub(crate) fn told(&self, words: &[&str]) -> Value {
        let mut command = self.world.daemon.cli();
        let told = run(command.args(words).args(["--output", "json"]), 30).unwrap();
        serde_json::from_str(&told.ok().unwrap()).unwrap()
    }

    pub(crate) fn who(&self, agent: &str) -> Value {
        let told = self.told(&["who"]);
        let mut agents = told["agents"].as_array().unwrap().iter();
        agents.rfind(|one| one["agent"] == agent).cloned().unwrap_or_default()
    }
}

/// Answers each line with what the server says to it, or the SQLSTATE; a new connection where one is gone.
pub(crate) const ASKS: &str = "
import psycopg, sys
c = None
for line in sys.stdin:
    try:
        if c is None: c = psycopg.connect(autocommit=True)
        print(c.execute(line).fetchone()[0])
    except psycopg.Error as e:
        c = None
        print('error', e.sqlstate, ' '.join(str(e).split()))
";

/// Waits for one statement, and says how it ended.
pub(crate) const WAITS: &str = "
import psycopg
c = psycopg.connect(autocommit=True)
print('begins')
try: c.execute('SELECT count(*) FROM customers a, customers b, customers c, customers d')
except psycopg.Error as e: print('error', e.sqlstate, ' '.join(str(e).split()))
";

/// An agent that is asked line by line.
pub(crate) struct Asked {
    pub(crate) process: Running,
    said: BufReader<std::process::ChildStdout>,
    stdin: std::process::ChildStdin,
}

impl Asked {
    pub(crate) fn of(mut process: Running) -> Self {
        let said = BufReader::new(process.take_stdout().unwrap());
        let stdin = process.take_stdin().unwrap();
        Self { process, said, stdin }
    }

    pub(crate) fn ask(&mut self, sql: &str) -> String {
        self.write(sql);
        self.line()
    }

    pub(crate) fn write(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the cut takes")]
fn a_contractor_who_is_let_go_stops_the_agents() {
    let story = Story::start();
    let file = story.token(CARL);
    let mut asked = Asked::of(story.agent("support-assistant", &file, ASKS));
    assert_eq!(asked.ask("SELECT count(*) > 0 FROM accounts"), "True");
    let mut waits = Asked::of(story.agent("support-assistant", &file, WAITS));
    assert_eq!(waits.line(), "begins");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                   AND backend_type = 'client backend' AND query LIKE 'SELECT count(*) FROM customers a%'";
    let count = || Ok(story.world.bank.sql(running)?.trim() == "1");
    wait_until("the server works at it", 20, count).unwrap();
    let who = story.who("support-assistant");
    assert_eq!((&who["user"], &who["sub"]), (&json!("Carl"), &json!(CARL)), "{who}");
    assert_eq!(who["groups"], json!(["contractors"]));
    assert_eq!((&who["owner"], &who["sessions"]), (&json!("ops"), &json!(1)));

    let open = story.told(&["sessions", "--subject", "Carl"]);
    assert_eq!(
        (&open["total"], open["sessions"].as_array().unwrap().len()),
        (&json!(2), 2),
        "{open}"
    );
    let first = &open["sessions"][0];
    assert_eq!((&first["sub"], &first["account"]), (&json!(CARL), &json!(bank::ROLE)), "{open}");
    assert!(first["commands"].as_u64().unwrap() >= 2, "its connect and a query: {open}");
    assert_eq!(story.told(&["sessions", "--subject", "Alice"])["total"], 0);
    assert_eq!(story.told(&["sessions", "--most", "1"])["sessions"].as_array().unwrap().len(), 1);

    let before = Instant::now();
    assert_eq!(story.place.idp.logout(CARL).unwrap(), 1);
    let end = waits.line();
    let took = before.elapsed();
    assert!(end.starts_with("error 57P01") && end.contains("logged_out"), "{end}");
    println!("from the call to log out to the last byte: {took:?}");
    // The provider's own time to say so is in it.
    assert!(took < Duration::from_secs(2), "{took:?}");
    let end = asked.ask("SELECT 1");
    assert!(end.starts_with("error 57P01"), "{end}");
    let again = asked.ask("SELECT 1");
    assert!(again.starts_with("error None"), "no session any more: {again}");
    let gone = || Ok(story.world.bank.sql(running)?.trim() == "0");
    wait_until("the server gave it up", 20, gone).unwrap();
    let who = story.who("support-assistant");
    assert_eq!(who["ended"], "logged_out", "{who}");
    assert_eq!(story.told(&["sessions"])["total"], 0);
    // Nor may another be started by that token.
    let mut command = story.world.daemon.cli();
    command.args(["run", "--agent", "support-assistant", "--token-file"]).arg(&file);
    let refused = run(command.args(["--", "true"]), 30).unwrap();
    assert!(refused.stderr.contains("logged_out"), "{refused:?}");
    drop((asked, waits));

    let evidence = story.world.evidence().unwrap();
    let last = "SELECT actor_user, actor_sub, actor_idp, actor_client, actor_groups, agent_owner, agent_chain, \
                statement_norm, status FROM events WHERE actor_sub = 'carl' AND kind = 'db.query' \
                ORDER BY ts DESC LIMIT 1";
    let rows = evidence.duckdb(last).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(
        (&row["actor_user"], &row["status"]),
        (&json!("Carl"), &json!("interrupted")),
        "{row}"
    );
    assert_eq!(row["agent_owner"], "ops");
    let cut = "SELECT count(*) FROM control WHERE kind = 'session.dismissed' AND detail LIKE '%logged_out%carl%'";
    assert_eq!(evidence.count(cut).unwrap(), 2);
    let refused = "SELECT count(*) FROM control WHERE kind = 'connection.refused' AND detail LIKE '%identity_ended%'";
    assert!(evidence.count(refused).unwrap() >= 1);
    let sessions = "SELECT count(*) FROM sessions WHERE actor_sub = 'carl' AND close_reason = 'identity_ended' \
                    AND authn_method = 'token_file'";
    assert_eq!(evidence.count(sessions).unwrap(), 2);
    let token = fs::read_to_string(&file).unwrap();
    let signature = token.trim().rsplit('.').next().unwrap().to_owned();
    assert!(!story.world.daemon.log().contains(&signature));
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn one_agents_commands_are_of_whom_its_token_names_at_the_time() {
    let story = Story::start();
    let file = story.token(ALICE);
    let mut asked = Asked::of(story.agent("support-assistant", &file, ASKS));
    assert_eq!(asked.ask("SELECT 'first'"), "first");
    story.put_token(&file, CARL);
    let is_carl = || Ok(story.who("support-assistant")["sub"] == CARL);
    wait_until("the file is read again", 20, is_carl).unwrap();
    assert_eq!(asked.ask("SELECT 'second'"), "second");
    fs::write(&file, "no token").unwrap();
    let end = || Ok(story.who("support-assistant")["ended"].is_string());
    wait_until("what is there is no token", 20, end).unwrap();
    let told = asked.ask("SELECT 'third'");
    assert!(told.starts_with("error 57P01"), "{told}");
    drop(asked);
    let evidence = story.world.evidence().unwrap();
    let whose = "SELECT actor_sub, count(DISTINCT session_id) AS sessions FROM events WHERE verb = 'SELECT' \
                 AND statement_norm = 'SELECT $1' GROUP BY actor_sub ORDER BY actor_sub";
    let rows = evidence.duckdb(whose).unwrap();
    let found: Vec<&str> = rows.iter().map(|row| row["actor_sub"].as_str().unwrap()).collect();
    assert_eq!(found, [ALICE, CARL]);
    let all = "SELECT count(DISTINCT session_id) FROM events WHERE statement_norm = 'SELECT $1'";
    assert_eq!(evidence.count(all).unwrap(), 1);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn a_token_that_ends_ends_the_session_and_an_operator_can_end_a_person() {
    let mut story = Story::start();
    story.place.idp.set_seconds(4).unwrap();
    let short = story.token(ALICE);
    let mut asked = Asked::of(story.agent("support-assistant", &short, ASKS));
    assert_eq!(asked.ask("SELECT 'now'"), "now");
    let ended = || Ok(story.who("support-assistant")["ended"] == "expired");
    wait_until("the token has expired", 30, ended).unwrap();
    let told = asked.ask("SELECT 'later'");
    assert!(told.starts_with("error 57P01") && told.contains("expired"), "{told}");
    drop(asked);

    story.place.idp.set_seconds(600).unwrap();
    let file = story.token(CARL);
    let mut asked = Asked::of(story.agent("support-assistant", &file, ASKS));
    assert_eq!(asked.ask("SELECT 'now'"), "now");
    let revoke = |more: &[&str]| {
        let mut command = story.world.daemon.cli();
        run(command.args(["revoke", "--subject", "Carl"]).args(more), 30).unwrap()
    };
    // It counts at once even where it can't be kept, and that is said.
    let beside = story.world.daemon.journal().parent().unwrap().join("identities.new");
    fs::create_dir(&beside).unwrap();
    let told = revoke(&["--reason", "let go"]).stderr;
    assert!(told.contains("cut off now: support-assistant."), "{told}");
    let told = asked.ask("SELECT 'later'");
    assert!(told.starts_with("error 57P01") && told.contains("revoked"), "{told}");
    fs::remove_dir(&beside).unwrap();
    // It is kept as soon as it can be.
    let kept = beside.with_extension("json");
    let is_kept = || Ok(fs::read_to_string(&kept)?.contains("\"revoked\""));
    wait_until("what was cut off is kept", 20, is_kept).unwrap();
    // Over a restart, and with a token from after it.
    story.put_token(&file, CARL);
    story.world.daemon.restart().unwrap();
    let told = asked.ask("SELECT 'later'");
    assert!(told.starts_with("error None"), "{told}");
    let revoke = |more: &[&str]| {
        let mut command = story.world.daemon.cli();
        run(command.args(["revoke", "--subject", "Carl"]).args(more), 30).unwrap()
    };
    assert_eq!(revoke(&["--lift"]).ok().unwrap(), "restored\n");
    let back = || Ok(story.who("support-assistant")["sub"] == CARL);
    wait_until("the token counts again", 30, back).unwrap();
    assert_eq!(asked.ask("SELECT 'again'"), "again");
    assert!(asked.process.is_running().unwrap());
}
