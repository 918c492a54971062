//! Bearer tokens in HTTP requests: whom each request is for, until when, and that no token goes anywhere.

use integration::idp::{ALICE, CARL, CLIENT, RESOURCES};
use integration::port::Port;
use integration::process::{run, wait_until};
use integration::world::READER;
use integration::{Evidence, HttpServer};
use serde_json::{Value, json};

use crate::bearer::nowhere;
use crate::forged::{Forged, forged};
use crate::http::{Api, Requests, body};
use crate::oidc::{Place, client};
use crate::oidc_flows::logged_in;

/// An API, and a daemon that believes a provider.
struct Believing {
    api: Api,
    place: Place,
    _logout: Port,
}

impl Believing {
    fn start() -> Self {
        let (place, logout) = (Place::start(), Port::take().unwrap());
        let more = format!(
            "[[issuer]]\nurl = '{}'\naudiences = ['{}', '{CLIENT}']\n[logout]\nlisten = '127.0.0.1:{}'\n",
            place.idp.issuer(),
            RESOURCES[0],
            logout.number()
        );
        let api = Api::before(HttpServer::start().unwrap(), &more);
        place.idp.set_backchannel(&format!("http://127.0.0.1:{}/", logout.number())).unwrap();
        Self { api, place, _logout: logout }
    }

    fn token(&self, user: &str) -> String {
        logged_in(&self.place, &client(), user).access.expose().clone()
    }

    fn told(&self, words: &[&str]) -> Value {
        let mut command = self.api.daemon.cli();
        let told = run(command.args(words).args(["--output", "json"]), 30).unwrap();
        serde_json::from_str(&told.ok().unwrap()).unwrap()
    }
}

fn bearing(asked: &mut Requests, path: &str, token: &str) -> Value {
    asked.ask("GET", path, &json!({"Authorization": format!("Bearer {token}")}), "")
}

