//! People who log in on the host: agents that they start act for them, and end with their logins.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use integration::idp::{AGENT_CLIENT, ALICE, CARL, CLIENT, RESOURCES, SECRET};
use integration::process::{Running, run, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::oidc::now;
use crate::standing::{ASKS, Asked, Story};

const AGENT: &str = "support-assistant";

/// A daemon with a client of its own at the provider, and the credentials of [`AGENT_CLIENT`] as `reports`.
fn start(issuer: &str) -> (Story, NamedTempFile) {
    let secret = NamedTempFile::new().unwrap();
    fs::write(secret.path(), SECRET).unwrap();
    let (file, resource) = (secret.path().display(), RESOURCES[0]);
    let more = format!(
        "[issuer.client]\nid = '{CLIENT}'\nsecret_file = '{file}'\n\
         scope = 'openid profile groups bank'\nresource = '{resource}'\n\
         [[identity]]\nname = 'reports'\nissuer = 'ISSUER'\nclient_id = '{AGENT_CLIENT}'\n\
         secret_file = '{file}'\nscope = 'bank'\nresource = '{resource}'\n"
    );
    let story = Story::ruled(issuer, &[], &more);
    (story, secret)
}

/// `vestibule login`, at its code.
pub(crate) struct LoggingIn {
    process: Running,
    said: BufReader<ChildStdout>,
    pub(crate) code: String,
}

impl LoggingIn {
    pub(crate) fn of(mut command: Command) -> Self {
        command.arg("login").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::new("login", &mut command).unwrap();
        let mut said = BufReader::new(process.take_stdout().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let code = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(line.starts_with("Open http://127.0.0.1:") && code.len() >= 8, "{line}");
        Self { process, said, code }
    }

    /// Its exit code and what else it said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        (self.process.wait(20).unwrap().flatten(), said)
    }
}

fn log_in(story: &Story, user: &str) {
    let login = LoggingIn::of(story.world.daemon.cli());
    story.place.idp.approve(user, &login.code).unwrap();
    let (code, said) = login.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("({user} at {})", story.place.idp.issuer())), "{said}");
}

fn agent(story: &Story, words: &[&str]) -> Asked {
    let mut command = story.world.daemon.cli();
    command.args(["run", "--agent", AGENT]).args(words);
    Asked::of(story.started(AGENT, command, ASKS))
}

fn logins(story: &Story) -> Vec<Value> {
    story.told(&["who"])["logins"].as_array().unwrap().clone()
}

