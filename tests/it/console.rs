//! The console of a daemon, with a real provider: who gets in, what is refused, and what the pages show.

use std::fs;
use std::process::{Command, Stdio};

use integration::agent::with_bank;
use integration::idp::{CARL, CLIENT, DANA, PASSWORD, RESOURCES, RUTH, SECRET};
use integration::port::Port;
use integration::process::{Running, wait_until};
use integration::web::Page;
use integration::{Idp, Web, World};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::standing::{ASKS, Asked};

/// A provider, and a daemon with a console that its users sign in at.
pub(crate) struct Scene {
    pub(crate) idp: Idp,
    pub(crate) world: World,
    /// Where the console is.
    pub(crate) url: String,
    _ports: [Port; 2],
    _secret: NamedTempFile,
}

impl Scene {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], "")
    }

    /// With more policies, and more in the console's own table.
    pub(crate) fn start_with(policies: &[(&str, &str)], more: &str) -> Self {
        let idp = Idp::start().unwrap();
        let ports = [Port::take().unwrap(), Port::take().unwrap()];
        let [console, logout] = [ports[0].number(), ports[1].number()];
        let url = format!("http://127.0.0.1:{console}");
        idp.set_redirects(&[&format!("{url}/signed-in")]).unwrap();
        let secret = NamedTempFile::new().unwrap();
        fs::write(secret.path(), SECRET).unwrap();
        let configuration = format!(
            "[[issuer]]\nurl = '{issuer}'\naudiences = ['{api}', '{CLIENT}', '{es}']\n\
             [issuer.client]\nid = '{CLIENT}'\nsecret_file = '{secret}'\nscope = 'openid profile groups bank'\n\
             [logout]\nlisten = '127.0.0.1:{logout}'\n\
             [console]\nlisten = '127.0.0.1:{console}'\nexternal_url = '{url}'\nissuer = '{issuer}'\n\
             groups = ['dba', 'risk']\nend_groups = ['risk']\napi_audience = '{api}'\n{more}",
            issuer = idp.issuer(),
            api = RESOURCES[0],
            es = RESOURCES[1],
            secret = secret.path().display(),
        );
        let world = World::ruled_with(policies, &configuration).unwrap();
        idp.set_backchannel(&format!("http://127.0.0.1:{logout}/")).unwrap();
        Self { idp, world, url, _ports: ports, _secret: secret }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Has a browser sign in as a user, by the provider's form; the page that it ends at.
    pub(crate) fn sign_in(&self, web: &mut Web, user: &str) -> Page {
        let page = web.get(&self.at("/approvals")).unwrap();
        assert!(page.url.ends_with("/sign-in?to=/approvals"), "{}", page.url);
        let (csrf, to) = (page.field("csrf").unwrap(), page.field("to").unwrap());
        let page = web.post(&self.at("/sign-in"), &[("csrf", &csrf), ("to", &to)]).unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        let page = web.get(&page.field("on").unwrap()).unwrap();
        if !page.body.contains("The bank's provider") {
            return page;
        }
        web.post(&page.url.clone(), &[("user", user), ("password", PASSWORD)]).unwrap()
    }

    /// A browser that a user is signed in with.
    pub(crate) fn signed_in(&self, user: &str) -> Web {
        let mut web = Web::default();
        let page = self.sign_in(&mut web, user);
        assert!(page.url.ends_with("/approvals") && page.status == 200, "{page:?}");
        web
    }
}