#[test]
fn a_bearer_token_is_whom_the_session_acts_for_and_goes_nowhere() {
    let here = Believing::start();
    let (alice, carl) = (here.token(ALICE), here.token(CARL));
    let mut asked = here.api.asked(READER);
    let first = bearing(&mut asked, "/echo/alice", &alice);
    assert_eq!(first["status"], 200, "{first}");
    let sent = body(&first)["headers"].to_string().to_lowercase();
    assert!(!sent.contains("authorization"), "{sent}");
    // What follows without a token is hers as well, until another one is shown.
    assert_eq!(asked.get("/echo/alice")["status"], 200);
    let open = here.told(&["sessions", "--subject", "Alice"]);
    assert_eq!((&open["total"], &open["sessions"][0]["sub"]), (&json!(1), &json!(ALICE)), "{open}");
    assert_eq!(open["sessions"][0]["target"], "api");
    let his = bearing(&mut asked, "/echo/alice", &carl);
    assert_eq!(
        (&his["status"], &body(&his)["policy"]),
        (&json!(403), &json!("alice-alone")),
        "{his}"
    );
    assert_eq!(bearing(&mut asked, "/echo/x", &carl)["status"], 200);
    assert_eq!(asked.get("/echo/alice")["status"], 403, "his still");
    let again = bearing(&mut asked, "/echo/alice", &alice);
    assert_eq!((&again["status"], &again["port"]), (&json!(200), &first["port"]), "one connection");
    // Somebody's else token is the target's own matter; nobody's requests are nobody's.
    let stranger = Place::start();
    let other = logged_in(&stranger, &client(), ALICE).access.expose().clone();
    let mut nobodys = here.api.asked(READER);
    let passed = bearing(&mut nobodys, "/echo/x", &other);
    assert!(passed["body"].as_str().unwrap().contains(&other), "{passed}");
    assert_eq!(nobodys.get("/echo/alice")["status"], 403);
    drop((asked, nobodys));

    wait_until("sessions ended", 30, || Ok(here.api.daemon.count("sessions_open")? == 0)).unwrap();
    let evidence = Evidence::seal(&here.api.daemon).unwrap();
    let whose = "SELECT session_seq AS n, coalesce(actor_sub, '-') AS sub, status FROM events \
                 WHERE session_id = (SELECT session_id FROM sessions WHERE actor_sub = 'alice') ORDER BY n";
    let rows = evidence.duckdb(whose).unwrap();
    let seen: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row["sub"].as_str().unwrap(), row["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            (ALICE, "ok"),
            (ALICE, "ok"),
            (CARL, "denied"),
            (CARL, "ok"),
            (CARL, "denied"),
            (ALICE, "ok"),
        ]
    );
    let session = "SELECT count(*) FROM sessions WHERE actor_sub = 'alice' AND authn_method = 'bearer' \
                   AND protocol = 'http' AND actor_idp IS NOT NULL";
    assert_eq!(evidence.count(session).unwrap(), 1);
    let nobodys = "SELECT count(*) FROM events WHERE actor_sub IS NULL";
    assert_eq!(evidence.count(nobodys).unwrap(), 2);
    nowhere(
        &here.api.daemon,
        &evidence,
        vec![here.api.server.log()],
        "/echo/alice",
        &[&alice, &carl],
    );
    // The stranger's reached its server, and is in no record of ours.
    nowhere(&here.api.daemon, &evidence, Vec::new(), "/echo/", &[&other]);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn forged_bearer_tokens_are_refused_recorded_and_go_nowhere() {
    let here = Believing::start();
    let all = forged(&here.place);
    let mut asked = here.api.asked(READER);
    for Forged { what, token, word } in &all {
        let seen = bearing(&mut asked, "/echo/x", token);
        match *word {
            // More than a head may be: it is not even read.
            "too_large" => {
                assert!(seen["status"] == 431 || seen.get("error").is_some(), "{what}: {seen}");
            }
            // It does not say that it is of an issuer that counts: the target's own matter.
            "wrong_issuer" => assert_eq!(seen["status"], 200, "{what}: {seen}"),
            word => {
                assert_eq!(seen["status"], 401, "{what}: {seen}");
                let challenge = seen["headers"]["www-authenticate"].as_str().unwrap();
                assert!(
                    challenge.starts_with("Bearer ") && challenge.contains("invalid_token"),
                    "{challenge}"
                );
                let told = body(&seen);
                assert_eq!(told["policy"], "bearer-token", "{what}: {told}");
                assert!(
                    told["detail"].as_str().unwrap().ends_with(&format!(": {word}")),
                    "{what}: {told}"
                );
            }
        }
    }
    let sound = here.place.signed(&json!({}));
    // Where none is taken: in queries, paths, other fields and other schemes; or two at once.
    let field = |name: &str, value: String| ("/echo/x".to_owned(), json!({ name: value }));
    for (path, headers) in [
        (format!("/echo/x?access_token={sound}"), json!({})),
        (format!("/echo/x?a=b&q={}", sound.replace('.', "%2E")), json!({})),
        (format!("/echo/{sound}"), json!({})),
        field("X-Token", sound.clone()),
        field("Cookie", format!("a=b; session={sound}; c=d")),
        field("Authorization", format!("Token {sound}")),
        (
            "/echo/x".into(),
            json!({"Authorization": format!("Bearer {sound}"), "X-Authorization": format!("bearer {sound}")}),
        ),
    ] {
        let seen = asked.ask("GET", &path, &headers, "");
        assert_eq!(seen["status"], 401, "{seen}");
        assert!(body(&seen)["detail"].as_str().unwrap().ends_with(": not_taken_here"), "{seen}");
    }
    assert_eq!(bearing(&mut asked, "/echo/x", &sound)["status"], 200);
    drop(asked);
    let came = here.api.server.came().unwrap();
    assert_eq!(came.len(), 2, "that of no issuer of ours, and the sound one");
    let evidence = Evidence::seal(&here.api.daemon).unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'identity.refused' AND detail LIKE '%\"way\":\"bearer\"%'";
    assert_eq!(evidence.count(refused).unwrap(), all.len() as u64 - 2 + 7);
    for Forged { word, .. } in &all {
        let one = format!("{refused} AND detail LIKE '%\"why\":\"{word}\"%'");
        let is_read = !matches!(*word, "too_large" | "wrong_issuer");
        assert_eq!(evidence.count(&one).unwrap() > 0, is_read, "{word}");
    }
    let denied = "SELECT count(*) FROM events WHERE rule_id = 'bearer-token' AND status = 'denied' \
                  AND error_code = 'HT401' AND actor_sub IS NULL";
    assert_eq!(evidence.count(denied).unwrap(), all.len() as u64 - 2 + 7);
    let tokens: Vec<&str> = all.iter().map(|one| &*one.token).chain([&*sound]).collect();
    nowhere(&here.api.daemon, &evidence, Vec::new(), "/echo/", &tokens);
}

