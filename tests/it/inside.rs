//! Agents that agents start inside themselves: held as the outer one is, told apart, and cut off with it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use integration::agent::with_bank;
use integration::idp::{ALICE, CARL};
use integration::process::{run, wait_until};
use integration::{World, bank, paths};
use serde_json::json;

use crate::standing::{ASKS, Asked, Story};

pub(crate) const OUTER: &str = "support-assistant";
pub(crate) const INNER: &str = "summary-writer";

/// Runs as an agent: starts what asks inside itself, twice over, and asks itself in between.
pub(crate) const STARTS: &str = "
import os, subprocess, sys
import psycopg
run = os.environ['RUN'].split(' ')
inner = subprocess.Popen(run + ['summary-writer', '--', sys.executable, '-u', '-c', os.environ['ASKS']],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
own = psycopg.connect(autocommit=True)
for line in sys.stdin:
    try: print('outer', own.execute(line).fetchone()[0])
    except psycopg.Error as e: print('outer', 'error', e.sqlstate)
    inner.stdin.write(line)
    inner.stdin.flush()
    print('inner', inner.stdout.readline().strip())
";

/// Runs as anybody.
const PLANNER: &str = "planner";

pub(crate) const MAY_START: &str = "\n[[profile]]\nname = 'assistants'\nagents = ['support-assistant']\n\
                         starts = ['summary-*']\n\
                         [[profile]]\nname = 'planners'\nagents = ['planner']\nuser = 'nobody'\n\
                         starts = ['summary-*']\n[[profile]]\nname = 'held'\nagents = ['summary-held']\nlevel = 'A1'\n";

/// Who did what last through whom for Carl, and when each was cut off.
const WHO_DID_WHAT_LAST: &str = "
    SELECT e.agent_id, array_to_string(any_value(e.agent_chain), '>') AS chain,
           any_value(e.actor_user) AS actor_user, max_by(e.statement_norm, e.ts) AS last, max(e.ts) AS last_at,
           any_value(s.closed_at) AS cut_at, any_value(s.close_reason) AS close_reason,
           date_diff('millisecond', any_value(out.ts), any_value(s.closed_at)) AS cut_ms
    FROM events e JOIN sessions s USING (session_id),
         (SELECT min(ts) AS ts FROM control WHERE kind = 'identity.logged_out') out
    WHERE e.kind = 'db.query' AND e.actor_sub = 'carl' GROUP BY e.agent_id, session_id ORDER BY e.agent_id";

/// `vestibule … run --agent`, to be gone on with.
pub(crate) fn run_words(world: &World) -> String {
    let cli = world.daemon.cli();
    let mut words = vec![cli.get_program().to_str().unwrap().to_owned()];
    words.extend(cli.get_args().map(|word| word.to_str().unwrap().to_owned()));
    words.extend(["run".to_owned(), "--agent".to_owned()]);
    words.join(" ")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the cut takes")]
fn an_agent_inside_a_contractors_agent_is_cut_off_with_it() {
    let story = Story::start_with(MAY_START);
    let file = story.token(CARL);
    let mut command = story.world.daemon.cli();
    command.args(["run", "--agent", OUTER, "--token-file"]).arg(&file);
    command.arg("--").arg(paths::python()).args(["-u", "-c", STARTS]);
    with_bank(&mut command, bank::ROLE, story.world.bank.port());
    command.env("RUN", run_words(&story.world)).env("ASKS", ASKS);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut asked = Asked::of(integration::process::Running::new(OUTER, &mut command).unwrap());
    assert_eq!(asked.ask("SELECT 'a'"), "outer a");
    assert_eq!(asked.line(), "inner a");

    let who = story.who(INNER);
    assert_eq!((&who["sub"], &who["chain"]), (&json!(CARL), &json!([OUTER, INNER])), "{who}");
    let open = story.told(&["sessions", "--agent", INNER]);
    assert_eq!(open["sessions"][0]["chain"], json!([OUTER, INNER]), "{open}");

    let before = Instant::now();
    assert_eq!(story.place.idp.logout(CARL).unwrap(), 1);
    let both =
        || Ok(story.who(INNER)["ended"] == "logged_out" && story.who(OUTER)["sessions"] == 0);
    wait_until("both are cut", 20, both).unwrap();
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(asked.ask("SELECT 'b'"), "outer error 57P01");
    assert!(asked.line().starts_with("inner error 57P01"));
    drop(asked);

    let evidence = story.world.evidence().unwrap();
    let rows = evidence.duckdb(WHO_DID_WHAT_LAST).unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let inner = "support-assistant>summary-writer";
    for (row, (agent, chain)) in rows.iter().zip([(INNER, inner), (OUTER, OUTER)]) {
        assert_eq!((&row["agent_id"], &row["chain"]), (&json!(agent), &json!(chain)), "{row}");
        assert_eq!((&row["actor_user"], &row["last"]), (&json!("Carl"), &json!("SELECT $1")));
        assert_eq!(row["close_reason"], "identity_ended", "{row}");
        // In the records' own time, on a machine that does much else.
        assert!(row["cut_ms"].as_i64().unwrap().abs() < 2_000, "{row}");
    }
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn only_agents_come_through_the_door_and_start_only_whom_they_may() {
    let story = Story::start_with(MAY_START);
    // Nobody's process: nothing listens there.
    let door = SocketAddr::from(([127, 0, 0, 86], 86));
    let refused = TcpStream::connect_timeout(&door, Duration::from_secs(5)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    // Anybody may run this one, wherever the other lies.
    let launcher = story.world.daemon.directory().join("vestibule");
    let words = run_words(&story.world);
    let (program, rest) = words.split_once(' ').unwrap();
    fs::copy(program, &launcher).unwrap();
    let words = format!("{} {rest}", launcher.display());
    let start = |more: &[&str]| {
        let mut command = story.world.daemon.cli();
        command.args(["run", "--agent", PLANNER, "--", "sh", "-c", "$RUN \"$@\"", "sh"]);
        run(command.args(more).env("RUN", &words), 30).unwrap()
    };
    let is_inside = start(&[INNER, "--", "sh", "-c", "cat /proc/self/cgroup; id -u; exit 7"]);
    assert_eq!(is_inside.code, Some(7), "{is_inside:?}");
    let cgroup = is_inside.stdout.lines().find(|line| line.starts_with("0::")).unwrap();
    assert!(cgroup.contains(&format!("/{PLANNER}.")) && cgroup.contains(&format!("/{INNER}.")));
    assert!(is_inside.stdout.ends_with("65534\n"), "{is_inside:?}");

    for (words, told) in [
        (&["ledger-agent", "--", "true"][..], "`planner` may not start `ledger-agent`"),
        (&[INNER, "--user", "root", "--", "true"], "--user, --group, --as and --owner"),
        (&[INNER, "--token-file", "/nonexistent", "--", "true"], "/nonexistent"),
    ] {
        let refused = start(words);
        assert!(refused.code != Some(0) && refused.stderr.contains(told), "{refused:?}");
    }
    let alice = story.token(ALICE);
    let forged = story.world.daemon.directory().join("forged.jwt");
    let token = fs::read_to_string(&alice).unwrap();
    let (body, signature) = token.trim().rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let other = format!("{first}{}", &signature[1..]);
    fs::write(&forged, format!("{body}.{other}")).unwrap();
    let refused = start(&[INNER, "--token-file", forged.to_str().unwrap(), "--", "true"]);
    assert!(refused.stderr.contains("does not count: bad_signature"), "{refused:?}");
    let token = alice.to_str().unwrap();
    let own = start(&[INNER, "--token-file", token, "--", "echo", "alive"]);
    assert_eq!(own.stdout, "alive\n", "{own:?}");
    let held = start(&["summary-held", "--", "true"]);
    assert_eq!(held.code, Some(0), "{held:?}");

    let evidence = story.world.evidence().unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'enrollment.refused' AND detail LIKE '%ledger-agent%'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
    let forged = "SELECT count(*) FROM control WHERE kind = 'identity.refused' AND detail LIKE '%bad_signature%'";
    assert_eq!(evidence.count(forged).unwrap(), 1);
    let bound =
        "SELECT count(*) FROM control WHERE kind = 'identity.bound' AND detail LIKE '%alice%'";
    assert_eq!(evidence.count(bound).unwrap(), 1);
    assert!(!story.world.daemon.log().contains(signature));
}
