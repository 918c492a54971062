//! Tokens for agents that agents start, had by exchange from a real provider: they name who acts in between.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use integration::agent::with_bank;
use integration::idp::{AGENT_CLIENT, ALICE, CARL, CLIENT, RESOURCES, SECRET};
use integration::process::{Running, run, wait_until};
use integration::{bank, paths};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::inside::{INNER, MAY_START, OUTER, STARTS, run_words};
use crate::standing::{ASKS, Asked, Story};

/// A daemon that has tokens for inner agents.
struct Exchanging {
    story: Story,
    _secret: NamedTempFile,
}

impl Exchanging {
    fn start(exchange: &str, more: impl FnOnce(&Path) -> String) -> Self {
        // Made with mode 0600.
        let mut secret = NamedTempFile::new().unwrap();
        secret.write_all(SECRET.as_bytes()).unwrap();
        let path = secret.path().display();
        let issuer = format!("client = {{ id = '{CLIENT}', secret_file = '{path}' }}\n{exchange}");
        let more = format!("{MAY_START}{}", more(secret.path()));
        Self { story: Story::ruled(&issuer, &[], &more), _secret: secret }
    }

    /// An agent that acts for Carl and starts another.
    fn agents(&self, file: &Path) -> Asked {
        let mut command = self.story.world.daemon.cli();
        command.args(["run", "--agent", OUTER, "--token-file"]).arg(file);
        command.arg("--").arg(paths::python()).args(["-u", "-c", STARTS]);
        with_bank(&mut command, bank::ROLE, self.story.world.bank.port());
        command.env("RUN", run_words(&self.story.world)).env("ASKS", ASKS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Asked::of(Running::new(OUTER, &mut command).unwrap())
    }

    /// `sub@issuer`, of the provider.
    fn link(&self, sub: &str) -> String {
        format!("{sub}@{}", self.story.place.idp.issuer())
    }
}

#[test]
fn an_inner_agents_token_is_had_for_it_renewed_and_ends_with_the_outer_ones() {
    let exchange = format!("exchange = {{ resource = '{}' }}", RESOURCES[0]);
    let mut own = Exchanging::start(&exchange, |_| String::new());
    let file = own.story.token(CARL);
    // What is had for it lives for 6 s; the person's own token does not.
    own.story.place.idp.set_seconds(6).unwrap();
    let mut asked = own.agents(&file);
    assert_eq!(asked.ask("SELECT 'a'"), "outer a");
    assert_eq!(asked.line(), "inner a");
    let who = own.story.who(INNER);
    let chain = json!([own.link(CLIENT), OUTER, INNER]);
    assert_eq!((&who["sub"], &who["user"], &who["chain"]), (&json!(CARL), &json!("Carl"), &chain));
    let first = who["expires_s"].as_i64().unwrap();
    let renewed = || Ok(own.story.who(INNER)["expires_s"].as_i64().unwrap_or(0) > first);
    wait_until("it is had anew", 30, renewed).unwrap();
    assert_eq!(asked.ask("SELECT 'b'"), "outer b");
    assert_eq!(asked.line(), "inner b", "in the same session");

    // It is had anew after a restart, too.
    own.story.world.daemon.restart().unwrap();
    let is_back = || Ok(own.story.who(INNER)["sub"] == CARL);
    wait_until("both tokens are there again", 20, is_back).unwrap();
    assert_eq!(own.story.who(INNER)["chain"], chain);
    let mut command = own.story.world.daemon.cli();
    let revoked = run(command.args(["revoke", "--subject", CARL, "--reason", "let go"]), 30);
    revoked.unwrap().ok().unwrap();
    assert_eq!(own.story.who(INNER)["ended"], "revoked");
    drop(asked);

    let evidence = own.story.world.evidence().unwrap();
    let rows = "SELECT array_to_string(agent_chain, '>') AS chain, count(DISTINCT actor_token) AS tokens, \
                count(DISTINCT session_id) AS sessions, any_value(actor_client) AS client FROM events \
                WHERE kind = 'db.query' AND agent_id = 'summary-writer' GROUP BY ALL";
    let rows = evidence.duckdb(rows).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let chain = format!("{}>{OUTER}>{INNER}", own.link(CLIENT));
    assert_eq!((&row["chain"], &row["client"]), (&json!(chain), &json!(CLIENT)), "{row}");
    assert_eq!((&row["tokens"], &row["sessions"]), (&json!(2), &json!(1)), "{row}");
    let way = "SELECT count(*) FROM sessions WHERE agent_id = 'summary-writer' AND authn_method = 'token_exchange'";
    assert_eq!(evidence.count(way).unwrap(), 1);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn the_outer_agents_own_credentials_make_it_the_actor() {
    let exchange = format!("exchange = {{ resource = '{}' }}", RESOURCES[0]);
    let own = Exchanging::start(&exchange, |secret| {
        format!(
            "[[identity]]\nname = '{OUTER}'\nissuer = 'ISSUER'\nclient_id = '{AGENT_CLIENT}'\n\
             secret_file = '{}'\nscope = 'bank'\nresource = '{}'\n",
            secret.display(),
            RESOURCES[0]
        )
    });
    let mut asked = own.agents(&own.story.token(CARL));
    assert_eq!(asked.ask("SELECT 'a'"), "outer a");
    assert_eq!(asked.line(), "inner a");
    let who = own.story.who(INNER);
    let chain = json!([own.link(AGENT_CLIENT), OUTER, INNER]);
    assert_eq!((&who["sub"], &who["chain"]), (&json!(CARL), &chain), "{who}");
    assert_eq!(own.story.who(OUTER)["chain"], json!([OUTER]));
}

#[test]
fn no_agent_starts_inside_another_without_the_token_that_it_should_have() {
    // No such resource at the provider.
    let own =
        Exchanging::start("exchange = { audience = 'x', scope = 'nothing' }", |_| String::new());
    let file = own.story.token(CARL);
    let start = |own: &Exchanging| {
        let mut command = own.story.world.daemon.cli();
        command.args(["run", "--agent", OUTER, "--token-file"]).arg(&file);
        command.args(["--", "sh", "-c", "$RUN summary-writer -- echo started"]);
        run(command.env("RUN", run_words(&own.story.world)), 30).unwrap()
    };
    assert_eq!(start(&own).stdout, "started\n", "by the resource that the provider takes anyhow");
    own.story.place.idp.stop();
    let refused = start(&own);
    assert!(refused.stderr.contains("issuer_unreachable"), "{refused:?}");
    assert_eq!(refused.stdout, "");
    let evidence = own.story.world.evidence().unwrap();
    let rows = "SELECT detail FROM control WHERE kind = 'identity.refused'";
    let rows = evidence.duckdb(rows).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let detail: Value = serde_json::from_str(row["detail"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&detail["way"], &detail["why"]),
        (&json!("token_exchange"), &json!("issuer_unreachable"))
    );
    assert!(detail["inside"].as_str().unwrap().starts_with(OUTER), "{detail}");
}

#[test]
fn an_inner_agent_acts_for_nobody_that_the_outer_one_acts_for_no_more() {
    let exchange = format!("exchange = {{ resource = '{}' }}", RESOURCES[0]);
    let own = Exchanging::start(&exchange, |_| String::new());
    let (file, other) = (own.story.token(CARL), own.story.token(ALICE));
    let mut asked = own.agents(&file);
    assert_eq!(asked.ask("SELECT 'a'"), "outer a");
    assert_eq!(asked.line(), "inner a");
    // The outer agent's next token counts by the keys at hand; none is to be had by it.
    own.story.place.idp.stop();
    fs::rename(other, &file).unwrap();
    let is_alice = || Ok(own.story.who(OUTER)["sub"] == ALICE);
    wait_until("the file is read again", 20, is_alice).unwrap();
    assert_eq!(own.story.who(INNER)["ended"], "not_yet_verified");
    assert_eq!(asked.ask("SELECT 'b'"), "outer b");
    assert!(asked.line().starts_with("inner error 57P01"));
    drop(asked);
    let is_told = || Ok(own.story.world.daemon.log().contains("no token is to be had"));
    wait_until("another token was asked for", 20, is_told).unwrap();
    let evidence = own.story.world.evidence().unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'identity.not_renewed' AND detail LIKE '%issuer_unreachable%'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
}
