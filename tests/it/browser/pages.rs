//! Every page: for the keyboard, a small phone, dark rooms and screen readers; and what it does.

use std::io::{BufRead, BufReader, Read, Write};

use integration::Browser;
use integration::browser::{DESK, PHONE, Person};
use integration::idp::{CARL, DANA, PASSWORD, RUTH};
use integration::office::Office;

use super::{PURGE, card, id_of, is_for_everyone, keep, no_complaint, picture};

/// Keys that nobody has to press more often to get anywhere on a page.
const TABS_MAX: usize = 40;

#[test]
fn every_page_is_for_everyone() {
    let office = Office::start(&[]).unwrap();
    let browser = Browser::start().unwrap();
    let ruth = browser.person("ruth", DESK).unwrap();
    ruth.go(&office.url("/")).unwrap();
    picture(&ruth, "sign-in");
    by_keyboard(&office, &browser);
    office.sign_in(&ruth, RUTH).unwrap();
    ends_a_session(&office, &ruth);

    office.world.evidence().unwrap();
    let asked = office.ask(CARL, PURGE).unwrap();
    ruth.go(&office.url("/approvals")).unwrap();
    ruth.wait_for(&card(0)).unwrap();
    let request = format!("/approvals/{}", id_of(&ruth));
    let replay = searches(&office, &ruth);
    ruth.go(&office.url("/evidence")).unwrap();
    let evidence = ruth.text("main").unwrap();
    assert!(evidence.contains("rows, root ") && evidence.contains("MiB free of"), "{evidence}");
    assert!(!evidence.contains("none yet"), "{evidence}");
    picture(&ruth, "evidence");

    let glass = format!("{request}/break-glass");
    for page in
        ["/approvals", &request, &glass, "/sessions", "/archive", &replay, "/evidence", "/nowhere"]
    {
        ruth.resize(PHONE.width, PHONE.height).unwrap();
        for is_dark in [false, true] {
            ruth.prefer(is_dark).unwrap();
            ruth.go(&office.url(page)).unwrap();
            assert!(
                ruth.overhang().unwrap() <= 0,
                "{page} is {} wider than a phone",
                ruth.overhang().unwrap()
            );
            is_for_everyone(&ruth, page);
            let ground = ruth
                .evaluate("getComputedStyle(document.documentElement).backgroundColor")
                .unwrap();
            let (_, first) = ground.as_str().unwrap().split_once('(').unwrap();
            let red: u8 = first.split(',').next().unwrap().parse().unwrap();
            assert_eq!(red < 64, is_dark, "{page}: {ground}");
        }
        if page == "/approvals" || page == request {
            let name = if page == request { "request-phone" } else { "approvals-phone" };
            keep(&ruth, name);
        }
    }
    no_complaint(&ruth);
    drop(asked);
}

/// A person without a mouse signs in, finds what waits and approves it.
fn by_keyboard(office: &Office, browser: &Browser) {
    let asked = office.ask(CARL, PURGE).unwrap();
    let dana = browser.person("dana", DESK).unwrap();
    dana.go(&office.url("/")).unwrap();
    tab_to(&dana, "#sign-in");
    dana.press("Enter").unwrap();
    dana.wait_for("[name=user]:focus").unwrap();
    dana.type_text(DANA).unwrap();
    dana.press("Tab").unwrap();
    dana.type_text(PASSWORD).unwrap();
    dana.press("Enter").unwrap();
    dana.wait_for(&card(0)).unwrap();
    // The first key skips what is the same on every page.
    dana.press("Tab").unwrap();
    assert_eq!(dana.text(":focus").unwrap(), "Skip to the content");
    dana.press("Enter").unwrap();
    dana.press("Tab").unwrap();
    assert_eq!(dana.count("#requests a:focus").unwrap(), 1);
    // The list is renewed under the focus, which stays.
    let more = office.ask(CARL, "DELETE FROM transfers WHERE id = 59999").unwrap();
    dana.wait_for(&card(1)).unwrap();
    assert_eq!(dana.count("#requests a:focus").unwrap(), 1);
    dana.press("Enter").unwrap();
    dana.wait_for("#approve").unwrap();
    assert!(
        dana.exact_text("#statement").unwrap().contains("id <= 20"),
        "what had the focus was opened"
    );
    tab_to(&dana, "#approve");
    // Where the focus is can be seen.
    let outline =
        dana.evaluate("parseInt(getComputedStyle(document.activeElement).outlineWidth)").unwrap();
    assert!(outline.as_i64().unwrap() >= 2, "{outline}");
    dana.press("Enter").unwrap();
    dana.wait_for(".told").unwrap();
    assert_eq!(asked.end().unwrap().stdout.trim(), "DELETE 20");
    // What is left is withdrawn by its end.
    dana.go(&office.url("/approvals")).unwrap();
    dana.click(&card(0)).unwrap();
    tab_to(&dana, "#deny-reason");
    dana.type_text("not today").unwrap();
    tab_to(&dana, "#deny");
    dana.press("Space").unwrap();
    dana.wait_for(".told").unwrap();
    assert!(more.end().unwrap().stderr.contains("not today"));
    no_complaint(&dana);
}

