//! A page that was opened before what it shows was over, or was something else.

use integration::Browser;
use integration::browser::DESK;
use integration::idp::{CARL, DANA, RUTH};
use integration::office::Office;
use integration::process::wait_until;
use rustix::process::Signal;

use super::{PURGE, card, id_of, no_complaint, purge_is_counted, remaining, runs};

#[test]
fn a_page_from_before_approves_nothing_else() {
    let office = Office::start(&[]).unwrap();
    purge_is_counted(&office);
    let before = remaining(&office);
    let browser = Browser::start().unwrap();
    let dana = browser.person("dana", DESK).unwrap();
    office.sign_in(&dana, DANA).unwrap();

    // What she looks at is withdrawn by its agent, which asks for more at once.
    let mut first = office.start_psql(CARL, &["-c", PURGE]).unwrap();
    dana.wait_for(&card(0)).unwrap();
    let shown_id = id_of(&dana);
    dana.click(&card(0)).unwrap();
    dana.wait_for("#approve").unwrap();
    first.signal(Signal::INT).unwrap();
    first.wait(20).unwrap().expect("psql gives up");
    let all = office.ask(CARL, "DELETE FROM transfers WHERE id > 0").unwrap();
    let other = browser.person("other", DESK).unwrap();
    office.sign_in(&other, RUTH).unwrap();
    other.wait_for(&card(0)).unwrap();
    let waiting_id = id_of(&other);
    assert_ne!(shown_id, waiting_id);
    dana.click("#approve").unwrap();
    dana.wait_for("role=alert").unwrap();
    let told = dana.text("role=alert").unwrap();
    assert!(told.contains("the request is over"), "{told}");
    assert_eq!(dana.count("#approve").unwrap(), 0);

    // What was shown is what is approved: a page that was made to show, or to send, something else counts for nothing.
    dana.go(&office.url(&format!("/approvals/{waiting_id}"))).unwrap();
    let digest = "0".repeat(64);
    let swap = format!(
        "document.querySelector('form:has(#approve) input[name=shown]').value = '{digest}'"
    );
    dana.evaluate(&swap).unwrap();
    dana.click("#approve").unwrap();
    dana.wait_for("role=alert").unwrap();
    let told = dana.text("role=alert").unwrap();
    assert!(told.contains("what you were shown is not what waits"), "{told}");
    assert!(!all.is_over());
    assert_eq!((remaining(&office), runs(&office)), (before, 0));

    // Somebody else denies it; her page still has the button.
    dana.go(&office.url(&format!("/approvals/{waiting_id}"))).unwrap();
    let second = browser.person("second", DESK).unwrap();
    office.idp.set_groups(RUTH, &["dba"]).unwrap();
    office.sign_in(&second, RUTH).unwrap();
    second.click(&card(0)).unwrap();
    second.fill("#deny-reason", "that is all of them").unwrap();
    second.click("#deny").unwrap();
    second.wait_for(".told").unwrap();
    let denied = all.end().unwrap();
    assert!(denied.stderr.contains("that is all of them"), "{denied:?}");
    dana.click("#approve").unwrap();
    dana.wait_for("role=alert").unwrap();
    assert!(dana.text("role=alert").unwrap().contains("the request is over"));

    // Who is let go at the issuer has no page any more, and no vote.
    let last = office.ask(CARL, PURGE).unwrap();
    dana.go(&office.url("/approvals")).unwrap();
    dana.wait_for(&card(0)).unwrap();
    dana.click(&card(0)).unwrap();
    dana.wait_for("#approve").unwrap();
    office.log_out(&dana).unwrap();
    let is_out = || {
        let answer = dana.ask("GET", &office.url("/approvals"), &[], None)?;
        Ok(answer.status == 303)
    };
    wait_until("the console hears of it", 20, is_out).unwrap();
    dana.click("#approve").unwrap();
    dana.wait_for("#sign-in").unwrap();
    assert!(!last.is_over());
    assert_eq!((remaining(&office), runs(&office)), (before, 0));
    for person in [&dana, &other, &second] {
        no_complaint(person);
    }
}
