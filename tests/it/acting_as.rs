//! Agents that act by credentials of the daemon's: a token is had for them, renewed, and never seen by anybody. And
//! agents that rules enrol, or that run already, by these and by token files.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use integration::agent::with_bank;
use integration::bank;
use integration::idp::{AGENT_CLIENT, ALICE, CARL, RESOURCES, SECRET};
use integration::process::{Running, run, wait_until};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::oidc::now;
use crate::standing::{ASKS, Asked, Story};

/// A file of root's alone with the client's secret.
fn secret(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

/// A daemon that holds the credentials of [`AGENT_CLIENT`] as `reports`.
fn start(secret: &NamedTempFile) -> Story {
    start_with(secret, "")
}

fn start_with(secret: &NamedTempFile, more: &str) -> Story {
    Story::start_with(&format!(
        "[[identity]]\nname = 'reports'\nissuer = 'ISSUER'\nclient_id = '{AGENT_CLIENT}'\n\
         secret_file = '{}'\nscope = 'bank'\nresource = '{}'\n{more}",
        secret.path().display(),
        RESOURCES[0]
    ))
}

fn agent(story: &Story) -> Asked {
    let mut command = story.world.daemon.cli();
    command.args(["run", "--agent", "support-assistant", "--owner", "ops", "--as", "reports"]);
    Asked::of(story.started("support-assistant", command, ASKS))
}

#[test]
fn an_agent_acts_by_credentials_of_the_daemons_that_are_renewed() {
    let secret = secret(SECRET);
    let mut story = start(&secret);
    story.place.idp.set_seconds(6).unwrap();
    let mut asked = agent(&story);
    assert_eq!(asked.ask("SELECT 'first'"), "first");
    let who = story.who("support-assistant");
    assert_eq!((&who["sub"], &who["owner"]), (&json!(AGENT_CLIENT), &json!("ops")), "{who}");
    // The session outlives the first token, and is that token's successor's.
    let first = who["expires_s"].as_i64().unwrap();
    let is_over = || Ok(now(0).unix_us / 1_000_000 > first + 1);
    wait_until("the first token is over", 20, is_over).unwrap();
    assert_eq!(asked.ask("SELECT 'renewed'"), "renewed");
    // Over a restart: another token, the same agent.
    story.world.daemon.restart().unwrap();
    let back = || Ok(story.who("support-assistant")["sub"] == AGENT_CLIENT);
    wait_until("a token is obtained anew", 20, back).unwrap();
    assert!(asked.ask("SELECT 'broken'").starts_with("error"), "its session went with the daemon");
    assert_eq!(asked.ask("SELECT 'again'"), "again");
    // Without its issuer it holds until it ends.
    story.place.idp.stop();
    assert_eq!(asked.ask("SELECT 'still'"), "still");
    let ended = || Ok(story.who("support-assistant")["ended"] == "expired");
    wait_until("the token is over", 20, ended).unwrap();
    let told = asked.ask("SELECT 'over'");
    assert!(told.starts_with("error 57P01") && told.contains("expired"), "{told}");
    drop(asked);

    let log = story.world.daemon.log();
    assert!(log.contains("no token is to be had") && log.contains("issuer_unreachable"), "{log}");
    assert!(!log.contains(SECRET) && !log.contains("eyJ"));
    let kept = story.world.daemon.journal().parent().unwrap().join("identities.json");
    let kept = fs::read_to_string(kept).unwrap();
    assert!(!kept.contains(SECRET) && !kept.contains("eyJ"), "{kept}");
    let evidence = story.world.evidence().unwrap();
    let sessions = format!(
        "SELECT count(*) FROM sessions WHERE actor_sub = '{AGENT_CLIENT}' AND actor_client = '{AGENT_CLIENT}' \
         AND authn_method = 'client_credentials' AND agent_owner = 'ops'"
    );
    assert_eq!(evidence.count(&sessions).unwrap(), 2);
    let tokens =
        "SELECT count(DISTINCT actor_token) FROM events WHERE statement_norm = 'SELECT $1'";
    assert!(evidence.count(tokens).unwrap() >= 3);
    let bad = "SELECT count(*) FROM control WHERE kind = 'identity.not_renewed' AND detail LIKE '%issuer_unreachable%'";
    assert_eq!(evidence.count(bad).unwrap(), 1);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn no_agent_starts_by_credentials_that_do_not_count() {
    let secret = secret("guess");
    let story = start(&secret);
    let refused = |identity: &str| {
        let mut command = story.world.daemon.cli();
        command.args(["run", "--agent", "support-assistant", "--as", identity, "--", "true"]);
        run(&mut command, 30).unwrap().stderr
    };
    let told = refused("reports");
    assert!(told.contains("`reports` does not count: invalid_client"), "{told}");
    let told = refused("nobody");
    assert!(told.contains("no_such_identity"), "{told}");
    // The file is read again, and then it is the right one.
    fs::write(secret.path(), SECRET).unwrap();
    assert_eq!(agent(&story).ask("SELECT 'now'"), "now");
    let evidence = story.world.evidence().unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'identity.refused' AND detail LIKE '%\"as\":\"reports\"%'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
}

/// Says what psql says to each line.
const TELLS: &str = "
import subprocess, sys
for line in sys.stdin:
    psql = subprocess.run(['psql', '-XAtc', line], capture_output=True, text=True)
    print(psql.stdout.strip() or ' '.join(psql.stderr.split()), flush=True)
";

/// Starts a program that is a Python, as nobody's agent.
fn plain(story: &Story, program: &Path) -> Asked {
    let mut command = Command::new(program);
    command.args(["-u", "-c", TELLS]).stdin(Stdio::piped()).stdout(Stdio::piped());
    with_bank(&mut command, bank::ROLE, story.world.bank.port());
    Asked::of(Running::new("plain", &mut command).unwrap())
}

fn until_enrolled(story: &Story, agents: usize) {
    let are_there = || {
        let status = story.world.daemon.status()?;
        Ok(status["agents"].as_array().is_some_and(|all| all.len() == agents))
    };
    wait_until("it is enrolled", 60, are_there).unwrap();
}

/// Whom the agents of a name act for now, or why nobody.
fn whom(story: &Story) -> Vec<String> {
    let who = story.told(&["who"]);
    let of = |agent: &Value| {
        let told = agent["ended"].as_str().or(agent["sub"].as_str()).unwrap_or_default();
        told.to_owned()
    };
    let mut all: Vec<String> = who["agents"].as_array().unwrap().iter().map(of).collect();
    all.sort_unstable();
    all
}

#[test]
fn what_rules_enrol_acts_for_whom_they_say() {
    let secret = secret(SECRET);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for program in ["by-file", "by-name"] {
        fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), at(program)).unwrap();
    }
    let token = at("token");
    let story = start_with(
        &secret,
        &format!(
            "[[enroll]]\nagent = 'support-assistant'\nexe = '{}'\ntoken_file = '{}'\nowner = 'ops'\n\
             [[enroll]]\nagent = 'support-assistant'\nexe = '{}'\nas = 'reports'\n",
            at("by-file").display(),
            token.display(),
            at("by-name").display()
        ),
    );
    let mut by_file = plain(&story, &at("by-file"));
    until_enrolled(&story, 1);
    let none = || Ok(whom(&story) == ["no_token"]);
    wait_until("there is no token yet", 20, none).unwrap();
    let told = by_file.ask("SELECT 'none'");
    assert!(told.contains("connection to server"), "{told}");
    story.put_token(&token, ALICE);
    wait_until("there is one", 20, || Ok(whom(&story) == [ALICE])).unwrap();
    assert_eq!(by_file.ask("SELECT 'hers'"), "hers");
    story.put_token(&token, CARL);
    wait_until("it is another's", 20, || Ok(whom(&story) == [CARL])).unwrap();
    assert_eq!(by_file.ask("SELECT 'his'"), "his");
    assert_eq!(story.who("support-assistant")["owner"], "ops");

    let mut by_name = plain(&story, &at("by-name"));
    until_enrolled(&story, 2);
    wait_until("it has a token", 20, || Ok(whom(&story) == [CARL, AGENT_CLIENT])).unwrap();
    assert_eq!(by_name.ask("SELECT 'own'"), "own");
    drop((by_file, by_name));

    let evidence = story.world.evidence().unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'connection.refused' AND detail LIKE '%identity_ended%'";
    assert!(evidence.count(refused).unwrap() >= 1);
    let whose = "SELECT actor_sub, authn_method, agent_owner FROM sessions ORDER BY opened_at";
    let rows = evidence.duckdb(whose).unwrap();
    let row = |sub: &str, way: &str, owner: Option<&str>| json!({"actor_sub": sub, "authn_method": way, "agent_owner": owner});
    let wanted = [
        row(ALICE, "token_file", Some("ops")),
        row(CARL, "token_file", Some("ops")),
        row(AGENT_CLIENT, "client_credentials", None),
    ];
    assert_eq!(rows.iter().map(|row| json!(row)).collect::<Vec<_>>(), wanted);
}

#[test]
fn what_runs_already_is_enrolled_for_whom_it_is_said() {
    let secret = secret(SECRET);
    let story = start(&secret);
    let mut asked = plain(&story, Path::new("/usr/bin/python3"));
    let pid = asked.process.pid().to_string();
    let enroll = |words: &[&str]| {
        let mut command = story.world.daemon.cli();
        command.args(["enroll", "--agent", "support-assistant", "--pid", &pid]).args(words);
        run(&mut command, 60).unwrap()
    };
    let refused = enroll(&["--token-file", "/nonexistent"]);
    assert!(refused.stderr.contains("no_token"), "{refused:?}");
    until_enrolled(&story, 0);
    enroll(&["--as", "reports", "--owner", "ops"]).ok().unwrap();
    assert_eq!(whom(&story), [AGENT_CLIENT]);
    assert_eq!(asked.ask("SELECT 'own'"), "own");
}
