//! A risky command waits for a person, who sees it in a browser, and it runs once.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use integration::browser::{Browser, DESK, Person};
use integration::idp::{CARL, DANA};
use integration::process::{Running, run, wait_until};
use integration::{Office, office};

use super::Story;

/// What waits: deletes of transfers, by [`office::APPROVALS`].
const RISKY: &str = "DELETE FROM transfers WHERE from_account = 4711 AND made_at < '2026-02-01'";

/// Why it is approved.
const REASON: &str = "closed account, ticket 4711";

/// Has a command wait, approves it in a browser (by the command line in a hurry), and shows that it runs once.
///
/// # Errors
/// If it runs before it is approved, or twice, or the requester approves it.
pub(super) fn approve(story: &mut Story, office: &Office, out: &Path, quick: bool) -> Result<()> {
    story.chapter("An agent's DELETE waits for a person");
    story.say("A policy has deletes of transfers wait for somebody of the group dba:");
    let (_, policy) = office::APPROVALS;
    let last = policy.rsplit_once("@id").map_or(policy, |(_, last)| last);
    story.quote(&format!("@id{last}"));
    let before = rows(office)?;
    story.say("back-office, an agent that acts for Carl, sends by psql:");
    story.quote(RISKY);
    let asked = office.ask(CARL, RISKY)?;
    let id = waiting(office)?;
    story.say("It waits; nothing of it is at the server. vestibule approvals list:");
    story.quote(&run(office.world.daemon.cli().args(["approvals", "list"]), 30)?.ok()?);
    ensure!(!asked.is_over() && rows(office)? == before, "it did not wait");
    if quick {
        by_command(story, office, &id)?;
    } else {
        in_a_browser(story, office, out)?;
    }
    let done = asked.end()?.ok()?;
    story.say("Approved, and psql, which waited, has its answer:");
    story.quote(&done);
    let deleted = before - rows(office)?;
    ensure!(done.trim() == format!("DELETE {deleted}") && deleted > 0, "{deleted} rows are gone");
    story.say("The very same command again waits again: what was approved is used up. The agent gives up.");
    let again = office.start_psql(CARL, &["-c", RISKY])?;
    ensure!(waiting(office)? != id, "it did not wait again");
    drop(again);
    wait_until("the request is withdrawn", 20, || Ok(list(office)?.is_empty()))
}

/// Dana signs in at the provider, looks, and approves.
fn in_a_browser(story: &mut Story, office: &Office, out: &Path) -> Result<()> {
    story.say(&format!(
        "The console is at {}; Dana opens it in a browser (headless chromium),",
        office.url("/")
    ));
    story.say("signs in at the bank's OpenID provider, and sees:");
    let browser = Browser::start()?;
    let dana: Person<'_> = browser.person("dana", DESK)?;
    office.sign_in(&dana, DANA)?;
    dana.click("#requests a >> nth=0")?;
    dana.wait_for("#approve")?;
    let statement = dana.exact_text("#statement")?;
    story.quote(&statement);
    ensure!(statement == RISKY, "the page shows another statement");
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let picture = out.join("approval.png");
    dana.picture(&picture, true)?;
    story.say(&format!("The whole page: {}. She approves.", picture.display()));
    dana.fill("#approve-reason", REASON)?;
    dana.click("#approve")?;
    dana.wait_for(".told")
}

/// Dana logs in on the host, and approves by the command line.
fn by_command(story: &mut Story, office: &Office, id: &str) -> Result<()> {
    story.say(&format!(
        "The console is at {}; in a hurry, Dana logs in on the host and types:",
        office.url("/")
    ));
    let mut login = office.world.daemon.cli();
    login.arg("login").stdout(Stdio::piped());
    let mut login = Running::new("login", &mut login)?;
    let mut said = BufReader::new(login.take_stdout().context("its output")?);
    let mut line = String::new();
    said.read_line(&mut line).context("the code")?;
    office.idp.approve(DANA, line.trim().rsplit(' ').next().unwrap_or_default())?;
    said.read_to_string(&mut line).context("the end of the login")?;
    ensure!(login.wait(20)? == Some(Some(0)), "{line}");
    let words = ["approvals", "approve", id, "--yes", "--reason", REASON];
    story.quote(&format!("vestibule approvals approve {id} --yes --reason '{REASON}'"));
    let told = run(office.world.daemon.cli().args(words), 30)?.ok()?;
    ensure!(told.contains(RISKY), "another statement is shown: {told}");
    story.quote(&told);
    run(office.world.daemon.cli().arg("logout"), 30)?.ok().map(drop)
}

/// The id of the one request that waits, once it does.
fn waiting(office: &Office) -> Result<String> {
    let mut id = None;
    wait_until("a command waits", 20, || {
        id = list(office)?.pop();
        Ok(id.is_some())
    })?;
    id.context("one waits")
}

/// Ids of requests that wait.
fn list(office: &Office) -> Result<Vec<String>> {
    let told =
        run(office.world.daemon.cli().args(["approvals", "list", "--output", "json"]), 30)?.ok()?;
    let told: serde_json::Value = serde_json::from_str(&told).context("the list")?;
    let all = told["requests"].as_array().context("a list of requests")?;
    Ok(all.iter().filter_map(|one| one["request"]["id"].as_str().map(str::to_owned)).collect())
}

/// Transfers that the bank holds.
fn rows(office: &Office) -> Result<u64> {
    office.world.bank.sql("SELECT count(*) FROM transfers")?.trim().parse().context("a count")
}
