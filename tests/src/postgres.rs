//! A PostgreSQL of one's own: its own data, port and user, gone with its owner.
//!
//! The synthetic bank is loaded once per checkout into `target/fixtures` and copied for each instance,
//! which takes a tenth of a second instead of several.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::port::Port;
use crate::process::{Output, Running, run, wait_until};
use crate::{bank, paths};

/// The superuser.
pub const SUPERUSER: &str = "postgres";

/// Settings of a server that pgaudit writes a trail of, collected as csvlog and jsonlog.
pub const AUDITED: [&str; 7] = [
    "shared_preload_libraries=pgaudit",
    "pgaudit.log=all",
    "logging_collector=on",
    "log_destination=csvlog,jsonlog",
    "log_disconnections=on",
    "log_timezone=UTC",
    "jit=off",
];

/// Settings of the server that the bank is loaded into: no log is kept for what comes.
const LOADING: [&str; 2] = ["wal_recycle=off", "min_wal_size=32MB"];

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the server before its data.
    server: Running,
    programs: PathBuf,
    port: Port,
    directory: TempDir,
}

impl Postgres {
    /// Starts a server that holds the bank and logs every statement it receives.
    ///
    /// # Errors
    /// If PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::with_settings(&["log_statement=all"])
    }

    /// Starts a server that holds the bank, with more settings (`NAME=VALUE`).
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_settings(settings: &[&str]) -> Result<Self> {
        let fixture = fixture()?;
        let directory = private_directory()?;
        let data = directory.path().join("data");
        copy(&fixture, &data)?;
        Self::on_data(directory, settings)
    }

    /// Answers the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Answers the postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Runs SQL directly, as the superuser, in the bank's database; unaligned rows come back.
    ///
    /// # Errors
    /// If psql fails.
    pub fn sql(&self, sql: &str) -> Result<String> {
        psql(&self.programs, self.port(), bank::DATABASE, sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    /// If psql fails.
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        psql(&self.programs, self.port(), database, sql)
    }

    /// Runs one of PostgreSQL's own programs directly, with the superuser's environment.
    ///
    /// # Errors
    /// If it can't be started or takes longer than `seconds`.
    pub fn program(&self, name: &str, arguments: &[&str], seconds: u64) -> Result<Output> {
        let mut command = Command::new(self.programs.join(name));
        command.args(arguments).env("PGPASSWORD", bank::PASSWORD).env("PGHOST", "127.0.0.1");
        command.env("PGPORT", self.port().to_string()).env("PGUSER", SUPERUSER);
        run(command.env("PGDATABASE", bank::DATABASE), seconds)
    }

    /// Answers the server's log: every statement it received.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(self.directory.path().join("server.log"));
        Ok(String::from_utf8_lossy(&bytes.context("the server's log can't be read")?).into_owned())
    }

    /// Answers what the server's collector wrote in one form (`csv`, `json`), the oldest file first; for that it must
    /// have been started with [`AUDITED`].
    ///
    /// # Errors
    /// If there is nothing of it.
    pub fn collected(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let folder = self.directory.path().join("data/log");
        let entries = fs::read_dir(&folder).context("the server's collected logs")?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| path.extension().is_some_and(|found| found == extension));
        found.sort();
        Ok(found)
    }

    fn on_data(directory: TempDir, settings: &[&str]) -> Result<Self> {
        let programs = paths::postgres_programs()?;
        let port = Port::take()?;
        let log = File::create(directory.path().join("server.log")).context("server.log")?;
        let mut command = as_server_user(&programs.join("postgres"));
        command.arg("-D").arg(directory.path().join("data")).current_dir(directory.path());
        let number = format!("port={}", port.number());
        let common = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "max_connections=200",
        ];
        for setting in common.iter().chain(&[number.as_str()]).chain(settings) {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().context("the log can't be shared")?);
        let server = Running::new("postgres", command.stderr(log))?;
        let mut own = Self { server, programs, port, directory };
        let programs = own.programs.clone();
        let number = own.port.number().to_string();
        let ready = wait_until("PostgreSQL accepts connections", 30, || {
            if !own.server.is_running()? {
                bail!("PostgreSQL ended");
            }
            if TcpStream::connect(("127.0.0.1", own.port())).is_err() {
                return Ok(false);
            }
            let mut probe = Command::new(programs.join("pg_isready"));
            Ok(run(probe.args(["-q", "-h", "127.0.0.1", "-p", &number]), 5)?.code == Some(0))
        });
        ready.with_context(|| own.log().unwrap_or_default())?;
        Ok(own)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A fast shutdown (postgres(1): SIGINT) ends the server's children too.
        if self.server.signal(Signal::INT).is_ok() {
            self.server.wait(10).ok();
        }
    }
}

/// Answers a command that runs as a user that PostgreSQL accepts: it refuses root.
fn as_server_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

