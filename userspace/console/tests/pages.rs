//! Pages and API over a desk in memory and people who are known beforehand: what is shown, and which answers count.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use approval::desk::{Desk, DeskError, Later, Standing, Which};
use approval::request::{ApprovalRequest, Reached, Requester, Wants};
use approval::shown::{shown, shown_sha256};
use approval::vote::Voted;
use approval::{Book, Event, Vote, VoteError};
use console::people::{Asking, Caller, Unproven};
use console::surroundings::{Evidence, Failed, Past, Sessions};
use console::{Api, Console, Life, Options, Parts, People, Surroundings};
use integration::Web;
use integration::web::{Page, encoded};
use serde_json::{Value, json};
use tokio::sync::watch;
use types::approval::Coverage;
use types::clock::{Clock, Timestamp};
use types::id::RequestId;
use types::identity::Subject;
use types::secret::Secret;

const IDP: &str = "https://idp.example";
const NOW_US: i64 = 1_796_112_930_000_000;

/// A desk in memory.
#[derive(Default)]
struct Memory(Mutex<Book>);

impl Desk for Memory {
    fn list(&self, which: Which, most: usize) -> Later<'_, Result<Vec<Standing>, DeskError>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().list(which, most)) })
    }

    fn show(&self, id: RequestId) -> Later<'_, Result<Option<Standing>, DeskError>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().standing(id).cloned()) })
    }

    fn vote(
        &self,
        id: RequestId,
        vote: Vote,
    ) -> Later<'_, Result<Result<Voted, VoteError>, DeskError>> {
        Box::pin(async move {
            let mut book = self.0.lock().unwrap();
            Ok(book.vote(id, &vote).map(|(voted, events)| {
                for event in &events {
                    book.apply(event);
                }
                voted
            }))
        })
    }

    fn changed(&self, seen: u64) -> Later<'_, u64> {
        Box::pin(async move { seen + 1 })
    }
}

/// People whose codes and tokens are their names; `NAME+agent` is a token that an agent acts with for NAME.
struct Known;

fn subject(name: &str) -> Result<Subject, Unproven> {
    let groups: &[&str] = match name {
        "ann" => &["dba", "break"],
        "bob" => &["dba"],
        "req" => &["dba", "risk"],
        "zed" => &["staff"],
        _ => return Err(Unproven { why: "malformed", may_pass: false }),
    };
    Ok(Subject {
        user: name.into(),
        idp: IDP.into(),
        sub: name.into(),
        groups: groups.iter().map(|group| Arc::from(*group)).collect(),
        token: Arc::default(),
    })
}

impl People for Known {
    fn ask<'a>(&'a self, asking: &'a Asking) -> Later<'a, Result<String, Unproven>> {
        Box::pin(async move { Ok(format!("{IDP}/auth?state={}", asking.state)) })
    }

    fn came_back<'a>(
        &'a self,
        _: &'a Asking,
        code: Secret<String>,
        _: Option<String>,
    ) -> Later<'a, Result<(Box<str>, Subject), Unproven>> {
        Box::pin(async move { Ok((code.expose().as_str().into(), subject(code.expose())?)) })
    }

    fn now<'a>(&'a self, login: &'a str) -> Later<'a, Result<Subject, Unproven>> {
        Box::pin(async move { subject(login) })
    }

    fn forget(&self, _: &str) {}

    fn caller(&self, token: Secret<String>) -> Later<'_, Result<Caller, Unproven>> {
        Box::pin(async move {
            let (name, more) = token.expose().split_once('+').unwrap_or((token.expose(), ""));
            Ok(Caller {
                subject: subject(name)?,
                audiences: vec![if more == "other" { "other" } else { "api" }.to_owned()],
                scopes: if more == "noscope" { vec![] } else { vec!["approvals".to_owned()] },
                is_delegated: more == "agent",
            })
        })
    }
}

