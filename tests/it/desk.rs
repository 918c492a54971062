//! Commands that wait, and people of a real provider who answer for them on the host: who may not, what is kept over a
//! kill, and what the archive says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::agent::with_bank;
use integration::daemon::ExtraPolicy;
use integration::idp::{ALICE, CARL, CLIENT, DANA, RESOURCES, RUTH, SECRET};
use integration::process::{Running, run, wait_until};
use integration::{Output, bank};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::inside::{INNER, MAY_START, OUTER, run_words};
use crate::logins::LoggingIn;
use crate::standing::{Asked, Story};

/// Whose statements wait.
const AGENT: &str = "back-office";

/// Deletes need one person, updates two and are good for three, and inserts are over in two seconds.
const WAITS: ExtraPolicy<'static> = (
    "waits.cedar",
    r#"
@id("transfers-are-written")
permit (principal, action in Action::"write", resource) when { resource is Table && resource.name == "transfers" };
@id("deletes-wait")
@reason("deletes on transfers need a second person")
@approve("groups=dba|risk, request=2m, grant=2m, break_glass=incident")
forbid (principal, action == Action::"delete", resource) when { resource is Table && resource.name == "transfers" };
@id("updates-wait")
@approve("groups=dba|risk, people=2, covers=alike*3")
forbid (principal, action == Action::"update", resource) when { resource is Table && resource.name == "transfers" };
@id("inserts-wait")
@approve("groups=dba, request=2s")
forbid (principal, action == Action::"insert", resource) when { resource is Table && resource.name == "transfers" };
"#,
);

/// Answers each line with how many rows it touched, or why not; by a new connection where one is gone.
const COUNTS: &str = "
import psycopg, sys
c = None
for line in sys.stdin:
    try:
        if c is None: c = psycopg.connect(autocommit=True)
        print('done', c.execute(line).rowcount)
    except psycopg.Error as e:
        if c is None or c.closed: c = None
        print('error', ' '.join(str(e).split()))
";

/// Every approval in the window: who asked, who approved, how long it took, what ran, how many rows. As in `docs/auditor.md`.
pub(crate) const EVERY_APPROVAL: &str = "
SELECT e.agent_id, e.actor_user AS asked_by, e.approver_id AS approved_by, e.approval_id AS request,
       e.approval_scope AS covers, e.decision, e.held_us / 1e6 AS held_s, e.statement_norm AS ran, e.status, e.\"rows\"
FROM events e WHERE e.approval_id IS NOT NULL ORDER BY e.ts";

/// People by who they are to the host: who called sudo.
const PEOPLE: [(&str, u32); 4] = [(ALICE, 2001), (CARL, 2002), (DANA, 2003), (RUTH, 2004)];

pub(crate) struct Desk {
    pub(crate) story: Story,
    _secret: NamedTempFile,
}

impl Desk {
    pub(crate) fn start(more: &str) -> Self {
        let secret = NamedTempFile::new().unwrap();
        fs::write(secret.path(), SECRET).unwrap();
        let issuer = format!(
            "client = {{ id = '{CLIENT}', secret_file = '{}', scope = 'openid profile groups bank', resource = '{}' }}",
            secret.path().display(),
            RESOURCES[0]
        );
        let story = Story::ruled(&issuer, &[WAITS], &format!("{MAY_START}{more}"));
        Self { story, _secret: secret }
    }

    /// `vestibule`, as a person whom the host knows; nobody without.
    pub(crate) fn cli(&self, user: Option<&str>) -> Command {
        let mut command = self.story.world.daemon.cli();
        let uid =
            PEOPLE.iter().find(|(name, _)| Some(*name) == user).map(|(_, uid)| uid.to_string());
        command.env_remove("SUDO_UID").envs(uid.map(|uid| ("SUDO_UID", uid)));
        command
    }

    pub(crate) fn log_in(&self, user: &str) {
        let login = LoggingIn::of(self.cli(Some(user)));
        self.story.place.idp.approve(user, &login.code).unwrap();
        let (code, said) = login.end();
        assert_eq!(code, Some(0), "{said}");
    }

    /// `vestibule approvals …`.
    pub(crate) fn approvals(&self, user: Option<&str>, words: &[&str]) -> Output {
        run(self.cli(user).arg("approvals").args(words), 60).unwrap()
    }

    /// The answer of `vestibule approvals … --output json`.
    pub(crate) fn told(&self, words: &[&str]) -> Value {
        let words = [words, &["--output", "json"]].concat();
        serde_json::from_str(&self.approvals(None, &words).ok().unwrap()).unwrap()
    }

