//! A command that waits at a host and is answered at a hub.

use std::io::Read;
use std::process::{Command, Stdio};

use integration::certificates::Certificates;
use integration::daemon::{ExtraPolicy, Supervisor};
use integration::hub::{HubRules, certificates, database, host_settings};
use integration::idp::{CLIENT, SignedBy};
use integration::process::{Running, run, wait_until};
use integration::world::{WRITER, WRITER_POLICY};
use integration::{Agent, Daemon, Hub, Idp, Postgres, World, bank};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::oidc::now;

/// Deletes wait for one person; updates do too, for two seconds.
const WAITS: ExtraPolicy<'static> = (
    "waits.cedar",
    r#"
@id("transfers-are-written")
permit (principal, action in Action::"write", resource) when { resource is Table && resource.name == "transfers" };
@id("deletes-wait")
@reason("deletes on transfers need a second person")
@approve("groups=dba, request=2m, grant=2m")
forbid (principal, action == Action::"delete", resource) when { resource is Table && resource.name == "transfers" };
@id("updates-wait")
@approve("groups=dba, request=2s")
forbid (principal, action == Action::"update", resource) when { resource is Table && resource.name == "transfers" };
"#,
);

/// The audience of people's tokens for the API.
const AUDIENCE: &str = "https://bank.example/approvals";

/// A host and its hubs.
struct Fleet {
    world: World,
    hubs: Vec<Hub>,
    idp: Idp,
    _files: Certificates,
}

impl Fleet {
    /// With so many hubs: one has a file, several a database.
    fn start(count: usize) -> Self {
        let (bank, idp) = (Postgres::start().unwrap(), Idp::start().unwrap());
        let policies = [WRITER_POLICY, WAITS];
        let daemon = Daemon::start_with(Supervisor::None, bank.port(), 2, &policies, "").unwrap();
        let mut world = World { daemon, bank };
        let node = world.daemon.slice();
        let files = certificates(std::slice::from_ref(&node)).unwrap();
        let database = database(&world.bank).unwrap();
        let store = if count == 1 { "file = \"HERE/hub.redb\"" } else { &database };
        let (hosts, revoked) = ([node.clone()], "");
        let issuer = idp.issuer();
        let more = format!(
            "[console]\nlisten = \"CONSOLE\"\nexternal_url = \"http://CONSOLE\"\nissuer = \"{issuer}\"\n\
             groups = [\"dba\"]\napi_audience = \"{AUDIENCE}\"\n\
             [[issuer]]\nurl = \"{issuer}\"\naudiences = [\"{AUDIENCE}\", \"{CLIENT}\"]\n\
             client = {{ id = \"{CLIENT}\", secret_env = \"HUB_CLIENT_SECRET\" }}\n"
        );
        let start = |name| {
            let (certificates, hosts, more) = (&files, &hosts, more.as_str());
            let rules = HubRules { name, certificates, hosts, revoked, store, more };
            Hub::start(&rules).unwrap()
        };
        let hubs: Vec<Hub> = ["hub-1", "hub-2"].into_iter().take(count).map(start).collect();
        let settings = host_settings(&files, &node, &hubs.iter().collect::<Vec<_>>());
        world.daemon.restart_with(&settings).unwrap();
        let own = Self { world, hubs, idp, _files: files };
        wait_until("it is connected", 20, || Ok(own.hub_of_host().is_some())).unwrap();
        own
    }

    /// At which hub the host is.
    fn hub_of_host(&self) -> Option<usize> {
        let status = self.world.daemon.status().unwrap();
        let at = status["hub"]["hub"].as_str()?.to_owned();
        self.hubs.iter().position(|hub| at.starts_with(&hub.url()))
    }

    /// Starts psql as an agent.
    fn psql(&self, sql: &str) -> Running {
        let agent = Agent::new(&self.world.daemon, WRITER, bank::ROLE, self.world.bank.port());
        let mut command = agent.command("psql");
        command.args(["-XAt", "-v", "VERBOSITY=verbose", "-c", sql]).stdin(Stdio::null());
        // What it is told goes where its result goes.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.stdin(Stdio::null()).stdout(Stdio::piped());
        Running::new("psql", &mut shell).unwrap()
    }

    fn token(&self, person: &str) -> String {
        let header = json!({ "alg": "ES256", "kid": "ES256-1", "typ": "at+jwt" }).to_string();
        let now_s = now(0).unix_us / 1_000_000;
        let claims = json!({
            "iss": self.idp.issuer(), "sub": person, "aud": AUDIENCE, "exp": now_s + 600, "iat": now_s,
            "client_id": CLIENT, "jti": person, "name": person, "groups": ["dba"],
        });
        self.idp.sign(&header, &claims.to_string(), SignedBy::Es256).unwrap()
    }

