//! Runs `tests/masking/client.py`, behind vestibule or directly.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::{Running, run as run_program};
use crate::{Agent, Daemon, Postgres, agent, bank, paths, postgres};

/// Long enough for all cases of one agent on a busy machine.
const SECONDS: u64 = 300;

/// A connection and what goes over it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Request {
    pub(super) name: String,
    #[serde(skip)]
    pub(super) agent: String,
    pub(super) user: String,
    pub(super) by: String,
    pub(super) linger: bool,
    pub(super) messages: Vec<String>,
}

/// What the server said to it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) said: Vec<Said>,
    pub(super) recovered: String,
}

/// A message of the server's: its type, its payload, and what stands in it, in Latin-1.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Said(pub(super) String, pub(super) String, pub(super) Vec<Option<String>>);

/// Runs requests, each as its agent where there is a daemon, else as nobody's.
pub(super) fn run(
    server: &Postgres,
    daemon: Option<&Daemon>,
    requests: &[Request],
) -> Result<Vec<Answer>> {
    let mut by_agent: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
    for request in requests {
        by_agent.entry(&request.agent).or_default().push(request);
    }
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut answers = Vec::new();
    for (name, requests) in by_agent {
        let (asked, told) =
            (folder.path().join("requests.json"), folder.path().join("answers.json"));
        fs::write(&asked, serde_json::to_vec(&requests)?).context("the requests")?;
        let mut command = if let Some(daemon) = daemon {
            Agent::new(daemon, name, bank::ROLE, server.port()).command(paths::python())
        } else {
            let mut python = Command::new(paths::python());
            agent::with_bank(&mut python, bank::ROLE, server.port());
            python
        };
        command.arg(paths::root().join("tests/masking/client.py")).arg(&asked).arg(&told);
        run_program(&mut command, SECONDS)?.ok().context("client.py")?;
        let text = fs::read(&told).context("client.py told nothing")?;
        let these: Vec<Answer> = serde_json::from_slice(&text).context("client.py's answers")?;
        answers.extend(these);
    }
    Ok(answers)
}

/// Has a person run a statement directly, and leaves its session open.
pub(super) fn hold(server: &Postgres, statement: &str) -> Result<Running> {
    let ssn = server.sql("SELECT ssn FROM customers WHERE id = 77")?;
    let statement = statement.replace("{ssn}", ssn.trim());
    let mut psql = Command::new("psql");
    agent::with_bank(&mut psql, postgres::SUPERUSER, server.port());
    // Reads the statement, then waits for more.
    psql.args(["-XqAt", "-c", &statement, "-f", "-"]).env("PGUSER", bank::ROLE);
    psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let session = Running::new("psql", &mut psql)?;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%held open%' AND pid <> pg_backend_pid()";
    crate::process::wait_until("the other session's statement", 10, || {
        Ok(server.sql(count)?.trim() != "0")
    })?;
    Ok(session)
}