/// As on a hub: nothing but approvals.
#[derive(Default)]
struct Around(Mutex<Vec<(&'static str, Value)>>);

impl Surroundings for Around {
    fn sessions(&self) -> Option<&dyn Sessions> {
        None
    }

    fn past(&self) -> Option<&dyn Past> {
        None
    }

    fn evidence(&self) -> Option<&dyn Evidence> {
        None
    }

    fn record<'a>(&'a self, kind: &'static str, detail: Value) -> Later<'a, Result<(), Failed>> {
        self.0.lock().unwrap().push((kind, detail));
        Box::pin(async { Ok(()) })
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp { unix_us: NOW_US, mono_ns: 1 }
    }
}

/// A console that listens.
struct Place {
    url: String,
    desk: Arc<Memory>,
    around: Arc<Around>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.send(true).ok();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Place {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let (desk, around) = (Arc::new(Memory::default()), Arc::new(Around::default()));
        let options = Options {
            node: "n1".into(),
            external_url: url.clone(),
            issuer: IDP.into(),
            groups: vec!["dba".into(), "risk".into()],
            end_groups: vec![],
            api: Some(Api { audience: "api".into(), scope: Some("approvals".into()) }),
            life: Life { idle: Duration::from_mins(15), most: Duration::from_hours(8) },
        };
        let parts = Parts {
            desk: Arc::clone(&desk) as _,
            people: Arc::new(Known),
            surroundings: Arc::clone(&around) as _,
            clock: Arc::new(Still),
        };
        let console = Console::new(options, parts).unwrap();
        let (stop, stopped) = watch::channel(false);
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                console.serve(listener, stopped).await;
            });
        };
        Self { url, desk, around, stop, thread: Some(std::thread::spawn(serve)) }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn signed_in(&self, name: &str) -> Web {
        let mut web = Web::default();
        let page = web.get(&self.at("/sign-in")).unwrap();
        let form = [("csrf", page.field("csrf").unwrap()), ("to", "/approvals".into())];
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let page = web.post(&self.at("/sign-in"), &form).unwrap();
        let on = page.field("on").unwrap();
        let state = on.split_once("state=").unwrap().1;
        let page = web.get(&self.at(&format!("/signed-in?state={state}&code={name}"))).unwrap();
        assert_eq!(page.status, 200, "{page:?}");
        web
    }

    /// Has a command wait.
    fn ask(&self, text: &str, change: impl FnOnce(&mut ApprovalRequest)) -> RequestId {
        let mut random = [0; 10];
        let asked = self.desk.0.lock().unwrap().list(Which::All, 255).len();
        random[0] = u8::try_from(asked).unwrap();
        let id = RequestId::new(Still.now(), random);
        let mut request = request(id, text);
        change(&mut request);
        request.shown_sha256 = shown_sha256(&request);
        self.desk.0.lock().unwrap().apply(&Event::Requested(Box::new(request)));
        id
    }

    fn standing(&self, id: RequestId) -> Standing {
        self.desk.0.lock().unwrap().standing(id).unwrap().clone()
    }
}

fn request(id: RequestId, text: &str) -> ApprovalRequest {
    let wants = Wants {
        policy: "deletes".into(),
        groups: vec!["dba".into()],
        people: 1,
        break_glass: vec!["break".into()],
    };
    ApprovalRequest {
        id,
        node: "n1".into(),
        at_us: NOW_US - 60_000_000,
        expires_us: NOW_US + 600_000_000,
        session: "0198d2a2-0000-7000-8000-000000000000".into(),
        command: 3,
        requester: Requester {
            agent: "back-office".into(),
            instance: "i1".into(),
            chain: vec!["outer".into(), "back-office".into()],
            user: Some("req".into()),
            idp: Some(IDP.into()),
            sub: Some("req".into()),
            pid: 42,
            exe: Some("/usr/bin/python3".into()),
            ..Requester::default()
        },
        target: Reached {
            name: "bank".into(),
            protocol: "postgresql".into(),
            ..Reached::default()
        },
        kind: "db.query".into(),
        verb: "DELETE".into(),
        accesses: vec!["delete public.transfers".into()],
        risks: vec!["no_where".into()],
        normalized: "DELETE FROM transfers WHERE id = ?".into(),
        text: text.into(),
        parameters: vec!["7".into()],
        is_masked: false,
        rows_estimated: Some(12),
        transaction: "none".into(),
        reason: "deletes are approved".into(),
        policy_digest: "p".into(),
        terms: vec![wants],
        covers: Coverage::Command,
        grant_s: 60,
        binding: text.into(),
        pattern: "p".into(),
        shown_sha256: String::new(),
    }
}