#[track_caller]
fn tab_to(person: &Person<'_>, selector: &str) {
    person.wait_for(selector).unwrap();
    let is_there = || person.count(&format!("{selector}:focus")).unwrap() == 1;
    for _ in 0..TABS_MAX {
        if is_there() {
            return;
        }
        person.press("Tab").unwrap();
    }
    panic!("{selector} is not reached by {TABS_MAX} keys");
}

/// An open session is seen, ended with a reason, and psql is told as the protocol has it.
fn ends_a_session(office: &Office, ruth: &Person<'_>) {
    let mut psql = office.start_psql(CARL, &[]).unwrap();
    let (mut stdin, stdout) = (psql.take_stdin().unwrap(), psql.take_stdout().unwrap());
    writeln!(stdin, "SELECT 'open';").unwrap();
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    ruth.go(&office.url("/sessions")).unwrap();
    let listed = ruth.text("main").unwrap();
    assert!(listed.contains("back-office at bank") && listed.contains("for Carl"), "{listed}");
    picture(ruth, "sessions");
    ruth.click("text=End this session").unwrap();
    ruth.wait_for("#end").unwrap();
    picture(ruth, "end-session");
    ruth.click("#end").unwrap();
    assert!(ruth.url().unwrap().ends_with("/end"), "without a reason nothing is ended");
    ruth.fill("#reason", "the agent is lost").unwrap();
    ruth.click("#end").unwrap();
    ruth.wait_for(".told").unwrap();
    assert_eq!(ruth.text(".told").unwrap(), "The session is ended.");
    writeln!(stdin, "SELECT 'gone';").ok();
    drop(stdin);
    let code = psql.wait(20).unwrap().expect("psql ends");
    let mut said = String::new();
    psql.take_stderr().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("FATAL:  57P01"), "{said}");
    assert_eq!(code, Some(2), "its connection is gone: {said}");
    ruth.go(&office.url("/sessions")).unwrap();
    assert!(!ruth.text("main").unwrap().contains("back-office"), "{}", ruth.text("main").unwrap());
    // Who is of another group does not see how.
    let record = "SELECT count(*) FROM control WHERE detail LIKE '%the agent is lost%'";
    assert!(office.world.evidence().unwrap().count(record).unwrap() >= 1);
}

/// The archive is searched by table, agent and decision; the row leads to its session, in order. Answers that page.
fn searches(office: &Office, ruth: &Person<'_>) -> String {
    ruth.go(&office.url("/archive")).unwrap();
    ruth.fill("#agent", "back-office").unwrap();
    ruth.fill("#object", "transfers").unwrap();
    ruth.choose("#decision", "approved").unwrap();
    ruth.click("role=button[name=\"Search\"]").unwrap();
    ruth.wait_for("main .card").unwrap();
    assert_eq!(ruth.text("#found").unwrap(), "1 command found.");
    let card = ruth.text("main .card").unwrap();
    for part in ["DELETE", "transfers", "approved", "back-office", "Carl", "bank", "20"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    picture(ruth, "archive");
    ruth.choose("#decision", "deny").unwrap();
    ruth.click("role=button[name=\"Search\"]").unwrap();
    ruth.wait_for("main .card .deny").unwrap();
    ruth.fill("#object", "customers").unwrap();
    ruth.click("role=button[name=\"Search\"]").unwrap();
    ruth.wait_for("text=0 commands found.").unwrap();

    ruth.go(&office.url("/archive?agent=back-office&object=transfers&decision=approved")).unwrap();
    ruth.click("main .card a").unwrap();
    ruth.wait_for(".timeline").unwrap();
    let timeline = ruth.text(".timeline").unwrap();
    let places: Vec<_> = ["DELETE"].iter().map(|verb| timeline.find(verb)).collect();
    assert!(places.iter().all(Option::is_some), "{timeline}");
    assert!(timeline.contains("approved") && timeline.contains(DANA), "{timeline}");
    picture(ruth, "replay");
    let url = ruth.url().unwrap();
    let (_, path) = url.split_once("/sessions/").unwrap();
    format!("/sessions/{}", path.split('#').next().unwrap())
}
