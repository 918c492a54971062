//! Webhooks: a real receiver is told at least once, by messages that it can tell from others'.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use integration::Receiver;
use integration::idp::{DANA, RUTH};
use integration::process::wait_until;
use integration::receiver::SECRET;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::desk::{Desk, end};

fn start(receiver: &Receiver) -> (Desk, NamedTempFile) {
    let secret = NamedTempFile::new().unwrap();
    fs::write(secret.path(), SECRET).unwrap();
    let (url, file) = (receiver.url(), secret.path().display());
    let desk = Desk::start(&format!(
        "[approvals]\nurl = 'https://approvals.example/'\n\
         [[webhook]]\nname = 'all'\nurl = '{url}'\nsecret_file = '{file}'\n\
         [[webhook]]\nname = 'alerts'\nurl = '{url}'\nsecret_file = '{file}'\nevents = ['break_glass']\n"
    ));
    (desk, secret)
}

/// What a receiver took, each message once, by what it tells.
fn told(receiver: &Receiver) -> BTreeMap<String, Vec<Value>> {
    let mut seen = BTreeSet::new();
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for taken in receiver.taken().unwrap() {
        let id = taken["headers"]["webhook-id"].as_str().unwrap().to_owned();
        if seen.insert(id) {
            let body: Value = serde_json::from_str(taken["body"].as_str().unwrap()).unwrap();
            told.entry(body["type"].as_str().unwrap().to_owned()).or_default().push(body);
        }
    }
    told
}

fn due(desk: &Desk) -> u64 {
    desk.story.told(&["status"])["webhooks_due"].as_u64().unwrap()
}

/// The receiver fails half the time and is killed; the daemon is killed; nothing is lost and nothing is made up.
#[test]
fn nothing_is_lost_though_both_sides_are_killed() {
    let mut receiver = Receiver::start().unwrap();
    let (mut desk, _secret) = start(&receiver);
    desk.log_in(DANA);
    let mut ids: Vec<String> = Vec::new();
    let mut ask = |desk: &Desk, row: u32| {
        let process = desk.psql(None, &[], &format!("DELETE FROM transfers WHERE id = {row}"));
        let known: Vec<&str> = ids.iter().map(String::as_str).collect();
        let id = desk.next(&known);
        ids.push(id.clone());
        (process, id)
    };
    let (first, id) = ask(&desk, 41);
    desk.approve(DANA, &id, "granted");
    end(first);
    receiver.kill();
    // Nobody is there to be told.
    let (second, id) = ask(&desk, 42);
    let deny = ["deny", &id, "--yes", "--reason", "<b>no</b>"];
    assert!(desk.approvals(Some(DANA), &deny).stdout.contains("refused"));
    end(second);
    let (third, _) = ask(&desk, 43);
    assert!(due(&desk) >= 3);
    let shown = desk.told(&["deliveries"]);
    assert_eq!(shown["hooks"].as_array().unwrap().len(), 2, "{shown}");
    desk.story.world.daemon.kill();
    receiver.restart().unwrap();
    desk.story.world.daemon.restart().unwrap();
    end(third);
    let all = || {
        let told = told(&receiver);
        let count = |kind: &str| told.get(kind).map_or(0, Vec::len);
        let found = ["requested", "granted", "refused", "ended"]
            .map(|kind| count(&format!("approval.{kind}")));
        Ok(found == [3, 1, 1, 1])
    };
    wait_until("everything is told", 90, all).unwrap();
    wait_until("and known to be", 90, || Ok(due(&desk) == 0)).unwrap();

    let told = told(&receiver);
    // What failed comes later than what came after it.
    let mut requested = told["approval.requested"].iter().map(|body| &body["data"]);
    let requested = requested.find(|data| data["request"] == ids[0]).unwrap();
    assert_eq!(requested["statement"], "DELETE FROM transfers WHERE id = $1");
    let url = format!("https://approvals.example/approvals/{}", ids[0]);
    assert_eq!((&requested["request"], &requested["url"]), (&json!(ids[0]), &json!(url)));
    assert_eq!(told["approval.granted"][0]["data"]["outcome"]["people"], json!(["Dana"]));
    assert_eq!(told["approval.refused"][0]["data"]["outcome"]["reason"], "<b>no</b>");
    assert_eq!(told["approval.ended"][0]["data"]["outcome"]["how"], "restarted");
    let bodies: String = receiver.taken().unwrap().iter().map(Value::to_string).collect();
    assert!(!bodies.contains("id = 4"), "a literal is told");

    let evidence = desk.story.world.evidence().unwrap();
    let count =
        |sql: &str| evidence.count(&format!("SELECT count(*) FROM control WHERE {sql}")).unwrap();
    assert_eq!(count("kind = 'webhook.delivered'"), 6);
    assert!(count("kind = 'webhook.failed'") >= 3);
    assert_eq!(count("kind = 'webhook.failed' AND json_extract(detail, '$.given_up')::bool"), 0);
    let log = desk.story.world.daemon.log();
    assert!(!log.contains(SECRET) && !log.contains(&receiver.url()));
}