    /// What waits, by `list`.
    pub(crate) fn waiting(&self) -> Vec<Value> {
        self.told(&["list"])["requests"].as_array().unwrap().clone()
    }

    /// The request that waits and is none of these.
    pub(crate) fn next(&self, known: &[&str]) -> String {
        let mut found = None;
        let waits = wait_until("a request waits", 30, || {
            let waiting = self.waiting();
            let id = |one: &Value| one["request"]["id"].as_str().unwrap().to_owned();
            found = waiting.iter().map(id).find(|id| !known.contains(&id.as_str()));
            Ok(found.is_some())
        });
        if let Err(error) = waits {
            let last = "SELECT statement_norm, decision, decision_reason, error_code FROM events ORDER BY ts DESC LIMIT 3";
            panic!("{error:#}: {:?}", self.story.world.evidence().unwrap().duckdb(last));
        }
        found.unwrap()
    }

    pub(crate) fn standing(&self, id: &str) -> Value {
        self.told(&["show", id])["standing"].clone()
    }

    /// Starts psql as an agent with one statement: of a person's login, or with other words for `vestibule run`.
    pub(crate) fn psql(&self, user: Option<&str>, words: &[&str], sql: &str) -> Running {
        let mut command = self.cli(user);
        command.args(["run", "--agent", AGENT, "--user", "root"]).args(words);
        command.args(["--", "psql", "-XAt", "-c", sql]);
        with_bank(&mut command, bank::ROLE, self.story.world.bank.port());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new("psql", &mut command).unwrap()
    }

    pub(crate) fn rows(&self, sql: &str) -> u64 {
        self.story.world.bank.sql(sql).unwrap().trim().parse().unwrap()
    }

    /// The refusal of a vote.
    #[track_caller]
    pub(crate) fn refused(&self, user: Option<&str>, words: &[&str], why: &str) {
        let refused = self.approvals(user, words);
        assert!(refused.code != Some(0) && refused.stderr.contains(why), "{why}: {refused:?}");
    }

    #[track_caller]
    pub(crate) fn approve(&self, user: &str, id: &str, said: &str) {
        let approved = self.approvals(Some(user), &["approve", id, "--yes"]);
        assert!(approved.code == Some(0) && approved.stdout.contains(said), "{approved:?}");
    }

    fn token(&self, name: &str, claims: &Value) -> PathBuf {
        let file = self.story.world.daemon.directory().join(format!("{name}.jwt"));
        fs::write(&file, self.story.place.signed(claims)).unwrap();
        file
    }
}

/// What a process said, once it has ended.
pub(crate) fn end(mut process: Running) -> (Option<i32>, String) {
    use std::io::Read;
    let (mut said, mut stdout, mut stderr) =
        (String::new(), process.take_stdout().unwrap(), process.take_stderr().unwrap());
    stdout.read_to_string(&mut said).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    (process.wait(60).unwrap().flatten(), said)
}

fn delete(id: u32) -> String {
    format!("DELETE FROM transfers WHERE id = {id}")
}

fn left(desk: &Desk, id: u32) -> u64 {
    desk.rows(&format!("SELECT count(*) FROM transfers WHERE id = {id}"))
}

