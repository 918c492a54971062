//! Issuers are asked, again and again, whether the tokens still stand that agents act by: a real provider, its word,
//! and its silence.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::idp::{ALICE, CARL, CLIENT, SECRET};
use integration::names::NameServer;
use integration::process::{run, wait_until};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::standing::{ASKS, Asked, Story, WAITS};

const AGENT: &str = "support-assistant";

/// As the other one, but a refusal is no end of the connection.
const ASKS_ON: &str = "
import psycopg, sys
c = psycopg.connect(autocommit=True)
for line in sys.stdin:
    try: print(c.execute(line).fetchone()[0])
    except psycopg.Error as e: print('error', e.sqlstate, ' '.join(str(e).split()))
";

/// What `accounts` has, contractors read.
const POLICY: &str = r#"
@id("accounts-are-the-contractors")
forbid (principal == Agent::"support-assistant", action in Action::"read", resource)
when { resource is Table && resource.name == "accounts" }
unless { principal in Group::"contractors" };
"#;

/// One process, one session at the forwarder: says how each look-up went (RFC 1035 §4.1.1, RCODE).
const LOOKS_UP: &str = r"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
question = b'\x12\x34\x01\0\0\1\0\0\0\0\0\0\x02db\x04bank\x07example\0\0\1\0\1'
for line in sys.stdin:
    s.sendto(question, ('192.0.2.53', 53))
    print(s.recv(4096)[3] & 15)
";

/// Contractors look up the bank's names.
const NAMES: &str = r#"
@id("contractors-resolve")
permit (principal in Group::"contractors", action == Action::"resolve", resource in Name::"bank.example");
"#;

/// A daemon that asks its issuer.
struct Watched {
    story: Story,
    _secret: NamedTempFile,
}

impl Watched {
    fn start(interval_s: u64, grace_s: u64) -> Self {
        let own = Self::start_without_account(interval_s, grace_s);
        own.story.place.idp.keep_account().unwrap();
        own
    }

    fn start_without_account(interval_s: u64, grace_s: u64) -> Self {
        Self::start_with((interval_s, grace_s), "")
    }

    fn start_with((interval_s, grace_s): (u64, u64), more: &str) -> Self {
        // Made with mode 0600.
        let mut secret = NamedTempFile::new().unwrap();
        secret.write_all(SECRET.as_bytes()).unwrap();
        let issuer = format!(
            "client = {{ id = '{CLIENT}', secret_file = '{}' }}\n\
             introspect_interval_s = {interval_s}\nintrospect_grace_s = {grace_s}",
            secret.path().display()
        );
        let policies = [("groups.cedar", POLICY), ("contractors.cedar", NAMES)];
        let story = Story::ruled(&issuer, &policies, more);
        Self { story, _secret: secret }
    }

    fn ended(&self, agent: &str) -> Value {
        self.story.who(agent)["ended"].clone()
    }

    fn doctor(&self, name: &str) -> Value {
        let mut command = self.story.world.daemon.cli();
        // It fails where a check does.
        let told = run(command.args(["doctor", "--output", "json"]), 30).unwrap();
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let checks = told.as_array().unwrap().clone();
        let is_it = |check: &Value| check["name"].as_str().unwrap().starts_with(name);
        checks.into_iter().find(is_it).unwrap_or_default()
    }

