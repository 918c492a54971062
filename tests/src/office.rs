//! A bank with a daemon before it, the provider by whom its people are known, and the console where they approve.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::NamedTempFile;

use crate::agent::with_bank;
use crate::browser::Person;
use crate::daemon::ExtraPolicy;
use crate::idp::{CLIENT, PASSWORD, RESOURCES, SECRET};
use crate::port::Port;
use crate::process::{Output, Running, run};
use crate::world::WRITER;
use crate::{Idp, World, bank};

/// Has deletes of transfers wait for approval.
pub const APPROVALS: ExtraPolicy<'static> = ("approvals.cedar", include_str!("approvals.cedar"));

/// Longer than any test has a command wait.
const SECONDS: u64 = 120;

/// All of it.
#[derive(Debug)]
pub struct Office {
    /// The daemon and the bank.
    pub world: World,
    /// The provider.
    pub idp: Idp,
    console: Port,
    _logout: Port,
    _secret: NamedTempFile,
}

/// A command of psql that waits, or has ended.
#[derive(Debug)]
pub struct Asked(JoinHandle<Result<Output>>);

impl Office {
    /// Starts all of it, with [`APPROVALS`] and policies more.
    ///
    /// # Errors
    /// If a part does not start.
    pub fn start(policies: &[ExtraPolicy<'_>]) -> Result<Self> {
        let idp = Idp::start()?;
        let (console, logout) = (Port::take()?, Port::take()?);
        let mut secret = NamedTempFile::new().context("no file")?;
        secret.write_all(SECRET.as_bytes()).context("the secret's file")?;
        let url = format!("http://127.0.0.1:{}", console.number());
        let configuration = format!(
            "[[issuer]]\nurl = '{issuer}'\naudiences = ['{audience}', '{CLIENT}']\n\
             [issuer.client]\nid = '{CLIENT}'\nsecret_file = '{secret}'\n\
             scope = 'openid profile groups bank'\nresource = '{audience}'\n\
             [logout]\nlisten = '127.0.0.1:{logout}'\n\
             [console]\nlisten = '127.0.0.1:{console}'\nexternal_url = '{url}'\nissuer = '{issuer}'\n\
             groups = ['dba', 'risk', 'staff']\nend_groups = ['risk']\n",
            issuer = idp.issuer(),
            audience = RESOURCES[0],
            secret = secret.path().display(),
            logout = logout.number(),
            console = console.number(),
        );
        idp.set_redirects(&[&format!("{url}/signed-in")])?;
        let policies: Vec<_> = [APPROVALS].iter().chain(policies).copied().collect();
        let world = World::ruled_with(&policies, &configuration)?;
        idp.set_backchannel(&format!("http://127.0.0.1:{}/", logout.number()))?;
        Ok(Self { world, idp, console, _logout: logout, _secret: secret })
    }

    /// Answers the URL of a page.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.console.number())
    }

    /// Has a person sign in as a user, by the provider's own form, and arrive at the approvals.
    ///
    /// # Errors
    /// If one of the pages does not come.
    pub fn sign_in(&self, person: &Person<'_>, user: &str) -> Result<()> {
        person.go(&self.url("/approvals"))?;
        person.click("#sign-in")?;
        // Whom the provider knows by a cookie of its own it does not ask again.
        person.wait_for("[name=user], #count")?;
        if person.count("#count")? == 0 {
            person.fill("[name=user]", user)?;
            person.fill("[name=password]", PASSWORD)?;
            person.click("role=button[name=\"Sign in\"]")?;
        }
        person.wait_for("#count")
    }

    /// Has a person log out at the provider, which tells everybody who was told of the login.
    ///
    /// # Errors
    /// If the provider does not take it.
    pub fn log_out(&self, person: &Person<'_>) -> Result<()> {
        let end = format!("{}/session/end", self.idp.issuer());
        let asked = person.ask("GET", &end, &[], None)?;
        let (_, rest) = asked.text.split_once("name=\"xsrf\" value=\"").context("no form")?;
        let (xsrf, _) = rest.split_once('"').context("no value")?;
        let body = format!("xsrf={xsrf}&logout=yes");
        let answer = person.post_form(&format!("{end}/confirm"), &body)?;
        ensure!(answer.status < 400, "{answer:?}");
        Ok(())
    }

    /// Answers a file with a token by which agents act for a user.
    ///
    /// # Errors
    /// If the provider does not give one.
    pub fn token(&self, user: &str) -> Result<PathBuf> {
        let file = self.world.daemon.directory().join(format!("{user}.jwt"));
        fs::write(&file, self.idp.login(user)?.access).context("the token's file")?;
        Ok(file)
    }

    /// Answers a command that is run as the agent that writes, for a user.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub fn agent(&self, user: &str, program: &str) -> Result<Command> {
        let mut command = self.world.daemon.cli();
        command.args(["run", "--agent", WRITER, "--token-file"]).arg(self.token(user)?);
        command.arg("--").arg(program);
        with_bank(&mut command, bank::ROLE, self.world.bank.port());
        Ok(command)
    }

    /// Has psql ask one thing for a user, and goes on meanwhile.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub fn ask(&self, user: &str, sql: &str) -> Result<Asked> {
        let mut psql = self.agent(user, "psql")?;
        psql.args(["-XAt", "-v", "VERBOSITY=verbose", "-c", sql]);
        Ok(Asked(std::thread::spawn(move || run(&mut psql, SECONDS))))
    }

    /// Starts psql for a user, its input and its output piped.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub fn start_psql(&self, user: &str, args: &[&str]) -> Result<Running> {
        let mut psql = self.agent(user, "psql")?;
        psql.args(["-XAt", "-v", "VERBOSITY=verbose"]).args(args);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new("psql", &mut psql)
    }
}

impl Asked {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(self) -> Result<Output> {
        self.0.join().map_err(|_| anyhow!("psql's thread"))?
    }
}