#[test]
fn breaking_the_glass_needs_its_own_group_and_a_reason_and_is_told() {
    let receiver = Receiver::start().unwrap();
    let (desk, _secret) = start(&receiver);
    desk.log_in(DANA);
    desk.story.place.idp.set_groups(RUTH, &["incident"]).unwrap();
    desk.log_in(RUTH);
    let waits = desk.psql(None, &[], "DELETE FROM transfers WHERE id = 51");
    let id = desk.next(&[]);
    let reason = ["--yes", "--reason", "the bank is on fire"];
    let words = |what: &'static str| [&[what, &id][..], &reason].concat();
    desk.refused(
        Some(DANA),
        &words("break-glass"),
        "breaking the glass here needs a member of incident",
    );
    desk.refused(Some(RUTH), &words("approve"), "needs a member of dba, risk");
    desk.refused(Some(RUTH), &["break-glass", &id, "--yes"], "--reason");
    let broken = desk.approvals(Some(RUTH), &words("break-glass"));
    assert!(broken.stdout.contains("granted: the command goes on (glass broken)"), "{broken:?}");
    assert!(end(waits).1.contains("DELETE 1"));
    let both = || {
        Ok(desk.told(&["deliveries"])["hooks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|hook| hook["due"] == 0))
    };
    wait_until("it is told", 60, both).unwrap();
    let alert = &told(&receiver)["approval.break_glass"][0];
    assert_eq!(
        alert["data"]["outcome"],
        json!({"how": "break_glass", "people": ["Ruth"], "reason": "the bank is on fire"})
    );
    let taken = receiver.taken().unwrap();
    let alerts =
        taken.iter().filter(|one| one["body"].as_str().unwrap().contains("approval.break_glass"));
    assert!(alerts.count() >= 2, "each hook hears of it");
    let log = desk.story.world.daemon.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("break glass")), "{log}");
    let evidence = desk.story.world.evidence().unwrap();
    let rows = evidence.duckdb(crate::desk::EVERY_APPROVAL).unwrap();
    assert!(
        rows.iter().any(|row| row["decision"] == "break_glass" && row["rows"] == 1),
        "{rows:?}"
    );
    let doctor = desk.story.told(&["doctor"]);
    let check = |name: &str| {
        doctor.as_array().unwrap().iter().find(|check| check["name"] == name).cloned().unwrap()
    };
    assert_eq!(check("webhook alerts")["verdict"], "ok", "{doctor}");
    assert_eq!(check("approvals")["verdict"], "ok", "{doctor}");

    // The receiver tells ours from others'.
    let genuine = &taken[0];
    let (headers, body) = (&genuine["headers"], genuine["body"].as_str().unwrap());
    let with = |name: &str, value: &str| {
        let mut headers = headers.clone();
        headers[name] = json!(value);
        headers
    };
    let other_body = body.replace("Ruth", "Carl").replace("requested", "granted");
    let at: i64 = headers["webhook-timestamp"].as_str().unwrap().parse().unwrap();
    let asked = [
        (headers, body, 0),
        (headers, &*other_body, 0),
        (&with("webhook-id", "msg_other"), body, 0),
        (&with("webhook-timestamp", &(at + 1).to_string()), body, 0),
        (&with("webhook-signature", "v1,AAAA"), body, 0),
        (headers, body, 301),
    ];
    assert_eq!(receiver.judge(&asked).unwrap(), [true, false, false, false, false, false]);
}

/// What operators are told to check by is what the receiver of these tests checks by.
#[test]
fn the_recipe_for_receivers_is_the_one_that_is_tested() {
    let recipe = include_str!("../src/receiver.py");
    let from = recipe.find("def is_ours").unwrap();
    let function = recipe[from..].split("\n\n").next().unwrap();
    let manual = include_str!("../../docs/operator.md");
    assert!(manual.contains(function), "{function}");
}
