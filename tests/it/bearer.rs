//! Tokens of persons in the place of a database password: whom the session acts for then, until when, and that the
//! token goes nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration::agent::with_bank;
use integration::idp::{self, ALICE, CARL, CLIENT, RESOURCES};
use integration::port::Port;
use integration::process::{Running, run, wait_until};
use integration::world::{READER, WRITER_POLICY};
use integration::{Agent, Daemon, Evidence, Output, Postgres, Supervisor, bank, paths};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::nowhere::memory;
use crate::oidc::{Place, client};
use crate::oidc_flows::logged_in;
use crate::standing::{ASKS, Asked};

/// The secret of the account that agents' sessions are logged in with.
const SECRET: &str = "the-secret-of-the-account-8c1f";

/// Who one is, in a statement that policy reads.
const WHO: &str = "SELECT current_user FROM customers WHERE id = 1";

/// Asks something endless, and cancels it: on a connection of its own that has nothing but a key.
const CANCELS: &str = "
import psycopg, threading
c = psycopg.connect(autocommit=True)
timer = threading.Timer(1.0, c.cancel)
timer.start()
try: c.execute('SELECT count(*) FROM customers a, customers b, customers c')
except psycopg.errors.QueryCanceled as e: print(e.sqlstate)
timer.join()
";

/// A provider, a server with an account whose password only the daemon has, and a daemon that believes the provider.
pub(crate) struct Bank {
    pub(crate) daemon: Daemon,
    pub(crate) place: Place,
    pub(crate) server: Postgres,
    _secret: TempDir,
    _logout: Port,
}

impl Bank {
    /// One where agents that ask for the role `app` are logged in with the account; `more` is said of that credential.
    pub(crate) fn start(more: &str) -> Self {
        Self::start_on(Postgres::start().unwrap(), more, "")
    }

    /// One before this server, with more said of the issuer: its client's secret is in SECRET_FILE.
    pub(crate) fn start_on(server: Postgres, more: &str, issuer: &str) -> Self {
        let role = format!(
            "SET log_statement = 'none'; CREATE ROLE injected LOGIN IN ROLE app PASSWORD '{SECRET}'"
        );
        server.sql(&role).unwrap();
        let (place, logout) = (Place::start(), Port::take().unwrap());
        let secret = tempfile::Builder::new().prefix("vestibule-secrets-").tempdir().unwrap();
        let private = |name: &str, text: &str| {
            let file = secret.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            file.display().to_string()
        };
        let issuer = issuer.replace("SECRET_FILE", &private("client", idp::SECRET));
        let configuration = format!(
            "[[credential]]\ntarget = 'bank'\naccount = 'injected'\nname = 'shared'\nuser = 'app'\n\
             secret_file = '{}'\n{more}\n\
             [[issuer]]\nurl = '{}'\naudiences = ['{}', '{CLIENT}']\n{issuer}\n\
             [logout]\nlisten = '127.0.0.1:{}'\n",
            private("account", SECRET),
            place.idp.issuer(),
            RESOURCES[0],
            logout.number()
        );
        let (none, rules) = (Supervisor::None, &[WRITER_POLICY]);
        let daemon = Daemon::start_with(none, server.port(), 2, rules, &configuration).unwrap();
        place.idp.set_backchannel(&format!("http://127.0.0.1:{}/", logout.number())).unwrap();
        Self { daemon, place, server, _secret: secret, _logout: logout }
    }

    /// The access token of a person who logged in.
    pub(crate) fn token(&self, user: &str) -> String {
        logged_in(&self.place, &client(), user).access.expose().clone()
    }

    /// What psql says as an agent with a password.
    pub(crate) fn psql(&self, user: &str, password: &str) -> Output {
        let agent = Agent::new(&self.daemon, READER, user, self.server.port());
        let mut psql = agent.command("psql");
        psql.args(["-XAtw", "-v", "VERBOSITY=verbose", "-c", WHO]).env("PGPASSWORD", password);
        run(&mut psql, 60).unwrap()
    }