#[test]
fn who_is_logged_out_is_cut_with_the_request_under_way() {
    let here = Believing::start();
    let (alice, carl) = (here.token(ALICE), here.token(CARL));
    let (mut idle, mut waiting, mut hers) =
        (here.api.asked(READER), here.api.asked(READER), here.api.asked(READER));
    let mut streams = here.api.asked(READER);
    for asked in [&mut idle, &mut waiting, &mut streams] {
        assert_eq!(bearing(asked, "/echo/x", &carl)["status"], 200);
    }
    let port = bearing(&mut hers, "/echo/alice", &alice)["port"].clone();
    waiting.begin("GET", "/slow?s=30");
    streams.begin("GET", "/endless");
    let under_way = || {
        Ok(here.api.server.log().contains("/slow?s=30")
            && here.api.server.log().contains("/endless"))
    };
    wait_until("requests are under way", 30, under_way).unwrap();
    assert_eq!(here.place.idp.logout(CARL).unwrap(), 1);
    let told = waiting.answer();
    assert_eq!(
        (&told["status"], &body(&told)["policy"]),
        (&json!(401), &json!("identity")),
        "{told}"
    );
    assert!(body(&told)["detail"].as_str().unwrap().contains("logged_out"), "{told}");
    let cut = streams.answer();
    assert!(cut["error"].as_str().is_some_and(|error| error.contains("IncompleteRead")), "{cut}");
    let one = || Ok(here.told(&["sessions"])["total"] == 1);
    wait_until("his sessions are over", 20, one).unwrap();
    let still = hers.get("/echo/alice");
    assert_eq!((&still["status"], &still["port"]), (&json!(200), &port), "hers goes on");
    let told = bearing(&mut idle, "/echo/x", &carl);
    let told =
        if told.get("error").is_some() { bearing(&mut idle, "/echo/x", &carl) } else { told };
    assert!(
        told["status"] == 401 && body(&told)["detail"].as_str().unwrap().ends_with(": logged_out"),
        "{told}"
    );
    drop((idle, waiting, streams, hers));
    wait_until("sessions ended", 30, || Ok(here.api.daemon.count("sessions_open")? == 0)).unwrap();
    let evidence = Evidence::seal(&here.api.daemon).unwrap();
    let ended = "SELECT count(*) FROM sessions WHERE actor_sub = 'carl' AND close_reason = 'identity_ended'";
    assert_eq!(evidence.count(ended).unwrap(), 3);
    let interrupted =
        "SELECT count(*) FROM events WHERE actor_sub = 'carl' AND status = 'interrupted'";
    assert_eq!(evidence.count(interrupted).unwrap(), 2);
    let dismissed = "SELECT count(*) FROM control WHERE kind = 'session.dismissed' AND detail LIKE '%logged_out%carl%'";
    assert_eq!(evidence.count(dismissed).unwrap(), 3);
    nowhere(&here.api.daemon, &evidence, vec![here.api.server.log()], "/echo/", &[&alice, &carl]);
}

#[test]
fn a_session_by_a_bearer_token_ends_with_it_or_by_an_operator() {
    let here = Believing::start();
    here.place.idp.set_seconds(6).unwrap();
    let short = here.token(ALICE);
    let mut asked = here.api.asked(READER);
    assert_eq!(bearing(&mut asked, "/echo/alice", &short)["status"], 200);
    let none = || Ok(here.told(&["sessions"])["total"] == 0);
    wait_until("the token has expired", 40, none).unwrap();
    let told = bearing(&mut asked, "/echo/alice", &short);
    let told =
        if told.get("error").is_some() { bearing(&mut asked, "/echo/alice", &short) } else { told };
    assert!(told["status"] == 401, "{told}");
    here.place.idp.set_seconds(600).unwrap();
    let mut other = here.api.asked(READER);
    assert_eq!(bearing(&mut other, "/echo/alice", &here.token(ALICE))["status"], 200);
    let mut revoke = here.api.daemon.cli();
    revoke.args(["revoke", "--subject", "Alice", "--reason", "let go"]);
    run(&mut revoke, 30).unwrap().ok().unwrap();
    wait_until("her session is over", 20, none).unwrap();
}