/// What a browser shows of a page.
fn seen(page: &Page) -> String {
    let mut out = String::new();
    let mut rest = page.body.as_str();
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = rest[at..].split_once('>').unwrap().1;
    }
    out.push_str(rest);
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(out, |out, (entity, c)| out.replace(entity, c))
}

#[test]
fn a_request_is_shown_as_what_a_vote_commits_to_and_as_text_alone() {
    let place = Place::start();
    let text = "DELETE FROM p\u{430}yments -- \u{202e}<script>alert(1)</script>\nWHERE id = $1";
    let id = place.ask(text, |request| {
        request.accesses = vec!["delete public.\"<img src=x onerror=alert(1)>\"".into()];
        request.requester.agent = "<b>agent</b>\u{200b}".into();
        request.target.database = Some("\"><script>x</script>".into());
        request.parameters = vec!["<i>\u{2066}".into()];
    });
    let mut web = place.signed_in("bob");
    let page = web.get(&place.at(&format!("/approvals/{id}"))).unwrap();
    let listed = web.get(&place.at("/approvals")).unwrap();
    for page in [&page, &listed] {
        let scripts = page.body.matches("<script").count();
        assert_eq!(scripts, 1, "htmx alone: {}", page.body);
        assert!(
            !page.body.contains("<img") && !page.body.contains("<b>") && !page.body.contains("<i>")
        );
        assert!(!page.body.contains(['\u{202e}', '\u{430}', '\u{200b}', '\u{2066}']));
    }
    let shown = shown(&place.standing(id).request);
    let seen = seen(&page);
    let (facts, statement) = shown.split_once("statement:\n").unwrap();
    assert!(seen.contains(statement), "{seen}");
    for line in facts.lines() {
        // Names of facts are in other words on a page; `-` stands for none.
        let (_, value) = line.split_once(": ").unwrap();
        let found = value.split(' ').filter(|part| *part != "-").all(|part| {
            seen.contains(part.trim_matches(['(', ')']))
                || part.split('@').all(|one| seen.contains(one))
        });
        assert!(found, "{line} is not in {seen}");
    }
    assert!(seen.contains("The server expects it to touch 12 rows."));
    assert!(seen.contains("Marked characters are no plain letters"));
}