    /// Starts Python as an agent with a password, its input and output piped; `run` is said to the launcher.
    pub(crate) fn python(
        &self,
        agent: &str,
        run: &[&str],
        password: &str,
        script: &str,
    ) -> Running {
        let mut command = self.daemon.cli();
        command.args(["run", "--agent", agent]).args(run).arg("--");
        command.arg(paths::python()).args(["-u", "-c", script]);
        with_bank(&mut command, bank::ROLE, self.server.port());
        command.env("PGPASSWORD", password).stdin(Stdio::piped()).stdout(Stdio::piped());
        Running::new(agent, &mut command).unwrap()
    }

    fn asked(&self, password: &str) -> Asked {
        Asked::of(self.python(READER, &[], password, ASKS))
    }

    pub(crate) fn told(&self, words: &[&str]) -> Value {
        let mut command = self.daemon.cli();
        let told = run(command.args(words).args(["--output", "json"]), 30).unwrap();
        serde_json::from_str(&told.ok().unwrap()).unwrap()
    }

    /// Asserts that of these tokens nothing is in what auditors, operators or the server see.
    #[track_caller]
    pub(crate) fn nowhere(&self, evidence: &Evidence<'_>, tokens: &[&str]) {
        let texts = vec![self.server.log().unwrap()];
        nowhere(&self.daemon, evidence, texts, "injected", tokens);
    }
}

/// Asserts that of these tokens nothing is in what auditors or operators see, nor in these texts; `known` is.
#[track_caller]
pub(crate) fn nowhere(
    daemon: &Daemon,
    evidence: &Evidence<'_>,
    mut texts: Vec<String>,
    known: &str,
    tokens: &[&str],
) {
    let rows = |table: &str| evidence.duckdb(&format!("FROM {table}")).unwrap_or_default();
    let tables = ["events", "sessions", "control", "recordings"].iter();
    texts.extend(tables.flat_map(|table| rows(table)).map(|row| row.to_string()));
    texts.push(daemon.status().unwrap().to_string());
    // Journal, archive and the daemon's log.
    files_below(daemon.directory(), &mut texts);
    let found = |needle: &str| texts.iter().filter(|text| text.contains(needle)).count();
    assert!(found(known) > 2, "the search finds what is there");
    for needle in tokens.iter().flat_map(|token| needles(token)) {
        assert_eq!(found(needle), 0, "{needle}");
    }
}

/// Parts of a token that nothing else has.
fn needles(token: &str) -> Vec<&str> {
    let parts: Vec<&str> = token.split('.').skip(1).collect();
    let ends = parts.iter().flat_map(|part| {
        let most = part.len().min(64);
        [&part[..most], &part[part.len() - most..]]
    });
    ends.filter(|part| part.len() > 20).collect()
}

/// What is in the files below a folder, as far as it is text.
fn files_below(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), texts),
            Ok(kind) if kind.is_file() => {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                texts.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            _ => {}
        }
    }
}

