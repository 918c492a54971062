//! A risky command waits, is seen and answered in a browser, and the archive has the answer.

use approval::shown::plain;
use integration::Browser;
use integration::browser::DESK;
use integration::idp::{CARL, DANA, RUTH};
use integration::office::Office;
use serde_json::json;

use super::{PURGE, card, id_of, no_complaint, picture, purge_is_counted, remaining, runs};

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn a_delete_waits_is_approved_in_a_browser_and_runs_once() {
    let office = Office::start(&[]).unwrap();
    purge_is_counted(&office);
    // The agent acts for Carl, who is one of those that approve, and still does not for himself.
    office.idp.set_groups(CARL, &["contractors", "dba"]).unwrap();
    let browser = Browser::start().unwrap();
    let dana = browser.person("dana", DESK).unwrap();
    office.sign_in(&dana, DANA).unwrap();
    assert_eq!(dana.text("#count").unwrap(), "Nothing waits for an answer.");
    dana.evaluate("globalThis.loaded_once = true").unwrap();

    let before = remaining(&office);
    let asked = office.ask(CARL, PURGE).unwrap();
    // It appears by itself, in the same page.
    dana.wait_for(&card(0)).unwrap();
    assert_eq!(dana.evaluate("globalThis.loaded_once").unwrap(), json!(true));
    assert_eq!(dana.text("#count").unwrap(), "1 request waits for an answer.");
    picture(&dana, "approvals");
    let id = id_of(&dana);
    dana.click(&card(0)).unwrap();
    dana.wait_for("#approve").unwrap();
    // Exactly it, to the byte.
    assert_eq!(dana.exact_text("#statement").unwrap(), plain(PURGE));
    let facts = dana.text("main").unwrap();
    for fact in
        ["back-office", "Carl", "psql", "delete transfers", "transfers-are-approved", "1 of dba"]
    {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
    picture(&dana, "request");

    // Whoever it is asked for sees it and can't answer it, by the page or past it.
    let carl = browser.person("carl", DESK).unwrap();
    office.sign_in(&carl, CARL).unwrap();
    carl.go(&office.url(&format!("/approvals/{id}"))).unwrap();
    assert_eq!(carl.count("#approve").unwrap() + carl.count("#deny").unwrap(), 0);
    let told = carl.text("section.answers").unwrap();
    assert!(told.contains("You can't answer this"), "{told}");
    let csrf = carl.attribute("form.out input[name=csrf]", "value").unwrap();
    let shown = dana.attribute("form:has(#approve) input[name=shown]", "value").unwrap();
    let body = format!("csrf={csrf}&shown={shown}&answer=approve&reason=");
    let vote = office.url(&format!("/approvals/{id}/vote"));
    let own = carl.post_form(&vote, &body).unwrap();
    assert_eq!(own.status, 403, "{own:?}");
    assert!(own.text.contains("Your answer does not count"), "{}", own.text);
    assert!(!asked.is_over());
    assert_eq!((remaining(&office), runs(&office)), (before, 0));

    dana.fill("#approve-reason", "the ticket says so").unwrap();
    dana.click("#approve").unwrap();
    dana.wait_for(".told").unwrap();
    assert_eq!(dana.text(".told").unwrap(), "Approved: the command goes on.");
    let done = asked.end().unwrap();
    assert_eq!(done.stdout.trim(), "DELETE 20", "{done:?}");
    assert!(done.stderr.contains("NOTICE") && done.stderr.contains(&id), "{done:?}");
    assert_eq!((remaining(&office), runs(&office)), (before - 20, 1));
    // Nobody answers it again.
    let again =
        dana.post_form(&vote, &format!("csrf={csrf}&shown={shown}&answer=approve")).unwrap();
    assert_eq!(again.status, 403, "another's form: {again:?}");

    // The very same again waits again, and is denied.
    let again = office.ask(CARL, PURGE).unwrap();
    dana.go(&office.url("/approvals")).unwrap();
    dana.wait_for(&card(0)).unwrap();
    let second = id_of(&dana);
    assert_ne!(second, id);
    dana.click(&card(0)).unwrap();
    dana.wait_for("#deny").unwrap();
    assert!(dana.text("section:has(#alike-title)").unwrap().contains("back-office"));
    dana.fill("#deny-reason", "twice is once too often").unwrap();
    dana.click("#deny").unwrap();
    dana.wait_for(".told").unwrap();
    let denied = again.end().unwrap();
    assert_eq!(denied.code, Some(1), "{denied:?}");
    assert!(
        denied.stderr.contains("42501") && denied.stderr.contains("twice is once too often"),
        "{denied:?}"
    );
    assert!(denied.stderr.contains(&second), "{denied:?}");
    assert_eq!((remaining(&office), runs(&office)), (before - 20, 1));

    // In an emergency one of `risk` alone, with a reason.
    let emergency = office.ask(CARL, PURGE).unwrap();
    let ruth = browser.person("ruth", DESK).unwrap();
    office.sign_in(&ruth, RUTH).unwrap();
    ruth.wait_for(&card(0)).unwrap();
    let third = id_of(&ruth);
    ruth.click(&card(0)).unwrap();
    ruth.wait_for("#break-glass").unwrap();
    assert_eq!(ruth.count("#approve").unwrap(), 0, "risk does not approve");
    ruth.click("#break-glass").unwrap();
    ruth.wait_for("#break").unwrap();
    picture(&ruth, "break-glass");
    assert_eq!(ruth.exact_text("#statement").unwrap(), plain(PURGE));
    // Neither without a reason nor without saying so.
    ruth.click("#break").unwrap();
    assert!(ruth.url().unwrap().ends_with("/break-glass"));
    assert!(!emergency.is_over());
    ruth.fill("#reason", "the ledger is locked").unwrap();
    ruth.click("#sure").unwrap();
    ruth.click("#break").unwrap();
    ruth.wait_for(".told").unwrap();
    let done = emergency.end().unwrap();
    assert_eq!(done.stdout.trim(), "DELETE 0", "{done:?}");
    assert_eq!(runs(&office), 2);
    for person in [&dana, &carl, &ruth] {
        no_complaint(person);
    }
    archived(&office, &[&id, &second, &third]);
}

/// What an auditor finds.
fn archived(office: &Office, ids: &[&str; 3]) {
    let evidence = office.world.evidence().unwrap();
    let issuer = office.idp.issuer();
    let by = |user: &str| json!(format!("{user}@{issuer}"));
    let rows = evidence
        .duckdb(
            "SELECT approval_id, approver_id, approver_idp, actor_sub, decision, \"rows\" FROM events \
             WHERE verb = 'DELETE' AND kind = 'db.query' ORDER BY ts",
        )
        .unwrap();
    let [approved, denied, broken] = &rows[..] else { panic!("{rows:?}") };
    for (row, id) in rows.iter().zip(ids) {
        assert_eq!((&row["approval_id"], &row["actor_sub"]), (&json!(id), &json!(CARL)), "{row}");
    }
    assert_eq!(
        (&approved["approver_id"], &approved["rows"]),
        (&by(DANA), &json!(20)),
        "{approved}"
    );
    assert_eq!(
        (&approved["decision"], &approved["approver_idp"]),
        (&json!("approved"), &json!(issuer))
    );
    assert_eq!(denied["decision"], "deny", "{denied}");
    assert_eq!((&broken["approver_id"], &broken["rows"]), (&by(RUTH), &json!(0)), "{broken}");
    let votes = |more: &str| {
        let sql = format!(
            "SELECT count(*) FROM control WHERE kind = 'approval.voted' AND detail LIKE '%{more}%'"
        );
        evidence.count(&sql).unwrap()
    };
    assert_eq!((votes("%"), votes("break_glass"), votes("twice is once too often")), (3, 1, 1));
    let refused = "SELECT count(*) FROM control WHERE kind = 'approval.vote_refused' \
                   AND detail LIKE '%involved%' AND detail LIKE '%carl@%'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}
