//! Several hosts, one approval desk: hubs, their certificates, and hosts' links to them.

use std::process::Command;

use integration::certificates::Certificates;
use integration::hub::{HubRules, certificates, database, encrypted_database, host_settings};
use integration::process::{run, wait_until};
use integration::{Hub, Postgres, World, paths};
use serde_json::{Value, json};

/// Hosts that nobody is.
const HOSTS: [&str; 3] = ["db-1.bank.test", "db-2.bank.test", "stray.bank.test"];

/// A store for one hub.
const FILE: &str = "file = \"HERE/hub.redb\"";

fn hosts() -> Vec<String> {
    HOSTS.map(str::to_owned).into()
}

/// What a hub answers to a host's certificate: the status, and what it says.
fn asked(hub: &Hub, files: &Certificates, who: &str, what: &[&str]) -> (u32, Value) {
    let file = |name: &str| files.path(name).display().to_string();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "10", "--cacert", &file("bank.crt")]);
    if !who.is_empty() {
        curl.args(["--cert", &file(&format!("{who}.crt")), "--key", &file(&format!("{who}.key"))]);
    }
    curl.args(["--write-out", "\n%{http_code}"]);
    let (path, more) = what.split_first().unwrap();
    let said = run(curl.args(more).arg(format!("{}{path}", hub.url())), 20).unwrap();
    let (body, status) = said.stdout.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

/// What a daemon says of its link.
fn link(world: &World) -> Value {
    world.daemon.status().unwrap()["hub"].clone()
}

fn is_at(world: &World, hub: &Hub) -> bool {
    link(world)["hub"].as_str().is_some_and(|at| at.starts_with(&hub.url()))
}

fn records(world: &World, kind: &str) -> Vec<Value> {
    let sql = format!("SELECT detail FROM control WHERE kind = '{kind}' ORDER BY ts");
    let rows = world.evidence().unwrap().query(&sql).unwrap();
    let read = |row: &Value| serde_json::from_str(row["detail"].as_str().unwrap()).unwrap();
    rows.iter().map(read).collect()
}

#[test]
fn a_host_speaks_for_itself_alone() {
    let (hosts, strangers) = (hosts(), Certificates::make("IP:127.0.0.1").unwrap());
    let files = certificates(&hosts).unwrap();
    // Of another authority; and one whose common name alone is the host's, or that names them all.
    strangers.make_named(HOSTS[0], &format!("DNS:{}", HOSTS[0])).unwrap();
    for (from, to) in [("crt", "crt"), ("key", "key")] {
        let theirs = strangers.path(&format!("{}.{from}", HOSTS[0]));
        std::fs::copy(theirs, files.path(&format!("stranger.{to}"))).unwrap();
    }
    files.make_client(HOSTS[0].split_at(4).0).unwrap();
    files.make_named("wild", "DNS:*.bank.test").unwrap();
    let rules = HubRules {
        name: "hub-1",
        certificates: &files,
        hosts: &["db-1.bank.test".to_owned(), "DB-2.bank.test".to_owned()],
        revoked: "",
        store: FILE,
        more: "",
    };
    let hub = Hub::start(&rules).unwrap();
    assert!(hub.check().unwrap().contains("ok"));
    let votes = |node: &str| format!("/v1/nodes/{node}/votes?wait_s=0");
    let post = ["--request", "POST", "--data"];
    for (who, path, more, status, word) in [
        (HOSTS[0], votes(HOSTS[0]), vec![], 200, ""),
        (HOSTS[1], votes(HOSTS[1]), vec![], 200, ""),
        (HOSTS[1], votes(HOSTS[0]), vec![], 403, "not that of"),
        // Its certificate is good, and it is none of the hub's hosts.
        (HOSTS[2], votes(HOSTS[2]), vec![], 403, "none of this hub's hosts"),
        ("wild", votes(HOSTS[0]), vec![], 403, "not that of"),
        ("db-1", votes(HOSTS[0]), vec![], 403, "not that of"),
        // No certificate, or a stranger's: no handshake.
        ("", votes(HOSTS[0]), vec![], 0, ""),
        ("stranger", votes(HOSTS[0]), vec![], 0, ""),
        (
            HOSTS[0],
            format!("/v1/nodes/{}/hello", HOSTS[0]),
            [&post[..], &["{}"]].concat(),
            400,
            "sense",
        ),
        (HOSTS[0], "/v1/nodes".into(), vec![], 404, "nothing here"),
        (HOSTS[0], "/".into(), vec![], 404, "nothing here"),
    ] {
        let (seen, said) = asked(&hub, &files, who, &[&[path.as_str()][..], &more].concat());
        assert_eq!(seen, status, "{who} {path}: {said}\n{}", hub.log());
        assert!(said["error"].as_str().unwrap_or_default().contains(word), "{said}");
    }
    assert!(hub.log().contains("no host: the handshake failed"), "{}", hub.log());
}

