//! The console in a real browser, with the real provider's form, the real daemon, and psql as the agent.

mod attacks;
mod pages;
mod stale;
mod story;
mod strange;

use std::fs;
use std::process::Command;

use integration::browser::{DESK, PHONE, Person, pictures};
use integration::process::run;
use integration::{Browser, Office};

/// A risky command: twenty rows, and in it what HTML has a meaning for.
const PURGE: &str = "DELETE FROM transfers\nWHERE id <= 20 AND memo <> 'a \"b\" & <c>'";

/// Has the bank count how often transfers are deleted from, by itself.
fn purge_is_counted(office: &Office) {
    let sql = "CREATE TABLE ran (at timestamptz);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            'BEGIN INSERT INTO public.ran VALUES (now()); RETURN NULL; END';
        CREATE TRIGGER noted AFTER DELETE ON transfers FOR EACH STATEMENT EXECUTE FUNCTION note();";
    office.world.bank.sql(sql).unwrap();
}

/// How often it ran.
fn runs(office: &Office) -> u64 {
    office.world.bank.sql("SELECT count(*) FROM ran").unwrap().trim().parse().unwrap()
}

/// Rows left.
fn remaining(office: &Office) -> u64 {
    office.world.bank.sql("SELECT count(*) FROM transfers").unwrap().trim().parse().unwrap()
}

/// The link of a request that waits, newest first.
fn card(number: usize) -> String {
    format!("#requests a >> nth={number}")
}

/// The id of the newest request that waits.
fn id_of(person: &Person<'_>) -> String {
    let link = person.attribute(&card(0), "href").unwrap();
    link.rsplit('/').next().unwrap().to_owned()
}

/// No script of somebody's ran, and nothing of the page broke its own rules.
#[track_caller]
fn no_complaint(person: &Person<'_>) {
    let seen = person.seen().unwrap();
    assert!(seen.dialogs.is_empty(), "{:?}", seen.dialogs);
    // The browser tells of answers that refuse, too; those are asked for here.
    let complaints =
        seen.errors.iter().filter(|error| !error.starts_with("Failed to load resource"));
    assert_eq!(complaints.collect::<Vec<_>>(), [] as [&String; 0]);
}

/// Looks at the page in light and in dark: no finding that keeps somebody out; and leaves a picture of it.
#[track_caller]
fn picture(person: &Person<'_>, name: &str) {
    for is_dark in [true, false] {
        person.prefer(is_dark).unwrap();
        is_for_everyone(person, name);
        if !is_dark {
            keep(person, name);
        } else if DARK_TOO.contains(&name) {
            keep(person, &format!("{name}-dark"));
        }
    }
}

/// Pages that are kept as they are in dark rooms, too.
const DARK_TOO: [&str; 2] = ["approvals", "request"];

/// Leaves a picture of the page in few colours, small enough for the tree.
#[track_caller]
fn keep(person: &Person<'_>, name: &str) {
    let file = pictures().unwrap().join(format!("{name}.png"));
    person.picture(&file, true).unwrap();
    let mut quantize = Command::new("pngquant");
    quantize.args(["--strip", "--speed", "3", "--force", "--ext", ".png", "64"]).arg(&file);
    run(&mut quantize, 30).unwrap().ok().unwrap();
    let bytes = fs::metadata(&file).unwrap().len();
    assert!(bytes < PICTURE_BYTES_MAX, "{}: {bytes} bytes", file.display());
}

/// What the tree should hold at most of a picture.
const PICTURE_BYTES_MAX: u64 = 150_000;

#[track_caller]
fn is_for_everyone(person: &Person<'_>, what: &str) {
    let access = person.access().unwrap();
    // A page on which no rule applies was not looked at.
    assert!(access.checked >= 10, "{what}: {access:?}");
    let bad: Vec<_> =
        access.found.iter().filter(|one| ["serious", "critical"].contains(&&*one.impact)).collect();
    assert!(bad.is_empty(), "{what}: {bad:#?}");
}

/// What a good page must not have: an unreadable word, a script of somebody's, a line that is wider than a phone.
const BAD: &str = "<!doctype html><html lang=en><title>bad</title><main><h1>Bad</h1>\
    <p style='color:#bbb;background:#fff'>hardly to be read</p><p style='width:900px'>wide</p>\
    <script>alert('run'); throw new Error('thrown')</script></main></html>";

#[test]
fn a_browser_tells_what_is_wrong_with_a_page() {
    let browser = Browser::start().unwrap();
    let port = browser.stranger(BAD).unwrap();
    let person = browser.person("someone", PHONE).unwrap();
    let answer = person.go(&format!("http://localhost:{port}/")).unwrap();
    assert_eq!(
        (answer.status, answer.headers["content-type"].as_str()),
        (200, "text/html; charset=utf-8")
    );
    assert_eq!(person.text("h1").unwrap(), "Bad");
    let access = person.access().unwrap();
    let [finding] = &access.found[..] else { panic!("{access:?}") };
    assert_eq!((finding.id.as_str(), finding.impact.as_str()), ("color-contrast", "serious"));
    assert_eq!(person.overhang().unwrap(), 900 + 8 - 320, "the body's margin is 8");
    let seen = person.seen().unwrap();
    assert_eq!(seen.dialogs, ["alert: run"]);
    assert!(seen.errors.iter().any(|error| error == "uncaught: thrown"), "{seen:?}");
    // Nobody else saw any of that, and pictures are pictures.
    let other = browser.person("another", DESK).unwrap();
    assert!(other.seen().unwrap().dialogs.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.png");
    person.picture(&file, true).unwrap();
    assert!(fs::read(file).unwrap().starts_with(b"\x89PNG"));
}
