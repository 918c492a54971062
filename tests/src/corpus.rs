//! PostgreSQL's regression corpus, run by a real psql on a real server, with a relay between the two that asks
//! the server itself about every statement before it runs: does its parser take it, does it write, what does it
//! demand permission for.
//!
//! Each statement runs first in a read-only transaction (in a savepoint, where psql is in one) that is rolled
//! back, with the server's LOG messages sent to the client: `log_statement` speaks once the parser has taken the
//! text, `debug_print_parse` shows the analysed tree, and a write ends in 25006. Then it runs as psql sent it.
//! Transaction control, cursors and prepared statements run once only: no rollback takes those back.

mod relay;
mod source;
mod tree;
mod wire;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::run;
use crate::{Postgres, bank, paths, postgres};

pub use source::{Corpus, fetch};

/// What the server says of one simple Query of psql's.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The file it is from.
    pub file: String,
    /// The exact text.
    pub text: Vec<u8>,
    /// `standard_conforming_strings`, as the server last reported it.
    pub standard_conforming_strings: bool,
    /// Whether the server's parser takes it; `None` where that could not be seen.
    pub parsed: Option<bool>,
    /// Whether it ended because it writes (SQLSTATE 25006).
    pub refused_as_write: bool,
    /// The command tags of its real run.
    pub tags: Vec<String>,
    /// SQLSTATE of its real run's error.
    pub error: Option<String>,
    /// What it demands permission for, by its own text.
    pub relations: Vec<Demand>,
}

/// A relation that a statement's analysed tree demands permission for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `ACL_INSERT` 1, `ACL_SELECT` 2, `ACL_UPDATE` 4, `ACL_DELETE` 8 (`nodes/parsenodes.h`).
    pub permissions: u32,
    /// Columns that are read; `*` for the whole row.
    pub selected: Vec<String>,
    /// Columns that are written.
    pub written: Vec<String>,
}

/// Runs the files of `corpus` whose names `which` holds for, in the order of its schedule; what was seen goes
/// to `tell`, in the order it was seen in.
///
/// # Errors
/// If the server or psql can't be started; what a statement does is none.
pub fn observe(
    corpus: &Corpus,
    which: impl Fn(&str) -> bool,
    mut tell: impl FnMut(Seen),
) -> Result<()> {
    let settings = ["log_statement=all", "log_min_messages=panic", "log_min_error_statement=panic"];
    let server = Postgres::with_settings(&settings)?;
    server.sql("CREATE DATABASE regression TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")?;
    let stage = stage(corpus)?;
    for file in corpus.schedule()?.into_iter().filter(|file| which(file)) {
        let (to, seen) = mpsc::channel();
        let relay = relay::Relay::start(server.port(), &file, to)?;
        psql(&stage, &file, relay.port())?;
        drop(relay);
        seen.iter().for_each(&mut tell);
    }
    Ok(())
}

/// A copy of the corpus that the server's user may read, and write results into.
fn stage(corpus: &Corpus) -> Result<TempDir> {
    let stage = tempfile::Builder::new().prefix("vestibule-corpus-").tempdir();
    let stage = stage.context("no temporary folder")?;
    let open = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(stage.path(), open.clone()).context("a folder can't be opened")?;
    let mut copy = Command::new("cp");
    copy.args(["-r", "--"]).arg(corpus.folder().join("sql")).arg(corpus.folder().join("data"));
    run(copy.arg(stage.path()), 60)?.ok().context("the corpus can't be copied")?;
    let mut readable = Command::new("chmod");
    run(readable.args(["-R", "a+rX", "--"]).arg(stage.path()), 60)?.ok().context("chmod")?;
    for name in ["results", "testtablespace"] {
        let folder = stage.path().join(name);
        fs::create_dir(&folder).context("a folder for results")?;
        fs::set_permissions(&folder, open.clone()).context("a folder can't be opened")?;
    }
    fs::set_permissions(stage.path(), open).context("a folder can't be opened")?;
    Ok(stage)
}

/// Runs one file as `pg_regress` does, but that it goes on behind errors of what is not here.
fn psql(stage: &TempDir, file: &str, port: u16) -> Result<()> {
    let programs = paths::postgres_programs()?;
    let mut psql = Command::new(programs.join("psql"));
    psql.args(["-X", "-a", "-q", "-h", "127.0.0.1", "-U", postgres::SUPERUSER, "-p"]);
    psql.arg(port.to_string()).args(["-d", "regression", "-v", "HIDE_TABLEAM=on"]);
    psql.args(["-v", "HIDE_TOAST_COMPRESSION=on", "-o", "/dev/null", "-f"]);
    psql.arg(stage.path().join("sql").join(format!("{file}.sql")));
    psql.env("PGPASSWORD", bank::PASSWORD).env("PGSSLMODE", "disable");
    psql.env("PGGSSENCMODE", "disable").env("PGTZ", "PST8PDT").env("PGDATESTYLE", "Postgres, MDY");
    psql.env("PGOPTIONS", "-c intervalstyle=postgres_verbose").env("PG_DLSUFFIX", ".so");
    psql.env("PG_ABS_SRCDIR", stage.path()).env("PG_ABS_BUILDDIR", stage.path());
    psql.env("PG_LIBDIR", programs.parent().context("programs lie in a folder")?.join("lib"));
    run(psql.current_dir(stage.path()), 900).with_context(|| file.to_owned())?;
    Ok(())
}
