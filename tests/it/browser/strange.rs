//! Statements and names that would be something else than they are: shown as what they are.

use approval::shown::plain;
use integration::Browser;
use integration::browser::DESK;
use integration::idp::{CARL, DANA};
use integration::office::Office;

use super::{card, id_of, no_complaint, picture};

/// A table that is named as a script.
const TABLE: &str = "<img src=x onerror=alert(1)>";

/// What permits its rows to be deleted once somebody approves.
const POLICY: &str = r#"
@id("strange-table")
permit (principal, action == Action::"delete", resource) when { resource is Table && resource.name == "<img src=x onerror=alert(1)>" };

@id("strange-table-approved")
@reason("<script>alert(2)</script>")
@approve("groups=dba, people=1, request=5m, grant=2m, covers=command")
forbid (principal, action == Action::"delete", resource)
when { resource is Table && resource.name == "<img src=x onerror=alert(1)>" };
"#;

/// Reads as a delete of one old row: the marks turn the end around, hide a word, and one letter is another script's.
const TURNED: &str = "DELETE FROM \"<img src=x onerror=alert(1)>\" /*\u{202e} 1 = di EREHW \u{2066}*/ WHERE note <> 'p\u{430}id'\
    -- \u{a0}</pre><script>alert(3)</script>\u{200b}\u{feff}";

#[test]
fn what_looks_like_something_else_is_shown_as_what_it_is() {
    let office = Office::start(&[("strange.cedar", POLICY)]).unwrap();
    let table = "CREATE TABLE \"<img src=x onerror=alert(1)>\" (id int, note text);
        INSERT INTO \"<img src=x onerror=alert(1)>\" VALUES (1, 'open'), (2, 'open');
        ALTER TABLE \"<img src=x onerror=alert(1)>\" OWNER TO app;";
    office.world.bank.sql(table).unwrap();
    office.idp.set_name(CARL, "Carl</title><script>alert(4)</script>\u{202e}lraC").unwrap();
    office.idp.set_name(DANA, "<b onclick=alert(5)>D\u{430}na</b>").unwrap();
    let browser = Browser::start().unwrap();
    let dana = browser.person("dana", DESK).unwrap();
    office.sign_in(&dana, DANA).unwrap();
    assert_eq!(dana.text(".who").unwrap(), "<b onclick=alert(5)>D<U+0430>na</b>");
    let asked = office.ask(CARL, TURNED).unwrap();
    dana.wait_for(&card(0)).unwrap();
    let id = id_of(&dana);
    assert!(dana.text("#requests").unwrap().contains(TABLE));
    dana.click(&card(0)).unwrap();
    dana.wait_for("#approve").unwrap();
    let seen = dana.exact_text("#statement").unwrap();
    assert_eq!(seen, plain(TURNED));
    for number in ["<U+202E>", "<U+2066>", "<U+0430>", "<U+00A0>", "<U+200B>", "<U+FEFF>"] {
        assert!(seen.contains(number), "{number}: {seen}");
    }
    assert!(seen.is_ascii());
    // Nothing that is not plain stands anywhere on the page, in its title or in what is read aloud.
    let everything = dana.evaluate("document.title + document.documentElement.outerHTML").unwrap();
    let everything = everything.as_str().unwrap();
    for strange in ['\u{202e}', '\u{2066}', '\u{430}', '\u{a0}', '\u{200b}', '\u{feff}'] {
        assert!(!everything.contains(strange), "{strange:?}");
    }
    assert!(dana.count(".strange").unwrap() >= 6);
    assert!(dana.text("main").unwrap().contains("Marked characters are no plain letters"));
    let facts = dana.text("main").unwrap();
    assert!(facts.contains("Carl</title><script>alert(4)</script><U+202E>lraC"), "{facts}");
    assert!(facts.contains("<script>alert(2)</script>"), "{facts}");
    picture(&dana, "strange");

    // A reason, too, is text: on the page and in psql.
    let reason = "<script>alert(6)</script> \u{202e}no";
    dana.fill("#deny-reason", reason).unwrap();
    dana.click("#deny").unwrap();
    dana.wait_for(".told").unwrap();
    assert!(
        dana.text(".votes").unwrap().contains(&plain(reason)),
        "{}",
        dana.text(".votes").unwrap()
    );
    let denied = asked.end().unwrap();
    assert!(denied.stderr.contains("<script>alert(6)</script>"), "{denied:?}");
    assert!(!denied.stderr.contains('\u{202e}'), "a terminal is turned around as well: {denied:?}");
    office.world.evidence().unwrap();
    for page in
        [&*format!("/approvals/{id}"), "/approvals", "/archive?agent=back-office", "/sessions"]
    {
        assert_eq!(dana.go(&office.url(page)).unwrap().status, 200, "{page}");
    }
    dana.go(&office.url("/archive?agent=back-office")).unwrap();
    assert!(dana.text("main").unwrap().contains(TABLE), "{}", dana.text("main").unwrap());
    dana.click("main .card a >> nth=0").unwrap();
    dana.wait_for(".timeline").unwrap();
    // None of it ever ran, and no page broke its own rules.
    no_complaint(&dana);
    assert_eq!(
        office
            .world
            .bank
            .sql("SELECT count(*) FROM \"<img src=x onerror=alert(1)>\"")
            .unwrap()
            .trim(),
        "2"
    );
}
