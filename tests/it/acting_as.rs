//! Agents that act by credentials of the daemon's: a token is had for them, renewed, and never seen by anybody.

use std::fs;

use integration::idp::{AGENT_CLIENT, RESOURCES, SECRET};
use integration::process::{run, wait_until};
use serde_json::json;
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
    Story::start_with(&format!(
        "[[identity]]\nname = 'reports'\nissuer = 'ISSUER'\nclient_id = '{AGENT_CLIENT}'\n\
         secret_file = '{}'\nscope = 'bank'\nresource = '{}'\n",
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