/// A folder that the server's user can enter, and its own `data` folder's parent.
fn private_directory() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("vestibule-pg-");
    let directory = match memory() {
        Some(memory) => builder.tempdir_in(memory),
        None => builder.tempdir(),
    };
    let directory = directory.context("no temporary folder")?;
    // A home for `data`, which the server's user makes.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777))
        .context("the temporary folder can't be opened to the server's user")?;
    Ok(directory)
}

/// Answers a folder in memory, where there is room for all servers of a run: 1,300 files are made and removed for each, and
/// ext4 gives out no inode again within minutes, but looks at every one that was freed to find another.
fn memory() -> Option<&'static Path> {
    /// 130 MB a server, at most two for each test, and what tests write.
    const ROOM: u64 = 3 << 30;
    const TMPFS: u64 = 0x0102_1994;
    let folder = Path::new("/dev/shm");
    let found = statfs(folder).ok()?;
    let is_tmpfs = u64::try_from(found.f_type) == Ok(TMPFS);
    let free = found.f_bavail.saturating_mul(u64::try_from(found.f_bsize).ok()?);
    (is_tmpfs && free >= ROOM).then_some(folder)
}

/// The bank's data folder of a stopped server, made by the first who asks.
fn fixture() -> Result<PathBuf> {
    let directory = paths::root().join("target/fixtures");
    fs::create_dir_all(&directory).context("target/fixtures can't be made")?;
    let lock = File::create(directory.join("lock")).context("the fixtures' lock can't be made")?;
    flock(&lock, FlockOperation::LockExclusive).context("the fixtures' lock can't be taken")?;
    let mut digest = DefaultHasher::new();
    (bank::SQL, bank::PASSWORD, LOADING, paths::postgres_programs()?).hash(&mut digest);
    let fixture = directory.join(format!("bank-{:016x}", digest.finish()));
    if !fixture.exists() {
        let made = make_bank()?;
        let part = fixture.with_extension("part");
        fs::remove_dir_all(&part).ok();
        copy(&made.path().join("data"), &part)?;
        fs::rename(&part, &fixture).context("the fixture can't be put in its place")?;
    }
    Ok(fixture)
}

fn make_bank() -> Result<TempDir> {
    let programs = paths::postgres_programs()?;
    let directory = private_directory()?;
    let password = directory.path().join("password");
    fs::write(&password, bank::PASSWORD).context("the password file can't be written")?;
    let mut initdb = as_server_user(&programs.join("initdb"));
    initdb.current_dir(directory.path()).arg("-D").arg(directory.path().join("data"));
    initdb.arg(format!("--pwfile={}", password.display())).arg(format!("--username={SUPERUSER}"));
    initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
    run(&mut initdb, 60)?.ok().context("initdb")?;
    let data_holder = tempfile_twin(&directory)?;
    let server = Postgres::on_data(directory, &LOADING)?;
    psql(&server.programs, server.port(), "postgres", bank::CREATE)?;
    psql(&server.programs, server.port(), bank::DATABASE, bank::SQL)?;
    drop(server.stop_keeping(&data_holder)?);
    Ok(data_holder)
}

/// A second folder, to which a stopped server's data moves.
fn tempfile_twin(directory: &TempDir) -> Result<TempDir> {
    let parent = directory.path().parent().context("a temporary folder has a parent")?;
    tempfile::Builder::new()
        .prefix("vestibule-pg-")
        .tempdir_in(parent)
        .context("no temporary folder")
}

impl Postgres {
    /// Stops the server and moves its data away.
    fn stop_keeping(mut self, to: &TempDir) -> Result<Self> {
        self.server.signal(Signal::INT)?;
        self.server.wait(30)?.context("PostgreSQL does not stop")?;
        fs::rename(self.directory.path().join("data"), to.path().join("data"))
            .context("the data can't be moved")?;
        Ok(self)
    }
}

/// Copies a data folder with its owner; shares blocks where the file system can.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let arguments: [&OsStr; 5] =
        ["-a".as_ref(), "--reflink=auto".as_ref(), "--".as_ref(), from.as_ref(), to.as_ref()];
    run(Command::new("cp").args(arguments), 60)?.ok().context("the data can't be copied")?;
    Ok(())
}

fn psql(programs: &Path, port: u16, database: &str, sql: &str) -> Result<String> {
    let mut psql = Command::new(programs.join("psql"));
    psql.args([
        "-XqAt",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-U",
        SUPERUSER,
        "-d",
        database,
    ]);
    psql.args(["-p", &port.to_string(), "-f", "-"]).env("PGPASSWORD", bank::PASSWORD);
    crate::process::feed(&mut psql, sql.as_bytes(), 300)?.ok().context("psql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_holds_the_bank_and_goes_with_its_owner() {
        let server = Postgres::start().unwrap();
        let rows: u64 = server.sql(bank::COUNT_ROWS).unwrap().trim().parse().unwrap();
        assert!(rows >= 100_000, "{rows}");
        assert!(server.log().unwrap().contains("statement: "));
        let (pid, directory) = (server.pid(), server.directory.path().to_owned());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!directory.exists());
    }
}