#[test]
fn a_delete_waits_for_a_second_person_and_runs_once() {
    let desk = Desk::start("");
    desk.log_in(ALICE);
    let waits = desk.psql(Some(ALICE), &[], &delete(7));
    let id = desk.next(&[]);
    assert_eq!(left(&desk, 7), 1, "nothing went to the server");
    let status = desk.story.told(&["status"]);
    assert_eq!(status["approvals_waiting"], 1, "{status}");

    // What is shown, and to whom it is nobody's to answer.
    let shown = desk.approvals(None, &["show", &id]).ok().unwrap();
    assert!(shown.contains(&format!("statement:\n{}", delete(7))), "{shown}");
    assert!(shown.contains("for: Alice alice@http") && shown.contains("does: "), "{shown}");
    let digest = desk.standing(&id)["request"]["shown_sha256"].as_str().unwrap().to_owned();
    assert!(shown.contains(&format!("shown: {digest}")), "{shown}");
    let approve = ["approve", &id, "--yes"];
    desk.refused(Some(ALICE), &approve, "is whom the agent acts for");
    desk.refused(None, &approve, "`vestibule login` first");
    desk.log_in(CARL);
    desk.refused(Some(CARL), &approve, "needs a member of dba, risk");
    desk.log_in(DANA);
    desk.refused(Some(DANA), &["approve", &id], "nobody is there to confirm it");
    let other = ["approve", &id, "--shown", &"0".repeat(64)];
    desk.refused(Some(DANA), &other, "look at it again");
    desk.refused(Some(DANA), &["deny", &id, "--yes"], "--reason");
    assert_eq!(left(&desk, 7), 1);

    let approved = desk.approvals(Some(DANA), &["approve", &id, "--shown", &digest]);
    assert!(approved.stdout.contains("granted: the command goes on"), "{approved:?}");
    let (code, said) = end(waits);
    assert!(code == Some(0) && said.contains("DELETE 1"), "{said}");
    assert_eq!(left(&desk, 7), 0);
    // A vote that is played again changes nothing, nor does another person's.
    let again = desk.approvals(Some(DANA), &["approve", &id, "--shown", &digest]);
    assert!(again.stdout.contains("you said so before"), "{again:?}");
    desk.log_in(RUTH);
    let late = ["approve", &id, "--shown", &digest];
    desk.refused(Some(RUTH), &late, "the request is over: granted");

    // The same again waits again; and a refusal is told.
    let waits = desk.psql(Some(ALICE), &[], &delete(7));
    let second = desk.next(&[&id]);
    assert!(desk.approvals(None, &["show", &second]).stdout.contains("before: "), "past ones");
    let denied =
        desk.approvals(Some(RUTH), &["deny", &second, "--yes", "--reason", "once is enough"]);
    assert!(denied.stdout.contains("refused: the agent is told"), "{denied:?}");
    let (code, said) = end(waits);
    assert!(code != Some(0) && said.contains("once is enough"), "{said}");
    assert_eq!(desk.waiting(), [] as [Value; 0]);

    let evidence = desk.story.world.evidence().unwrap();
    let rows = evidence.duckdb(EVERY_APPROVAL).unwrap();
    let row = rows.iter().find(|row| row["decision"] == "approved").unwrap();
    let issuer = desk.story.place.idp.issuer();
    assert_eq!(row["asked_by"], "Alice", "{row}");
    assert_eq!(row["approved_by"], json!(format!("{DANA}@{issuer}")), "{row}");
    assert_eq!((&row["request"], &row["rows"]), (&json!(id), &json!(1)), "{row}");
    assert_eq!(row["ran"], "DELETE FROM transfers WHERE id = $1", "{row}");
    assert!(row["held_s"].as_f64().unwrap() > 0.0, "{row}");
    let refused = "SELECT count(*) FROM control WHERE kind = 'approval.vote_refused'";
    assert_eq!(evidence.count(refused).unwrap(), 5, "whoever could not vote is recorded");
    let literal = "SELECT count(*) FROM control WHERE detail LIKE '%id = 7%'";
    assert_eq!(evidence.count(literal).unwrap(), 0);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn nobody_with_a_part_in_it_approves_and_one_person_counts_once() {
    let desk = Desk::start("");
    for (user, _) in PEOPLE {
        desk.log_in(user);
    }
    desk.story.place.idp.set_groups(DANA, &["dba", "risk"]).unwrap();
    let issuer = desk.story.place.idp.issuer();
    let carl = desk.story.token(CARL);

    // Started by Dana for Carl: she answers for it.
    let owned = desk.psql(Some(DANA), &["--token-file", carl.to_str().unwrap()], &delete(11));
    let first = desk.next(&[]);
    assert_eq!(
        desk.standing(&first)["request"]["requester"]["owner"],
        json!(format!("{DANA}@{issuer}"))
    );
    desk.refused(Some(DANA), &["approve", &first, "--yes"], "Dana answers for the agent");
    desk.approve(RUTH, &first, "granted");
    assert!(end(owned).1.contains("DELETE 1"));

    // Ruth acts for Carl by the token's word.
    let acts = desk.token("acted", &json!({"act": {"sub": RUTH, "iss": issuer}}));
    let acted = desk.psql(None, &["--token-file", acts.to_str().unwrap()], &delete(12));
    let second = desk.next(&[&first]);
    desk.refused(Some(RUTH), &["approve", &second, "--yes"], "Ruth is in the chain");
    // Nor does a token by which somebody acts for another vote, nor a program's.
    let claims = json!({"sub": DANA, "name": "Dana", "groups": ["dba"], "act": {"sub": "bot", "iss": issuer}});
    for (claims, why) in [
        (claims, "somebody acts for Dana"),
        (json!({"sub": CLIENT, "groups": ["dba"]}), "is a program's"),
        (json!({"sub": DANA, "groups": ["dba"], "exp": 1}), "does not count: expired"),
        (json!({"sub": DANA, "groups": ["dba"], "aud": "https://else.example"}), "does not count"),
    ] {
        let file = desk.token("voter", &claims);
        let words = ["approve", &second, "--yes", "--token-file", file.to_str().unwrap()];
        desk.refused(None, &words, why);
    }
    let own = desk.token("own", &json!({"sub": DANA, "name": "Dana", "groups": ["dba"]}));
    let words = ["approve", &second, "--yes", "--token-file", own.to_str().unwrap()];
    let voted = desk.approvals(None, &words);
    assert!(voted.code == Some(0) && voted.stdout.contains("granted"), "{voted:?}");
    assert!(end(acted).1.contains("DELETE 1"));

    // One person of two groups is one person.
    let update = "UPDATE transfers SET amount = amount WHERE id = 13";
    let waits = desk.psql(Some(ALICE), &[], update);
    let third = desk.next(&[&first, &second]);
    let login = desk.approvals(Some(DANA), &["approve", &third, "--yes"]);
    assert!(login.stdout.contains("counted; more people are needed"), "{login:?}");
    let words = ["approve", &third, "--yes", "--token-file", own.to_str().unwrap()];
    assert!(desk.approvals(None, &words).stdout.contains("you said so before"));
    assert_eq!(desk.standing(&third)["votes"].as_array().unwrap().len(), 1);
    desk.approve(RUTH, &third, "granted");
    assert!(end(waits).1.contains("UPDATE 1"));
    let evidence = desk.story.world.evidence().unwrap();
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

/// The person of the agent around it has a part in what it asks, too.
#[test]
fn whom_the_agent_around_acts_for_does_not_approve() {
    let desk = Desk::start("");
    desk.log_in(DANA);
    desk.log_in(RUTH);
    let carl = desk.story.token(CARL);
    let outer = desk.story.token(RUTH);
    // All at once: the provider ends connections that rest for five seconds.
    desk.story.place.idp.set_groups(ALICE, &["risk"]).unwrap();
    let alice = desk.story.token(ALICE);
    let mut command = desk.cli(Some(DANA));
    let inner =
        format!("$RUN {INNER} --token-file {} -- psql -XAt -c '{}'", carl.display(), delete(14));
    command.args(["run", "--agent", OUTER, "--user", "root", "--token-file"]).arg(&outer);
    command.args(["--", "sh", "-c", &inner]).env("RUN", run_words(&desk.story.world));
    with_bank(&mut command, bank::ROLE, desk.story.world.bank.port());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let waits = Running::new("inner", &mut command).unwrap();
    let id = desk.next(&[]);
    assert_eq!(desk.standing(&id)["request"]["requester"]["user"], "Carl");
    desk.refused(Some(RUTH), &["approve", &id, "--yes"], "Ruth");
    desk.refused(Some(DANA), &["approve", &id, "--yes"], "Dana");
    let words = ["approve", &id, "--yes", "--token-file", alice.to_str().unwrap()];
    let voted = desk.approvals(None, &words);
    assert!(voted.stdout.contains("granted"), "{voted:?}");
    assert!(end(waits).1.contains("DELETE 1"));
}

#[test]
fn a_vote_that_comes_too_late_does_not_count() {
    let desk = Desk::start("");
    desk.log_in(DANA);
    let waits = desk.psql(None, &[], "INSERT INTO transfers SELECT * FROM transfers WHERE id = 1");
    let id = desk.next(&[]);
    let digest = desk.standing(&id)["request"]["shown_sha256"].as_str().unwrap().to_owned();
    let (code, said) = end(waits);
    assert!(code != Some(0), "{said}");
    let late = ["approve", &id, "--shown", &digest];
    desk.refused(Some(DANA), &late, "the request is over: expired");
    let listed = desk.told(&["list", "--over"]);
    assert_eq!(listed["requests"][0]["ended"]["how"], "expired", "{listed}");
}

/// A kill -9 with one that waits, one that is half approved, and a grant that was used: all is as the journal has it.
#[test]
fn what_was_approved_is_what_it_was_after_a_kill() {
    let mut desk = Desk::start("");
    desk.log_in(DANA);
    desk.log_in(RUTH);
    let update = |id: u32| format!("UPDATE transfers SET amount = amount WHERE id = {id}");
    // One start of an agent, which outlives the daemon: a grant is no other's.
    let mut command = desk.cli(None);
    command.args(["run", "--agent", AGENT, "--user", "root"]);
    let mut agent = Asked::of(desk.story.started(AGENT, command, COUNTS));
    agent.write(&update(21));
    let grant = desk.next(&[]);
    desk.approve(DANA, &grant, "counted");
    desk.approve(RUTH, &grant, "granted");
    assert_eq!(agent.line(), "done 1");
    assert_eq!(agent.ask(&update(22)), "done 1", "alike");
    let held = desk.psql(None, &[], &delete(23));
    let waits = desk.next(&[]);
    let held_too =
        desk.psql(None, &[], "UPDATE transfers SET amount = 0, memo = memo WHERE id = 24");
    let half = desk.next(&[&waits]);
    desk.approve(DANA, &half, "counted");
    let before = desk.standing(&grant);
    assert_eq!(before["grant"]["spent"], 2, "{before}");

    desk.story.world.daemon.kill();
    desk.story.world.daemon.restart().unwrap();
    for process in [held, held_too] {
        let (code, said) = end(process);
        assert!(code != Some(0), "{said}");
    }
    assert_eq!(desk.waiting(), [] as [Value; 0]);
    assert_eq!(desk.standing(&grant), before, "the grant is as it was");
    for id in [&waits, &half] {
        assert_eq!(desk.standing(id)["ended"]["how"], "restarted");
    }
    assert_eq!(desk.standing(&half)["votes"][0]["approver"]["user"], "Dana");
    assert_eq!(left(&desk, 23), 1);
    desk.log_in(DANA);
    let digest = desk.standing(&waits)["request"]["shown_sha256"].as_str().unwrap().to_owned();
    desk.refused(Some(DANA), &["approve", &waits, "--shown", &digest], "over: restarted");

    // One use is left, and no more. Its connection is gone, which it sees first.
    let gone = agent.ask(&update(25));
    assert!(gone.starts_with("error"), "{gone}");
    assert_eq!(agent.ask(&update(25)), "done 1", "{}", desk.story.world.daemon.log());
    assert_eq!(desk.standing(&grant)["grant"]["spent"], 3);
    agent.write(&update(26));
    let again = desk.next(&[]);
    let denied = desk.approvals(Some(DANA), &["deny", &again, "--yes", "--reason", "no more"]);
    assert!(denied.stdout.contains("refused"), "{denied:?}");
    let refused = agent.line();
    assert!(refused.starts_with("error") && refused.contains("no more"), "{refused}");

    let evidence = desk.story.world.evidence().unwrap();
    let ended =
        "SELECT count(*) FROM control WHERE kind = 'approval.ended' AND detail LIKE '%restarted%'";
    assert_eq!(evidence.count(ended).unwrap(), 2);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

/// What a person is asked on a terminal, and what somebody else sees meanwhile.
#[test]
fn a_person_is_asked_on_a_terminal_and_others_watch() {
    let desk = Desk::start("");
    desk.log_in(DANA);
    let mut watch = desk.cli(None);
    watch.args(["approvals", "watch"]).stdout(Stdio::piped());
    let mut watch = Running::new("watch", &mut watch).unwrap();
    let waits = desk.psql(None, &[], &delete(31));
    let id = desk.next(&[]);
    // script(1) gives it a terminal.
    let cli = desk.cli(Some(DANA));
    let words = format!("{} approvals approve {id}", cli.get_program().to_str().unwrap());
    let at_terminal = |typed: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", &words, "/dev/null"]);
        for (name, value) in cli.get_envs() {
            value.map(|value| script.env(name, value));
        }
        integration::process::feed(&mut script, typed.as_bytes(), 60).unwrap()
    };
    let unsure = at_terminal("yes\n");
    assert!(
        unsure.stdout.contains("Type `approve`") && unsure.stdout.contains("not answered"),
        "{unsure:?}"
    );
    assert_eq!(left(&desk, 31), 1);
    let sure = at_terminal("approve\n");
    assert!(sure.stdout.contains("granted: the command goes on"), "{sure:?}");
    assert!(end(waits).1.contains("DELETE 1"));
    std::thread::sleep(Duration::from_secs(1));
    watch.signal(rustix::process::Signal::INT).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut watch.take_stdout().unwrap(), &mut said).unwrap();
    for state in ["waits, 0 of 1", "granted"] {
        assert!(said.lines().any(|line| line.contains(&id) && line.contains(state)), "{said}");
    }
}

/// An agent asks for no approval of its own: it can't speak to the desk at all.
#[test]
fn agents_do_not_reach_the_desk() {
    let desk = Desk::start("");
    let mut command = desk.cli(None);
    let cli = desk.cli(None);
    let program = Path::new(cli.get_program()).to_owned();
    command.args(["run", "--agent", AGENT, "--user", "root", "--"]).arg(program);
    let refused = run(command.args(["approvals", "list"]), 60).unwrap();
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(!refused.stdout.contains("none"), "{refused:?}");
}
