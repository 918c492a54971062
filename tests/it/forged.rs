//! Forged tokens at the daemon, by both ways that lead in: an agent's token file and a database password. Each is refused
//! in one word, that is recorded, and nothing goes to the server.

use std::collections::BTreeMap;
use std::fs;

use integration::idp::SignedBy;
use integration::process::{feed, run, wait_until};
use integration::world::READER;
use integration::{Agent, Evidence, Postgres, bank, paths};
use serde_json::{Value, json};

use crate::bearer::Bank;
use crate::oidc::{HEADER, Place, now};
use crate::standing::Asked;

/// What is wrong with a token, the token, and the word for it.
pub(crate) struct Forged {
    pub(crate) what: &'static str,
    pub(crate) token: String,
    pub(crate) word: &'static str,
}

/// Everything that must not count.
pub(crate) fn forged(place: &Place) -> Vec<Forged> {
    let now = now(0).unix_us / 1_000_000;
    let sign = |header: &str, payload: &str, by| place.idp.sign(header, payload, by).unwrap();
    let sound = place.claims(&json!({})).to_string();
    let headed = |more: &str, by| {
        let header = format!(r#"{{"kid":"RS256-1","typ":"at+jwt",{more}}}"#);
        sign(&header, &sound, by)
    };
    let claims = |more: Value| place.signed(&more);
    let with = |more: &str| {
        let payload = format!("{{{more},{}", sound.strip_prefix('{').unwrap());
        sign(HEADER, &payload, SignedBy::Rs256)
    };
    let mut chain = json!({"sub": "a0"});
    for n in 1..=8 {
        chain = json!({"sub": format!("a{n}"), "act": chain});
    }
    let deep = r#""act":{"sub":"a","#.repeat(500) + r#""x":1"# + &"}".repeat(500);
    let rs256 = r#""alg":"RS256""#;
    let one = |what, token, word| Forged { what, token, word };
    vec![
        one("no algorithm", headed(r#""alg":"none""#, SignedBy::Nobody), "algorithm"),
        one("HMAC", headed(r#""alg":"HS256""#, SignedBy::PublicKeyAsSecret), "algorithm"),
        one("HMAC, called RSA", headed(rs256, SignedBy::PublicKeyAsSecret), "bad_signature"),
        one("kid", sign(&HEADER.replace("-1", "-9"), &sound, SignedBy::Rs256), "unknown_key"),
        one("audience", claims(json!({"aud": "https://other.example"})), "wrong_audience"),
        one("issuer", claims(json!({"iss": "https://other.example"})), "wrong_issuer"),
        one("expired", claims(json!({"exp": now - 61})), "expired"),
        one("of the future", claims(json!({"nbf": now + 600})), "not_yet_valid"),
        one(
            "jku",
            headed(&format!(r#"{rs256},"jku":"{}/jwks""#, place.idp.issuer()), SignedBy::Rs256),
            "header",
        ),
        one(
            "x5u",
            headed(&format!(r#"{rs256},"x5u":"https://evil.example/c""#), SignedBy::Rs256),
            "header",
        ),
        one("sub twice", with(r#""sub":"alice""#), "duplicate_claim"),
        one(
            "alg twice",
            headed(&format!(r#""alg":"none",{rs256}"#), SignedBy::Rs256),
            "duplicate_claim",
        ),
        one("a megabyte", with(&format!(r#""x":"{}""#, "a".repeat(1 << 20))), "too_large"),
        one("nine actors", claims(json!({ "act": chain })), "actor_depth"),
        one("500 actors", with(&deep), "too_deep"),
    ]
}

/// Logs in with each line of its input for a password, and says how that went.
const LOGS_IN: &str = "
import psycopg, sys
for line in sys.stdin:
    try: psycopg.connect(password=line.strip()).close()
    except psycopg.Error as e: print(' '.join(str(e).split()))
    else: print('let in')
";

/// The details of a kind of control rows.
fn details(evidence: &Evidence<'_>, kind: &str) -> Vec<Value> {
    let rows =
        evidence.duckdb(&format!("SELECT detail FROM control WHERE kind = '{kind}'")).unwrap();
    rows.iter().map(|row| serde_json::from_str(row["detail"].as_str().unwrap()).unwrap()).collect()
}

fn counted<'w>(words: impl Iterator<Item = &'w str>) -> BTreeMap<&'w str, usize> {
    words.fold(BTreeMap::new(), |mut counts, word| {
        *counts.entry(word).or_default() += 1;
        counts
    })
}

#[test]
fn forged_tokens_are_refused_by_both_ways_recorded_and_go_nowhere() {
    let server = Postgres::with_settings(&["log_statement=all", "log_connections=on"]).unwrap();
    let bank = Bank::start_on(server, "token_password = 'required'", "");
    let all = forged(&bank.place);
    let agent = Agent::new(&bank.daemon, READER, bank::ROLE, bank.server.port());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for Forged { what, token, word } in &all {
        fs::write(&file, token).unwrap();
        let mut command = bank.daemon.cli();
        command.args(["run", "--agent", READER, "--token-file"]).arg(&file).args(["--", "true"]);
        let refused = run(&mut command, 60).unwrap();
        assert!(refused.code != Some(0), "{what}: {refused:?}");
        assert!(refused.stderr.contains(&format!("does not count: {word}")), "{what}: {refused:?}");
    }
    let tokens: Vec<&str> = all.iter().map(|one| &*one.token).collect();
    let mut command = agent.command(paths::python());
    let input = tokens.join("\n");
    let seen = feed(command.args(["-c", LOGS_IN]), input.as_bytes(), 120).unwrap().ok().unwrap();
    assert_eq!(seen.lines().count(), all.len());
    for (seen, Forged { what, word, .. }) in seen.lines().zip(&all) {
        assert!(seen.contains(&format!("does not count: {word}")), "{what}: {seen}");
    }
    // One that counted until it was replaced.
    fs::write(&file, bank.place.signed(&json!({}))).unwrap();
    let start = ["--token-file", file.to_str().unwrap()];
    let waits = "print('on'); import sys; sys.stdin.read()";
    let mut running = Asked::of(bank.python(READER, &start, "", waits));
    assert_eq!(running.line(), "on");
    fs::write(&file, &all[2].token).unwrap();
    let ended = || Ok(bank.told(&["who"]).to_string().contains(r#""ended":"bad_signature""#));
    wait_until("the agent acts for nobody", 30, ended).unwrap();
    drop(running);

    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let refused = details(&evidence, "identity.refused");
    let by = |way: &str| {
        let of_way = move |one: &&Value| (one["way"] == "password") == (way == "password");
        counted(refused.iter().filter(of_way).map(|one| one["why"].as_str().unwrap()))
    };
    let expected = counted(all.iter().map(|one| one.word));
    assert_eq!((by("token_file"), by("password")), (expected.clone(), expected));
    for one in refused.iter().filter(|one| one["way"] == "password") {
        let session = one["session_id"].as_str().unwrap();
        let same = format!(
            "SELECT agent_id, agent_instance, pid, actor_sub, rule_id, error_code FROM events \
             WHERE session_id = '{session}' AND kind = 'db.connect' AND status = 'denied'"
        );
        let rows = evidence.duckdb(&same).unwrap();
        let event = json!({
            "agent_id": READER, "agent_instance": one["instance"], "pid": one["pid"], "actor_sub": null,
            "rule_id": "password-token", "error_code": "28P01",
        });
        assert_eq!((rows, &one["agent"]), (vec![event], &json!(READER)));
    }
    let other = "SELECT count(*) FROM events WHERE NOT (kind = 'db.connect' AND status = 'denied')";
    assert_eq!(evidence.count(other).unwrap(), 0);
    assert!(details(&evidence, "identity.ended").iter().any(|one| one["why"] == "bad_signature"));
    // Nothing was asked of the server; what is sound still gets in.
    let logged_in = || bank.server.log().unwrap().matches("user=injected").count();
    assert_eq!(logged_in(), 0);
    bank.nowhere(&evidence, &tokens);
    let sound = bank.place.signed(&json!({}));
    let mut command = agent.command(paths::python());
    let seen = feed(command.args(["-c", LOGS_IN]), sound.as_bytes(), 60).unwrap();
    assert_eq!((seen.ok().unwrap().trim(), logged_in()), ("let in", 1));
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}