#[test]
fn a_token_for_a_password_is_whom_the_session_acts_for() {
    let bank = Bank::start("token_password = 'required'");
    let (carl, alice) = (bank.token(CARL), bank.token(ALICE));
    let id = bank.place.idp.login(ALICE).unwrap().id;
    assert_eq!(bank.psql(bank::ROLE, &carl).ok().unwrap(), "injected\n");
    assert_eq!(bank.psql(bank::ROLE, &id).ok().unwrap(), "injected\n", "an ID token as well");
    let agent = Agent::new(&bank.daemon, READER, bank::ROLE, bank.server.port());
    let script = format!(
        "const {{ Client }} = require('pg');
         (async () => {{ const c = new Client(); await c.connect();
         console.log((await c.query('{WHO}')).rows[0].current_user); await c.end(); }})()
         .catch(e => {{ console.error(e); process.exit(1); }});"
    );
    let mut node = agent.command("node");
    node.args(["-e", &script]).env("NODE_PATH", paths::node_modules()).env("PGPASSWORD", &alice);
    assert_eq!(run(&mut node, 60).unwrap().ok().unwrap(), "injected\n");

    let (mut of_carl, mut of_alice) = (bank.asked(&carl), bank.asked(&alice));
    for asked in [&mut of_carl, &mut of_alice] {
        assert_eq!(asked.ask(WHO), "injected");
    }
    let open = bank.told(&["sessions", "--subject", "Carl"]);
    assert_eq!((&open["total"], &open["sessions"][0]["sub"]), (&json!(1), &json!(CARL)), "{open}");
    let mut cancels = Asked::of(bank.python(READER, &[], &alice, CANCELS));
    assert_eq!(cancels.line(), "57014");
    drop(cancels);
    assert_eq!(bank.place.idp.logout(CARL).unwrap(), 1);
    let told = of_carl.ask("SELECT 1");
    assert!(told.starts_with("error 57P01") && told.contains("logged_out"), "{told}");
    assert_eq!(of_alice.ask(WHO), "injected", "hers goes on");
    let told = bank.psql(bank::ROLE, &carl).stderr;
    assert!(
        told.contains("FATAL:  the token given for a password does not count: logged_out"),
        "{told}"
    );
    let mut revoke = bank.daemon.cli();
    revoke.args(["revoke", "--subject", "Alice", "--reason", "let go"]);
    assert!(run(&mut revoke, 30).unwrap().ok().unwrap().contains(READER));
    let told = of_alice.ask("SELECT 1");
    assert!(told.starts_with("error 57P01") && told.contains("revoked"), "{told}");
    drop((of_carl, of_alice));

    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let whose = "SELECT s.actor_sub, count(*) AS sessions FROM sessions s WHERE authn_method = 'password' \
                 AND credential_ref = 'shared' GROUP BY ALL ORDER BY ALL";
    let rows = evidence.duckdb(whose).unwrap();
    assert_eq!(
        rows,
        [json!({"actor_sub": ALICE, "sessions": 4}), json!({"actor_sub": CARL, "sessions": 2})]
    );
    let commands = "SELECT count(*) FROM events WHERE actor_sub IS NULL AND kind LIKE 'db.%' AND status <> 'denied'";
    assert_eq!(evidence.count(commands).unwrap(), 0);
    let cancelled = "SELECT count(*) FROM events WHERE kind = 'db.cancel' AND status = 'ok' AND actor_sub = 'alice'";
    assert_eq!(evidence.count(cancelled).unwrap(), 1);
    let cut = "SELECT count(*) FROM control WHERE kind = 'session.dismissed' AND detail LIKE '%logged_out%carl%'";
    assert_eq!(evidence.count(cut).unwrap(), 1);
    bank.nowhere(&evidence, &[&carl, &alice, &id]);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn a_session_by_a_token_ends_with_it_or_with_its_agent() {
    let bank = Bank::start("token_password = 'required'");
    bank.place.idp.set_seconds(4).unwrap();
    let mut short = bank.asked(&bank.token(ALICE));
    assert_eq!(short.ask(WHO), "injected");
    // It is told without having asked.
    let none = || Ok(bank.told(&["sessions"])["total"] == 0);
    wait_until("the token has expired", 30, none).unwrap();
    let told = short.ask("SELECT 1");
    assert!(told.starts_with("error 57P01") && told.contains("expired"), "{told}");

    bank.place.idp.set_seconds(600).unwrap();
    let file = bank.daemon.directory().join("carl.jwt");
    fs::write(&file, bank.token(CARL)).unwrap();
    let start = ["--owner", "ops", "--token-file", file.to_str().unwrap()];
    let alice = bank.token(ALICE);
    let mut asked = Asked::of(bank.python(READER, &start, &alice, ASKS));
    assert_eq!(asked.ask(WHO), "injected");
    assert_eq!(bank.told(&["sessions"])["sessions"][0]["sub"], ALICE);
    fs::write(&file, "no token").unwrap();
    wait_until("its agent acts for nobody", 30, none).unwrap();
    let told = asked.ask("SELECT 1");
    assert!(told.starts_with("error 57P01") && told.contains("malformed"), "{told}");
    drop((short, asked));
    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let owned = "SELECT count(*) FROM events WHERE actor_sub = 'alice' AND agent_owner = 'ops' AND verb = 'SELECT'";
    assert_eq!(evidence.count(owned).unwrap(), 1);
    bank.nowhere(&evidence, &[&alice]);
}

#[test]
fn a_session_by_a_token_is_evaluated_by_its_issuers_word() {
    let issuer = format!(
        "client = {{ id = '{CLIENT}', secret_file = 'SECRET_FILE' }}\nintrospect_interval_s = 1"
    );
    let server = Postgres::start().unwrap();
    let bank = Bank::start_on(server, "token_password = 'required'", &issuer);
    bank.place.idp.keep_account().unwrap();
    let (carl, alice) = (bank.token(CARL), bank.token(ALICE));
    let (mut of_carl, mut of_alice) = (bank.asked(&carl), bank.asked(&alice));
    for asked in [&mut of_carl, &mut of_alice] {
        assert_eq!(asked.ask(WHO), "injected");
    }
    bank.place.idp.set_groups(ALICE, &["auditors"]).unwrap();
    bank.place.idp.revoke(CARL).unwrap();
    let one = || Ok(bank.told(&["sessions"])["total"] == 1);
    wait_until("his is over", 20, one).unwrap();
    let told = of_carl.ask("SELECT 1");
    assert!(told.starts_with("error 57P01") && told.contains("token_revoked"), "{told}");
    let told = bank.psql(bank::ROLE, &carl).stderr;
    assert!(told.contains("does not count: token_revoked"), "{told}");
    let mut tries = 0;
    let evidence = loop {
        assert_eq!(of_alice.ask(WHO), "injected");
        let evidence = Evidence::seal(&bank.daemon).unwrap();
        let groups =
            "SELECT count(*) FROM events WHERE actor_sub = 'alice' AND actor_groups = ['auditors']";
        if evidence.count(groups).unwrap() > 0 {
            break evidence;
        }
        tries += 1;
        assert!(tries < 20, "her groups are others");
    };
    let sessions = "SELECT count(*) FROM sessions WHERE actor_sub = 'carl' AND close_reason = 'identity_ended'";
    assert_eq!(evidence.count(sessions).unwrap(), 1);
    bank.nowhere(&evidence, &[&carl, &alice]);
}

#[test]
fn a_password_that_is_no_token_is_nobodys_or_refused() {
    for (token_password, own) in [("optional", true), ("required", false)] {
        let bank = Bank::start(&format!("token_password = '{token_password}'"));
        let token = bank.token(ALICE);
        assert_eq!(bank.psql(bank::ROLE, &token).ok().unwrap(), "injected\n");
        for password in ["whatever", "a.b.c", &"x".repeat(20_000)] {
            let seen = bank.psql(bank::ROLE, password);
            if own {
                assert_eq!(seen.ok().unwrap(), "injected\n");
            } else {
                assert!(
                    seen.stderr.contains("must be given for a password here: no_token"),
                    "{seen:?}"
                );
            }
        }
        // What is meant for a token counts as one or not at all.
        let (message, _) = token.rsplit_once('.').unwrap();
        let seen = bank.psql(bank::ROLE, &format!("{message}.AAAA"));
        assert!(seen.stderr.contains("does not count: bad_signature"), "{seen:?}");
        let evidence = Evidence::seal(&bank.daemon).unwrap();
        let sessions =
            "SELECT count(*) FROM sessions WHERE actor_sub IS NULL AND authn_method IS NULL";
        assert_eq!(evidence.count(sessions).unwrap(), 4);
        let denied = "SELECT count(*) FROM events WHERE kind = 'db.connect' AND status = 'denied' \
                      AND rule_id = 'password-token' AND error_code = '28P01'";
        assert_eq!(evidence.count(denied).unwrap(), if own { 1 } else { 4 });
        let refused = "SELECT count(*) FROM control WHERE kind = 'identity.refused' AND detail LIKE '%\"way\":\"password\"%'";
        assert_eq!(evidence.count(refused).unwrap(), if own { 1 } else { 4 });
        bank.nowhere(&evidence, &[&token]);
    }
}

#[test]
fn a_role_is_made_for_a_session_once_its_token_counts() {
    let more = "token_password = 'required'\nephemeral = { grants = ['app'] }";
    let bank = Bank::start(more);
    bank.server.sql("ALTER ROLE injected CREATEROLE").unwrap();
    let token = bank.token(CARL);
    let seen = bank.psql(bank::ROLE, &format!("{token}x"));
    assert!(seen.stderr.contains("does not count"), "{seen:?}");
    let seen = bank.psql(bank::ROLE, &token).ok().unwrap();
    assert!(seen.starts_with("vst_support_assistant_"), "{seen}");
    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let made = "SELECT count(*) FROM control WHERE kind = 'role.create'";
    assert_eq!(evidence.count(made).unwrap(), 1, "none for the forged one");
    bank.nowhere(&evidence, &[&token]);
}

#[test]
fn a_token_is_in_memory_once_and_no_longer_than_its_session() {
    let bank = Bank::start("token_password = 'required'");
    let token = bank.token(ALICE);
    let signature = token.rsplit('.').next().unwrap();
    let daemon = PathBuf::from(format!("/proc/{}", bank.daemon.pid().unwrap()));
    let copies = || -> usize {
        let held = memory(&daemon);
        held.iter().map(|bytes| String::from_utf8_lossy(bytes).matches(signature).count()).sum()
    };
    let mut asked = bank.asked(&token);
    assert_eq!(asked.ask(WHO), "injected");
    assert_eq!(copies(), 1, "to ask its issuer about it");
    drop(asked);
    wait_until("it is wiped", 20, || Ok(copies() == 0)).unwrap();
}

#[test]
fn a_token_is_not_sent_to_a_server_that_asks_for_a_password() {
    let hba = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(hba.path(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(hba.path(), "host all clear all password\nhost all all all scram-sha-256\n").unwrap();
    let hba_file = format!("hba_file={}", hba.path().display());
    let server = Postgres::with_settings(&["log_statement=all", &hba_file]).unwrap();
    server.sql("CREATE ROLE clear LOGIN IN ROLE app PASSWORD 'its-own'").unwrap();
    let bank = Bank::start_on(server, "token_password = 'required'", "");
    assert_eq!(bank.psql("clear", "its-own").ok().unwrap(), "clear\n");
    let (token, stranger) = (bank.token(ALICE), Place::start());
    let seen = bank.psql("clear", &token);
    assert!(seen.stderr.contains("FATAL:  vestibule: this is a token"), "{seen:?}");
    let failed = || bank.server.log().unwrap().matches("password authentication failed").count();
    assert_eq!(failed(), 0, "it was not even tried");
    // A token of somebody else's is a password as any other: the server may know what it is.
    let other = logged_in(&stranger, &client(), ALICE).access.expose().clone();
    let seen = bank.psql("clear", &other);
    assert!(seen.stderr.contains("password authentication failed"), "{seen:?}");
    assert_eq!(failed(), 1);
    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'identity.refused' AND detail LIKE '%not_taken_here%'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
    let failed = "SELECT count(*) FROM events WHERE kind = 'db.connect' AND status = 'error' AND error_code = '28P01'";
    assert_eq!(evidence.count(failed).unwrap(), 2);
    bank.nowhere(&evidence, &[&token, &other]);
}

#[test]
fn what_can_not_be_is_not_configured() {
    let check = |more: &str, told: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\n\
             [[credential]]\ntarget='a'\naccount='x'\nsecret_env='X'\n{more}"
        );
        fs::write(file.path(), text).unwrap();
        let mut daemon = Command::new(paths::programs().unwrap().join("vestibuled"));
        let seen = run(daemon.arg("--check").arg("--config").arg(file.path()), 30).unwrap();
        assert!(seen.code != Some(0) && seen.stderr.contains(told), "{seen:?}");
    };
    check("token_password = 'required'", "token_password: there is no [[issuer]]");
    check("token_password = 'always'", "unknown variant `always`");
    let issuer = "[[issuer]]\nurl='http://127.0.0.1:1'\naudiences=['x']";
    let both = "token_password = 'optional'\nplaceholder_file = '/x'\n";
    check(&format!("{both}{issuer}"), "one of placeholder_file and token_password");
}