    /// Asks a hub's API as a person; the status, and the answer.
    fn api(&self, hub: usize, person: &str, path: &str, body: Option<Value>) -> (u32, Value) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]);
        curl.args(["--header", &format!("authorization: Bearer {}", self.token(person))]);
        if let Some(body) = body {
            curl.args(["--header", "content-type: application/json", "--data", &body.to_string()]);
        }
        curl.arg(format!("http://{}/api/v1{path}", self.hubs[hub].console_address()));
        let said = run(&mut curl, 30).unwrap();
        let (body, status) = said.stdout.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    /// The request that waits, by a hub.
    fn waiting(&self, hub: usize) -> Value {
        let mut found = Value::Null;
        wait_until("a request waits at the hub", 30, || {
            found = self.api(hub, "dana", "/approvals", None).1["approvals"][0].clone();
            Ok(found.is_object())
        })
        .unwrap();
        found
    }

    fn count(&self, sql: &str) -> u64 {
        self.world.bank.sql_in("hub", sql).unwrap().trim().parse().unwrap()
    }

    fn control(&self, sql: &str) -> u64 {
        self.world
            .evidence()
            .unwrap()
            .count(&format!("SELECT count(*) FROM control WHERE {sql}"))
            .unwrap()
    }
}

/// What a program said until it ended.
fn said(mut process: Running) -> String {
    let mut said = String::new();
    process.take_stdout().unwrap().read_to_string(&mut said).unwrap();
    process.wait(60).unwrap();
    said
}

#[test]
fn what_waits_at_a_host_is_answered_at_any_hub_and_ends_by_itself_without() {
    let mut fleet = Fleet::start(2);
    let psql = fleet.psql("DELETE FROM transfers WHERE id = 4711");
    let at = fleet.hub_of_host().unwrap();
    let shown = fleet.waiting(at);
    let text = shown["shown"].as_str().unwrap();
    assert!(text.contains("DELETE FROM transfers WHERE id = 4711"), "{text}");
    // The host's hub is killed; it goes to the other one, where a person answers.
    fleet.hubs[at].kill();
    let id = shown["request"]["id"].as_str().unwrap();
    let vote = json!({ "answer": "approve", "shown_sha256": shown["shown_sha256"] });
    let (status, answer) =
        fleet.api(1 - at, "dana", &format!("/approvals/{id}/votes"), Some(vote.clone()));
    assert_eq!(status, 200, "{answer}");
    assert!(answer["voted"] == "granted" || answer["voted"] == "kept", "{answer}");
    let told = said(psql);
    assert!(told.contains("DELETE 1"), "{told}");
    // Once more by the same person is no other vote.
    let (status, again) = fleet.api(1 - at, "dana", &format!("/approvals/{id}/votes"), Some(vote));
    assert!(status == 200 && again["voted"] == "already", "{status} {again}");
    wait_until("the hub knows that it is over", 20, || {
        Ok(fleet.count("select count(*) from vestibule_hub.requests where waits") == 0)
    })
    .unwrap();
    assert_eq!(fleet.count("select count(*) from vestibule_hub.texts"), 0);
    // As the statement has it: digits alone are in times and ids as well.
    let literal = "select count(*) from vestibule_hub.requests where standing like '%= 4711%'";
    assert_eq!(fleet.count(literal), 0, "no text is left");
    assert_eq!(fleet.control("kind = 'approval.voted' AND detail LIKE '%hub:api%'"), 1);
    // Without any hub it goes on to hold, and what waits ends.
    fleet.hubs[1 - at].kill();
    let told = said(fleet.psql("UPDATE transfers SET id = id WHERE id = 4712"));
    assert!(told.contains("57014") && told.contains("nobody answered"), "{told}");
    // Back at a hub, it says how that ended.
    fleet.hubs[at].restart().unwrap();
    wait_until("the hub was told", 40, || {
        let expired = "select count(*) from vestibule_hub.requests where standing like '%\"how\":\"expired\"%'";
        Ok(fleet.count(expired) == 1)
    })
    .unwrap();
}

/// What a hub acknowledged is in its file, whatever becomes of the hub before the host could be told.
#[test]
fn a_vote_that_a_hub_keeps_in_its_file_outlives_it() {
    let mut fleet = Fleet::start(1);
    let psql = fleet.psql("DELETE FROM transfers WHERE id = 4711");
    let shown = fleet.waiting(0);
    let daemon = fleet.world.daemon.count("pid").unwrap();
    let daemon = Pid::from_raw(i32::try_from(daemon).unwrap()).unwrap();
    kill_process(daemon, Signal::STOP).unwrap();
    let id = shown["request"]["id"].as_str().unwrap();
    let vote = json!({ "answer": "approve", "shown_sha256": shown["shown_sha256"] });
    let (status, answer) = fleet.api(0, "dana", &format!("/approvals/{id}/votes"), Some(vote));
    fleet.hubs[0].kill();
    fleet.hubs[0].restart().unwrap();
    let listed = fleet.waiting(0);
    kill_process(daemon, Signal::CONT).unwrap();
    assert_eq!((status, answer["voted"].as_str()), (200, Some("kept")), "{answer}");
    assert_eq!(listed["request"]["id"], id, "the host could not say it again");
    let told = said(psql);
    assert!(told.contains("DELETE 1"), "{told}");
    assert_eq!(fleet.control("kind = 'approval.voted' AND detail LIKE '%hub:api%'"), 1);
}