#[test]
fn people_sign_in_by_their_issuer_and_are_shown_what_their_groups_may_see() {
    let scene = Scene::start();
    let mut web = Web::default();
    let page = scene.sign_in(&mut web, DANA);
    assert!(page.url.ends_with("/approvals") && page.status == 200, "{page:?}");
    assert!(page.body.contains("Nothing waits for an answer.") && page.body.contains("Dana"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe"));
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    for path in ["/evidence", "/sessions", "/archive", "/static/htmx.min.js", "/static/console.css"]
    {
        assert_eq!(web.get(&scene.at(path)).unwrap().status, 200, "{path}");
    }
    assert_eq!(web.get(&scene.at("/nowhere")).unwrap().status, 404);
    // Nothing that is polled is sent again as long as it is the same.
    let seen = page.body.split_once("seen=").unwrap().1.split_once('"').unwrap().0.to_owned();
    let polled = web.get(&scene.at(&format!("/approvals/list?seen={seen}"))).unwrap();
    assert_eq!(polled.status, 204);
    // Who is in none of the groups is told so.
    let page = scene.sign_in(&mut Web::default(), CARL);
    assert!(page.status == 403 && page.body.contains("none of the groups"), "{page:?}");
    // Whoever signs out is out.
    let csrf = web.get(&scene.at("/approvals")).unwrap().field("csrf").unwrap();
    let page = web.post(&scene.at("/sign-out"), &[("csrf", &csrf)]).unwrap();
    assert!(page.body.contains("You are signed out here."), "{page:?}");
    assert!(web.get(&scene.at("/approvals")).unwrap().url.contains("/sign-in"));
    let evidence = scene.world.evidence().unwrap();
    let count = |kind: &str, detail: &str| {
        let sql = format!(
            "SELECT count(*) FROM control WHERE kind = '{kind}' AND detail LIKE '%{detail}%'"
        );
        evidence.count(&sql).unwrap()
    };
    assert_eq!(count("console.signed_in", "dana@http://127.0.0.1"), 1);
    assert_eq!(count("console.signed_out", "dana@http://127.0.0.1"), 1);
    assert_eq!(count("console.refused", "not_in_groups"), 1);
    assert!(!scene.world.daemon.log().contains("eyJ"));
}

#[test]
fn what_did_not_come_from_a_page_of_ours_changes_nothing() {
    let scene = Scene::start();
    let mut web = scene.signed_in(RUTH);
    let csrf = web.get(&scene.at("/approvals")).unwrap().field("csrf").unwrap();
    let out = scene.at("/sign-out");
    let (own, forged) = (format!("csrf={csrf}"), "csrf=forged".to_owned());
    let same = ("Sec-Fetch-Site", "same-origin");
    for (headers, body) in [
        (vec![same], &forged),
        (vec![], &own),
        (vec![("Origin", "null")], &own),
        (vec![("Origin", "https://evil.example")], &own),
        (vec![("Sec-Fetch-Site", "cross-site"), ("Origin", &*scene.url)], &own),
        (vec![("Sec-Fetch-Site", "same-site")], &own),
        (vec![same, ("Origin", "https://evil.example")], &own),
    ] {
        let page = web.send("POST", &out, &headers, Some(body)).unwrap();
        assert_eq!(page.status, 403, "{headers:?} {body}: {page:?}");
    }
    // A GET does nothing, and without a token there is no form.
    assert_eq!(web.send("GET", &out, &[], None).unwrap().status, 405);
    assert_eq!(web.send("POST", &out, &[same], Some("")).unwrap().status, 422);
    // She is still signed in.
    assert_eq!(web.get(&scene.at("/approvals")).unwrap().status, 200);
    let page = web.send("POST", &out, &[("Origin", &scene.url)], Some(&own)).unwrap();
    assert_eq!(page.status, 303);
    let evidence = scene.world.evidence().unwrap();
    let refused =
        "SELECT count(*) FROM control WHERE kind = 'console.refused' AND detail LIKE '%ruth@%'";
    assert!(evidence.count(refused).unwrap() >= 7);
}

#[test]
fn a_cookie_of_another_browser_is_no_way_in_and_ends_the_visit() {
    let scene = Scene::start();
    let place = scene.url.strip_prefix("http://").unwrap().to_owned();
    let is_in = |web: &mut Web| !web.get(&scene.at("/approvals")).unwrap().url.contains("/sign-in");
    // Forged ones, and none.
    for value in ["", "forged", &"A".repeat(43)] {
        let mut web = Web::default();
        web.jar.entry(place.clone()).or_default().insert("vestibule".into(), value.into());
        assert!(!is_in(&mut web), "{value}");
    }
    // The visit's alone, or with another browser's own, or from what calls itself otherwise.
    for case in ["alone", "with another's own", "of another agent"] {
        let mut web = scene.signed_in(DANA);
        let mut other = web.clone();
        let jar = other.jar.get_mut(&place).unwrap();
        match case {
            "alone" => drop(jar.remove("vestibule-browser")),
            "with another's own" => drop(jar.insert("vestibule-browser".into(), "B".repeat(43))),
            _ => other.agent = "curl/8".into(),
        }
        assert!(is_in(&mut web), "{case}");
        assert!(!is_in(&mut other), "{case}");
        assert!(!is_in(&mut web), "{case}: whoever has it has it no more");
    }
    // An answer of the issuer's is for the browser that asked, once.
    let mut web = Web::default();
    let page = web.get(&scene.at("/sign-in")).unwrap();
    let (csrf, to) = (page.field("csrf").unwrap(), page.field("to").unwrap());
    let page = web.post(&scene.at("/sign-in"), &[("csrf", &csrf), ("to", &to)]).unwrap();
    let page = web.get(&page.field("on").unwrap()).unwrap();
    let form = integration::web::encoded(&[("user", DANA), ("password", PASSWORD)]);
    let mut next = web.send("POST", &page.url, &[], Some(&form)).unwrap();
    while let Some(to) = next.header("location").map(str::to_owned) {
        if to.starts_with(&scene.url) {
            break;
        }
        next = web.send("GET", &to, &[], None).unwrap();
    }
    let answer = next.header("location").unwrap().to_owned();
    assert!(answer.contains("code=") && answer.contains("state="), "{answer}");
    let mut other = Web::default();
    other.get(&scene.at("/sign-in")).unwrap();
    assert_eq!(other.send("GET", &answer, &[], None).unwrap().status, 403, "login CSRF");
    let page = web.send("GET", &answer, &[], None).unwrap();
    assert_eq!(page.status, 403, "it was tried elsewhere: {page:?}");
    let evidence = scene.world.evidence().unwrap();
    let count = |why: &str| {
        let sql = format!(
            "SELECT count(*) FROM control WHERE kind = 'console.refused' AND detail LIKE '%{why}%'"
        );
        evidence.count(&sql).unwrap()
    };
    assert_eq!(count("\"other_browser\""), 3);
    assert_eq!(count("sign_in_of_another_browser"), 2);
}

#[test]
fn who_logs_out_at_the_issuer_or_is_cut_off_is_out_here() {
    let scene = Scene::start();
    let mut web = scene.signed_in(DANA);
    let mut cli = scene.world.daemon.cli();
    let cut = cli.args(["revoke", "--subject", DANA, "--reason", "test"]);
    integration::process::run(cut, 30).unwrap().ok().unwrap();
    assert!(web.get(&scene.at("/approvals")).unwrap().url.contains("/sign-in"));
    let mut web = scene.signed_in(RUTH);
    // Out of her groups, by the next token.
    scene.idp.set_groups(RUTH, &["staff"]).unwrap();
    assert_eq!(web.get(&scene.at("/approvals")).unwrap().status, 200, "until then");
    scene.idp.set_groups(RUTH, &["risk"]).unwrap();
}

#[test]
fn sign_ins_are_bounded() {
    let scene = Scene::start();
    let mut dana = scene.signed_in(DANA);
    let mut web = Web::default();
    let page = web.get(&scene.at("/sign-in")).unwrap();
    let (csrf, to) = (page.field("csrf").unwrap(), page.field("to").unwrap());
    let form = integration::web::encoded(&[("csrf", &csrf), ("to", &to)]);
    let own = [("Sec-Fetch-Site", "same-origin")];
    let mut told = Vec::new();
    for _ in 0..150 {
        told.push(web.send("POST", &scene.at("/sign-in"), &own, Some(&form)).unwrap());
    }
    assert_eq!(told[0].status, 200);
    let late: Vec<_> = told.iter().filter(|page| page.status == 429).collect();
    // A minute's share and what came back meanwhile.
    assert!((1..=92).contains(&late.len()), "{}", late.len());
    assert!(late[0].header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // Large bodies and heads are refused.
    let body = format!("csrf={}", "a".repeat(10_000));
    let page = dana.send("POST", &scene.at("/sign-out"), &own, Some(&body));
    assert_eq!(page.unwrap().status, 413);
}

/// An agent that asked twice, and its session as the console shows it.
fn asked(scene: &Scene, web: &mut Web) -> (Asked, String) {
    let mut command = scene.world.daemon.cli();
    command.args(["run", "--agent", "support-assistant", "--owner", "ops", "--"]);
    command.arg(integration::paths::python()).args(["-u", "-c", ASKS]);
    with_bank(&mut command, integration::bank::ROLE, scene.world.bank.port());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut agent = Asked::of(Running::new("asks", &mut command).unwrap());
    assert_eq!(agent.ask("SELECT '<b>bold</b>'"), "<b>bold</b>");
    assert_ne!(agent.ask("SELECT email FROM customers WHERE id = 1"), "");
    let page = web.get(&scene.at("/sessions")).unwrap();
    assert!(page.body.contains("1 open session.") && page.body.contains("support-assistant"));
    let session = page.body.split_once("href=\"/sessions/").unwrap().1;
    (agent, session.split_once('"').unwrap().0.to_owned())
}

#[test]
fn sessions_are_replayed_and_found_in_journal_and_archive() {
    let scene = Scene::start();
    let mut dana = scene.signed_in(DANA);
    let (_agent, session) = asked(&scene, &mut dana);
    let path = scene.at(&format!("/sessions/{session}"));
    let mut replay = dana.get(&path).unwrap();
    // A command is there once its end is durable.
    wait_until("both commands are there", 10, || {
        replay = dana.get(&path)?;
        Ok(replay.body.contains("customers"))
    })
    .unwrap();
    assert!(replay.body.contains("<span class=\"k\">SELECT</span>"), "{}", replay.body);
    assert!(!replay.body.contains("<b>bold"), "{}", replay.body);
    for sealed in [false, true] {
        if sealed {
            scene.world.evidence().unwrap();
        }
        for (query, is_found) in [
            ("object=customers", true),
            ("object=customers&agent=support-assistant", true),
            ("object=transfers", false),
            ("agent=back-office", false),
            ("object=customers&until=2001-01-01T00:00", false),
            (&*format!("session={session}&object=customers"), true),
        ] {
            let page = dana.get(&scene.at(&format!("/archive?{query}"))).unwrap();
            assert_eq!(page.status, 200, "{query}: {page:?}");
            let found = page.body.contains("#c-");
            assert_eq!(found, is_found, "{query}, sealed {sealed}: {}", page.body);
        }
        let replay = dana.get(&path).unwrap();
        assert_eq!(replay.body.matches("class=\"timeline\"").count(), 1, "{}", replay.body);
    }
    assert_eq!(dana.get(&scene.at("/archive?from=then")).unwrap().status, 422);
    let evidence = dana.get(&scene.at("/evidence")).unwrap();
    assert!(evidence.body.contains("not configured") && evidence.body.contains("MiB free"));
}

#[test]
fn a_session_is_ended_by_those_who_may_and_the_record_says_who_did() {
    let scene = Scene::start();
    let mut dana = scene.signed_in(DANA);
    let (mut agent, session) = asked(&scene, &mut dana);
    let page = dana.get(&scene.at("/sessions")).unwrap();
    assert!(!page.body.contains("End this session"), "she is in none of those groups");
    let end = scene.at(&format!("/sessions/{session}/end"));
    assert_eq!(dana.get(&end).unwrap().status, 403);
    let csrf = page.field("csrf").unwrap();
    let page = dana.post(&end, &[("csrf", &csrf), ("reason", "no")]).unwrap();
    assert_eq!(page.status, 403);
    assert_eq!(agent.ask("SELECT 1"), "1");
    let mut ruth = scene.signed_in(RUTH);
    let csrf = ruth.get(&end).unwrap().field("csrf").unwrap();
    let without = ruth.post(&end, &[("csrf", &csrf), ("reason", " ")]).unwrap();
    assert_eq!(without.status, 422);
    let page = ruth.post(&end, &[("csrf", &csrf), ("reason", "it does too much")]).unwrap();
    assert!(page.body.contains("The session is ended."), "{page:?}");
    let told = agent.ask("SELECT 1");
    assert!(told.contains("57P01") && told.contains("an operator ended this session"), "{told}");
    let is_over = || Ok(ruth.get(&scene.at("/sessions"))?.body.contains("0 open sessions."));
    wait_until("no session is open", 10, is_over).unwrap();
    let evidence = scene.world.evidence().unwrap();
    let by = "SELECT count(*) FROM control WHERE kind = 'session.ended_by_operator' \
              AND detail LIKE '%ruth@%' AND detail LIKE '%it does too much%' AND detail LIKE '%127.0.0.1%'";
    assert_eq!(evidence.count(by).unwrap(), 1);
    let closed = "SELECT count(*) FROM sessions WHERE close_reason = 'ended_by_operator'";
    assert_eq!(evidence.count(closed).unwrap(), 1);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn programs_come_with_tokens_of_this_audience_alone() {
    let scene = Scene::start();
    let tokens = |user: &str| scene.idp.login(user).unwrap();
    let mut web = Web::default();
    let mut ask = |token: Option<&str>, path: &str| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> =
            bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
        let page = web.send("GET", &scene.at(path), &headers, None).unwrap();
        let body: Value = serde_json::from_str(&page.body).unwrap();
        (page.status, body, page)
    };
    let dana = tokens(DANA);
    let (status, body, page) = ask(Some(&dana.access), "/api/v1/approvals");
    assert_eq!((status, &body["approvals"]), (200, &serde_json::json!([])), "{page:?}");
    assert!(page.header("set-cookie").is_none());
    let (status, body, _) = ask(Some(&dana.access), "/api/v1/changes?wait_s=0");
    assert!(status == 200 && body["seen"].is_u64(), "{body}");
    let (status, document, _) = ask(None, "/api/v1/openapi.json");
    assert_eq!((status, &document["openapi"]), (200, &serde_json::json!("3.1.0")));
    for (token, path, status, code) in [
        (None, "/api/v1/approvals", 401, "no_token"),
        (Some("forged"), "/api/v1/approvals", 401, "malformed"),
        (Some(&*dana.id), "/api/v1/approvals", 401, "wrong_kind"),
        (Some(&*tokens(CARL).access), "/api/v1/approvals", 403, "not_in_groups"),
        (Some(&*dana.access), "/api/v1/approvals/x", 404, "not_found"),
        (Some(&*dana.access), "/api/v1/approvals?most=0", 400, "query"),
        (Some(&*dana.access), "/api/v1/approvals?x=0", 400, "query"),
        (Some(&*dana.access), "/api/v1/nothing", 404, "no_such_place"),
        (Some(&*dana.access), "/api/v1/changes?wait_s=31", 400, "query"),
        (Some(&*dana.access), "/api/v1/changes?seen=-1", 400, "query"),
        (Some(&*dana.access), "/api/v1/changes?seen=9223372036854775808", 400, "query"),
    ] {
        let (found, body, page) = ask(token, path);
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{path}: {page:?}");
        assert_eq!(page.header("content-type"), Some("application/problem+json"));
        assert_eq!(page.header("www-authenticate").is_some(), status == 401);
    }
    // A token of the issuer's, for something else that it is believed about.
    let other = scene.idp.login_for(DANA, RESOURCES[1]).unwrap();
    let (status, body, _) = ask(Some(&other.access), "/api/v1/approvals");
    assert_eq!((status, body["code"].as_str()), (401, Some("wrong_audience")), "{body}");
    // With cookies alone there is no API.
    let mut signed = scene.signed_in(DANA);
    assert_eq!(signed.get(&scene.at("/api/v1/approvals")).unwrap().status, 401);
    // Too often is told.
    let statuses: Vec<u16> = (0..1_500).map(|_| ask(None, "/api/v1/approvals").0).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn the_api_is_as_its_document_says() {
    let scene = Scene::start();
    let token = scene.idp.login(DANA).unwrap().access;
    let mut command = Command::new(integration::paths::schemathesis());
    command.current_dir(scene.world.daemon.directory());
    command.args(["run", &scene.at("/api/v1/openapi.json"), "--header"]);
    command.arg(format!("Authorization: Bearer {token}"));
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "6"]);
    // Within what an address may ask in a minute.
    command.args(["--rate-limit", "500/m", "--no-color", "--checks", "all"]);
    // What waits for changes would wait for each of its examples; `programs_come_with_tokens_of_this_audience_alone`
    // asks there.
    command.args(["--exclude-path", "/changes"]);
    let run = integration::process::run(&mut command, 400).unwrap();
    assert_eq!(run.code, Some(0), "{}\n{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("3 selected / 4 total"), "{}", run.stdout);
}
