//! What others try on an approver's browser, and past it: refused, nothing voted, and recorded.

use integration::Browser;
use integration::browser::{DESK, Person, Window};
use integration::idp::{CARL, DANA};
use integration::office::Office;

use super::{PURGE, card, id_of, purge_is_counted, remaining, runs};

/// Another browser, by its own word.
const OTHER: Window = Window { user_agent: Some("Mozilla/5.0 (another) Browser/1.0"), ..DESK };

const NOT_OURS: &str = "This did not come from a page of this console";

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn a_browser_is_no_help_to_others() {
    let office = Office::start(&[]).unwrap();
    purge_is_counted(&office);
    let before = remaining(&office);
    let asked = office.ask(CARL, PURGE).unwrap();
    let browser = Browser::start().unwrap();
    let dana = browser.person("dana", DESK).unwrap();
    office.sign_in(&dana, DANA).unwrap();
    dana.wait_for(&card(0)).unwrap();
    let id = id_of(&dana);
    let page = office.url(&format!("/approvals/{id}"));
    let vote = format!("{page}/vote");

    // The answer of the issuer is for the browser that asked.
    let answers = dana.seen().unwrap().requests;
    let answer = answers.iter().find(|one| one.contains("/signed-in?")).unwrap();
    let thief = browser.person("thief", DESK).unwrap();
    let told = thief.go(answer.strip_prefix("GET ").unwrap()).unwrap();
    assert_eq!(told.status, 403);
    assert!(thief.cookies().unwrap().iter().all(|cookie| cookie["name"] != "vestibule"));

    // A visit's cookie is of the browser that it began in; and all cookies of one that calls itself the same.
    let cookies = dana.cookies().unwrap();
    assert!(cookies.iter().all(|cookie| cookie["httpOnly"] == true), "{cookies:?}");
    let visit: Vec<_> = cookies.iter().filter(|one| one["name"] == "vestibule").cloned().collect();
    assert_eq!(visit.len(), 1, "{cookies:?}");
    thief.take_cookies(&visit).unwrap();
    thief.go(&page).unwrap();
    assert!(thief.url().unwrap().contains("/sign-in"), "{}", thief.url().unwrap());
    // Whose cookie was seen elsewhere signs in again.
    dana.go(&page).unwrap();
    assert!(dana.url().unwrap().contains("/sign-in"));
    office.sign_in(&dana, DANA).unwrap();
    let other = browser.person("other", OTHER).unwrap();
    other.take_cookies(&dana.cookies().unwrap()).unwrap();
    other.go(&page).unwrap();
    assert!(other.url().unwrap().contains("/sign-in"));
    office.sign_in(&dana, DANA).unwrap();

    // A page of somebody else's posts what dana's own would: to it by the same site's cookies, and by none.
    dana.go(&page).unwrap();
    let csrf = dana.attribute("form.out input[name=csrf]", "value").unwrap();
    let shown = dana.attribute("form:has(#approve) input[name=shown]", "value").unwrap();
    let form = format!(
        "<!doctype html><title>x</title><form method=post action='{vote}'><input name=csrf value='{csrf}'>\
         <input name=shown value='{shown}'><input name=answer value=approve></form>\
         <script>document.forms[0].submit()</script>"
    );
    let port = browser.stranger(&form).unwrap();
    dana.go(&format!("http://127.0.0.1:{port}/")).unwrap();
    dana.wait_for("role=alert").unwrap();
    assert!(dana.text("main").unwrap().contains(NOT_OURS), "{}", dana.text("main").unwrap());
    dana.go(&format!("http://localhost:{port}/")).unwrap();
    dana.wait_for("#sign-in, [role=alert]").unwrap();
    let script = format!(
        "<!doctype html><title>x</title><p id=done></p><script>fetch('{vote}', {{method: 'POST', credentials: 'include', \
         mode: 'no-cors', headers: {{'content-type': 'application/x-www-form-urlencoded'}}, \
         body: 'csrf={csrf}&shown={shown}&answer=approve'}}).finally(() => {{ done.textContent = 'sent' }})</script>"
    );
    let port = browser.stranger(&script).unwrap();
    dana.go(&format!("http://127.0.0.1:{port}/")).unwrap();
    dana.wait_for("text=sent").unwrap();
    // Nor by a frame: it stays empty.
    let frame = format!("<!doctype html><title>x</title><p>bait</p><iframe src='{page}'></iframe>");
    let port = browser.stranger(&frame).unwrap();
    dana.go(&format!("http://127.0.0.1:{port}/")).unwrap();
    let frames = dana.frames().unwrap();
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert!(!frames[1].1.contains("transfers") && !frames[1].1.contains("Approve"), "{frames:?}");
    // By another name of the same address a page would be of another origin, and readable to it.
    let renamed = page.replace("127.0.0.1", "localhost");
    assert_eq!(dana.ask("GET", &renamed, &[], None).unwrap().status, 421);
    // A link does nothing, nor does a form without its token, or with another's.
    assert_eq!(dana.ask("GET", &vote, &[], None).unwrap().status, 405);
    for token in ["", "csrf=&", "csrf=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA&"] {
        let answer =
            dana.post_form(&vote, &format!("{token}shown={shown}&answer=approve")).unwrap();
        assert!([403, 422].contains(&answer.status), "{token}: {answer:?}");
    }
    let answer = dana.go(&page).unwrap();
    assert_eq!(dana.text("section:has(#terms-title) p >> nth=0").unwrap(), "Nobody has answered.");
    assert!(!asked.is_over());
    assert_eq!((remaining(&office), runs(&office)), (before, 0));
    let policy = &answer.headers["content-security-policy"];
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.headers["x-frame-options"], "DENY");
    assert_eq!(
        (&*answer.headers["cache-control"], &*answer.headers["referrer-policy"]),
        ("no-store", "no-referrer")
    );

    // Only after all that dana votes; the same vote, sent again, is the same vote; for another request it is none.
    let csrf = dana.attribute("form.out input[name=csrf]", "value").unwrap();
    dana.click("#approve").unwrap();
    dana.wait_for(".told").unwrap();
    assert_eq!(asked.end().unwrap().stdout.trim(), "DELETE 20");
    let body = format!("csrf={csrf}&shown={shown}&answer=approve&reason=");
    let replayed = dana.post_form(&vote, &body).unwrap();
    assert_eq!(
        (replayed.status, &*replayed.headers["location"]),
        (303, &*format!("/approvals/{id}?told=already"))
    );
    let next = office.ask(CARL, PURGE).unwrap();
    dana.go(&office.url("/approvals")).unwrap();
    dana.wait_for(&card(0)).unwrap();
    let second = id_of(&dana);
    let to_next = dana.post_form(&office.url(&format!("/approvals/{second}/vote")), &body).unwrap();
    assert_eq!(to_next.status, 409, "{to_next:?}");
    assert!(to_next.text.contains("what you were shown is not what waits"), "{}", to_next.text);
    assert!(!next.is_over());
    assert_eq!(runs(&office), 1);
    no_complaint_but_the_strangers(&dana);
    drop(next);

    let evidence = office.world.evidence().unwrap();
    for (kind, why) in [
        ("console.refused", "sign_in_of_another_browser"),
        ("console.refused", "other_browser"),
        ("console.refused", "cross_site"),
        ("console.refused", "csrf"),
        ("approval.vote_refused", "shown_differs"),
    ] {
        let sql = format!(
            "SELECT count(*) FROM control WHERE kind = '{kind}' AND detail LIKE '%\"{why}\"%'"
        );
        assert!(evidence.count(&sql).unwrap() >= 1, "{why} is not recorded");
    }
    let votes = "SELECT count(*) FROM control WHERE kind = 'approval.voted'";
    assert_eq!(evidence.count(votes).unwrap(), 1);
}

/// The frame of the stranger's page was refused, and the browser says so; nothing of a script's ran.
#[track_caller]
fn no_complaint_but_the_strangers(person: &Person<'_>) {
    let seen = person.seen().unwrap();
    assert!(seen.errors.iter().any(|error| error.contains("frame")), "{:?}", seen.errors);
    assert!(seen.dialogs.is_empty(), "{:?}", seen.dialogs);
}