fn failed(mut command: Command) -> String {
    let output = run(&mut command, 30).unwrap();
    assert_ne!(output.code, Some(0), "{output:?}");
    output.stderr
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the cut takes")]
fn who_logs_in_answers_for_the_agents_and_they_end_with_the_login() {
    let (story, _secret) = start("");
    log_in(&story, CARL);
    let owner = format!("{CARL}@{}", story.place.idp.issuer());
    let mut first = agent(&story, &[]);
    assert_eq!(first.ask("SELECT 'first'"), "first");
    let who = story.who(AGENT);
    assert_eq!((&who["user"], &who["owner"]), (&json!("Carl"), &json!(owner)), "{who}");
    assert_eq!(who["groups"], json!(["contractors"]));
    let mut second = agent(&story, &[]);
    assert_eq!(second.ask("SELECT 'second'"), "second");
    let mut own = agent(&story, &["--as", "reports"]);
    assert_eq!(own.ask("SELECT 'own'"), "own");
    let [login] = &logins(&story)[..] else { panic!("one person is logged in") };
    assert_eq!((&login["sub"], &login["renewed"]), (&json!(CARL), &json!(true)), "{login}");
    assert_eq!(login["agents"].as_array().unwrap().len(), 3, "{login}");
    // Nobody else answers for them, and nobody logs in twice.
    let mut command = story.world.daemon.cli();
    command.args(["run", "--agent", AGENT, "--owner", "ops", "--", "true"]);
    let told = failed(command);
    assert!(told.contains("Carl is logged in here"), "{told}");
    let mut command = story.world.daemon.cli();
    command.arg("login");
    let told = failed(command);
    assert!(told.contains("logged in already, as Carl"), "{told}");

    let before = Instant::now();
    assert_eq!(story.place.idp.logout(CARL).unwrap(), 1);
    for asked in [&mut first, &mut second, &mut own] {
        let told = asked.ask("SELECT 1");
        assert!(told.starts_with("error 57P01") && told.contains("logged_out"), "{told}");
    }
    let took = before.elapsed();
    // The provider's own time to say so is in it.
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(logins(&story), [] as [Value; 0]);
    // What is started now is nobody's, and what was does not come back.
    let mut later = agent(&story, &[]);
    assert_eq!(later.ask("SELECT 'later'"), "later");
    let told = own.ask("SELECT 1");
    assert!(told.starts_with("error None"), "{told}");
    drop((first, second, own, later));

    let evidence = story.world.evidence().unwrap();
    let by = |more: &str| {
        let sql = format!("SELECT count(*) FROM sessions WHERE agent_owner = '{owner}' AND {more}");
        evidence.count(&sql).unwrap()
    };
    let ended = "close_reason = 'identity_ended'";
    assert_eq!(by(&format!("actor_sub = '{CARL}' AND authn_method = 'login' AND {ended}")), 2);
    let own = format!("actor_sub = '{AGENT_CLIENT}' AND authn_method = 'client_credentials'");
    assert_eq!(by(&format!("{own} AND {ended}")), 1);
    // What the ID token alone says.
    assert_eq!(by("authn_time IS NOT NULL"), 2);
    let kinds = "SELECT count(*) FROM control WHERE kind IN ('login.begun', 'login.done', 'login.ended') \
                 AND detail LIKE '%uid 0%' AND detail LIKE '%http://127.0.0.1%'";
    assert_eq!(evidence.count(kinds).unwrap(), 3);
    assert!(!story.world.daemon.log().contains("eyJ"));
    for segment in fs::read_dir(story.world.daemon.journal()).unwrap() {
        let bytes = fs::read(segment.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|six| six == b"eyJhbG"), "a token's header");
    }
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn a_login_is_renewed_until_it_is_logged_out() {
    let (story, _secret) = start("");
    story.place.idp.set_seconds(9).unwrap();
    log_in(&story, ALICE);
    let mut asked = agent(&story, &[]);
    assert_eq!(asked.ask("SELECT 'first'"), "first");
    let first = story.who(AGENT)["expires_s"].as_i64().unwrap();
    // The person is put into another group; the next token says so.
    story.place.idp.set_groups(ALICE, &["staff", "night"]).unwrap();
    let is_over = || Ok(now(0).unix_us / 1_000_000 > first + 1);
    wait_until("the first token is over", 30, is_over).unwrap();
    assert_eq!(asked.ask("SELECT 'renewed'"), "renewed");
    assert_eq!(story.who(AGENT)["groups"], json!(["night", "staff"]));
    let told = story.told(&["logout"]);
    assert_eq!((&told["login"]["sub"], &told["not_revoked"]), (&json!(ALICE), &json!(null)));
    assert_eq!(told["agents"].as_array().unwrap().len(), 1, "{told}");
    let told = asked.ask("SELECT 'over'");
    assert!(told.starts_with("error 57P01") && told.contains("logged_out"), "{told}");
    drop(asked);
    let mut command = story.world.daemon.cli();
    command.arg("logout");
    assert!(failed(command).contains("not logged in"));
}

#[test]
fn over_a_restart_of_the_daemon_logins_end() {
    let (mut story, _secret) = start("");
    log_in(&story, ALICE);
    let mut asked = agent(&story, &["--as", "reports"]);
    assert_eq!(asked.ask("SELECT 'again'"), "again");
    story.world.daemon.restart().unwrap();
    assert_eq!(logins(&story), [] as [Value; 0]);
    assert_eq!(story.who(AGENT)["ended"], "log_in_again");
    assert!(asked.ask("SELECT 1").starts_with("error"));
    assert!(asked.ask("SELECT 1").starts_with("error None"));
    let kept = story.world.daemon.journal().parent().unwrap().join("identities.json");
    assert!(!fs::read_to_string(kept).unwrap().contains("eyJ"));
}

#[test]
fn an_issuer_that_renews_a_login_no_more_ends_its_agents() {
    let (story, _secret) = start("");
    story.place.idp.set_seconds(12).unwrap();
    log_in(&story, CARL);
    let mut asked = agent(&story, &[]);
    assert_eq!(asked.ask("SELECT 'first'"), "first");
    // Nobody is told, but the refresh token is over.
    story.place.idp.set_backchannel("http://127.0.0.1:9/").unwrap();
    assert!(story.place.idp.logout(CARL).is_err());
    let ended = || Ok(story.who(AGENT)["ended"] == "login_ended");
    wait_until("the issuer says no", 30, ended).unwrap();
    let told = asked.ask("SELECT 'over'");
    assert!(told.starts_with("error 57P01") && told.contains("login_ended"), "{told}");
}

#[test]
fn an_issuer_that_takes_a_token_back_ends_the_login_of_it() {
    let (story, _secret) = start("introspect_interval_s = 1");
    story.place.idp.keep_account().unwrap();
    log_in(&story, CARL);
    let mut asked = agent(&story, &[]);
    let mut own = agent(&story, &["--as", "reports"]);
    assert_eq!((asked.ask("SELECT 'a'"), own.ask("SELECT 'b'")), ("a".into(), "b".into()));
    story.place.idp.revoke(CARL).unwrap();
    wait_until("the login ends", 20, || Ok(logins(&story).is_empty())).unwrap();
    for asked in [&mut asked, &mut own] {
        let told = asked.ask("SELECT 1");
        assert!(told.starts_with("error 57P01") && told.contains("token_revoked"), "{told}");
    }
}

#[test]
fn logins_that_are_refused_or_given_up_are_nobodys() {
    let (story, _secret) = start("");
    let refused = LoggingIn::of(story.world.daemon.cli());
    let mut other = story.world.daemon.cli();
    other.env("SUDO_UID", "65534");
    let other = LoggingIn::of(other);
    story.place.idp.deny(ALICE, &refused.code).unwrap();
    story.place.idp.approve(CARL, &other.code).unwrap();
    assert_eq!(refused.end().0, Some(2));
    assert_eq!(other.end().0, Some(0));
    // Of another person on this host, so that nothing of root's acts by it.
    let [login] = &logins(&story)[..] else { panic!("one person is logged in") };
    assert_eq!(login["person"], "sudo uid 65534");
    let mut asked = agent(&story, &[]);
    assert_eq!(asked.ask("SELECT 'nobody'"), "nobody");
    assert_eq!(story.who(AGENT)["sub"], json!(null));
    // Nor does a word pass for a proof.
    let mut command = story.world.daemon.cli();
    let said = format!("{CARL}@{}", story.place.idp.issuer());
    command.args(["run", "--agent", AGENT, "--owner", &said, "--", "true"]);
    assert!(failed(command).contains("without `://`"));

    let given_up = LoggingIn::of(story.world.daemon.cli());
    given_up.process.signal(Signal::INT).unwrap();
    let code = given_up.code.clone();
    assert_eq!(given_up.end().0, Some(130));
    story.place.idp.approve(ALICE, &code).unwrap();
    let evidence = || story.world.evidence().unwrap();
    let noted =
        "SELECT count(*) FROM control WHERE kind = 'login.refused' AND detail LIKE '%withdrawn%'";
    wait_until("it is given up", 20, || evidence().count(noted).map(|count| count == 1)).unwrap();
    assert_eq!(logins(&story).len(), 1);
    let noted = "SELECT count(*) FROM control WHERE kind = 'login.refused' AND detail LIKE '%access_denied%'";
    assert_eq!(evidence().count(noted).unwrap(), 1);
    // An operator ends a person that is logged in.
    let mut command = story.world.daemon.cli();
    command.args(["revoke", "--subject", "Carl", "--reason", "let go"]);
    run(&mut command, 30).unwrap().ok().unwrap();
    assert_eq!(logins(&story), [] as [Value; 0]);
}