#[test]
fn an_answer_counts_once_and_for_what_was_shown() {
    let place = Place::start();
    let id = place.ask("DELETE FROM transfers WHERE id = $1", |_| ());
    let (path, vote) =
        (place.at(&format!("/approvals/{id}")), place.at(&format!("/approvals/{id}/vote")));
    let mut bob = place.signed_in("bob");
    let page = bob.get(&path).unwrap();
    let (csrf, shown) = (page.field("csrf").unwrap(), page.field("shown").unwrap());
    let form = |answer, shown, reason| {
        [("csrf", &*csrf), ("shown", shown), ("answer", answer), ("reason", reason)]
    };
    let other = "0".repeat(64);
    let changed = bob.post(&vote, &form("approve", &other, "")).unwrap();
    assert!(
        changed.status == 409 && changed.body.contains("what you were shown is not what waits")
    );
    assert_eq!(bob.post(&vote, &form("deny", &shown, " ")).unwrap().status, 422);
    assert_eq!(bob.post(&vote, &form("break_glass", &shown, "now")).unwrap().status, 400);
    assert!(place.standing(id).votes.is_empty());
    let page = bob.post(&vote, &form("approve", &shown, "checked")).unwrap();
    assert!(page.body.contains("Approved: the command goes on."), "{}", page.body);
    let again = bob.post(&vote, &form("approve", &shown, "checked")).unwrap();
    assert!(again.body.contains("nothing changed"), "{}", again.body);
    assert_eq!(bob.post(&vote, &form("deny", &shown, "no")).unwrap().status, 409);
    let Standing { votes, grant, .. } = place.standing(id);
    let [Vote { way, from, reason, at_us, .. }] = &votes[..] else { panic!("{votes:?}") };
    assert_eq!(
        (way.as_str(), from.as_str(), reason.as_str(), *at_us),
        ("console", "127.0.0.1", "checked", NOW_US)
    );
    assert_eq!(grant.unwrap().approvers, [format!("bob@{IDP}")]);
    // A vote of one person's is none of another's: their pages have tokens of their own.
    let other = place.ask("DELETE FROM transfers WHERE id = $1 AND true", |_| ());
    let mut ann = place.signed_in("ann");
    let theirs =
        ann.post(&place.at(&format!("/approvals/{other}/vote")), &form("approve", &shown, ""));
    assert_eq!(theirs.unwrap().status, 403);
    assert!(place.standing(other).votes.is_empty());
    assert!(place.around.0.lock().unwrap().iter().any(|(kind, detail)| {
        *kind == "console.refused"
            && detail["why"] == json!("csrf")
            && detail["person"] == json!(format!("ann@{IDP}"))
    }));
}

#[test]
fn who_asks_does_not_answer_and_glass_is_broken_by_few_and_deliberately() {
    let place = Place::start();
    let id = place.ask("DELETE FROM transfers WHERE id = $1", |_| ());
    let (path, vote) =
        (place.at(&format!("/approvals/{id}")), place.at(&format!("/approvals/{id}/vote")));
    let glass = place.at(&format!("/approvals/{id}/break-glass"));
    let mut req = place.signed_in("req");
    let page = req.get(&path).unwrap();
    assert!(
        page.body.contains("is whom the agent acts for") && !page.body.contains("id=\"approve\"")
    );
    let csrf = page.field("csrf").unwrap();
    let shown = place.standing(id).request.shown_sha256;
    let form = [("csrf", &*csrf), ("shown", &*shown), ("answer", "approve")];
    assert_eq!(req.post(&vote, &form).unwrap().status, 403);
    assert_eq!(req.get(&glass).unwrap().status, 403);
    let mut bob = place.signed_in("bob");
    assert!(!bob.get(&path).unwrap().body.contains("break-glass"));
    assert_eq!(bob.get(&glass).unwrap().status, 403);
    let mut ann = place.signed_in("ann");
    assert!(ann.get(&path).unwrap().body.contains("id=\"break-glass\""));
    let csrf = ann.get(&glass).unwrap().field("csrf").unwrap();
    let form =
        |reason, sure| [("csrf", &*csrf), ("shown", &*shown), ("reason", reason), ("sure", sure)];
    assert_eq!(ann.post(&glass, &form("the bank burns", "")).unwrap().status, 422);
    assert_eq!(ann.post(&glass, &form("", "yes")).unwrap().status, 422);
    assert!(place.standing(id).votes.is_empty());
    assert_eq!(ann.post(&glass, &form("the bank burns", "yes")).unwrap().status, 200);
    assert!(place.standing(id).grant.unwrap().broken_glass);
}