    fn refused(&self, file: &Path) -> String {
        let mut command = self.story.world.daemon.cli();
        command.args(["run", "--agent", AGENT, "--token-file"]).arg(file);
        run(command.args(["--", "true"]), 30).unwrap().stderr
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the cut takes")]
fn a_token_that_its_issuer_takes_back_ends_live_sessions() {
    let mut watched = Watched::start(2, 20);
    let file = watched.story.token(CARL);
    let mut asked = Asked::of(watched.story.agent(AGENT, &file, ASKS));
    assert_eq!(asked.ask("SELECT 'now'"), "now");
    let mut waits = Asked::of(watched.story.agent(AGENT, &file, WAITS));
    assert_eq!(waits.line(), "begins");
    let other = watched.story.token(ALICE);
    let mut others = Asked::of(watched.story.agent("back-office", &other, ASKS));
    assert_eq!(others.ask("SELECT 'now'"), "now");

    // Three agents by two tokens: each is asked about once in each interval. A round that comes late
    // is followed by one in time, but no token is asked about again within half an interval.
    let introspections = || watched.story.place.idp.asked().unwrap().introspections;
    let (before, since) = (introspections(), Instant::now());
    wait_until("two rounds", 20, || Ok(introspections() >= before + 4)).unwrap();
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(watched.doctor("introspection")["verdict"], "ok");

    let before = Instant::now();
    watched.story.place.idp.revoke(CARL).unwrap();
    let end = waits.line();
    let took = before.elapsed();
    assert!(end.starts_with("error 57P01") && end.contains("token_revoked"), "{end}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    let end = asked.ask("SELECT 1");
    assert!(end.starts_with("error 57P01") && end.contains("token_revoked"), "{end}");
    let again = asked.ask("SELECT 1");
    assert!(again.starts_with("error None"), "no session any more: {again}");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%customers d'";
    let gone = || Ok(watched.story.world.bank.sql(running)?.trim() == "0");
    wait_until("the server gave it up", 20, gone).unwrap();
    assert_eq!(others.ask("SELECT 'still'"), "still");

    // The token's signature is as good as before, but it is asked about before it counts.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text).unwrap();
    assert!(watched.refused(&file).contains("token_revoked"));
    watched.story.world.daemon.restart().unwrap();
    let is_over = || Ok(watched.ended(AGENT) == "token_revoked");
    wait_until("asked about again", 20, is_over).unwrap();
    let is_back = || Ok(watched.story.who("back-office")["sub"] == ALICE);
    wait_until("asked about again", 20, is_back).unwrap();
    drop((asked, waits, others));

    let signature = text.trim().rsplit('.').next().unwrap().to_owned();
    let evidence = watched.story.world.evidence().unwrap();
    let cut = "SELECT count(*) FROM control WHERE kind = 'session.dismissed' AND detail LIKE '%token_revoked%carl%'";
    assert_eq!(evidence.count(cut).unwrap(), 2);
    let held = format!("SELECT count(*) FROM control WHERE detail LIKE '%{signature}%'");
    assert_eq!(evidence.count(&held).unwrap(), 0);
    fs::remove_file(&file).unwrap();
    assert!(!watched.story.world.daemon.log().contains(&signature));
    let directory = watched.story.world.daemon.directory();
    let mut search = std::process::Command::new("grep");
    let found = run(search.args(["-rlaF", &signature]).arg(directory), 30).unwrap();
    assert_eq!((found.code, found.stdout.as_str()), (Some(1), ""), "{found:?}");
}

#[test]
fn who_leaves_a_group_is_decided_without_it_from_the_next_command() {
    let watched = Watched::start(1, 20);
    let (story, idp) = (&watched.story, &watched.story.place.idp);
    let file = story.token(CARL);
    let mut asked = Asked::of(story.agent(AGENT, &file, ASKS_ON));
    let backend = asked.ask("SELECT pg_backend_pid()");
    let read = "SELECT count(*) > 0 FROM accounts";
    assert_eq!(asked.ask(read), "True");
    let groups = |expected: &[&str]| {
        idp.set_groups(CARL, expected).unwrap();
        let is_so = || Ok(story.who(AGENT)["groups"] == json!(expected));
        wait_until("the issuer said so", 10, is_so).unwrap();
    };
    groups(&[]);
    let told = asked.ask(read);
    assert!(told.starts_with("error 42501") && told.contains("accounts-are"), "{told}");
    assert_eq!(asked.ask("SELECT 1"), "1");
    groups(&["contractors", "night"]);
    assert_eq!(asked.ask(read), "True");
    assert_eq!(asked.ask("SELECT pg_backend_pid()"), backend, "all of it in one session");
    drop(asked);
    let evidence = story.world.evidence().unwrap();
    let rows = "SELECT status, array_to_string(actor_groups, ',') AS groups FROM events \
                WHERE statement_norm LIKE '%accounts%' ORDER BY ts";
    let rows = evidence.duckdb(rows).unwrap();
    let found: Vec<_> =
        rows.iter().map(|row| (&row["status"], row["groups"].as_str().unwrap_or(""))).collect();
    let ok = json!("ok");
    let expected = [(&ok, "contractors"), (&json!("denied"), ""), (&ok, "contractors,night")];
    assert_eq!(found, expected);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn names_are_looked_up_by_whom_the_agent_acts_for_now() {
    let server = NameServer::start().unwrap();
    let dns = format!(
        "\n[dns]\nport = DNS_PORT\nupstream = ['127.0.0.1:{}']\nhosts = '/dev/null'\n",
        server.port()
    );
    let watched = Watched::start_with((1, 20), &dns);
    let (story, idp) = (&watched.story, &watched.story.place.idp);
    idp.keep_account().unwrap();
    let file = story.token(CARL);
    let mut asked = Asked::of(story.agent(AGENT, &file, LOOKS_UP));
    assert_eq!(asked.ask(""), "0");
    idp.set_groups(CARL, &[]).unwrap();
    let has_none = || Ok(story.who(AGENT)["groups"] == json!([]));
    wait_until("the issuer said so", 10, has_none).unwrap();
    assert_eq!(asked.ask(""), "5");
    idp.set_groups(CARL, &["contractors"]).unwrap();
    let is_back = || Ok(story.who(AGENT)["groups"] == json!(["contractors"]));
    wait_until("the issuer said so", 10, is_back).unwrap();
    assert_eq!(asked.ask(""), "0");
    idp.revoke(CARL).unwrap();
    wait_until("it is over", 10, || Ok(watched.ended(AGENT) == "token_revoked")).unwrap();
    assert_eq!(asked.ask(""), "5");
    drop(asked);
    let evidence = story.world.evidence().unwrap();
    let rows = "SELECT array_to_string(actor_groups, ',') AS groups, rule_id, session_id FROM events \
                WHERE kind = 'dns.query' ORDER BY ts";
    let rows = evidence.duckdb(rows).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let found: Vec<_> =
        rows.iter().map(|row| (text(row, "groups"), text(row, "rule_id"))).collect();
    let expected = [
        ("contractors", "contractors-resolve"),
        ("", "default-deny"),
        ("contractors", "contractors-resolve"),
        ("contractors", "identity"),
    ];
    assert_eq!(found, expected.map(|(groups, rule)| (groups.to_owned(), rule.to_owned())));
    assert!(rows.iter().all(|row| row["session_id"] == rows[0]["session_id"]), "{rows:?}");
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn an_issuer_that_is_silent_ends_its_tokens_until_it_speaks() {
    let watched = Watched::start(1, 3);
    let (story, idp) = (&watched.story, &watched.story.place.idp);
    let file = story.token(CARL);
    let mut asked = Asked::of(story.agent(AGENT, &file, ASKS));
    assert_eq!(asked.ask("SELECT 'now'"), "now");
    idp.freeze().unwrap();
    let is_late = || Ok(watched.ended(AGENT) == "unconfirmed");
    wait_until("the time of grace is over", 10, is_late).unwrap();
    let told = asked.ask("SELECT 'later'");
    assert!(told.starts_with("error 57P01") && told.contains("unconfirmed"), "{told}");
    assert!(asked.ask("SELECT 'later'").starts_with("error None"));
    let is_said = || Ok(watched.doctor("introspection")["verdict"] == "fail");
    wait_until("the doctor knows", 20, is_said).unwrap();
    let told = watched.refused(&file);
    assert!(told.contains("issuer_unreachable"), "{told}");
    idp.thaw().unwrap();
    let is_back = || Ok(story.who(AGENT)["sub"] == CARL);
    wait_until("it counts again", 20, is_back).unwrap();
    assert_eq!(asked.ask("SELECT 'again'"), "again");
    assert!(asked.process.is_running().unwrap());
    drop(asked);
    let evidence = story.world.evidence().unwrap();
    let kinds = "SELECT kind FROM control WHERE kind LIKE 'introspection.%' \
                 OR (kind LIKE 'identity.%' AND detail LIKE '%carl%') ORDER BY ts";
    let rows = evidence.duckdb(kinds).unwrap();
    let kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    let order = |kind: &str| kinds.iter().position(|one| *one == kind);
    assert!(order("introspection.failed") < order("introspection.restored"), "{kinds:?}");
    assert!(order("identity.bound") < order("identity.ended"), "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "identity.bound").count(), 2, "{kinds:?}");
}

#[test]
fn an_issuer_that_keeps_no_account_of_its_tokens_is_said_to() {
    let watched = Watched::start_without_account(1, 5);
    let file = watched.story.token(CARL);
    assert!(watched.refused(&file).contains("unsupported_token_type"));
    let said = watched.doctor("introspection");
    assert_eq!(said["verdict"], "fail", "{said}");
    assert!(said["detail"].as_str().unwrap().contains("keeps no account"), "{said}");
}