#[test]
fn a_host_whose_certificate_is_revoked_does_not_come() {
    let (hosts, name, more) = (hosts(), "hub-1", "");
    let files = certificates(&hosts).unwrap();
    files.revoke(HOSTS[1]).unwrap();
    let start = |revoked| {
        let rules =
            HubRules { name, certificates: &files, hosts: &hosts, revoked, store: FILE, more };
        Hub::start(&rules).unwrap()
    };
    for (revoked, statuses) in [("", [200, 200]), ("revoked.pem", [200, 0])] {
        let hub = start(revoked);
        let status = |host: &str| {
            let votes = format!("/v1/nodes/{host}/votes?wait_s=0");
            asked(&hub, &files, host, &[&votes]).0
        };
        assert_eq!([status(HOSTS[0]), status(HOSTS[1])], statuses, "{revoked}: {}", hub.log());
        if !revoked.is_empty() {
            wait_until("the hub says why", 10, || Ok(hub.log().contains("Revoked"))).unwrap();
        }
    }
}

#[test]
fn a_hubs_database_is_the_one_it_says_and_is_spoken_to_in_secret() {
    let (hosts, name, revoked, more) = (hosts(), "hub-1", "", "");
    let files = certificates(&hosts).unwrap();
    let settings = files.server_settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Postgres::with_settings(&settings).unwrap();
    let store = encrypted_database(&server, &files).unwrap();
    let start = |store: &str| {
        let rules = HubRules { name, certificates: &files, hosts: &hosts, revoked, store, more };
        Hub::start(&rules)
    };
    let _hub = start(&store).unwrap();
    let with = |is: &str| {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE datname = 'hub' AND pid <> pg_backend_pid() AND ssl = {is}"
        );
        server.sql(&sql).unwrap().trim().parse::<u32>().unwrap()
    };
    assert!(with("true") > 0 && with("false") == 0);
    // Another authority's word for it; and by a name that it has not.
    let stranger = Certificates::make("IP:127.0.0.1").unwrap();
    let (ours, theirs) = (files.path("bank.crt"), stranger.path("bank.crt"));
    let other = store.replace(ours.to_str().unwrap(), theirs.to_str().unwrap());
    for wrong in [other, store.replace("@127.0.0.1", "@localhost")] {
        let error = format!("{:#}", start(&wrong).unwrap_err());
        assert!(error.contains("certificate"), "{error}");
    }
}

#[test]
fn a_daemon_goes_to_the_next_hub_and_says_where_it_is() {
    let mut world = World::start().unwrap();
    let node = world.daemon.slice();
    let files = certificates(std::slice::from_ref(&node)).unwrap();
    let store = database(&world.bank).unwrap();
    let hosts = [node.clone()];
    let start = |name| {
        let (revoked, more) = ("", "");
        let rules =
            HubRules { name, certificates: &files, hosts: &hosts, revoked, store: &store, more };
        Hub::start(&rules).unwrap()
    };
    let (mut one, mut other) = (start("hub-1"), start("hub-2"));
    world.daemon.restart_with(&host_settings(&files, &node, &[&one, &other])).unwrap();
    wait_until("it is connected", 20, || Ok(link(&world)["hub"].is_string())).unwrap();
    let (first, second) =
        if is_at(&world, &one) { (&mut one, &mut other) } else { (&mut other, &mut one) };
    first.kill();
    wait_until("it is at the other hub", 20, || Ok(is_at(&world, second))).unwrap();
    second.kill();
    wait_until("it is at none", 20, || Ok(link(&world)["hub"].is_null())).unwrap();
    assert!(link(&world)["error"].is_string(), "{}", link(&world));
    let checks = run(world.daemon.cli().args(["doctor", "--output", "json"]), 60).unwrap().stdout;
    assert!(checks.contains("approval hub") && checks.contains("on this host alone"), "{checks}");
    // It goes on to decide and to record.
    assert_eq!(world.reader().psql("SELECT 7").unwrap().ok().unwrap().trim(), "7");
    wait_until("that is recorded", 20, || Ok(!records(&world, "hub.lost").is_empty())).unwrap();
    first.restart().unwrap();
    wait_until("it is back", 30, || Ok(is_at(&world, first))).unwrap();
    let connected = records(&world, "hub.connected");
    assert_eq!(connected.len(), 3, "{connected:?}");
    assert_eq!(connected[0].get("lost"), None);
    assert_eq!(connected[2]["hub"], json!(first.url()));
    assert_eq!(connected[1]["lost"]["hub"], json!(first.url()), "{connected:?}");
}

/// What `cargo xtask bench --hub` does for a minute: see there.
#[test]
fn no_vote_is_lost_while_one_of_two_hubs_is_killed_again_and_again() {
    let mut bench = Command::new(paths::programs().unwrap().join("bench-hub"));
    bench.args(["--seconds", "8", "--rate", "40", "--hosts", "4", "--kill-every", "3"]);
    let told = run(&mut bench, 200).unwrap().ok().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["votes_acknowledged"].as_u64().unwrap() >= 250, "{told}");
}