#[test]
fn programs_list_show_and_answer() {
    let place = Place::start();
    let id = place.ask("DELETE FROM transfers WHERE id = $1", |_| ());
    let mut web = Web::default();
    let mut call = |method: &str, token: &str, path: &str, body: Option<&str>| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let page = web.send(method, &place.at(path), &headers, body).unwrap();
        (page.status, serde_json::from_str::<Value>(&page.body).unwrap_or_default())
    };
    let (status, listed) = call("GET", "bob", "/api/v1/approvals", None);
    let one = &listed["approvals"][0];
    assert_eq!((status, &one["request"]["id"]), (200, &json!(id)), "{listed}");
    let shown = one["shown_sha256"].as_str().unwrap();
    assert_eq!(one["request"]["shown_sha256"], shown);
    let path = format!("/api/v1/approvals/{id}/votes");
    let cast = |answer: &str, reason: &str, shown: &str| {
        json!({"answer": answer, "reason": reason, "shown_sha256": shown}).to_string()
    };
    let nothing = "0".repeat(64);
    for (token, body, status, code) in [
        ("bob+agent", cast("approve", "", shown), 403, "delegated"),
        ("bob+other", cast("approve", "", shown), 401, "wrong_audience"),
        ("bob+noscope", cast("approve", "", shown), 403, "scope"),
        ("zed", cast("approve", "", shown), 403, "not_in_groups"),
        ("req", cast("approve", "", shown), 403, "involved"),
        ("bob", cast("approve", "", &nothing), 409, "shown_differs"),
        ("bob", cast("deny", "", shown), 422, "reason"),
        ("bob", cast("break_glass", "now", shown), 403, "not_breaker"),
        ("bob", cast("perhaps", "", shown), 400, "body"),
        ("bob", "{".into(), 400, "body"),
        ("bob", "[]".into(), 400, "body"),
    ] {
        let (found, problem) = call("POST", token, &path, Some(&body));
        assert_eq!(
            (found, problem["code"].as_str()),
            (status, Some(code)),
            "{token} {body}: {problem}"
        );
    }
    assert!(place.standing(id).votes.is_empty());
    let (status, voted) = call("POST", "bob", &path, Some(&cast("approve", "", shown)));
    assert_eq!((status, &voted["voted"]), (200, &json!("granted")));
    let (status, voted) = call("POST", "bob", &path, Some(&cast("approve", "", shown)));
    assert_eq!((status, &voted["voted"]), (200, &json!("already")));
    let (status, _) = call("POST", "ann", &path, Some(&cast("approve", "", shown)));
    assert_eq!(status, 409);
    let (status, over) = call("GET", "bob", &format!("/api/v1/approvals/{id}"), None);
    assert_eq!((status, &over["ended"]["how"]), (200, &json!("granted")));
    assert_eq!(over["votes"][0]["way"], "api");
    assert_eq!(call("DELETE", "bob", &path, None).0, 405);
    let (status, seen) = call("GET", "bob", "/api/v1/changes?seen=4", None);
    assert_eq!((status, &seen["seen"]), (200, &json!(5)));
}

#[test]
fn a_hub_has_no_pages_of_what_it_has_not() {
    let place = Place::start();
    let mut web = place.signed_in("bob");
    let page = web.get(&place.at("/approvals")).unwrap();
    for path in ["/sessions", "/archive", "/evidence"] {
        assert!(!page.body.contains(&format!("href=\"{path}\"")));
        assert_eq!(web.get(&place.at(path)).unwrap().status, 404, "{path}");
    }
    let other = web.send("GET", &place.at("/approvals"), &[], None).unwrap();
    assert_eq!(other.status, 200);
    // By another name, as a page that resolves to this address would ask.
    let mut stranger = Web::default();
    let elsewhere = place.url.replace("127.0.0.1", "localhost");
    assert_eq!(stranger.get(&format!("{elsewhere}/sign-in")).unwrap().status, 421);
    assert!(encoded(&[("a b", "ü")]).contains("a%20b=%C3%BC"));
}
